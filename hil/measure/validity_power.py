"""Checks of a run's power: lines, samples, windows, the rail, idle, heat, and who else was at work.

Rule of this file: a check never changes a figure; see `hil.measure.validity`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from statistics import fmean, linear_regression, median

from hil.core.energy import Window, inside
from hil.core.stats import combine, spread
from hil.measure import states
from hil.measure.findings import Finding, invalid, outlier, steady_change, suspect
from hil.measure.plan import (
    GOOD_POWER_WINDOW_S,
    GOOD_SAMPLES,
    GOOD_SAMPLES_IN_WINDOW,
    LAG_S,
    LAGS,
    SENSOR_TAU_S,
)
from hil.measure.scene import Scene

# A late line now and then is the board at work; ten periods in a row nobody looked.
GAP_SUSPECT_PERIODS = 3.0
GAP_INVALID_PERIODS = 10.0
PERIOD_SUSPECT_FACTOR = 2.0
# Of the windows' time, what lies within one and a half periods of the sample before.
COVERED_PERIODS = 1.5
COVERAGE_SUSPECT = 0.99
COVERAGE_INVALID = 0.75
# A TX2 that takes on 3 W warms by 2 C in the first 30 s, its power within one register step; the
# heaviest load a module takes is three times that. Beyond it something else heats the board.
# assumes: slow-heating
HEATING_SUSPECT_C_PER_S = 0.2
FEWEST_STATES = 3
FEWEST_LINES = 30
# Of the power above idle; the mean of before and after is wrong by half their difference.
IDLE_SUSPECT_FRACTION = 0.05
IDLE_CONFIDENCE = 0.99
# Background work of a TX2 adds about 1 J at a time (1.4 W for 0.5 to 0.95 s, tx2_1.log); two such
# bursts in one window and none in the others are the board as it is.
BURSTS_J = 4.0
# Rails that hold the whole module: what the parts sum to cannot exceed them.
# assumes: total-rail
TOTAL_RAILS = frozenset({"VDD_IN", "POM_5V_IN"})
# Rounding of the rails.
SUM_TOLERANCE = 1.01
# A time constant this much above the one reckoned with is no error of fitting it.
LAG_SUSPECT_FACTOR = 1.2


def lines(scene: Scene) -> Iterable[Finding]:
    """Lines that could not be read or stamped."""
    trace = scene.trace
    if trace.backwards:
        yield invalid(f"{trace.backwards} power lines bear a stamp before the line ahead of them")
    if trace.unread:
        yield suspect(f"{trace.unread} of {len(scene.evidence.power_lines)} power lines unread")
    if trace.repeated:
        yield suspect(f"{trace.repeated} power lines came in one go with the next")


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
    yield suspect(
        f"{cause}: mean of {fault.rail} in line {fault.line} is {fault.printed_mw} mW "
        f"where {fault.expected_mw} mW follows from the lines before"
    )


def coverage(scene: Scene) -> Iterable[Finding]:
    """Too few samples in a block, or holes between them."""
    asked_ms = scene.evidence.plan.interval_ms
    period_ms = _period_ms(scene)
    if period_ms > PERIOD_SUSPECT_FACTOR * asked_ms:
        yield suspect(f"a sample each {period_ms:.0f} ms where {asked_ms} ms were asked for")
    uncovered_ms, count = 0.0, 0
    for index, window in enumerate(scene.blocks):
        within = inside(scene.samples, window)
        count += len(within)
        if scene.power.kind == "power" and len(within) < GOOD_SAMPLES_IN_WINDOW:
            yield suspect(
                f"block {index} holds {len(within)} power samples, "
                f"fewer than {GOOD_SAMPLES_IN_WINDOW}"
            )
        edges = [window.start_ns, *(sample.t_ns for sample in within), window.stop_ns]
        gaps_ms = [(right - left) / 1e6 for left, right in pairwise(edges)]
        gap_ms = max(gaps_ms)
        found = invalid if gap_ms > GAP_INVALID_PERIODS * period_ms else suspect
        if gap_ms > GAP_SUSPECT_PERIODS * period_ms:
            yield found(
                f"no power sample for {gap_ms:.0f} ms in block {index}, against one each "
                f"{period_ms:.0f} ms"
            )
        uncovered_ms += sum(g - period_ms for g in gaps_ms if g > COVERED_PERIODS * period_ms)
    if scene.power.kind == "power" and count < GOOD_SAMPLES:
        yield suspect(f"the windows hold {count} power samples, fewer than {GOOD_SAMPLES}")
    covered = 1 - uncovered_ms / 1000 / sum(window.duration_s for window in scene.blocks)
    if covered < COVERAGE_SUSPECT:
        found = invalid if covered < COVERAGE_INVALID else suspect
        yield found(f"power samples cover {covered:.1%} of the windows")


def _period_ms(scene: Scene) -> float:
    """Return the median spacing of the rail's own samples."""
    steps = [right.t_ns - left.t_ns for left, right in pairwise(scene.samples)]
    return median(steps) / 1e6 if steps else 0.0


