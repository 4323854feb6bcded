"""Whether a run may be believed: each check looks for one trap and names it with its figure.

Rule of this file: a check never changes a figure. `suspect` is a result to look into and measure
again; `invalid` is one that is not about the engine, the clocks or the rail it is said to be about.

Every threshold is a named constant with its ground. None rests on the thermal limits or
accuracy figures of a module that nobody here has verified on a board.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, linear_regression, median
from typing import Literal

import numpy as np

from hil.core.energy import Window, inside
from hil.core.evidence import Evidence
from hil.core.stats import Spread, quantile
from hil.measure import states
from hil.measure.plan import GOOD_POWER_WINDOW_S, GOOD_SAMPLES, LAG_S, SENSOR_TAU_S
from hil.measure.result import Validity
from hil.measure.scene import Scene, block_marks

# A late line now and then is the board at work; ten periods in a row nobody looked.
GAP_SUSPECT_PERIODS = 3.0
GAP_INVALID_FRACTION = 0.1
PERIOD_SUSPECT_FACTOR = 2.0
# A TX2 that takes on 3 W warms by 2 C in the first 30 s, its power within one register step; the
# heaviest load a module takes is three times that. Beyond it something else heats the board.
HEATING_SUSPECT_C_PER_S = 0.2
DRIFT_SUSPECT_FRACTION = 0.03
DRIFT_CONFIDENCE = 0.95
# Of the power above idle; the mean of before and after is wrong by half their difference.
IDLE_SUSPECT_FRACTION = 0.05
IDLE_GPU_SUSPECT_PERCENT = 5.0
IDLE_CPU_SUSPECT_PERCENT = 25.0
# Rails that hold the whole module: what the parts sum to cannot exceed them.
TOTAL_RAILS = frozenset({"VDD_IN", "POM_5V_IN"})
# Rounding of the rails, of latencies, and inferences that straddle an edge.
SUM_TOLERANCE = 1.01


@dataclass(frozen=True)
class Finding:
    """One thing wrong with a run."""

    severity: Literal["suspect", "invalid"]
    reason: str


@dataclass(frozen=True)
class Verdict:
    """The worst of the findings, and all of their reasons."""

    validity: Validity
    reasons: tuple[str, ...]


def judge(scene: Scene) -> Verdict:
    """Check a run that had a power source."""
    found = [finding for check in POWER_CHECKS for finding in check(scene)]
    return _verdict([*found, *_of_load(scene.evidence)])


def judge_latency(evidence: Evidence) -> Verdict:
    """Check a run without a power source."""
    return _verdict(_of_load(evidence))


def _of_load(evidence: Evidence) -> list[Finding]:
    return [finding for check in LOAD_CHECKS for finding in check(evidence)]


def _verdict(findings: Sequence[Finding]) -> Verdict:
    severities = {finding.severity for finding in findings}
    worst: Validity = "invalid" if "invalid" in severities else "suspect" if severities else "valid"
    return Verdict(worst, tuple(finding.reason for finding in findings))


def _suspect(reason: str) -> Finding:
    return Finding("suspect", reason)


def _invalid(reason: str) -> Finding:
    return Finding("invalid", reason)


def lines(scene: Scene) -> Iterable[Finding]:
    """Lines that could not be read or stamped."""
    trace = scene.trace
    if trace.backwards:
        yield _invalid(f"{trace.backwards} power lines bear a stamp before the line ahead of them")
    if trace.unread:
        yield _suspect(f"{trace.unread} of {len(scene.evidence.power_lines)} power lines unread")
    if trace.repeated:
        yield _suspect(f"{trace.repeated} power lines came in one go with the next")


def running_mean(scene: Scene) -> Iterable[Finding]:
    """Lost or altered lines, and restarts, by the source's own mean since its start."""
    fault = scene.trace.fault
    if fault is None:
        return
    cause = {
        "late": "the source ran before this run, or its first line was lost",
        "lost": "a line was lost or altered",
        "restarted": "the source restarted",
    }[fault.kind]
    yield _suspect(
        f"{cause}: mean of {fault.rail} in line {fault.line} is {fault.printed_mw} mW "
        f"where {fault.expected_mw} mW follows from the lines before"
    )


