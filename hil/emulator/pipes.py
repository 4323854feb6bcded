"""Which pipes are read on the board, and whether their reader has come back for more.

A line that reaches its reader must be stamped before the board's clock moves on. `os.read` of the
board's Python says through the shared clock that it waits *before* it takes anything, so that
"the pipe is empty, and then the reader waits" means: all that was written has been dealt with.
"""

from __future__ import annotations

import array
import fcntl
import os
import select
import stat
import termios
import threading
from collections.abc import Callable
from pathlib import Path

from hil.emulator.clockfile import (
    PIPE_COUNT,
    PIPE_INODE,
    PIPE_PID,
    PIPE_WAITING,
    PIPE_WORDS,
    PIPES,
    alive,
)

FORKING = threading.Lock()
"""Held while the lock file is, and across forks: a child that inherited the open lock file would
keep it locked for good."""
ENTRIES = range(PIPES, PIPES + PIPE_COUNT * PIPE_WORDS, PIPE_WORDS)


def find(words: memoryview, inode: int) -> int | None:
    """Finds the entry of a pipe that is read with `os.read`, None where there is none."""
    for index in ENTRIES:
        if words[index + PIPE_INODE] == inode and words[index + PIPE_PID]:
            return index
    return None


def claim(words: memoryview, lock_path: str, pid: int, inode: int) -> int | None:
    """Enters a pipe for its reader `pid`; None where every entry is in use."""
    with FORKING, Path(lock_path).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = find(words, inode)
        free = (each for each in ENTRIES if not alive(words[each + PIPE_PID]))
        index = known if known is not None else next(free, None)
        if index is not None:
            words[index + PIPE_WAITING] = 0
            words[index + PIPE_INODE] = inode
            words[index + PIPE_PID] = pid
    return index


def release(words: memoryview, index: int) -> None:
    """Takes a pipe out again."""
    words[index + PIPE_PID] = 0


def waiting(words: memoryview, index: int) -> bool:
    """Whether the reader waits for more. Ask after the pipe was seen empty, not before."""
    return words[index + PIPE_WAITING] == 1


def drained(handle: int = 1) -> bool:
    """Whether a pipe is empty; what is no pipe counts as empty."""
    left = array.array("i", [0])
    try:
        fcntl.ioctl(handle, termios.FIONREAD, left)
    except OSError:
        return True
    return left[0] == 0


def pipe_inode(handle: int) -> int | None:
    """The inode of a pipe, None for anything else."""
    try:
        found = os.fstat(handle)
    except OSError:
        return None
    return found.st_ino if stat.S_ISFIFO(found.st_mode) else None


def announcing_read(
    words: memoryview, lock_path: str, original: Callable[[int, int], bytes]
) -> Callable[[int, int], bytes]:
    """Makes an `os.read` that says of pipes when it waits."""
    entries: dict[int, int] = {}

    def entry(inode: int) -> int | None:
        index = entries.get(inode)
        mine = index is not None and words[index + PIPE_PID] == os.getpid()
        if index is None or not mine or words[index + PIPE_INODE] != inode:
            index = claim(words, lock_path, os.getpid(), inode)
            if index is not None:
                entries[inode] = index
        return index

    def read(fd: int, n: int, /) -> bytes:
        inode = pipe_inode(fd)
        index = entry(inode) if inode is not None and os.get_blocking(fd) else None
        if index is None or inode is None:
            return original(fd, n)
        ready = select.poll()
        ready.register(fd, select.POLLIN)
        words[index + PIPE_WAITING] = 1
        ready.poll()
        words[index + PIPE_WAITING] = 0
        data = original(fd, n)
        if not data:
            release(words, index)
            del entries[inode]
        return data

    return read
