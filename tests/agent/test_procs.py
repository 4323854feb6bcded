"""Children end in time, with their whole family, and when their parent is gone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hil.agent import procs

from .conftest import gone


@pytest.fixture
def children():
    made = procs.Children()
    yield made
    made.kill_all()


def test_status_output_and_errors_come_back(children):
    done = procs.run(children, ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"])

    assert (done.status, done.output, done.errors) == (3, "out\n", "err\n")


def test_more_output_than_a_pipe_holds_does_not_block(children):
    code = "import sys; sys.stdout.write('x' * 300000); sys.stderr.write('y' * 300000)"

    done = procs.run(children, [sys.executable, "-c", code])

    assert (len(done.output), len(done.errors)) == (300000, 300000)


def test_a_command_that_asks_gets_no_answer_but_the_one_given(children):
    ask = ["/bin/sh", "-c", "read a || exit 7; echo $a"]

    assert procs.run(children, ask).status == 7
    assert procs.run(children, ask, given=b"y\n").output == "y\n"


def test_a_command_over_its_time_is_killed_with_its_children(children):
    done = procs.run(children, ["/bin/sh", "-c", "sleep 60 & echo $!; wait"], timeout_s=0.3)

    assert done.status is None or done.status == -signal.SIGKILL
    assert gone(int(done.output))


def test_children_die_with_their_parent():
    code = (
        "import subprocess, sys, time\n"
        "from hil.agent import procs\n"
        "child = procs.Children().spawn(['/bin/sleep', '60'], stdin=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    root = Path(procs.__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=root) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, 0)
        parent.kill()

    assert gone(child)
