"""A run laid out for scoring: windows of load, windows of idle, power in each of them.

Rule of this file: it places windows and integrates; it decides nothing about their quality.
What is missing altogether raises, because no figure may stand for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from statistics import fmean

from hil.core.energy import NS_PER_S, PowerSample, Window
from hil.core.errors import MeasurementError
from hil.core.evidence import Evidence, Mark
from hil.core.fallbacks import Fallback, unknown_rail
from hil.measure.lag import Lag, load_steps, step_lag
from hil.measure.plan import (
    LAG_S,
    LAGS,
    MIN_BLOCKS,
    MIN_IDLE_S,
    MIN_LOAD_S,
    MIN_POWER_WINDOW_S,
    SENSOR_TAU_S,
)
from hil.measure.trace import PowerTrace, RailTrace, read_power

LOAD_MARKS = ("settle", "block", "tail")
# Idle is cut into pieces of two sensor time constants: whole ones barely remember each other.
IDLE_PIECE_TAUS = 2
# A time constant that the steps leave open by more than this tells nothing to correct by.
LAG_KNOWN_RATIO = 2.0
TRIGGERED = 0


@dataclass(frozen=True)
class Scene:
    """One run with a power source, laid out.

    Attributes:
        power: the rail that is measured.
        blocks: windows of steady load.
        load: from the first to the last moment of load.
        idle_before: where the sensor showed nothing but idle; None where that was too short.
        lag: of the sensor, as this run's own steps show it; None where they do not.
        tau_s: the time constant that is reckoned with.
        instant: each reading is one conversion, not an average over the time since the last.
    """

    evidence: Evidence
    rail: str
    trace: PowerTrace
    power: RailTrace
    blocks: tuple[Window, ...]
    load: Window
    idle_before: Window | None
    idle_after: Window | None
    lag: Lag | None
    tau_s: float
    instant: bool = False

    @property
    def samples(self) -> tuple[PowerSample, ...]:
        """Samples of the rail that is measured."""
        return self.power.samples

    def block_energies_j(self, rail: str | None = None) -> tuple[float, ...]:
        """Integrate every block, on the measured rail or on another.

        On the measured rail, what the sensor had not yet shown of the load's onset is added
        (`shortfalls_j`).

        Raises:
            MeasurementError: the samples do not cover a block.
        """
        return self._block_energies_j if rail is None else self._read_j(self.trace.rails[rail])

    @cached_property
    def _block_energies_j(self) -> tuple[float, ...]:
        read = self._read_j(self.power)
        return tuple(j + more for j, more in zip(read, self.shortfalls_j, strict=True))

    def _read_j(self, power: RailTrace) -> tuple[float, ...]:
        return tuple(_energy_j(power, window, index) for index, window in enumerate(self.blocks))

    def block_powers_w(self, rail: str | None = None) -> tuple[float, ...]:
        """Return the mean power of every block."""
        energies = self.block_energies_j(rail)
        return tuple(j / window.duration_s for j, window in zip(energies, self.blocks, strict=True))

    @cached_property
    def shortfalls_j(self) -> tuple[float, ...]:
        """What each block's reading lacks because the sensor still showed some idle.

        Only where the run's own steps tell the time constant; zeros elsewhere. After a settling
        of five time constants it is under a ten-thousandth of any energy.
        """
        if self.lag is None:
            return (0.0,) * len(self.blocks)
        unseen_s = self.unseen_s(self.lag.tau_s.value, self.lag.dead_s)
        return tuple(self.step_w * seconds for seconds in unseen_s)

    def unseen_s(self, tau_s: float, dead_s: float = 0.0) -> tuple[float, ...]:
        """Return for how long each block misses the whole step, behind a first-order lag.

        A step taken at 0 reads as 1 - exp(-t / tau); over a window the rest adds up to
        tau (exp(-start / tau) - exp(-stop / tau)).
        """
        if tau_s <= 0:
            return (0.0,) * len(self.blocks)
        edges = [
            ((w.start_ns - self.load.start_ns) / NS_PER_S - dead_s, w.duration_s)
            for w in self.blocks
        ]
        return tuple(
            tau_s * math.exp(-max(0.0, from_s) / tau_s) * -math.expm1(-long_s / tau_s)
            for from_s, long_s in edges
        )

    @cached_property
    def step_w(self) -> float:
        """Power of the last block above idle; above nothing where no idle was seen."""
        load_w = self._read_j(self.power)[-1] / self.blocks[-1].duration_s
        pieces = self.idle_pieces_of(self.idle_before)
        return load_w - (fmean(pieces) if pieces else 0.0)

    @cached_property
    def step_seen_w(self) -> float | None:
        """Smallest step between two readings, in watts; None where fewer than two differ."""
        levels = sorted({sample.power_w for sample in self.samples})
        if len(levels) < 2:
            return None
        # Products are cut to whole milliwatts, so neighbours may seem 1 mW apart from two steps.
        return min((b - a for a, b in pairwise(levels) if b - a > 0.0015), default=0.001)

    def covers_blocks(self, rail: str) -> bool:
        """Whether a rail is known over all blocks."""
        first_ns = min(window.start_ns for window in self.blocks)
        last_ns = max(window.stop_ns for window in self.blocks)
        return self.trace.rails[rail].covers(Window(first_ns, last_ns))

    def idle_pieces_w(self) -> tuple[float, ...] | None:
        """Return mean power in short pieces of idle, before and after; None if either lacks."""
        if self.idle_before is None or self.idle_after is None:
            return None
        return (*self.idle_pieces_of(self.idle_before), *self.idle_pieces_of(self.idle_after))

    def idle_pieces_of(self, window: Window | None) -> tuple[float, ...]:
        """Return mean power in the pieces of one stretch of idle; none of none."""
        if window is None:
            return ()
        return tuple(self.power.mean_power_w(piece) for piece in _pieces(window, self.tau_s))


def block_marks(evidence: Evidence) -> tuple[Mark, ...]:
    """Return the marks of the blocks.

    Raises:
        MeasurementError: too few blocks, or one without inferences or latencies.
    """
    marks = evidence.named("block")
    if len(marks) < MIN_BLOCKS:
        raise MeasurementError(
            f"the run has {len(marks)} blocks, too few for an interval",
            fix=f"measure {MIN_BLOCKS} blocks or more",
        )
    if len(evidence.latency_ns) != len(marks):
        raise MeasurementError(
            "the run does not tell the latencies of every block",
            why=f"{len(marks)} blocks, {len(evidence.latency_ns)} series of latencies",
        )
    for mark, latencies in zip(marks, evidence.latency_ns, strict=True):
        if mark.stop_ns <= mark.start_ns or not mark.inferences or not latencies:
            raise MeasurementError(
                f"block {mark.index} holds no inference",
                fix="make window_s several times as long as one inference",
            )
    return marks


def powered_scene(evidence: Evidence, rail: str, tau_s: float | None = None) -> Scene:
    """Lay out a run that had a power source.

    Args:
        evidence: as it came home.
        rail: what energy is read on.
        tau_s: time constant of its sensor where that is known beforehand; the run's own steps
            are asked all the same.

    Raises:
        NoSuchRailError: no line with the rail.
        MeasurementError: windows too short, or samples that do not cover them.
    """
    blocks = tuple(Window(mark.start_ns, mark.stop_ns) for mark in block_marks(evidence))
    _long_enough(blocks)
    trace = read_power(evidence.power[0])
    power = _rail(trace, rail)
    load_marks = [mark for mark in evidence.marks if mark.name in LOAD_MARKS]
    load = Window(min(m.start_ns for m in load_marks), max(m.stop_ns for m in load_marks))
    lag = _lag(power, evidence)
    known_s = SENSOR_TAU_S if tau_s is None else tau_s
    reckoned_s = known_s if lag is None else lag.tau_s.value
    # Idle is cut generously: never by less than the slowest sensor that boards are known to have.
    forgotten_ns = round(max(LAG_S, LAGS * reckoned_s) * NS_PER_S)
    first_ns = power.span_ns[0] if power.span_ns else 0
    return Scene(
        evidence=evidence,
        rail=rail,
        trace=trace,
        power=power,
        blocks=blocks,
        load=load,
        # Work before the source started may still show in its first readings.
        idle_before=_idle(evidence, "idle_before", power, first_ns + forgotten_ns),
        idle_after=_idle(evidence, "idle_after", power, load.stop_ns + forgotten_ns),
        lag=lag,
        tau_s=max(reckoned_s, SENSOR_TAU_S),
        instant=_instant(trace, tau_s),
    )


def running_mode(trace: PowerTrace) -> Mapping[str, int] | None:
    """Return how the board's monitors read, by monitor; None where it was not told."""
    told = trace.settings.get("running_mode")
    return told if isinstance(told, Mapping) and told else None


