"""The board's time inside one process: what `time.monotonic` and `time.sleep` mean there.

Installed by `standins/sitecustomize.py` before anything else runs. Board time is what a program
measures with; what keeps the process itself going (waiting for locks, pipes and children) stays
real, so the standard library keeps the real functions.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hil.emulator import clockfile, pipes, watching
from hil.emulator.client import CLOCK_VARIABLE, SOCKET_VARIABLE, BoardClient
from hil.emulator.clockfile import (
    GENERATION,
    NEXT_EVENT,
    NOW,
    SEG_ACTIVITY,
    SEG_END,
    SEG_START,
    SLOT_MAIN_READS,
    SLOT_MEMORY,
    SLOT_OTHER_READS,
    WALL,
)

KEEP_REAL = ("threading", "queue", "subprocess", "selectors", "socket")
"""Imported first, so that the functions they bind at import are the real ones."""

SOURCES = ("tegrastats", "meter")
SAMPLE = "sample"
"""Programs that time waits for once they have been started: by name, and the agent's verb."""

Segment = tuple[int, int, int]


@dataclass
class BoardTime:
    """This process's hold on the shared clock.

    Args:
        words: the clock.
        slot: this process's place in it.
    """

    words: memoryview
    slot: int
    pending: list[Segment] = field(default_factory=list)
    on_reset: list[Callable[[], None]] = field(default_factory=list)
    monitoring: watching.Monitoring | None = None
    _client: BoardClient | None = None
    _generation: int = 0

    @property
    def client(self) -> BoardClient:
        """The connection to the daemon, made when first needed."""
        if self._client is None:
            self._client = BoardClient()
        return self._client

    def hold_memory(self, change_bytes: int) -> None:
        """Accounts for device memory taken or given back."""
        self.words[self.slot + SLOT_MEMORY] += change_bytes

    def same_boot(self) -> bool:
        """False once after each reset of the board; what was under way before is forgotten."""
        if self.words[GENERATION] == self._generation:
            return True
        self._generation = self.words[GENERATION]
        self.pending.clear()
        for forget in self.on_reset:
            forget()
        return False

    def occupy(self, start_ns: int, stop_ns: int, activity: int) -> None:
        """Says what the accelerator will be doing; time itself does not move."""
        self.pending.append((start_ns, stop_ns, activity))

    def reach(self, target_ns: int) -> None:
        """Moves board time to at least `target_ns`.

        Short of the next event that is a few writes to shared memory; else the daemon does it.
        """
        words, pending = self.words, self.pending
        if words[GENERATION] != self._generation:
            self.same_boot()
            return
        near = target_ns < words[NEXT_EVENT] and len(pending) <= 1
        if near and (not pending or self._extend(pending[0], target_ns)):
            pending.clear()
            if target_ns > words[NOW]:  # noqa: PLR1730 - the hot path; max() costs a call
                words[NOW] = target_ns
            return
        self._ask(target_ns)

    def _extend(self, segment: Segment, target_ns: int) -> bool:
        """Joins a segment to the open one of the clock, where nothing lies between them."""
        words = self.words
        start_ns, stop_ns, activity = segment
        if stop_ns > target_ns:
            return False
        running = words[SEG_ACTIVITY]
        if running == activity and words[SEG_END] == start_ns:
            words[SEG_END] = stop_ns
        elif running == 0:
            words[SEG_START] = start_ns
            words[SEG_END] = stop_ns
            words[SEG_ACTIVITY] = activity
        else:
            return False
        return True

    def _ask(self, target_ns: int) -> None:
        due = [(a, min(b, target_ns), n) for a, b, n in self.pending if a < target_ns]
        self.pending = [(max(a, target_ns), b, n) for a, b, n in self.pending if b > target_ns]
        self.client.call("advance", to=target_ns, segments=due)

    def sleep_ns(self, span_ns: int) -> None:
        """Lets board time pass: spends it, or waits for it as a watcher of the monitors."""
        self.same_boot()
        monitoring = self.monitoring
        if monitoring is not None and monitoring.watches:
            monitoring.sleep(span_ns)
            return
        self._ask(self.words[NOW] + span_ns)
        if monitoring is not None:
            monitoring.slept()


_current: BoardTime | None = None


def current() -> BoardTime:
    """The board time of this process.

    Raises:
        RuntimeError: this process does not run on an emulated board.
    """
    if _current is None:
        raise RuntimeError("this interpreter does not run on an emulated board")
    return _current


