"""The emulated board itself: its state, its clock and what happens when.

Everything here runs under one lock in the server. Time moves only in `Machine.advance`, which
stops at each due event (a tegrastats line, a thermal step), freezes the clock there, lets the
event happen, and goes on. Nothing depends on real time, so equal commands give equal histories.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from hil.emulator import clockfile
from hil.emulator.boardmodel import GOVERNOR_NS, BoardModel, Condition
from hil.emulator.faults import Faults
from hil.emulator.meter import meter_of
from hil.emulator.noise import NS, Seed, murmur
from hil.emulator.sensor import Registers
from hil.emulator.timeline import Activity, Timeline, Use

Monitors = dict[str, Registers] | None
THERMAL_STEP_NS = NS
REFRESH_C = 0.5
"""A change of temperature that makes running engines derive their figures anew."""


class Emitter(Protocol):
    """Something that wants to be told when the virtual time has come."""

    next_ns: int

    def fire(self, machine: Machine, now_ns: int) -> bool:
        """Acts at `now_ns` with the clock frozen; False when it is gone for good."""


@dataclass
class Machine:
    """One board.

    Args:
        model: what the board is made of.
        board_seed: which specimen it is.
        words: the shared clock.
        on_state: called with condition and monitors (None: unreadable) whenever files that
            show them must be rewritten.
        faults: what is to go wrong.
    """

    model: BoardModel
    board_seed: int
    words: memoryview
    on_state: Callable[[Condition, Monitors], None] = lambda *_: None
    faults: Faults = field(default_factory=Faults)
    lock: threading.RLock = field(default_factory=threading.RLock)
    emitters: list[Emitter] = field(default_factory=list)
    tickets: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._frozen: Monitors = None
        self.reset(self.board_seed)

    @property
    def now_ns(self) -> int:
        """The virtual time."""
        return self.words[clockfile.NOW]

    @property
    def generation(self) -> int:
        """How many resets there have been."""
        return self.words[clockfile.GENERATION]

    def reset(self, seed: int) -> None:
        """Puts the board into the state after a cool boot and reseeds all noise.

        The monotonic clock restarts as well, so that equal seeds give equal stamps.
        """
        with self.lock:
            self.words[clockfile.NEXT_EVENT] = 0
            self.words[clockfile.SEG_ACTIVITY] = 0
            self.words[clockfile.NOW] = clockfile.BOOT_NS
            self.words[clockfile.GENERATION] += 1
            self.seed = Seed(self.board_seed, seed)
            self.tickets.clear()
            self.condition = self.model.boot()
            shared = self.faults.on("other-user")
            self.condition.other_gpu = shared["share"] if shared is not None else 0.0
            self.sensor = self.model.sensors(self.condition, self.board_seed)
            self.timeline = Timeline(
                rails=self.model.rails,
                now_ns=clockfile.BOOT_NS,
                background=self.model.background(self.seed, clockfile.BOOT_NS),
                murmur=murmur(self.seed, clockfile.BOOT_NS, self.model.board.noise),
                idle_w=self.model.idle_w(self.condition),
                observe=self._observe,
            )
            self._next_thermal_ns = clockfile.BOOT_NS + THERMAL_STEP_NS
            self._next_governor_ns = clockfile.BOOT_NS + GOVERNOR_NS
            self._at_thermal_step, self._at_governor_step = Use(), Use()
            for emitter in self.emitters:
                emitter.next_ns = clockfile.BOOT_NS
            self._changed()
            self._publish_next()

    def monitors(self) -> Monitors:
        """What the power monitors read now; None where they cannot be read."""
        if self.faults.on("sensor-dead") is not None:
            return None
        return self._frozen if self._frozen is not None else self.sensor.read()

    def freeze(self, stuck: bool) -> None:
        """Lets the monitors keep what they read now, or follow again."""
        with self.lock:
            self.settle()
            self._frozen = self.sensor.read() if stuck else None

    def _observe(self, power_w: tuple[float, ...], span_s: float) -> None:
        self.sensor.advance(dict(zip(self.model.rails, power_w, strict=True)), span_s)

    def advance(self, to_ns: int, segments: list[list[int]]) -> int:
        """Moves the virtual time to at least `to_ns`, with all that happens on the way.

        Args:
            to_ns: the time to reach; in the past it only lets due events happen.
            segments: what ran, as (start, stop, activity), after the open segment of the clock.

        Returns:
            The time afterwards.
        """
        with self.lock:
            self._collect()
            for start_ns, stop_ns, activity in segments:
                self.timeline.queue(start_ns, stop_ns, activity)
            self.words[clockfile.NEXT_EVENT] = 0
            while (due_ns := self._next_due()) <= max(to_ns, self.now_ns):
                self._reach(due_ns)
                self._happen()
            self._reach(to_ns)
            self._publish_next()
            return self.now_ns

    def settle(self) -> None:
        """Plays the history up to now; call under the lock before reading or changing state."""
        self._collect()
        self.timeline.play(self.now_ns)

    def _collect(self) -> None:
        words = self.words
        activity = words[clockfile.SEG_ACTIVITY]
        if activity:
            words[clockfile.SEG_ACTIVITY] = 0
            self.timeline.queue(words[clockfile.SEG_START], words[clockfile.SEG_END], activity)

    def _next_due(self) -> int:
        own_ns = min(self._next_thermal_ns, self._next_governor_ns)
        return min([own_ns, *(emitter.next_ns for emitter in self.emitters)])

    def _publish_next(self) -> None:
        self.words[clockfile.NEXT_EVENT] = self._next_due()

    def _reach(self, time_ns: int) -> None:
        if time_ns > self.now_ns:
            self.words[clockfile.NOW] = time_ns
        self.timeline.play(self.now_ns)

    def _happen(self) -> None:
        now_ns = self.now_ns
        if self._next_thermal_ns <= now_ns:
            self._next_thermal_ns = now_ns + THERMAL_STEP_NS
            self._thermal_step()
        if self._next_governor_ns <= now_ns:
            self._next_governor_ns = now_ns + GOVERNOR_NS
            self._governor_step()
        for emitter in [each for each in self.emitters if each.next_ns <= now_ns]:
            if not emitter.fire(self, now_ns):
                self.emitters.remove(emitter)

    def _thermal_step(self) -> None:
        use = self.timeline.total.since(self._at_thermal_step)
        self._at_thermal_step = replace(self.timeline.total)
        step_s = THERMAL_STEP_NS / NS
        condition = self.condition
        condition.busy = use.gpu_ns > 0
        was_throttled = condition.thermal.throttled
        self.model.warm(condition, use.energy_j / step_s, step_s)
        moved_c = abs(condition.derived_at_c - condition.temp_c)
        if moved_c >= REFRESH_C or was_throttled != condition.thermal.throttled:
            self._changed()
        else:
            self.timeline.idle_w = self.model.idle_w(condition)
            self.on_state(condition, self.monitors())

    def _governor_step(self) -> None:
        """Lets free clocks follow the load; with pinned clocks there is nothing to look at."""
        use = self.timeline.total.since(self._at_governor_step)
        self._at_governor_step = replace(self.timeline.total)
        if self.condition.pinned:
            # Looked at again once a thermal step has passed: no event more than need be.
            self._next_governor_ns = self._next_thermal_ns
            return
        if self.model.govern(self.condition, busy=use.gpu_ns > 0):
            self._changed()

    def _changed(self) -> None:
        self.model.settle(self.condition)
        self.timeline.idle_w = self.model.idle_w(self.condition)
        self.timeline.other_gpu = self.condition.other_gpu
        self.words[clockfile.STATE] += 1
        self.on_state(self.condition, self.monitors())

    def change(self, alter: Callable[[Condition], None]) -> None:
        """Changes clocks or mode now, so that what ran before keeps its power."""
        with self.lock:
            self.settle()
            alter(self.condition)
            self._changed()

    def work(self, span_ns: int) -> None:
        """Lets a program of the board work from now on, on a core of its own."""
        self.timeline.work(span_ns, self.model.working_w(self.condition))

    def total_w(self) -> float:
        """The true power that enters the board, at the end of what has been played."""
        last = self.timeline.truth[-1] if self.timeline.truth else None
        power_w = last.power_w if last is not None else self.timeline.idle_w
        return power_w[self.model.rails.index(self.model.board.sensor.total_rail)]

    def register(self, activity: Activity) -> int:
        """Names an activity of a process (see `Timeline.register`)."""
        with self.lock:
            return self.timeline.register(activity)

    def ticket(self, name: str) -> int:
        """Counts from 0 under a name since the reset: which build or context of its kind it is."""
        with self.lock:
            number = self.tickets.get(name, 0)
            self.tickets[name] = number + 1
            return number

    def watch(self, emitter: Emitter) -> None:
        """Adds an emitter; its first event comes when time next moves, or at `advance(0, [])`."""
        with self.lock:
            self.settle()
            self.emitters.append(emitter)
            self._publish_next()

    def truth(self) -> dict[str, Any]:
        """What really happened since the reset, for tests: exact pieces of power."""
        with self.lock:
            self.settle()
            return {
                "rails": list(self.model.rails),
                "pieces": [
                    [piece.start_ns, piece.stop_ns, piece.activity, list(piece.power_w)]
                    for piece in self.timeline.truth
                ],
                "now_ns": self.now_ns,
                "reset_seed": self.seed.reset,
                "sensors": self.sensor.errors(),
                "meter": meter_of(self.seed, 0).truth(),
            }