def _instant(trace: PowerTrace, tau_s: float | None) -> bool:
    modes = running_mode(trace)
    if modes is not None:
        return TRIGGERED in modes.values()
    return tau_s == 0.0 and trace.source in ("tegrastats", "ina3221")


def _long_enough(blocks: Sequence[Window]) -> None:
    shortest_s = min(window.duration_s for window in blocks)
    if shortest_s < MIN_POWER_WINDOW_S:
        raise MeasurementError(
            f"a window of {shortest_s:.2f} s is too short for the power sensor",
            why=f"it follows a step within {LAG_S:g} s",
            fix=f"set window_s to {MIN_POWER_WINDOW_S:g} or more",
        )
    load_s = sum(window.duration_s for window in blocks)
    if load_s < MIN_LOAD_S - 1e-6:
        raise MeasurementError(
            f"{load_s:.1f} s of windows are too short a run for a figure in joules",
            fix=f"measure {MIN_LOAD_S:g} s or more in all",
        )


def _lag(power: RailTrace, evidence: Evidence) -> Lag | None:
    """Return what the steps into and out of the load show, where they pin it down."""
    found = step_lag(power, load_steps(evidence))
    if found is None or found.tau_s.low <= 0:
        return None
    return found if found.tau_s.high <= LAG_KNOWN_RATIO * found.tau_s.value else None


