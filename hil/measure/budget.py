"""What a figure may be off, source by source, and the total that follows.

Rule of this file: it names terms and sizes them from one run and the sensor's stated limits; how
they combine is `hil.measure.uncertainty`. A term whose size is not known leaves the total unknown,
with a reason. All terms are sized in watts of mean power and turned into the figure's unit.

Power is reading = true x (1 + gain) x (1 + shunt) + offset. Gain, shunt and offset are taken to
stay what they are during a run: that is why repetition shows none of them, and why the offset
drops out of the difference between load and idle while gain does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from hil.core.energy import Window, inside
from hil.core.sequential import inverse
from hil.core.stats import Estimate
from hil.measure.calibration import Calibration
from hil.measure.parttime import unseen
from hil.measure.result import TOTALS, Term
from hil.measure.scene import Scene
from hil.measure.sensors import SensorErrors
from hil.measure.sources.series import RailTrace, power_rail
from hil.measure.uncertainty import rectangle_interval, shares, total

GROSS, NET = "energy_mj", "energy_net_mj"
IN_REPEATABILITY = "repeatability"
UNSEEN = "unseen time"
NO_ERROR = "told, not added: the board truly draws it while it is measured"
Form = Literal["spread", "rectangle", "told"]
_METER = "a reference meter in series, once: its ratio goes into power.sensor"


@dataclass(frozen=True)
class Sized:
    """One term in watts of mean power: half width as its form says, None where unknown.

    A `spread` is the 95 % half width of repeated windows, a `rectangle` a limit, and what is
    `told` belongs to another term already.
    """

    name: str
    watts: float | None
    form: Form
    source: str
    reducible_by: str
    part_of: str | None = None


@dataclass(frozen=True)
class Budget:
    """Totals by figure, why those that are None are, and all terms."""

    totals: dict[str, Any]
    unknown: dict[str, str]
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Readings:
    """The figures a budget is drawn up for.

    Attributes:
        mj_per_w: what one watt of mean power makes of an inference, in mJ.
    """

    energy_mj: Estimate
    energy_net_mj: Estimate | None
    power_w: Estimate
    idle_power_w: Estimate | None
    mj_per_w: float


def budget(
    scene: Scene,
    read: Readings,
    sensor: SensorErrors | None,
    calibration: Calibration | None = None,
) -> Budget:
    """Draw up the budget of a run's gross and net energy.

    Args:
        scene: the run.
        read: its figures with their repeatability.
        sensor: limits of the rail's sensor; None is nothing known.
        calibration: of the board, for what reading power itself costs.
    """
    limits = sensor or SensorErrors(why_unknown="nothing is known of this board's power sensor")
    df = max(1, len(scene.blocks) - 1)
    common = tuple(_common(scene, limits, calibration))
    totals: dict[str, Any] = dict.fromkeys(f"{name}_u95_total" for name in TOTALS)
    unknown: dict[str, str] = {}
    gross = (_spread(read.energy_mj, read.mj_per_w), *_sensor(read.power_w.value, limits, True))
    terms = [*_terms(GROSS, (*gross, *common), read.mj_per_w)]
    unsized = next((t.source for t in common if t.name == UNSEEN and t.watts is None), None)
    why = limits.missing() or unsized
    if why is None:
        rectangles = _rectangles((*gross, *common))
        whole = total(read.energy_mj, df, [half * read.mj_per_w for half in rectangles])
        totals[f"{GROSS}_u95_total"] = whole
        totals["power_w_u95_total"] = total(read.power_w, df, rectangles)
        per_joule = inverse(whole, 1000.0)
        totals["inferences_per_joule_u95_total"] = per_joule
        if per_joule is None:
            unknown["inferences_per_joule_u95_total"] = "the interval of the energy reaches zero"
    else:
        names = (GROSS, "power_w", "inferences_per_joule")
        unknown |= {f"{name}_u95_total": why for name in names}
    net, idle_w = read.energy_net_mj, read.idle_power_w
    if net is None or idle_w is None:
        unknown[f"{NET}_u95_total"] = "net energy is unknown"
        return Budget(totals, unknown, tuple(terms))
    above_w = abs(read.power_w.value - idle_w.value)
    parts = (*_net_spreads(read, idle_w), *_sensor(above_w, limits, False))
    both = tuple(_twice(term) for term in common)
    terms += _terms(NET, (*parts, *both), read.mj_per_w)
    why = limits.missing(offset=False) or unsized
    if why is None:
        rectangles = _rectangles((*parts, *both))
        halves = [half * read.mj_per_w for half in rectangles]
        totals[f"{NET}_u95_total"] = total(net, df, halves)
    else:
        unknown[f"{NET}_u95_total"] = why
    return Budget(totals, unknown, tuple(terms))


def _half(estimate: Estimate) -> float:
    return (estimate.high - estimate.low) / 2


def _spread(estimate: Estimate, mj_per_w: float) -> Sized:
    return Sized(
        IN_REPEATABILITY,
        _half(estimate) / mj_per_w,
        "spread",
        "spread of this run's windows",
        "more windows (--target-ci), fewer services on the board",
    )


def _net_spreads(read: Readings, idle_w: Estimate) -> tuple[Sized, ...]:
    return (
        _spread(read.energy_mj, read.mj_per_w),
        Sized(
            "idle subtraction",
            _half(idle_w),
            "spread",
            "spread of pieces of idle before and after the load",
            "longer idle (idle_s), and the same clocks at idle as under load",
        ),
    )


def _sensor(power_w: float, limits: SensorErrors, gross: bool) -> tuple[Sized, ...]:
    """Return what the sensor's limits make of a power (or of a difference of two)."""

    def part(relative: float | None) -> float | None:
        return None if relative is None else relative * power_w

    terms = [
        Sized("sensor gain", part(limits.gain), "rectangle", limits.source, _METER),
        Sized("shunt", part(limits.shunt), "rectangle", limits.source, _METER),
    ]
    if limits.bus_gain is not None:
        terms.append(
            Sized("bus voltage", part(limits.bus_gain), "rectangle", limits.source, _METER)
        )
    if gross:
        offset = Sized("sensor offset", limits.offset_w, "rectangle", limits.source, _METER)
        return (offset, *terms)
    cancels = "the same sensor at idle and under load: it drops out of the difference"
    return (Sized("sensor offset", 0.0, "rectangle", cancels, "nothing to reduce"), *terms)


