"""The true power of the board over virtual time: what runs, what it draws, what the sensor sees.

Power is piecewise constant. Pieces end where an activity starts or stops, where a burst of
background work does, and where the board's state changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hil.emulator.sensor import NS, Burst

IDLE = 0
TRUTH_PIECES = 200_000
"""How many pieces of the true history are kept; older ones fall out."""

BURST_SHARE = {"VDD_IN": 1.0, "VDD_SYS_CPU": 0.6, "VDD_SYS_SOC": 0.1, "VDD_SYS_DDR": 0.1}
"""Where a burst's watts show. Burst lines of tx2_1.log move the CPU rail most."""


@dataclass
class Activity:
    """Something that draws power for a while.

    Attributes:
        power_w: total power of each rail while it runs.
        gpu_busy: share of the time that the GPU works, 0 to 1.
        emc_busy: share of the memory controller's time.
    """

    power_w: tuple[float, ...]
    gpu_busy: float = 0.0
    emc_busy: float = 0.0


@dataclass
class Piece:
    """A stretch of constant power."""

    start_ns: int
    stop_ns: int
    activity: int
    power_w: tuple[float, ...]


@dataclass(frozen=True)
class Work:
    """A program's own work beside what runs: power of each rail on top, for a while."""

    start_ns: int
    stop_ns: int
    power_w: tuple[float, ...]


@dataclass
class Use:
    """What has been in use since the history started, in nanoseconds of full use."""

    gpu_ns: float = 0.0
    emc_ns: float = 0.0
    cpu_ns: float = 0.0
    energy_j: float = 0.0

    def since(self, before: Use) -> Use:
        """What has been used between two moments."""
        return Use(
            self.gpu_ns - before.gpu_ns,
            self.emc_ns - before.emc_ns,
            self.cpu_ns - before.cpu_ns,
            self.energy_j - before.energy_j,
        )


@dataclass
class Timeline:
    """Plays the history forward, piece by piece, and keeps the truth.

    Args:
        rails: names of the rails, in the order of every power tuple.
        now_ns: where the history starts.
        background: the operating system's bursts, in order, from `now_ns` on.
        murmur: its small change, (until when, watts) without gaps from `now_ns` on.
        idle_w: what the board draws when nothing runs; the owner refreshes it with the state.
        other_gpu: share of the GPU's time that is somebody else's.
        observe: told each piece as (power of each rail, seconds), in order.
    """

    rails: tuple[str, ...]
    now_ns: int
    background: Iterator[Burst]
    murmur: Iterator[tuple[int, float]]
    idle_w: tuple[float, ...]
    observe: Callable[[tuple[float, ...], float], None]
    activities: dict[int, Activity] = field(default_factory=dict)
    queued: deque[tuple[int, int, int]] = field(default_factory=deque)
    truth: deque[Piece] = field(default_factory=lambda: deque(maxlen=TRUTH_PIECES))
    total: Use = field(default_factory=Use)
    works: list[Work] = field(default_factory=list)
    other_gpu: float = 0.0

    def __post_init__(self) -> None:
        self._burst = next(self.background)
        self._murmur_until_ns, self._murmur_w = next(self.murmur)
        self._share = tuple(BURST_SHARE.get(rail, 0.0) for rail in self.rails)
        self._module = self.rails.index("VDD_IN") if "VDD_IN" in self.rails else 0

    def register(self, activity: Activity) -> int:
        """Names an activity, so that a segment can refer to it."""
        for number, known in self.activities.items():
            if known == activity:
                return number
        number = len(self.activities) + 1
        self.activities[number] = activity
        return number

    def queue(self, start_ns: int, stop_ns: int, activity: int) -> None:
        """Says what ran when. Segments come in order; what overlaps the past is cut off."""
        start_ns = max(start_ns, self.now_ns, self.queued[-1][1] if self.queued else 0)
        if stop_ns > start_ns and activity in self.activities:
            self.queued.append((start_ns, stop_ns, activity))

    def work(self, span_ns: int, power_w: tuple[float, ...]) -> None:
        """Lets a program work from now on, on a core of its own."""
        if span_ns > 0:
            self.works.append(Work(self.now_ns, self.now_ns + span_ns, power_w))

    def play(self, until_ns: int) -> None:
        """Plays the history up to a time, using up the segments queued until there."""
        while self.now_ns < until_ns:
            stop_ns, running = self._next_change(until_ns)
            self._piece(stop_ns, running)
            if self.queued and self.queued[0][1] <= stop_ns:
                self.queued.popleft()
            while self._burst.stop_ns <= stop_ns:
                self._burst = next(self.background)
            while self._murmur_until_ns <= stop_ns:
                self._murmur_until_ns, self._murmur_w = next(self.murmur)
            if self.works:
                self.works = [work for work in self.works if work.stop_ns > stop_ns]

    def _next_change(self, until_ns: int) -> tuple[int, int]:
        running, stop_ns = IDLE, until_ns
        if self.queued:
            start_ns, end_ns, activity = self.queued[0]
            if start_ns <= self.now_ns:
                running, stop_ns = activity, min(stop_ns, end_ns)
            else:
                stop_ns = min(stop_ns, start_ns)
        edge = self._burst.stop_ns if self._bursting() else self._burst.start_ns
        works = min((work.stop_ns for work in self.works), default=stop_ns)
        return min(stop_ns, edge, self._murmur_until_ns, works), running

    def _bursting(self) -> bool:
        return self._burst.start_ns <= self.now_ns

    def _piece(self, stop_ns: int, running: int) -> None:
        span_ns = stop_ns - self.now_ns
        activity = self.activities.get(running)
        power_w = activity.power_w if activity else self.idle_w
        burst_w = self._burst.power_w if self._bursting() else 0.0
        extra_w = burst_w + self._murmur_w
        power_w = tuple(
            base + extra_w * share for base, share in zip(power_w, self._share, strict=True)
        )
        for work in self.works:
            power_w = tuple(base + more for base, more in zip(power_w, work.power_w, strict=True))
        self._remember(stop_ns, running, power_w)
        self.observe(power_w, span_ns / NS)
        use = self.total
        use.energy_j += power_w[self._module] * span_ns / NS
        use.cpu_ns += span_ns * (0.9 if activity else 0.0) + (span_ns if burst_w else 0)
        use.cpu_ns += span_ns * len(self.works)
        own = activity.gpu_busy if activity else 0.0
        use.gpu_ns += span_ns * (own + self.other_gpu * (1.0 - own))
        if activity:
            use.emc_ns += span_ns * activity.emc_busy
        self.now_ns = stop_ns

    def _remember(self, stop_ns: int, running: int, power_w: tuple[float, ...]) -> None:
        last = self.truth[-1] if self.truth else None
        if last and last.activity == running and last.power_w == power_w:
            last.stop_ns = stop_ns
        else:
            self.truth.append(Piece(self.now_ns, stop_ns, running, power_w))