class NoSuchRailError(MeasurementError):
    """The board does not print the rail that is to be read.

    Attributes:
        fallback: what is done instead, and the line to put into the device file.
    """

    def __init__(self, fallback: Fallback) -> None:
        super().__init__(fallback.reason, fix=fallback.next_step)
        self.fallback = fallback


def _rail(trace: PowerTrace, rail: str) -> RailTrace:
    if rail in trace.rails:
        return trace.rails[rail]
    raise NoSuchRailError(unknown_rail(rail, tuple(trace.rails), trace.source))


def _energy_j(power: RailTrace, window: Window, index: int) -> float:
    try:
        return power.energy_j(window)
    except ValueError as error:
        raise MeasurementError(
            f"the power samples do not cover block {index}",
            why=str(error),
            fix="the source must run before the first block and beyond the last: "
            "raise idle_s and tail_s, and see why it stopped",
        ) from error


def _idle(evidence: Evidence, name: str, power: RailTrace, quiet_from_ns: int) -> Window | None:
    """Return where the sensor shows idle alone, from one lag after the last work."""
    marks = evidence.named(name)
    if not marks:
        return None
    start_ns = max(marks[0].start_ns, quiet_from_ns)
    # From sample to sample: the one past the end may have seen the load, and must not be leaned to.
    known = power.points or power.samples
    stamps = [at.t_ns for at in known if start_ns <= at.t_ns < marks[-1].stop_ns]
    if not stamps or stamps[-1] - stamps[0] < MIN_IDLE_S * NS_PER_S:
        return None
    return Window(stamps[0], stamps[-1])


def _pieces(window: Window, tau_s: float) -> tuple[Window, ...]:
    count = max(1, math.floor(window.duration_s / (IDLE_PIECE_TAUS * tau_s)))
    length_ns = window.stop_ns - window.start_ns
    edges = [window.start_ns + length_ns * i // count for i in range(count + 1)]
    return tuple(Window(edges[i], edges[i + 1]) for i in range(count))