def _twice(term: Sized) -> Sized:
    """Return a term of the difference of two readings that err independently."""
    if term.name != "resolution" or term.watts is None:
        return term
    return replace(term, watts=term.watts * 2)


def _common(scene: Scene, limits: SensorErrors, calibration: Calibration | None) -> Iterator[Sized]:
    """Yield the terms that are not the sensor's stated limits."""
    yield _resolution(scene, limits)
    yield _sampling(scene)
    yield _lag(scene)
    yield from _unseen(scene, limits)
    if scene.trace.clock_error_ns:
        yield _alignment(scene)
    if calibration is not None and calibration.sampler_power_w is not None:
        yield Sized(
            "sampler",
            abs(calibration.sampler_power_w.value),
            "told",
            f"calibration of {calibration.created}: runs with and without it",
            "a longer interval_ms",
            NO_ERROR,
        )


def _unseen(scene: Scene, limits: SensorErrors) -> Iterator[Sized]:
    """Size what a sensor that looks a part of the time may have missed."""
    found = unseen(scene, limits)
    if found is not None:
        more = "a rate or batch out of step with it, or power.sensor.seen_part where it is known"
        yield Sized(UNSEEN, found.watts, "rectangle", found.source, more)


def _resolution(scene: Scene, limits: SensorErrors) -> Sized:
    step_w = limits.lsb_w if limits.lsb_w is not None else scene.step_seen_w
    dither_w = _dither_w(scene, step_w or 0.0)
    told = "as stated" if limits.lsb_w is not None else "the smallest seen"
    return Sized(
        "resolution",
        None if step_w is None else rounding_w(step_w, dither_w),
        "rectangle",
        "the rail never changed"
        if step_w is None
        else f"steps of {1000 * step_w:.1f} mW ({told}) under {1000 * dither_w:.1f} mW of "
        "noise from reading to reading",
        "a load that draws more, or a finer meter",
    )


def rounding_w(step_w: float, noise_w: float) -> float:
    """Bound what rounding to steps can shift the mean of noisy readings by, in watts.

    Without noise it is half a step. Gaussian noise of standard deviation s shrinks the first
    harmonic of that error by exp(-2 pi^2 (s / step)^2), the others by more (Widrow and Kollar,
    Quantization Noise, 2008): noise of half a step leaves under a hundredth.
    """
    if step_w <= 0:
        return 0.0
    return step_w / 2 * math.exp(-2 * (math.pi * noise_w / step_w) ** 2)


def _dither_w(scene: Scene, step_w: float) -> float:
    """Return the noise of single readings, bursts trimmed, the steps' own spread taken out."""
    values = np.array([s.power_w for window in scene.blocks for s in inside(scene.samples, window)])
    if values.size < 10:
        return 0.0
    low, high = np.quantile(values, [0.1, 0.9])
    variance = float(np.clip(values, low, high).var()) - step_w**2 / 12
    return math.sqrt(max(0.0, variance))


