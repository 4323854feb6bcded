"""Waiting for whoever reads a program's lines, so that a stamp does not depend on who woke when.

A program of the board that prints lines holds the board's clock while it prints. It lets go when
its reader has dealt with them: exactly, where the reader takes them with `os.read` (see
`hil.emulator.pipes`); else, when the reader has looked at the clock once since.
"""

from __future__ import annotations

import os
import time

from hil.emulator import clockfile, pipes

DRAIN_S = 0.05
"""How long a line may stay in the pipe before the board goes on without its reader."""
FIRST_STAMP_S, FIRST_DRAIN_S = 1.0, 5.0
STAMP_S = 5.0
PATIENCE = 3
LOOK_S = 0.00002

real_sleep, real_monotonic = time.sleep, time.monotonic
"""Bound on import, which comes before `boardtime` puts the board's time in their place."""


class Reader:
    """The process that reads what this process prints, if it lives in the board's time.

    Args:
        words: the clock.
        pid: this process's parent.
    """

    def __init__(self, words: memoryview, pid: int) -> None:
        self._words = words
        self._pid = pid
        self._slot = clockfile.reader_slot(words, pid)
        self._inode = pipes.pipe_inode(1)
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
        """Waits until the reader has dealt with all that was printed, within reason.

        Args:
            before: `looked` from before it was printed.
        """
        start = real_monotonic()
        first_s = FIRST_DRAIN_S if self._slot is not None and not self._missed else 0.0
        while not pipes.drained():
            if real_monotonic() - start > max(first_s, self._patience()):
                break
            real_sleep(LOOK_S)
        while not self._has_dealt_with_it(before):
            if real_monotonic() - start > self._patience():
                self._missed += 1
                self._main_stamps = self.looked()[0] > before[0]
                return
            real_sleep(LOOK_S)
        self._stamped += 1
        self._missed = 0

    def _patience(self) -> float:
        if self._slot is None or self._missed >= PATIENCE:
            return DRAIN_S if self._slot is None else 0.0
        return STAMP_S if self._stamped else FIRST_STAMP_S / (1 + 10 * self._missed)

    def _has_dealt_with_it(self, before: tuple[int, int]) -> bool:
        if self._slot is None:
            return True
        index = pipes.find(self._words, self._inode) if self._inode is not None else None
        if index is not None:
            return pipes.drained() and pipes.waiting(self._words, index)
        return pipes.drained() and self._has_looked(before)

    def _has_looked(self, before: tuple[int, int]) -> bool:
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
