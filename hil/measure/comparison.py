"""Two engines against each other, from rounds in which both ran: ratios with their interval.

Rule of this file: pure. The unit of replication is the round (or, for the scope `build`, the pair
of fresh engine builds): a ratio is the geometric mean of the rounds' own ratios, so whatever
multiplies both runs of a round (warmth, the sensor's gain, another user's habits) cancels.
Ratios are B over A.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
from scipy import special

from hil.core.fallbacks import Fallback
from hil.core.sequential import block_interval
from hil.core.stats import Estimate, mean_interval
from hil.measure.interleave import Side
from hil.measure.result import Measurement, Validity

Scope = Literal["engine", "build"]
COMPARED = (
    "energy_mj",
    "energy_net_mj",
    "power_w",
    "latency_p50_ms",
    "latency_p99_ms",
)
# Below two rounds there is no interval.
MIN_ROUNDS = 2
# Before so many rounds nobody asks whether the ratio is tight enough to stop.
FIRST_LOOK_ROUNDS = 4
POWER = 0.8
ALPHA = 0.05
LOOKED = 0.75
"""Share of the error left to rounds that were looked at; from simulation of normal rounds."""


@dataclass(frozen=True)
class Scored:
    """One round, scored.

    Attributes:
        build: which of the engine builds ran.
        first: the side that ran first.
        at_s: when the round began, in board seconds since the first one.
    """

    build: int
    first: Side
    at_s: float
    a: Measurement
    b: Measurement

    def of(self, side: Side) -> Measurement:
        """Return one side's measurement."""
        return self.a if side == "a" else self.b

    @property
    def usable(self) -> bool:
        """Whether both runs are about what they are said to be about."""
        return "invalid" not in (self.a.validity, self.b.validity)


@dataclass(frozen=True)
class PairedRatio:
    """One figure of B over the same figure of A.

    Attributes:
        ratio: geometric mean over rounds, two-sided 95 %.
        log_ratios: of the rounds, in order of time.
        log_bases: logarithm of A's figure in each round.
        drift_per_run: mean relative change from a run to the one after it, from the difference
            between rounds of either order; it cancels in the ratio. None without both orders.
        builds_log_sd: standard deviation of the builds' own mean log ratios; None for one build.
    """

    ratio: Estimate
    log_ratios: tuple[float, ...]
    log_bases: tuple[float, ...]
    drift_per_run: float | None
    builds_log_sd: float | None


@dataclass(frozen=True)
class Comparison:
    """What the rounds come to.

    Attributes:
        scope: `engine` speaks about these two engines, `build` about engines built anew.
        rounds: used; `dropped` were not, because a run of theirs is invalid.
        unknown: for each figure without a ratio, why.
        validity: the worst of the rounds used, or invalid where none remains.
        fallbacks: of all runs, dropped ones too, each once.
    """

    scope: Scope
    rounds: int
    dropped: int
    ratios: Mapping[str, PairedRatio]
    unknown: Mapping[str, str]
    means: Mapping[Side, Mapping[str, Estimate]]
    validity: Validity
    reasons: tuple[str, ...]
    fallbacks: tuple[Fallback, ...] = ()


def compared(rounds: Sequence[Scored], *, looks: int | None = None) -> Comparison:
    """Compare the two sides over all rounds so far.

    Args:
        rounds: in order of time.
        looks: how often the ratio has been looked at with the option to stop, this look included;
            the intervals hold all the same. None: their number was fixed beforehand.
    """
    used = [one for one in rounds if one.usable]
    ratios: dict[str, PairedRatio] = {}
    unknown: dict[str, str] = {}
    means: dict[Side, dict[str, Estimate]] = {"a": {}, "b": {}}
    for name in COMPARED:
        why = _unknown(used, name)
        if why is not None:
            unknown[name] = why
            continue
        ratios[name] = paired_ratio(
            [math.log(_value(one.b, name) / _value(one.a, name)) for one in used],
            [math.log(_value(one.a, name)) for one in used],
            [one.first for one in used],
            [one.build for one in used],
            looks=looks,
        )
        means["a"][name] = block_interval([_value(one.a, name) for one in used])
        means["b"][name] = block_interval([_value(one.b, name) for one in used])
    return Comparison(
        scope="build" if len({one.build for one in rounds}) > 1 else "engine",
        rounds=len(used),
        dropped=len(rounds) - len(used),
        ratios=ratios,
        unknown=unknown,
        means=means,
        validity=_validity(used),
        reasons=_reasons(rounds),
        fallbacks=_fallbacks(rounds),
    )