def _sampling(scene: Scene) -> Sized:
    """Size what lies between readings: of a counter bounded, of samples as the run shows it."""
    whole = Window(scene.blocks[0].start_ns, scene.blocks[-1].stop_ns)
    more = "a shorter interval_ms, longer windows"
    if scene.power.kind == "counter":
        watts = scene.power.edge_bound_j(whole) / whole.duration_s
        return Sized(
            "edges", watts, "rectangle", "energy of the updates that straddle both ends", more
        )
    halves = [power_rail(scene.samples[first::2]) for first in (0, 1)]
    source = "difference between every other reading and the rest"
    try:
        even_w, odd_w = (_mean_w(scene, half) for half in halves)
    except ValueError:
        return Sized("sample rate and edges", None, "told", source, more, IN_REPEATABILITY)
    # Both halves together err by half of what each alone does, on average.
    watts = abs(even_w - odd_w) / 2
    return Sized("sample rate and edges", watts, "told", source, more, IN_REPEATABILITY)


def _mean_w(scene: Scene, power: RailTrace, shift_ns: int = 0) -> float:
    windows = [Window(w.start_ns + shift_ns, w.stop_ns + shift_ns) for w in scene.blocks]
    joules = math.fsum(power.energy_j(window) for window in windows)
    return joules / math.fsum(window.duration_s for window in windows)


def _lag(scene: Scene) -> Sized:
    """Size what is left of the load's onset in the windows."""
    seconds = math.fsum(window.duration_s for window in scene.blocks)
    if scene.lag is None:
        unseen_s = math.fsum(scene.unseen_s(scene.tau_s))
        source = f"time constant of {scene.tau_s:g} s taken, the steps of this run tell none"
    else:
        tau, dead_s = scene.lag.tau_s, scene.lag.dead_s
        ends = [math.fsum(scene.unseen_s(end, dead_s)) for end in (tau.low, tau.high)]
        unseen_s = abs(ends[1] - ends[0]) / 2
        source = (
            f"time constant of {tau.value:.2f} s ({tau.low:.2f} to {tau.high:.2f}) from this "
            "run's steps, corrected for"
        )
    watts = abs(scene.step_w) * unseen_s / seconds
    return Sized("sensor lag", watts, "rectangle", source, "longer settling (settle_s)")


def _alignment(scene: Scene) -> Sized:
    """Size what a shift of the meter's clock against the board's does to the windows."""
    error_ns = scene.trace.clock_error_ns
    source = f"the meter's clock is known to {error_ns / 1e6:.2f} ms of the board's"
    more = "a meter that is read on the board (where: board), a nearer network"
    try:
        here_w = _mean_w(scene, scene.power)
        moved_w = [_mean_w(scene, scene.power, sign * error_ns) for sign in (-1, 1)]
    except ValueError:
        return Sized("clock alignment", None, "rectangle", source, more)
    return Sized(
        "clock alignment", max(abs(w - here_w) for w in moved_w), "rectangle", source, more
    )


def _rectangles(terms: tuple[Sized, ...]) -> list[float]:
    return [term.watts for term in terms if term.form == "rectangle" and term.watts is not None]


def _terms(figure: str, sized: tuple[Sized, ...], mj_per_w: float) -> list[Term]:
    """Turn sizes into terms with their shares; without a total there are no shares."""
    added = [term for term in sized if term.form != "told"]
    spreads = [term for term in added if term.form == "spread"]
    rectangles = [term for term in added if term.form == "rectangle"]
    parts: dict[str, float | None] = dict.fromkeys(term.name for term in sized)
    if all(term.watts is not None for term in added):
        fractions = shares(
            [term.watts or 0.0 for term in spreads], [term.watts or 0.0 for term in rectangles]
        )
        names = [term.name for term in (*spreads, *rectangles)]
        parts |= dict(zip(names, fractions, strict=True))
    return [
        Term(
            name=term.name,
            figure=figure,
            half_width=_half_width(term, mj_per_w),
            share=parts[term.name],
            source=term.source,
            reducible_by=term.reducible_by,
            part_of=term.part_of,
        )
        for term in sized
    ]


def _half_width(term: Sized, mj_per_w: float) -> float | None:
    if term.watts is None:
        return None
    watts = rectangle_interval(term.watts) if term.form == "rectangle" else term.watts
    return watts * mj_per_w
