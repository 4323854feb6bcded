"""A run laid out for scoring: windows of load, windows of idle, power in each of them.

Rule of this file: it places windows and integrates; it decides nothing about their quality.
What is missing altogether raises, because no figure may stand for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hil.core.energy import NS_PER_S, PowerSample, Window, energy_j, mean_power_w
from hil.core.errors import MeasurementError
from hil.core.evidence import Evidence, Mark
from hil.core.tegrastats import Reading
from hil.measure.plan import LAG_S, MIN_BLOCKS, MIN_IDLE_S, MIN_POWER_WINDOW_S, SENSOR_TAU_S
from hil.measure.trace import SOURCES, PowerTrace, read_trace

LOAD_MARKS = ("settle", "block", "tail")
# Idle is cut into pieces of two sensor time constants: whole ones barely remember each other.
IDLE_PIECE_S = 2 * SENSOR_TAU_S


@dataclass(frozen=True)
class Scene:
    """One run with a power source, laid out.

    Attributes:
        samples: of the rail that is measured.
        blocks: windows of steady load.
        load: from the first to the last moment of load.
        idle_before: where the sensor showed nothing but idle; None where that was too short.
    """

    evidence: Evidence
    rail: str
    trace: PowerTrace
    samples: tuple[PowerSample, ...]
    blocks: tuple[Window, ...]
    load: Window
    idle_before: Window | None
    idle_after: Window | None

    def block_energies_j(self, rail: str | None = None) -> tuple[float, ...]:
        """Integrate every block, on the measured rail or on another.

        Raises:
            MeasurementError: the samples do not cover a block.
        """
        samples = self.samples if rail is None else self.trace.rails[rail]
        return tuple(_energy_j(samples, window, index) for index, window in enumerate(self.blocks))

    def block_powers_w(self, rail: str | None = None) -> tuple[float, ...]:
        """Return the mean power of every block."""
        energies = self.block_energies_j(rail)
        return tuple(j / window.duration_s for j, window in zip(energies, self.blocks, strict=True))

    def covers_blocks(self, rail: str) -> bool:
        """Whether a rail has samples on both sides of all blocks."""
        samples = self.trace.rails[rail]
        first_ns = min(window.start_ns for window in self.blocks)
        last_ns = max(window.stop_ns for window in self.blocks)
        return samples[0].t_ns <= first_ns and samples[-1].t_ns >= last_ns

    def idle_pieces_w(self) -> tuple[float, ...] | None:
        """Return mean power in short pieces of idle, before and after; None if either lacks."""
        if self.idle_before is None or self.idle_after is None:
            return None
        pieces = (*_pieces(self.idle_before), *_pieces(self.idle_after))
        return tuple(mean_power_w(self.samples, piece) for piece in pieces)


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


def powered_scene(evidence: Evidence, rail: str) -> Scene:
    """Lay out a run that had a power source.

    Raises:
        MeasurementError: no line with the rail, windows too short, or samples that do not cover
            them.
    """
    blocks = tuple(Window(mark.start_ns, mark.stop_ns) for mark in block_marks(evidence))
    shortest_s = min(window.duration_s for window in blocks)
    if shortest_s < MIN_POWER_WINDOW_S:
        raise MeasurementError(
            f"a window of {shortest_s:.2f} s is too short for the power sensor",
            why=f"it follows a step within {LAG_S:g} s",
            fix=f"set window_s to {MIN_POWER_WINDOW_S:g} or more",
        )
    trace = read_trace(evidence.power_lines, _reader(evidence.power_source))
    samples = _samples(trace, rail, evidence)
    load_marks = [mark for mark in evidence.marks if mark.name in LOAD_MARKS]
    load = Window(min(m.start_ns for m in load_marks), max(m.stop_ns for m in load_marks))
    return Scene(
        evidence=evidence,
        rail=rail,
        trace=trace,
        samples=samples,
        blocks=blocks,
        load=load,
        # Work before the source started may still show in its first readings.
        idle_before=_idle(evidence, "idle_before", samples, samples[0].t_ns),
        idle_after=_idle(evidence, "idle_after", samples, load.stop_ns),
    )


def _reader(source: str) -> Callable[[str], Reading | None]:
    if source not in SOURCES:
        raise MeasurementError(
            f"no reader for power source {source!r}", why=f"known: {', '.join(SOURCES)}"
        )
    return SOURCES[source]


def _samples(trace: PowerTrace, rail: str, evidence: Evidence) -> tuple[PowerSample, ...]:
    if rail in trace.rails:
        return trace.rails[rail]
    if trace.rails:
        raise MeasurementError(
            f"the board prints no rail {rail!r}",
            why=f"it prints {', '.join(trace.rails)}",
            fix="set power.rail in the device file to the module's total input",
        )
    raise MeasurementError(
        "the power source gave no power",
        why=f"{len(evidence.power_lines)} lines came, none of them with a rail",
        fix="run `tegrastats` on the board by hand; without rails there are no joules there",
    )


def _energy_j(samples: Sequence[PowerSample], window: Window, index: int) -> float:
    try:
        return energy_j(samples, window)
    except ValueError as error:
        raise MeasurementError(
            f"the power samples do not cover block {index}",
            why=str(error),
            fix="the source must run before the first block and beyond the last: "
            "raise idle_s and tail_s, and see why it stopped",
        ) from error


def _idle(
    evidence: Evidence, name: str, samples: Sequence[PowerSample], quiet_since_ns: int
) -> Window | None:
    """Return where the sensor shows idle alone, from one lag after the last work."""
    marks = evidence.named(name)
    if not marks:
        return None
    start_ns = max(marks[0].start_ns, quiet_since_ns + round(LAG_S * NS_PER_S))
    # From sample to sample: the one past the end may have seen the load, and must not be leaned to.
    stamps = [sample.t_ns for sample in samples if start_ns <= sample.t_ns < marks[-1].stop_ns]
    if not stamps or stamps[-1] - stamps[0] < MIN_IDLE_S * NS_PER_S:
        return None
    return Window(stamps[0], stamps[-1])


def _pieces(window: Window) -> tuple[Window, ...]:
    count = max(1, math.floor(window.duration_s / IDLE_PIECE_S))
    length_ns = window.stop_ns - window.start_ns
    edges = [window.start_ns + length_ns * i // count for i in range(count + 1)]
    return tuple(Window(edges[i], edges[i + 1]) for i in range(count))