def _fallbacks(rounds: Sequence[Scored]) -> tuple[Fallback, ...]:
    runs = [run for one in rounds for run in (one.a, one.b)]
    return tuple({each.name: each for run in runs for each in run.fallbacks}.values())


def paired_ratio(
    log_ratios: Sequence[float],
    log_bases: Sequence[float],
    firsts: Sequence[Side],
    builds: Sequence[int],
    *,
    looks: int | None = None,
) -> PairedRatio:
    """Return the ratio over rounds (or, with several builds, over builds) and its interval.

    Raises:
        ValueError: fewer than two rounds, or fewer than two units of replication.
    """
    by_build = [
        [x for x, build in zip(log_ratios, builds, strict=True) if build == index]
        for index in sorted(set(builds))
    ]
    if len(by_build) > 1:
        units = [fmean(group) for group in by_build]
        log = _over_builds(units, looks)
    else:
        units = list(log_ratios)
        log = _over_rounds(units, looks)
    return PairedRatio(
        ratio=Estimate(math.exp(log.value), math.exp(log.low), math.exp(log.high)),
        log_ratios=tuple(log_ratios),
        log_bases=tuple(log_bases),
        drift_per_run=_drift(log_ratios, firsts),
        builds_log_sd=float(np.std(units, ddof=1)) if len(by_build) > 1 else None,
    )


def _over_rounds(units: Sequence[float], looks: int | None) -> Estimate:
    """Return the mean over rounds; the same whichever side is called A.

    `block_interval` takes a long tail above for rare bursts. Here a burst in A lowers the ratio,
    so the interval of the mirrored rounds counts as much. Never tighter than Student's: rounds are
    few, and what little correlation a few of them show is mostly chance.

    Without bursts to reckon with, looking narrows more than `block_interval` alone sets right.
    """
    confidence = 1 - ALPHA * (1.0 if looks is None or looks < 2 else LOOKED)
    one, mirrored = (
        block_interval(
            values, looks=looks or 1, first_look=FIRST_LOOK_ROUNDS, confidence=confidence
        )
        for values in (units, [-unit for unit in units])
    )
    plain = mean_interval(units)
    low = min(one.low, -mirrored.high, plain.low)
    return Estimate(plain.value, low, max(one.high, -mirrored.low, plain.high))


def _over_builds(units: Sequence[float], looks: int | None) -> Estimate:
    """Return Student's interval over builds; their number does not grow while one looks.

    Each look spends its share of the error (`spent`).
    """
    return mean_interval(units, 1 - (ALPHA if looks is None else spent(ALPHA, looks)))


def spent(error: float, look: int) -> float:
    """Return what the k-th look may spend, error / (k (k + 1)): all looks together spend it all."""
    return error / (look * (look + 1))


def _drift(log_ratios: Sequence[float], firsts: Sequence[Side]) -> float | None:
    """Half the difference between rounds that B ended and rounds that A ended, as a fraction."""
    ended_by: dict[Side, list[float]] = {"a": [], "b": []}
    for value, first in zip(log_ratios, firsts, strict=True):
        ended_by["b" if first == "a" else "a"].append(value)
    if not ended_by["a"] or not ended_by["b"]:
        return None
    return math.expm1((fmean(ended_by["b"]) - fmean(ended_by["a"])) / 2)


def _unknown(rounds: Sequence[Scored], name: str) -> str | None:
    if len(rounds) < MIN_ROUNDS:
        return f"{len(rounds)} usable rounds carry no interval"
    for one in rounds:
        for side in (one.a, one.b):
            estimate = side.figure(name)
            if estimate is None:
                return side.why(name)
            if estimate.value <= 0:
                return f"{name} is {estimate.value:.4g} in a run: there is no ratio to it"
    return None


def _value(measurement: Measurement, name: str) -> float:
    estimate = measurement.figure(name)
    assert estimate is not None
    return estimate.value


def _validity(used: Sequence[Scored]) -> Validity:
    if len(used) < MIN_ROUNDS:
        return "invalid"
    suspect = any("suspect" in (one.a.validity, one.b.validity) for one in used)
    return "suspect" if suspect else "valid"