def lengths(scene: Scene) -> Iterable[Finding]:
    """Windows too short, or load that does not reach far enough past them for the sensor."""
    shortest_s = min(window.duration_s for window in scene.blocks)
    if shortest_s < GOOD_POWER_WINDOW_S:
        yield suspect(f"a window of {shortest_s:.1f} s, shorter than {GOOD_POWER_WINDOW_S:g} s")
    settled_s = (scene.blocks[0].start_ns - scene.load.start_ns) / 1e9
    if settled_s < SENSOR_TAU_S:
        yield invalid(f"{settled_s:.2f} s of load before the first window: the sensor shows idle")
    elif settled_s < LAG_S:
        yield suspect(
            f"{settled_s:.2f} s of load before the first window, less than {LAG_S:g} s: "
            "the sensor still shows some idle"
        )
    if scene.load.stop_ns < max(window.stop_ns for window in scene.blocks):
        yield invalid("the load ended before the last window did")


def rail_sanity(scene: Scene) -> Iterable[Finding]:
    """Parts that draw more than the whole: labels swapped, as seen on a Nano under load."""
    if scene.rail not in TOTAL_RAILS:
        return
    parts = [rail for rail in scene.trace.rails if rail != scene.rail and scene.covers_blocks(rail)]
    total_w = fmean(scene.block_powers_w())
    sum_w = sum(fmean(scene.block_powers_w(rail)) for rail in parts)
    if sum_w > SUM_TOLERANCE * total_w:
        yield invalid(
            f"{scene.rail} reads {total_w:.2f} W and its parts {sum_w:.2f} W: rails mislabelled"
        )


def stuck(scene: Scene) -> Iterable[Finding]:
    """A rail that reads the same under load as at idle, to the milliwatt, is not being read."""
    if scene.idle_before is None:
        return
    looked = Window(scene.idle_before.start_ns, scene.load.stop_ns)
    if len({sample.power_w for sample in inside(scene.samples, looked)}) == 1:
        yield invalid(f"{scene.rail} never changed, from idle through all of the load")


def lag(scene: Scene) -> Iterable[Finding]:
    """A sensor slower than the settling allows for."""
    if scene.lag is None or scene.lag.tau_s.low <= LAG_SUSPECT_FACTOR * SENSOR_TAU_S:
        return
    tau_s = scene.lag.tau_s.value
    settled_s = (scene.blocks[0].start_ns - scene.load.start_ns) / 1e9
    if settled_s < LAGS * scene.lag.tau_s.low:
        yield suspect(
            f"the sensor follows with a time constant of {tau_s:.2f} s and had {settled_s:.1f} s "
            f"to settle: set settle_s to {LAGS * tau_s:.1f} or more"
        )


