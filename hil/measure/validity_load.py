"""Checks of a run's load: its counts and clocks, its pace, and who else was at work beside it.

Rule of this file: a check never changes a figure; see `hil.measure.validity`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from statistics import fmean

import numpy as np

from hil.core.energy import Window, inside
from hil.core.evidence import Evidence
from hil.core.stats import quantile
from hil.core.tegrastats import Reading
from hil.measure import states
from hil.measure.findings import Finding, invalid, outlier, steady_change, suspect
from hil.measure.latency import BATCH, FEWEST_BATCHES, find_warmup
from hil.measure.rate import paced
from hil.measure.scene import Scene, block_marks

IDLE_GPU_SUSPECT_PERCENT = 5.0
IDLE_CPU_SUSPECT_PERCENT = 25.0
# The inference loop keeps one core busy while it waits; beside it run the driver's threads, the
# agent and the sampler, which together stay under another.
LOAD_CORES_SUSPECT = 2.5
# Inferences that straddle an edge.
SUM_TOLERANCE = 1.01
# Percentile latencies of a steady loop move by less; what is still above it is warming up.
WARMING_SUSPECT_FRACTION = 0.02
MISSED_SUSPECT_FRACTION = 0.01
MISSED_INVALID_FRACTION = 0.10
# Mean resultant length of the moments of the samples within an inference. Of N samples at random
# moments it is about 1 / sqrt(N), under 0.1 for any run that is long enough.
IN_STEP_SUSPECT = 0.15
MIN_WARMUP_TOLD = BATCH * FEWEST_BATCHES


def foreign_at_idle(scene: Scene) -> Iterable[Finding]:
    """Somebody else at work while the board was to be idle."""
    for name, window in (("before", scene.idle_before), ("after", scene.idle_after)):
        readings = [] if window is None else _readings(scene, window)
        gpu = [r.gr3d_percent for r in readings if r.gr3d_percent is not None]
        cpu = [core.percent for r in readings for core in r.cpus if core is not None]
        if gpu and fmean(gpu) > IDLE_GPU_SUSPECT_PERCENT:
            yield suspect(f"the GPU was {fmean(gpu):.0f} % busy at idle {name} the load")
        if cpu and fmean(cpu) > IDLE_CPU_SUSPECT_PERCENT:
            yield suspect(f"the CPU was {fmean(cpu):.0f} % busy at idle {name} the load")


def foreign_under_load(scene: Scene) -> Iterable[Finding]:
    """More cores at work than the inference loop takes."""
    readings = [reading for window in scene.blocks for reading in _readings(scene, window)]
    if not readings:
        return
    cores = fmean(sum(c.percent for c in r.cpus if c is not None) / 100 for r in readings)
    if cores > LOAD_CORES_SUSPECT:
        yield suspect(
            f"{cores:.1f} cores were busy under load, where inferences take about one: "
            "something else ran"
        )


def _readings(scene: Scene, window: Window) -> list[Reading]:
    return [reading for _, reading in scene.trace.during(window)]


def in_step(scene: Scene) -> Iterable[Finding]:
    """A sensor that looks for an instant only, at even distances.

    A rhythm of the load near a multiple of that distance is misread by tens of per cent, and the
    readings do not show it; where it is the rhythm of inferences, their times do.
    """
    if not scene.instant or scene.trace.settings.get("jittered"):
        return
    turns = []
    for mark, window, latencies in zip(
        block_marks(scene.evidence), scene.blocks, scene.evidence.latency_ns, strict=True
    ):
        starts = [mark.start_ns, *(mark.start_ns + t for t in accumulate(latencies))]
        for sample in inside(scene.samples, window):
            at = bisect_right(starts, sample.t_ns) - 1
            if at < len(latencies):
                turns.append((sample.t_ns - starts[at]) / max(1, latencies[at]))
    together = abs(np.exp(2j * math.pi * np.array(turns)).mean()) if turns else 0.0
    if together > IN_STEP_SUSPECT:
        yield suspect(
            "each reading is one instant, and readings keep step with the inferences "
            f"({together:.0%} at one point of them): choose another interval_ms"
        )
        return
    yield suspect(
        f"each reading is one instant, {scene.trace.period_ms or 0.0:.0f} ms apart: a load with a "
        "rhythm near a multiple of that is misread; read `source: ina3221`, which varies it"
    )


def counts(evidence: Evidence) -> Iterable[Finding]:
    """Inferences that the latencies do not bear out."""
    for mark, latencies in zip(block_marks(evidence), evidence.latency_ns, strict=True):
        if mark.inferences != len(latencies):
            yield invalid(
                f"block {mark.index} counts {mark.inferences} inferences and tells "
                f"{len(latencies)} latencies"
            )
        if sum(latencies) > SUM_TOLERANCE * (mark.stop_ns - mark.start_ns):
            yield invalid(f"the latencies of block {mark.index} add up to more than its length")


def warming_up(evidence: Evidence) -> Iterable[Finding]:
    """Latency not yet steady when the first block began."""
    before = [*evidence.start.get("warmup_ns", ()), *evidence.start.get("settle_ns", ())]
    if len(before) < MIN_WARMUP_TOLD or find_warmup(before) is not None:
        return
    last = quantile(before[-len(before) // 4 :], 0.5)
    steady = quantile([t for block in evidence.latency_ns for t in block], 0.5)
    change = last / steady - 1
    if abs(change) > WARMING_SUSPECT_FRACTION:
        yield suspect(
            f"latency was still {change:+.1%} off when the first block began: raise settle_s"
        )


def missed_slots(evidence: Evidence) -> Iterable[Finding]:
    """A paced run that could not keep its pace."""
    pace = paced(evidence)
    if pace is None or not pace.missed:
        return
    fraction = pace.missed / pace.slots
    told = (
        f"{pace.missed} of {pace.slots} slots at {pace.asked_hz:g} Hz were missed: "
        f"{pace.achieved_hz:.4g} Hz were kept"
    )
    if fraction > MISSED_INVALID_FRACTION:
        yield invalid(told)
    elif fraction > MISSED_SUSPECT_FRACTION:
        yield suspect(told)


def latency_drift(evidence: Evidence) -> Iterable[Finding]:
    """Latency that moves steadily from block to block."""
    change = steady_change(_medians(evidence))
    if change is not None:
        yield suspect(f"latency drifted by {change:+.1%} from the first block to the last")


def latency_outlier(evidence: Evidence) -> Iterable[Finding]:
    """One block unlike all others."""
    found = outlier(_medians(evidence))
    if found is not None:
        index, distance = found
        yield suspect(f"the median latency of block {index} is {distance:+.1%} off the others'")


def _medians(evidence: Evidence) -> Sequence[float]:
    return [quantile(block, 0.5) for block in evidence.latency_ns]


def board_states(evidence: Evidence) -> Iterable[Finding]:
    """Power mode, clocks and throttling, as the board's kernel told between the phases."""
    yield from (invalid(reason) for reason in states.broken(evidence))
    yield from (suspect(reason) for reason in states.doubtful(evidence))


POWERED_CHECKS: tuple[Callable[[Scene], Iterable[Finding]], ...] = (
    foreign_at_idle,
    foreign_under_load,
    in_step,
)
CHECKS: tuple[Callable[[Evidence], Iterable[Finding]], ...] = (
    counts,
    warming_up,
    missed_slots,
    latency_drift,
    latency_outlier,
    board_states,
)
