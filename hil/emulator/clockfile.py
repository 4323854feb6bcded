"""The board's shared clock: a small memory map that every process of the emulated board reads.

Integers only, all in nanoseconds. A process advances `NOW` itself while it stays short of
`NEXT_EVENT`; at an event it asks the daemon, which owns everything else. The open segment
(`SEG_*`) says what the accelerator has been doing since the daemon last looked, so that the
power history is complete whoever asks next.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

NOW = 0
NEXT_EVENT = 1
GENERATION = 2
"""Counts resets; a process that sees it change forgets what it had queued."""
STATE = 3
"""Counts changes of clocks and temperature, and resets: figures derived from them are stale."""
SEG_ACTIVITY = 4
"""Identifier of the running activity, 0 for none."""
SEG_START = 5
SEG_END = 6
WALL = 7
"""How far the wall clock has been stepped."""
DISK = 8
"""1 while the board's disk is full."""
SLOTS = 9
"""First process slot: pid, reads of the monotonic clock by its main thread and by its other
threads, device bytes allocated."""
SLOT_WORDS = 4
SLOT_PID, SLOT_MAIN_READS, SLOT_OTHER_READS, SLOT_MEMORY = 0, 1, 2, 3
SLOT_COUNT = 256
PIPES = SLOTS + SLOT_WORDS * SLOT_COUNT
"""First entry of the pipes that processes of the board read with `os.read`: the reader's pid, the
pipe's inode, and 1 while the reader waits for more (see `hil.emulator.pipes`)."""
PIPE_WORDS = 3
PIPE_PID, PIPE_INODE, PIPE_WAITING = 0, 1, 2
PIPE_COUNT = 128
WORDS = PIPES + PIPE_WORDS * PIPE_COUNT
SIZE = WORDS * 8

BOOT_NS = 100_000_000_000
"""What the monotonic clock reads after a reset: a board that has been up for 100 s."""


def create(path: Path) -> None:
    """Writes a fresh clock file: time at `BOOT_NS`, no event before the daemon says so."""
    path.write_bytes(bytes(SIZE))
    words = attach(path)
    words[NOW] = BOOT_NS
    words[GENERATION] = 1
    words[STATE] = 1


def attach(path: Path | str) -> memoryview:
    """Maps the clock file; the view holds the map alive for as long as it lives.

    Returns:
        `WORDS` signed 64-bit words, shared with every other process of the board.
    """
    with Path(path).open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), SIZE)).cast("q")


def slot_of(words: memoryview, pid: int) -> int | None:
    """Finds the first word of the slot that `pid` claimed, or None."""
    for index in range(SLOTS, PIPES, SLOT_WORDS):
        if words[index + SLOT_PID] == pid:
            return index
    return None


def reader_slot(words: memoryview, pid: int, depth: int = 4) -> int | None:
    """Finds the slot of `pid` or of its nearest ancestor that has one (a shell may lie between)."""
    for _ in range(depth):
        if pid <= 1:
            return None
        slot = slot_of(words, pid)
        if slot is not None:
            return slot
        pid = parent_of(pid)
    return None


def parent_of(pid: int) -> int:
    """Reads the parent of a process, 0 where it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def claim_slot(words: memoryview, lock_path: str, pid: int) -> int:
    """Gives `pid` a slot, reusing those of processes that are gone.

    Args:
        words: the clock.
        lock_path: a file to lock while searching.
        pid: the claiming process.

    Raises:
        OSError: every slot is taken by a living process.
    """
    import fcntl

    with Path(lock_path).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        own = slot_of(words, pid)
        if own is not None:
            return own
        for index in range(SLOTS, PIPES, SLOT_WORDS):
            holder = words[index + SLOT_PID]
            if holder == 0 or not alive(holder):
                words[index + SLOT_MAIN_READS] = words[index + SLOT_OTHER_READS] = 0
                words[index + SLOT_MEMORY] = 0
                words[index + SLOT_PID] = pid
                return index
    raise OSError("the emulated board runs too many processes")


def memory_in_use(words: memoryview) -> int:
    """Adds up the device memory that living processes hold, in bytes."""
    total = 0
    for index in range(SLOTS, PIPES, SLOT_WORDS):
        held = words[index + SLOT_MEMORY]
        if held and alive(words[index + SLOT_PID]):
            total += held
    return total


def alive(pid: int) -> bool:
    """Whether there is such a process."""
    return os.path.exists(f"/proc/{pid}")
