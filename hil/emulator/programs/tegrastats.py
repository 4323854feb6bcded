"""`tegrastats`: one line of statistics per interval, in the board's time."""

from __future__ import annotations

import argparse
import array
import fcntl
import os
import sys
import termios
import time

from hil.emulator import clockfile
from hil.emulator.client import CLOCK_VARIABLE, BoardClient
from hil.emulator.statformat import RunningMean, line

DRAIN_S = 0.05
"""How long a line may stay in the pipe before the board goes on without its reader."""
FIRST_STAMP_S = 1.0
STAMP_S = 5.0
PATIENCE = 3


class Reader:
    """The process that reads our lines, if it lives in the board's time.

    After each line the board's clock stands still until that process has looked at it, so that
    a line's stamp does not depend on how quickly the reader was woken.
    """

    def __init__(self, words: memoryview, pid: int) -> None:
        self._words = words
        self._pid = pid
        self._slot = clockfile.reader_slot(words, pid)
        self._stamped = 0
        self._missed = 0
        self._main_stamps = False

    @property
    def attended(self) -> bool:
        """Whether the reader's clock is the board's clock."""
        return self._slot is not None

    def looked(self) -> tuple[int, int]:
        """How often the reader's main thread and its other threads have read the clock."""
        if self._slot is None:
            return 0, 0
        return (
            self._words[self._slot + clockfile.SLOT_MAIN_READS],
            self._words[self._slot + clockfile.SLOT_OTHER_READS],
        )

    def wait(self, before: tuple[int, int]) -> None:
        """Waits until the reader has taken the line and stamped it, within reason.

        Args:
            before: `looked` from before the line was written.
        """
        start = time.monotonic()
        while not _drained() and time.monotonic() - start < self._patience():
            time.sleep(0.00002)
        while not self._has_stamped(before):
            if time.monotonic() - start > self._patience():
                self._missed += 1
                self._main_stamps = self.looked()[0] > before[0]
                return
            time.sleep(0.00002)
        self._stamped += 1
        self._missed = 0

    def _patience(self) -> float:
        if self._slot is None or self._missed >= PATIENCE:
            return DRAIN_S if self._slot is None else 0.0
        return STAMP_S if self._stamped else FIRST_STAMP_S / (1 + 10 * self._missed)

    def _has_stamped(self, before: tuple[int, int]) -> bool:
        if self._slot is None:
            return True
        now = self.looked()
        if now[1] > before[1]:
            return True
        by_main = self._main_stamps or _threads(self._pid) <= 1
        return by_main and now[0] > before[0]


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def _drained() -> bool:
    waiting = array.array("i", [0])
    try:
        fcntl.ioctl(1, termios.FIONREAD, waiting)
    except OSError:
        return True
    return waiting[0] == 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tegrastats", add_help=False)
    parser.add_argument("--help", action="store_true")
    parser.add_argument("--interval", type=int, default=1000)
    return parser.parse_args()


HELP = """Usage: tegrastats [-option]
Options:
    --help                  : print this help screen
    --interval <millisec>   : sample the information in <milliseconds>
"""


def main() -> int:
    """Prints lines until the reader or the board is gone."""
    arguments = _arguments()
    if arguments.help or arguments.interval <= 0:
        sys.stdout.write(HELP)
        return 0
    words = clockfile.attach(os.environ[CLOCK_VARIABLE])
    reader = Reader(words, os.getppid())
    client = BoardClient()
    client.send(
        {
            "op": "tegrastats",
            "interval_ms": arguments.interval,
            "pid": os.getpid(),
            "attended": reader.attended,
        }
    )
    mean = RunningMean()
    try:
        while True:
            reading = client.receive()
            before = reader.looked()
            text = line(reading, mean.add(reading["rails"])) + "\n"
            if reader.attended:
                os.write(1, text.encode())
                reader.wait(before)
            client.send({})
            if not reader.attended:
                os.write(1, text.encode())
    except (ConnectionError, BrokenPipeError):
        return 0
    except KeyboardInterrupt:
        return 130
