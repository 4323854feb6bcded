"""The board's clock: what programs see of it, and that it is the same every time."""

from __future__ import annotations

import json
import time

import pytest

from hil.emulator import clockfile

pytestmark = pytest.mark.board

READER = """
import subprocess, sys, threading, time
source = subprocess.Popen(["tegrastats", "--interval", "100"], stdout=subprocess.PIPE)
lines = []
def read():
    for line in source.stdout:
        lines.append("%d %s" % (round(time.monotonic() * 1e9), line.decode()))
thread = threading.Thread(target=read)
thread.start()
time.sleep(float(sys.argv[1]))
source.terminate(); source.wait(); thread.join()
sys.stdout.write("".join(lines))
"""


def test_sleeping_takes_board_time_and_no_real_time(board):
    program = (
        "import time\n"
        "real = time.clock_gettime(time.CLOCK_BOOTTIME); start = time.monotonic()\n"
        "time.sleep(3600)\n"
        "print(time.monotonic() - start, time.clock_gettime(time.CLOCK_BOOTTIME) - real)"
    )
    virtual_s, real_s = map(float, board.python(program).split())
    assert virtual_s == 3600.0
    assert real_s < 60


def test_every_monotonic_clock_shows_the_same_time(board):
    program = (
        "import time\n"
        "print(time.monotonic(), time.perf_counter(), time.monotonic_ns(), time.perf_counter_ns(),"
        " time.clock_gettime(time.CLOCK_MONOTONIC), time.clock_gettime_ns(time.CLOCK_MONOTONIC))"
    )
    told = board.python(program).split()
    assert [float(told[i]) for i in (0, 1, 4)] == [clockfile.BOOT_NS / 1e9] * 3
    assert [int(told[i]) for i in (2, 3, 5)] == [clockfile.BOOT_NS] * 3


def test_wall_clocks_stay_real(board):
    program = "import time; print(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))"
    before = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    told = [float(each) for each in board.python(program).split()]
    assert before[0] <= told[0] <= time.time()
    assert before[1] <= told[1] <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_locks_and_children_time_out_in_real_time(board):
    program = (
        "import queue, subprocess, threading, time\n"
        "start = time.monotonic()\n"
        "threading.Event().wait(0.05)\n"
        "try: queue.Queue().get(timeout=0.05)\n"
        "except queue.Empty: pass\n"
        "try: subprocess.run(['sleep', '5'], timeout=0.1)\n"
        "except subprocess.TimeoutExpired: pass\n"
        "print(time.monotonic() - start)"
    )
    before = time.perf_counter()
    assert float(board.python(program)) == 0.0
    assert 0.2 <= time.perf_counter() - before < 5


def test_a_negative_sleep_is_an_error_as_ever(board):
    done = board.run("python3", "-c", "import time; time.sleep(-1)")
    assert "ValueError: sleep length must be non-negative" in done.stderr


def test_equal_seeds_give_equal_stamps_and_lines(board):
    board.reset(11)
    first = board.python(READER, "8")
    board.reset(11)
    assert board.python(READER, "8") == first
    board.reset(12)
    assert board.python(READER, "8") != first


def test_the_clock_stands_still_while_nothing_runs(board):
    first = board.python("import time; print(time.monotonic())")
    assert board.python("import time; print(time.monotonic())") == first


def test_a_forked_child_counts_for_itself(board):
    program = (
        "import os, time\n"
        "from hil.emulator import boardtime\n"
        "mine = boardtime.current().slot\n"
        "if os.fork() == 0:\n"
        "    os._exit(0 if boardtime.current().slot != mine else 1)\n"
        "print(os.wait()[1])"
    )
    assert board.python(program).strip() == "0"


def test_reset_restarts_clock_clocks_and_heat(board):
    board.run("sudo", "-n", "jetson_clocks")
    board.python("import time; time.sleep(600)")
    warm = json.loads(board.run("hil-board", "state").stdout)
    board.reset(5)
    cool = json.loads(board.run("hil-board", "state").stdout)
    assert warm["pinned"]
    assert not cool["pinned"]
    assert cool["temp_c"] < warm["temp_c"]
    assert board.python("import time; print(time.monotonic_ns())").strip() == str(clockfile.BOOT_NS)


def test_slots_of_dead_processes_are_used_again(tmp_path):
    path = tmp_path / "clock"
    clockfile.create(path)
    words = clockfile.attach(path)
    lock = str(tmp_path / "lock")
    dead = 2**22 + 1  # above the kernel's highest process number
    first = clockfile.claim_slot(words, lock, dead)
    assert clockfile.claim_slot(words, lock, 1) == first
    assert clockfile.slot_of(words, dead) is None


def test_a_reader_that_never_looks_at_the_clock_does_not_stop_the_board(board):
    program = (
        "import subprocess, time\n"
        "source = subprocess.Popen(['tegrastats', '--interval', '100'],"
        " stdout=subprocess.DEVNULL)\n"
        "time.sleep(30); source.terminate(); source.wait(); print(time.monotonic())"
    )
    before = time.perf_counter()
    assert float(board.python(program)) == clockfile.BOOT_NS / 1e9 + 30
    assert time.perf_counter() - before < 15


def test_a_killed_tegrastats_does_not_stop_the_board(board):
    program = (
        "import subprocess, time\n"
        "source = subprocess.Popen(['tegrastats'], stdout=subprocess.PIPE)\n"
        "source.stdout.readline(); source.kill(); source.wait(); time.sleep(30)\n"
        "print(time.monotonic())"
    )
    assert float(board.python(program)) == clockfile.BOOT_NS / 1e9 + 30