def coverage(scene: Scene) -> Iterable[Finding]:
    """Too few samples in a block, or holes between them."""
    period_ms = scene.trace.period_ms or 0.0
    asked_ms = scene.evidence.plan.interval_ms
    if period_ms > PERIOD_SUSPECT_FACTOR * asked_ms:
        yield _suspect(f"a sample each {period_ms:.0f} ms where {asked_ms} ms were asked for")
    for index, window in enumerate(scene.blocks):
        within = inside(scene.samples, window)
        if len(within) < GOOD_SAMPLES:
            yield _suspect(
                f"block {index} holds {len(within)} power samples, fewer than {GOOD_SAMPLES}"
            )
        edges = [window.start_ns, *(sample.t_ns for sample in within), window.stop_ns]
        gap_ms = max(right - left for left, right in pairwise(edges)) / 1e6
        told = f"no power sample for {gap_ms:.0f} ms in block {index}"
        if gap_ms / 1000 > GAP_INVALID_FRACTION * window.duration_s:
            yield _invalid(f"{told}, over {GAP_INVALID_FRACTION:.0%} of it")
        elif gap_ms > GAP_SUSPECT_PERIODS * period_ms:
            yield _suspect(f"{told}, against one each {period_ms:.0f} ms")


def lengths(scene: Scene) -> Iterable[Finding]:
    """Windows too short, or load that does not reach far enough past them for the sensor."""
    shortest_s = min(window.duration_s for window in scene.blocks)
    if shortest_s < GOOD_POWER_WINDOW_S:
        yield _suspect(f"a window of {shortest_s:.1f} s, shorter than {GOOD_POWER_WINDOW_S:g} s")
    settled_s = (scene.blocks[0].start_ns - scene.load.start_ns) / 1e9
    if settled_s < SENSOR_TAU_S:
        yield _invalid(f"{settled_s:.2f} s of load before the first window: the sensor shows idle")
    elif settled_s < LAG_S:
        yield _suspect(
            f"{settled_s:.2f} s of load before the first window, less than {LAG_S:g} s: "
            "the sensor still shows some idle"
        )
    if scene.load.stop_ns < max(window.stop_ns for window in scene.blocks):
        yield _invalid("the load ended before the last window did")


def rail_sanity(scene: Scene) -> Iterable[Finding]:
    """Parts that draw more than the whole: labels swapped, as seen on a Nano under load."""
    if scene.rail not in TOTAL_RAILS:
        return
    parts = [rail for rail in scene.trace.rails if rail != scene.rail and scene.covers_blocks(rail)]
    total_w = fmean(scene.block_powers_w())
    sum_w = sum(fmean(scene.block_powers_w(rail)) for rail in parts)
    if sum_w > SUM_TOLERANCE * total_w:
        yield _invalid(
            f"{scene.rail} reads {total_w:.2f} W and its parts {sum_w:.2f} W: rails mislabelled"
        )


def stuck(scene: Scene) -> Iterable[Finding]:
    """A rail that reads the same under load as at idle, to the milliwatt, is not being read."""
    if scene.idle_before is None:
        return
    looked = Window(scene.idle_before.start_ns, scene.load.stop_ns)
    if len({sample.power_w for sample in inside(scene.samples, looked)}) == 1:
        yield _invalid(f"{scene.rail} never changed, from idle through all of the load")


def resolution(scene: Scene) -> Iterable[Finding]:
    """Power above idle too small for the steps the sensor reads in."""
    pieces_w = scene.idle_pieces_w()
    levels = sorted({sample.power_w for sample in scene.samples})
    if pieces_w is None or len(levels) < 2:
        return
    # Products are cut to whole milliwatts, so neighbours may seem 1 mW apart from two steps.
    step_w = min((b - a for a, b in pairwise(levels) if b - a > 0.0015), default=0.001)
    net_w = fmean(scene.block_powers_w()) - fmean(pieces_w)
    if net_w < 2 * step_w:
        yield _suspect(
            f"{1000 * net_w:.0f} mW above idle, within two steps of the sensor "
            f"({1000 * step_w:.0f} mW): net energy is not resolved"
        )


def idle_agrees(scene: Scene) -> Iterable[Finding]:
    """Idle after the load unlike idle before it. Medians: a burst of the system is no change."""
    if scene.idle_before is None or scene.idle_after is None:
        return
    before_w, after_w = (
        median(sample.power_w for sample in inside(scene.samples, window))
        for window in (scene.idle_before, scene.idle_after)
    )
    net_w = fmean(scene.block_powers_w()) - (before_w + after_w) / 2
    wrong_w = abs(after_w - before_w) / 2
    if net_w > 0 and wrong_w > IDLE_SUSPECT_FRACTION * net_w:
        yield _suspect(
            f"idle went from {before_w:.2f} to {after_w:.2f} W: net energy is uncertain by "
            f"{wrong_w / net_w:.0%}"
        )


def foreign_load(scene: Scene) -> Iterable[Finding]:
    """Somebody else at work while the board was to be idle."""
    for name, window in (("before", scene.idle_before), ("after", scene.idle_after)):
        readings = [] if window is None else [r for _, r in scene.trace.during(window)]
        gpu = [r.gr3d_percent for r in readings if r.gr3d_percent is not None]
        cpu = [core.percent for r in readings for core in r.cpus if core is not None]
        if gpu and fmean(gpu) > IDLE_GPU_SUSPECT_PERCENT:
            yield _suspect(f"the GPU was {fmean(gpu):.0f} % busy at idle {name} the load")
        if cpu and fmean(cpu) > IDLE_CPU_SUSPECT_PERCENT:
            yield _suspect(f"the CPU was {fmean(cpu):.0f} % busy at idle {name} the load")