def resolution(scene: Scene) -> Iterable[Finding]:
    """Power above idle too small for the steps the sensor reads in."""
    pieces_w, step_w = scene.idle_pieces_w(), scene.step_seen_w
    if pieces_w is None or step_w is None:
        return
    net_w = fmean(scene.block_powers_w()) - fmean(pieces_w)
    if net_w < 2 * step_w:
        yield suspect(
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
    if net_w > 0 and wrong_w > IDLE_SUSPECT_FRACTION * net_w and _idle_moved(scene):
        yield suspect(
            f"idle went from {before_w:.2f} to {after_w:.2f} W: net energy is uncertain by "
            f"{wrong_w / net_w:.0%}"
        )


def _idle_moved(scene: Scene) -> bool:
    """Whether idle before and after differ by more than their own pieces do among themselves."""
    pieces = [scene.idle_pieces_of(window) for window in (scene.idle_before, scene.idle_after)]
    if min(len(side) for side in pieces) < 2:
        return True
    before, after = (spread(side) for side in pieces)
    apart = combine((1.0, after), (-1.0, before)).interval(IDLE_CONFIDENCE)
    return not apart.low <= 0 <= apart.high


def heating(scene: Scene) -> Iterable[Finding]:
    """A board far from thermal steady state: power and clocks move with it."""
    looked = Window(scene.blocks[0].start_ns, scene.blocks[-1].stop_ns)
    slopes = {}
    for zone, points in _temperatures(scene, looked).items():
        seconds, temps_c = zip(*points, strict=True)
        slopes[zone] = linear_regression(seconds, temps_c).slope
    if slopes and max(slopes.values()) > HEATING_SUSPECT_C_PER_S:
        zone = max(slopes, key=lambda name: slopes[name])
        yield suspect(f"{zone} rose by {30 * slopes[zone]:.1f} C in 30 s: not at a steady state")


def _temperatures(scene: Scene, window: Window) -> dict[str, list[tuple[float, float]]]:
    """Return (s, C) by zone: from the lines, else as the kernel told between the phases."""
    seen = [(t, reading.temps_c) for t, reading in scene.trace.during(window)]
    fewest = FEWEST_LINES
    if not seen:
        told = states.within(scene.evidence, window)
        seen = [(state["t_ns"], state.get("temps_c") or {}) for state in told]
        fewest = FEWEST_STATES
    zones: dict[str, list[tuple[float, float]]] = {}
    for t_ns, temps_c in seen:
        for zone, temp_c in temps_c.items():
            zones.setdefault(zone, []).append((t_ns / 1e9, temp_c))
    return {zone: points for zone, points in zones.items() if len(points) >= fewest}


def gpu_clock(scene: Scene) -> Iterable[Finding]:
    """The GPU clock the lines print, constant over the windows."""
    clocks = {
        reading.gr3d_mhz
        for window in scene.blocks
        for _, reading in scene.trace.during(window)
        if reading.gr3d_mhz is not None
    }
    if clocks and max(clocks) > states.CLOCK_TOLERANCE * min(clocks):
        yield suspect(f"the GPU clock moved between {min(clocks)} and {max(clocks)} MHz")


def swapping(scene: Scene) -> Iterable[Finding]:
    """Memory paged out during the load."""
    used = [r.swap_used_mb for _, r in scene.trace.during(scene.load) if r.swap_used_mb is not None]
    if used and max(used) > used[0]:
        yield suspect(f"swap grew by {max(used) - used[0]} MB during the load")


def power_drift(scene: Scene) -> Iterable[Finding]:
    """Power that moves steadily from block to block."""
    change = steady_change(scene.block_powers_w())
    if change is not None:
        yield suspect(f"power drifted by {change:+.1%} from the first block to the last")


def power_outlier(scene: Scene) -> Iterable[Finding]:
    """One block unlike all others."""
    energies_j = scene.block_energies_j()
    found = outlier(scene.block_powers_w())
    if found is None:
        return
    index, distance = found
    if -distance * energies_j[index] > 0 or distance * energies_j[index] > BURSTS_J:
        yield suspect(f"block {index} drew {distance:+.1%} against the others")


CHECKS: tuple[Callable[[Scene], Iterable[Finding]], ...] = (
    lines,
    running_mean,
    coverage,
    lengths,
    lag,
    rail_sanity,
    stuck,
    resolution,
    idle_agrees,
    heating,
    gpu_clock,
    swapping,
    power_drift,
    power_outlier,
)
