"""A meter's program on this machine: stamped lines come home, and it never goes on running."""

from __future__ import annotations

import os
import sys
from itertools import count
from pathlib import Path

import pytest

from hil.core.errors import MeasurementError
from hil.device.hostmeter import HostMeter
from hil.measure.trace import read_power

PRINTS = """
import sys, time, os
print(os.getpid(), file=sys.stderr, flush=True)
for i in range(3):
    print(f"{i} {4 + i}.5", flush=True)
sys.stdout.write("3 7.")
sys.stdout.flush()
time.sleep(60)
"""


@pytest.fixture
def program(tmp_path):
    def write(text: str) -> list[str]:
        path = tmp_path / "meter.py"
        path.write_text(text, encoding="utf-8")
        return [sys.executable, str(path)]

    return write


def test_lines_come_home_stamped_and_a_cut_last_one_does_not(program):
    stamps = count(10**9, 10**9)
    meter = HostMeter(program(PRINTS), rail="usb", clock=lambda: next(stamps))

    meter.start()
    while len(meter.so_far().lines) < 3:
        assert meter.wait_first_line(10)
    record = meter.stop([(1, 2, 3)])

    assert record.lines == ((10**9, "0 4.5"), (2 * 10**9, "1 5.5"), (3 * 10**9, "2 6.5"))
    assert (record.source, record.clock) == ("command", "host")
    assert record.argv[0] == sys.executable
    assert record.settings == {"where": "host", "rail": "usb", "sync": [[1, 2, 3]]}
    assert list(read_power(record).rails) == ["usb"]


def test_what_was_said_so_far_can_be_had_while_it_goes_on(program):
    with HostMeter(program(PRINTS)) as meter:
        while len(meter.so_far().lines) < 3:
            assert meter.wait_first_line(10)
        record = meter.so_far([(1, 2, 3)])

    assert [line for _, line in record.lines] == ["0 4.5", "1 5.5", "2 6.5"]
    assert record.settings == {"where": "host", "sync": [[1, 2, 3]]}


def test_the_program_is_ended_whatever_happens(program, tmp_path):
    pid_file = tmp_path / "pid"
    text = (
        "import os, time\n"
        f"open({str(pid_file)!r}, 'w').write(str(os.getpid()))\n"
        "print('0 1', flush=True)\n"
        "time.sleep(60)\n"
    )

    def use() -> None:
        with HostMeter(program(text)) as meter:
            assert meter.wait_first_line(10)
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        use()

    assert not Path(f"/proc/{pid_file.read_text()}").exists()


def test_a_program_that_says_nothing_is_an_error_with_its_last_words(program):
    meter = HostMeter(program("import sys; sys.exit('no meter on the bus')"))
    meter.start()
    os.waitid(os.P_PID, meter._process.pid, os.WEXITED | os.WNOWAIT)

    with pytest.raises(MeasurementError, match="no meter on the bus"):
        meter.stop()


def test_a_program_that_ended_early_says_so(program):
    meter = HostMeter(program("print('0 1', flush=True); raise SystemExit(7)"))
    meter.start()
    os.waitid(os.P_PID, meter._process.pid, os.WEXITED | os.WNOWAIT)

    assert meter.stop().settings["ended"] == 7


def test_a_program_that_is_not_there_is_an_error():
    with pytest.raises(MeasurementError, match="cannot be started"):
        HostMeter(["/no/such/meter"]).start()
