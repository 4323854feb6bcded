"""Reading the board's power monitors from a program of the board.

Opening a reading of an INA3221 (`in_power0_input` and its like) first has the daemon write what
the monitors say at that moment of the board's time, so that any way of reading the file finds it.
A program without a board program above it spends its own time. One that another program of the
board has started becomes a *watcher*: its sleeps no longer move the clock, they wait for it, and
while it is awake the clock stands still. Programs that are not Python (`cat`) see the files as
they were written last, at most a second of board time ago.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import re
from collections.abc import Callable
from typing import Any, Protocol

from hil.emulator.attending import Reader
from hil.emulator.client import BoardClient
from hil.emulator.clockfile import DISK
from hil.emulator.monitors import FOLDER

ROOT_VARIABLE = "HIL_BOARD_ROOT"
READING = re.compile(r"in_(power|voltage|current)\d+_input\Z")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
NOT_ON_DISK = ("dev", "proc", "run", "sys")
"""Folders of a board that live in memory."""
REGISTERS = {"power": 2, "voltage": 1, "current": 1}
"""Registers that the driver reads over I2C for a node: power is shunt and bus voltage."""


class OnBoard(Protocol):
    """A process's hold on the board: the shared clock, and the connection to the daemon."""

    @property
    def words(self) -> memoryview:
        """The clock."""

    @property
    def client(self) -> BoardClient:
        """The connection."""


class Monitoring:
    """This process's use of the power monitors.

    Args:
        board: the process's board time.
        root: the board's root folder.
    """

    def __init__(self, board: OnBoard, root: str) -> None:
        self._board = board
        self._prefix = os.path.join(os.path.realpath(root), FOLDER) + os.sep
        self._kept: list[tuple[int, int, int]] = []
        self._registers = 0
        self._reader: Reader | None = None
        self._before = (0, 0)
        self._pid = 0

    @property
    def watches(self) -> bool:
        """Whether this process waits for the board's time instead of spending it."""
        return self._reader is not None and self._pid == os.getpid()

    def opening(self, path: Any) -> int:
        """To be called before a file is opened; gives the registers that a reading takes."""
        if not isinstance(path, (str, bytes, os.PathLike)):
            return 0
        name = os.fsdecode(path)
        found = READING.search(name)
        if found is None or not os.path.realpath(name).startswith(self._prefix):
            return 0
        if self._pid != os.getpid():
            self._begin()
        registers = REGISTERS[found.group(1)]
        self._registers += registers
        if self._board.client.call("monitors")["dead"]:
            raise OSError(errno.EIO, os.strerror(errno.EIO), name)
        return registers

    def opened(self, handle: int, registers: int) -> None:
        """To be called afterwards: a file that is still open later shows the present then."""
        self._kept.append((handle, os.fstat(handle).st_ino, registers))

    def _begin(self) -> None:
        self._pid, self._reader = os.getpid(), None
        self._kept.clear()
        reader = Reader(self._board.words, os.getppid())
        if reader.attended:
            self._before = reader.looked()
            self._board.client.call("watch", pid=os.getpid())
            self._reader = reader

    def sleep(self, span_ns: int) -> None:
        """Waits, as a watcher, until the board's time has passed."""
        reader = self._reader
        assert reader is not None
        reader.wait(self._before)
        self._before = reader.looked()
        self._board.client.call("sleep", span_ns=span_ns, registers=self._used())

    def slept(self) -> None:
        """To be called after this process has spent time itself."""
        used = self._used()
        if used:
            self._board.client.call("worked", registers=used)

    def _used(self) -> int:
        """Registers read since the last sleep; files kept open are taken to be read once each."""
        used, self._registers = self._registers, 0
        self._kept = [each for each in self._kept if _inode(each[0]) == each[1]]
        return used or sum(registers for _, _, registers in self._kept)


class Disk:
    """The board's disk, as far as it can be full.

    Args:
        words: the clock.
        root: the board's root folder.
    """

    def __init__(self, words: memoryview, root: str) -> None:
        self._words = words
        self._prefix = os.path.realpath(root) + os.sep
        self._elsewhere = tuple(self._prefix + name + os.sep for name in NOT_ON_DISK)

    def opening(self, path: Any, mode: Any = "r", *_: Any, **options: Any) -> None:
        """To be called before a file is opened.

        Raises:
            OSError: it would be written, and the disk is full.
        """
        if not self._words[DISK]:
            return
        how = options.get("flags", options.get("mode", mode))
        writing = how & WRITING if isinstance(how, int) else set(str(how)) & set("wax+")
        if writing and self._holds(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fsdecode(path))

    def told_by(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Makes an `os.statvfs` that tells of no room."""

        def statvfs(path: Any) -> Any:
            found = original(path)
            if not (self._words[DISK] and self._holds(path)):
                return found
            values = list(found)
            values[3] = values[4] = 0  # f_bfree, f_bavail
            return os.statvfs_result(values)

        return statvfs

    def _holds(self, path: Any) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        found = os.path.realpath(os.fsdecode(path)) + os.sep
        return found.startswith(self._prefix) and not found.startswith(self._elsewhere)


def _inode(handle: int) -> int | None:
    try:
        return os.fstat(handle).st_ino
    except OSError:
        return None


def install(board: OnBoard) -> Monitoring | None:
    """Puts the hook into every way Python opens a file; None without a root folder."""
    root = os.environ.get(ROOT_VARIABLE)
    if root is None:
        return None
    monitoring = Monitoring(board, root)
    disk = Disk(board.words, root)

    def hooked(original: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, *rest: Any, **options: Any) -> Any:
            disk.opening(file, *rest, **options)
            registers = monitoring.opening(file)
            made = original(file, *rest, **options)
            if registers:
                monitoring.opened(made if isinstance(made, int) else made.fileno(), registers)
            return made

        return opened

    real_open, real_os_open = io.open, os.open
    for module in (io, builtins):
        module.open = hooked(real_open)  # type: ignore[attr-defined]
    os.open = hooked(real_os_open)
    os.statvfs = disk.told_by(os.statvfs)
    return monitoring