def install() -> BoardTime:
    """Puts this process on the board's time; once, before any program code is imported."""
    global _current  # noqa: PLW0603 - one clock a process, as `time` itself is one module
    if _current is None:
        path = os.environ[CLOCK_VARIABLE]
        words = clockfile.attach(path)
        slot = clockfile.claim_slot(words, path + ".lock", os.getpid())
        _current = BoardTime(words, slot, _generation=words[GENERATION])
        os.register_at_fork(
            before=pipes.FORKING.acquire,
            after_in_parent=pipes.FORKING.release,
            after_in_child=_after_fork,
        )
        _keep_real_time()
        _current.monitoring = watching.install(_current)
        os.read = pipes.announcing_read(words, path + ".lock", os.read)
        _patch_wall_clock(words)
        _patch_time(_current)
        _patch_popen(_current)
    return _current


def _after_fork() -> None:
    """A forked child is another process of the board: its own slot, its own connection."""
    pipes.FORKING.release()
    if _current is not None:
        path = os.environ.get(CLOCK_VARIABLE)
        _current._client = None
        if path and os.path.exists(path):
            _current.slot = clockfile.claim_slot(_current.words, path + ".lock", os.getpid())


def _keep_real_time() -> None:
    for name in KEEP_REAL:
        importlib.import_module(name)
    real = types.ModuleType("time", time.__doc__)
    real.__dict__.update(time.__dict__)
    for module in list(sys.modules.values()):
        if module.__name__ != __name__ and getattr(module, "time", None) is time:
            module.time = real  # type: ignore[attr-defined]


def _patch_wall_clock(words: memoryview) -> None:
    """The wall clock is ours, but for a step that somebody asked for."""
    real_ns = time.time_ns

    def wall_ns() -> int:
        return real_ns() + words[WALL]

    def wall() -> float:
        return wall_ns() / 1e9

    def of_now(original: Callable[[float], time.struct_time]) -> Callable[..., time.struct_time]:
        return lambda seconds=None: original(wall() if seconds is None else seconds)

    time.time, time.time_ns = wall, wall_ns
    time.gmtime, time.localtime = of_now(time.gmtime), of_now(time.localtime)


def _patch_time(board: BoardTime) -> None:
    import threading

    words = board.words
    main = threading.main_thread().ident
    ident = threading.get_ident
    real_sleep, real_gettime, real_gettime_ns = (
        time.sleep,
        time.clock_gettime,
        time.clock_gettime_ns,
    )
    board_clocks = (time.CLOCK_MONOTONIC, time.CLOCK_MONOTONIC_RAW)

    def monotonic_ns() -> int:
        now_ns = words[NOW]
        # Counted after the reading: whoever sees the count knows that the reading is done.
        words[board.slot + (SLOT_MAIN_READS if ident() == main else SLOT_OTHER_READS)] += 1
        return now_ns

    def monotonic() -> float:
        return monotonic_ns() / 1e9

    def perf_counter_ns() -> int:
        return words[NOW]

    def perf_counter() -> float:
        return words[NOW] / 1e9

    def sleep(seconds: float) -> None:
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        if seconds == 0:
            real_sleep(0)
        else:
            board.sleep_ns(round(seconds * 1e9))

    def clock_gettime(clock: int) -> float:
        if clock == time.CLOCK_REALTIME:
            return time.time()
        return monotonic() if clock in board_clocks else real_gettime(clock)

    def clock_gettime_ns(clock: int) -> int:
        if clock == time.CLOCK_REALTIME:
            return time.time_ns()
        return monotonic_ns() if clock in board_clocks else real_gettime_ns(clock)

    for function in (
        monotonic,
        monotonic_ns,
        perf_counter,
        perf_counter_ns,
        sleep,
        clock_gettime,
        clock_gettime_ns,
    ):
        setattr(time, function.__name__, function)


def _patch_popen(board: BoardTime) -> None:
    """Lets a started source be ready before time can move: starting takes no board time."""
    original: Callable[..., None] = subprocess.Popen.__init__

    def started(self: subprocess.Popen[Any], args: Any, *rest: Any, **options: Any) -> None:
        original(self, args, *rest, **options)
        if _starts_source(args):
            board.client.call("registered", pid=self.pid)

    subprocess.Popen.__init__ = started  # type: ignore[method-assign]


def _starts_source(args: Any) -> bool:
    """Whether a command line starts something that reads the board's power as time passes."""
    if isinstance(args, (str, bytes, os.PathLike)):
        words = os.fsdecode(args).split()
    else:
        words = [os.fsdecode(each) for each in args]
    return SAMPLE in words or any(os.path.basename(word) in SOURCES for word in words[:4])


def on_board() -> bool:
    """Whether this process was started by an emulated board."""
    return CLOCK_VARIABLE in os.environ and SOCKET_VARIABLE in os.environ