def heating(scene: Scene) -> Iterable[Finding]:
    """A board far from thermal steady state: power and clocks move with it."""
    seen = scene.trace.during(Window(scene.blocks[0].start_ns, scene.blocks[-1].stop_ns))
    zones = sorted({zone for _, reading in seen for zone in reading.temps_c})
    slopes = {}
    for zone in zones:
        points = [(t / 1e9, r.temps_c[zone]) for t, r in seen if zone in r.temps_c]
        if len(points) >= GOOD_SAMPLES:
            seconds, temps_c = zip(*points, strict=True)
            slopes[zone] = linear_regression(seconds, temps_c).slope
    if slopes and max(slopes.values()) > HEATING_SUSPECT_C_PER_S:
        zone = max(slopes, key=lambda name: slopes[name])
        yield _suspect(f"{zone} rose by {30 * slopes[zone]:.1f} C in 30 s: not at a steady state")


def gpu_clock(scene: Scene) -> Iterable[Finding]:
    """The GPU clock the lines print, constant over the windows."""
    clocks = {
        reading.gr3d_mhz
        for window in scene.blocks
        for _, reading in scene.trace.during(window)
        if reading.gr3d_mhz is not None
    }
    if clocks and max(clocks) > states.CLOCK_TOLERANCE * min(clocks):
        yield _suspect(f"the GPU clock moved between {min(clocks)} and {max(clocks)} MHz")


def swapping(scene: Scene) -> Iterable[Finding]:
    """Memory paged out during the load."""
    used = [r.swap_used_mb for _, r in scene.trace.during(scene.load) if r.swap_used_mb is not None]
    if used and max(used) > used[0]:
        yield _suspect(f"swap grew by {max(used) - used[0]} MB during the load")


def power_drift(scene: Scene) -> Iterable[Finding]:
    """Power that moves steadily from block to block."""
    change = steady_change(scene.block_powers_w())
    if change is not None:
        yield _suspect(f"power drifted by {change:+.1%} from the first block to the last")


def latency_drift(evidence: Evidence) -> Iterable[Finding]:
    """Latency that moves steadily from block to block."""
    change = steady_change([quantile(block, 0.5) for block in evidence.latency_ns])
    if change is not None:
        yield _suspect(f"latency drifted by {change:+.1%} from the first block to the last")


def counts(evidence: Evidence) -> Iterable[Finding]:
    """Inferences that the latencies do not bear out."""
    for mark, latencies in zip(block_marks(evidence), evidence.latency_ns, strict=True):
        if mark.inferences != len(latencies):
            yield _invalid(
                f"block {mark.index} counts {mark.inferences} inferences and tells "
                f"{len(latencies)} latencies"
            )
        if sum(latencies) > SUM_TOLERANCE * (mark.stop_ns - mark.start_ns):
            yield _invalid(f"the latencies of block {mark.index} add up to more than its length")


def board_states(evidence: Evidence) -> Iterable[Finding]:
    """Power mode, clocks and throttling, as the board's kernel told between the phases."""
    yield from (_invalid(reason) for reason in states.broken(evidence))
    yield from (_suspect(reason) for reason in states.doubtful(evidence))


def steady_change(values: Sequence[float]) -> float | None:
    """Return the fitted relative change from first to last, where it is large and no accident.

    Both must hold: over 3 % along the line, and a slope that differs from none at 95 %. Bursts
    of the operating system alone make single blocks differ by more than 1 %.
    """
    n = len(values)
    if n < 3:
        return None
    x = np.arange(n) - (n - 1) / 2
    y = np.asarray(values, dtype=float)
    slope = float(x @ y / (x @ x))
    residual = y - y.mean() - slope * x
    error = float(np.sqrt(residual @ residual / (n - 2) / (x @ x)))
    change = slope * (n - 1) / float(y.mean())
    interval = Spread(slope, error, n - 2).interval(DRIFT_CONFIDENCE)
    accident = interval.low <= 0 <= interval.high
    return None if accident or abs(change) <= DRIFT_SUSPECT_FRACTION else change


POWER_CHECKS: tuple[Callable[[Scene], Iterable[Finding]], ...] = (
    lines,
    running_mean,
    coverage,
    lengths,
    rail_sanity,
    stuck,
    resolution,
    idle_agrees,
    foreign_load,
    heating,
    gpu_clock,
    swapping,
    power_drift,
)
LOAD_CHECKS: tuple[Callable[[Evidence], Iterable[Finding]], ...] = (
    counts,
    latency_drift,
    board_states,
)