def _reasons(rounds: Sequence[Scored]) -> tuple[str, ...]:
    """Each reason once, with how many of the runs gave it."""
    counts: dict[str, int] = {}
    shown: dict[str, str] = {}
    for one in rounds:
        for side, measurement in (("A", one.a), ("B", one.b)):
            for reason in measurement.reasons:
                kind = f"{side} {_kind(reason)}"
                counts[kind] = counts.get(kind, 0) + 1
                shown.setdefault(kind, f"{side}: {reason}")
    return tuple(
        text if counts[kind] == 1 else f"{text} (and {counts[kind] - 1} more runs like it)"
        for kind, text in shown.items()
    )


def _kind(reason: str) -> str:
    """Return a reason without its figures, so that the same trap is told once."""
    return "".join("#" if character.isdigit() else character for character in reason)


# assumes: against-itself
def repeatability(log_ratios: Sequence[float]) -> tuple[float, float]:
    """Return (standard deviation, degrees of freedom) of A/A rounds around their true value, 0.

    Raises:
        ValueError: no rounds.
    """
    if not log_ratios:
        raise ValueError("repeatability needs a round")
    data = np.asarray(log_ratios, dtype=float)
    return float(np.sqrt(np.mean(data**2))), float(data.size)


def detectable(
    log_sd: float, rounds: int, *, alpha: float = ALPHA, power: float = POWER
) -> float | None:
    """Return the smallest relative difference that so many rounds tell from none.

    Args:
        log_sd: standard deviation of one round's log ratio.
        rounds: in the comparison, of fixed number.
        alpha: two-sided error of calling a difference that is not there.
        power: chance of telling a difference of the size returned.

    Returns:
        For example 0.018: engines that differ by 1.8 % are told apart with that chance; None for
        fewer than two rounds. From the noncentral t distribution of the paired t test.
    """
    if rounds < MIN_ROUNDS:
        return None
    df = rounds - 1.0
    critical = float(special.stdtrit(df, 1 - alpha / 2))
    shift = float(special.nctdtrinc(df, 1 - power, critical))
    return math.expm1(shift * log_sd / math.sqrt(rounds))


def detectable_interval(
    log_sd: float, log_sd_df: float, rounds: int, *, confidence: float = 0.95
) -> Estimate | None:
    """Return `detectable` with the interval that the estimated standard deviation leaves it."""
    ends = [1.0]
    tail = (1 - confidence) / 2
    ends += [math.sqrt(log_sd_df / special.chdtri(log_sd_df, p)) for p in (tail, 1 - tail)]
    value, low, high = (detectable(log_sd * end, rounds) for end in ends)
    if value is None or low is None or high is None:
        return None
    return Estimate(value, low, high)


@dataclass(frozen=True)
class BuildSpread:
    """One figure over several fresh engine builds.

    Attributes:
        mean: over builds, two-sided 95 % in the figure's unit: the build is the unit, and the
            interval is never tighter than the runs' own intervals allow.
        one_build: where the figure of one further build comes to lie, measured likewise.
        sd: standard deviation of the builds' figures.
        sd_within: what the runs' own error alone would make of it, from their intervals.
        sd_between: what is left for the builds, sqrt(sd^2 - sd_within^2), 0 where nothing is.
    """

    mean: Estimate
    one_build: Estimate
    sd: float
    sd_within: float
    sd_between: float


def over_builds(figures: Sequence[Estimate]) -> BuildSpread | None:
    """Split the spread of builds into the runs' own error and the rest; None for one build."""
    if len(figures) < 2:
        return None
    values = np.array([figure.value for figure in figures])
    halves = np.array([(figure.high - figure.low) / 2 for figure in figures])
    # Half an interval is at least 1.96 standard errors, so what is left is never overstated by
    # more than the normal interval would have it.
    within = float(np.mean((halves / special.ndtri(0.975)) ** 2))
    variance = float(values.var(ddof=1))
    mean = mean_interval(values)
    # Few builds may agree by chance closer than any of them is known, ends added in squares.
    down = math.hypot(*(figure.value - figure.low for figure in figures)) / len(figures)
    up = math.hypot(*(figure.high - figure.value for figure in figures)) / len(figures)
    low, high = min(mean.low, mean.value - down), max(mean.high, mean.value + up)
    # A further build errs by its own spread and by that of the mean: sqrt(1 + n) times the latter.
    wider = math.sqrt(1 + len(figures))
    return BuildSpread(
        mean=Estimate(mean.value, low, high),
        one_build=Estimate(
            mean.value,
            mean.value - wider * (mean.value - low),
            mean.value + wider * (high - mean.value),
        ),
        sd=math.sqrt(variance),
        sd_within=math.sqrt(within),
        sd_between=math.sqrt(max(0.0, variance - within)),
    )
