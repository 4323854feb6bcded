"""Intervals of a mean over blocks that hold at the moment a run stops itself.

A series of adjacent blocks of one steady load is not a sample of independent normal values, and a
run that stops once its interval looks tight stops when the interval happens to be too tight. Four
things are set right here, each small enough to explain:

1. *Memory.* The variance of the mean is that of independent blocks times 1 + 2 sum rho(k), the
   correlations shrunk towards what the sensor is expected to leave (Priestley 1981, section 5.3.2).
2. *Skewness.* Background work adds power in bursts and never takes any away. Mean and variance of
   such data rise together; the interval is moved by Johnson's term (Johnson 1978; Hall 1992).
3. *What has not been seen yet.* Where bursts are rarer than a run is long, a run without one looks
   quiet. A share of an event of a stated size is added for the upper end alone, as a prior on a
   Poisson rate does; the lower end knows nothing of it, for an unseen event can only add.
4. *Looking.* A t interval that is looked at until it is tight misses more often than it says; the
   tails are narrowed as simulation asks for (Stein 1945; Chow and Robbins 1965).

Rule of this file: numbers in, numbers out, any unit; where blocks come from is others' business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hil.core.stats import CONFIDENCE, Estimate, Series

# Blocks' worth of trust in the expected correlation against the one that is seen.
MEMORY_TRUST = 16.0
LONGEST_MEMORY = 4
# Swinging back and forth tells a mean better than independent values do, but not ever better.
LEAST_MEMORY = 0.5
# A trend is taken out from so many blocks on, and only where it stands out of the scatter.
TREND_BLOCKS = 8
TREND_T = 2.5
# Where the upper end rests on unseen events it hardly ever misses; so much of its share goes over.
HANDED_OVER = 3.0
# Jeffreys' half an event covers more than it says where bursts come regularly, as in the one long
# log there is; with this many, bursts at random are covered in 94 to 95 %, regular ones in 98 %.
UNSEEN_EVENTS = 0.25
# A block holds an event if it stands so many spreads out of the others, and is of its size.
CLEAR_OF_CORE = 4.0
SMALLEST_EVENT = 0.15
# A tail after looking is that without, times 1 - LOOKED / (blocks at the first look + LOOKED).
LOOKED = 2.0
FIRST_LOOK = 3


@dataclass(frozen=True)
class NoisePrior:
    """What is known of the noise before a run.

    Attributes:
        event: what one rare event adds to the *sum* of the block values; 0 for none.
        events: how many unseen ones are reckoned with.
        variance: of one block's value, from earlier runs; None is unknown.
        df: degrees of freedom of that variance; never trusted beyond those of the run itself.
        floor: standard error of the mean that does not show between blocks.
    """

    event: float = 0.0
    events: float = UNSEEN_EVENTS
    variance: float | None = None
    df: float = 0.0
    floor: float = 0.0


@dataclass(frozen=True)
class _Moments:
    """Of the sum over blocks: variance, third moment, degrees of freedom, share of seen events."""

    variance: float
    third: float
    df: float
    events: float


def block_interval(
    values: Series,
    *,
    looks: int = 1,
    first_look: int | None = None,
    prior: NoisePrior | None = None,
    confidence: float = CONFIDENCE,
    memory: float = 0.0,
    trend: bool = False,
    each_side: bool = False,
) -> Estimate:
    """Return the mean of adjacent blocks with its interval, in the values' unit.

    With the defaults, and blocks that show no correlation and no skewness, it is close to
    Student's t.

    Args:
        values: one for each block, in order of time.
        looks: how often the run has been looked at to be stopped once it is tight; 1: once.
        first_look: blocks at the first of these looks; None: three.
        prior: what is known of the noise beforehand.
        confidence: two-sided.
        memory: correlation to be expected of adjacent blocks, such as a sensor's lag leaves;
            from 0 to under 1.
        trend: the mean over just this stretch is asked for, so that a steady rise is no error.
        each_side: whether each end must hold its own share of the confidence, as a one-sided
            bound has to; else the two ends together do.

    Raises:
        ValueError: fewer than two values, or a confidence or correlation that is none.
    """
    data = np.asarray(values, dtype=float)
    if data.size < 2:
        raise ValueError(f"an interval needs two blocks or more, not {data.size}")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1, not at {confidence}")
    if not 0 <= memory < 1:
        raise ValueError(f"a correlation to be expected lies from 0 to under 1, not at {memory}")
    prior = prior or NoisePrior()
    mean, n = float(data.mean()), data.size
    seen = _moments(data, prior, memory, trend, split=not each_side)
    unseen = prior.events * prior.event**2
    with_unseen = seen.variance + unseen
    if with_unseen <= 0:
        return Estimate(mean, mean, mean)
    share = math.sqrt(unseen / with_unseen)
    alpha = (1 - confidence) / 2
    looked = _tail(alpha, n, looks, first_look)
    third = seen.third + prior.events * prior.event**3
    above = max(
        _moved(third, with_unseen, alpha)
        + _quantile(alpha, looked, seen.df, max(share, seen.events)) * math.sqrt(with_unseen),
        _moved(seen.third, seen.variance, alpha)
        + _quantile(alpha, looked, seen.df, seen.events) * math.sqrt(seen.variance),
    )
    more = 1.0 if each_side else 1 + HANDED_OVER * share
    below = _quantile(min(0.5, alpha * more), min(0.5, looked * more), seen.df, seen.events)
    below = below * math.sqrt(seen.variance) - _moved(seen.third, seen.variance, alpha)
    high, low = mean + above / n, mean - below / n
    return Estimate(mean, float(min(low, mean)), float(max(high, mean)))


def look_schedule(first: int, last: int, ratio: float = 1.15) -> tuple[int, ...]:
    """Return the numbers of blocks at which to look: each at first, then ever further apart.

    Looks at geometric distances cost little length and keep their number to a few dozen.

    Raises:
        ValueError: `first` is under 1 or the ratio does not grow.
    """
    if first < 1 or ratio <= 1:
        raise ValueError(f"no schedule from {first} blocks by a ratio of {ratio}")
    looks = [first]
    while looks[-1] < last:
        looks.append(min(last, max(looks[-1] + 1, round(looks[-1] * ratio))))
    return tuple(looks)


def difference(a: Estimate, b: Estimate, weight: float = 1.0) -> Estimate:
    """Return a - weight * b of independent figures, each with its own lopsided interval.

    The distances to the ends add in squares, end by end (MOVER, Zou and Donner 2008).
    """
    value = a.value - weight * b.value
    near, far = (b.high, b.low) if weight >= 0 else (b.low, b.high)
    down = math.hypot(a.value - a.low, weight * (near - b.value))
    up = math.hypot(a.high - a.value, weight * (b.value - far))
    return Estimate(value, value - down, value + up)


def inverse(figure: Estimate, scale: float = 1.0) -> Estimate | None:
    """Return scale / figure, ends swapped; None where the interval reaches zero."""
    if figure.low <= 0:
        return None
    return Estimate(scale / figure.value, scale / figure.high, scale / figure.low)


def _moments(
    data: NDArray[np.float64], prior: NoisePrior, memory: float, trend: bool, *, split: bool
) -> _Moments:
    n, floor = data.size, (data.size * prior.floor) ** 2
    rest, df = data - data.mean(), n - 1.0
    if trend and n >= TREND_BLOCKS:
        rest, df = _without_trend(rest)
    squares = float(rest @ rest)
    variance = squares / df
    if prior.variance is not None and prior.df > 0:
        trusted = min(prior.df, df)
        variance = (df * variance + trusted * prior.variance) / (df + trusted)
        df += trusted
    # Symmetric blocks show some skewness by chance: one standard error of it is not believed.
    chance = math.sqrt(6.0 * n) * variance * math.sqrt(variance)
    third = max(0.0, float((rest**3).sum()) * n / (n - 1) - chance)
    told = _Moments(n * variance * _memory_factor(rest, squares, memory), third, df, 0.0)
    told = _with_events(rest, told, prior, memory) if split and prior.event > 0 else told
    return replace(told, variance=told.variance + floor)


def _with_events(
    rest: NDArray[np.float64], plain: _Moments, prior: NoisePrior, memory: float
) -> _Moments:
    """Take blocks with rare events apart from the others, where there are such blocks.

    The sum over a stretch of a compound Poisson process has the cumulants sum(x^2) and sum(x^3) of
    its events' sizes, not centred; centred on few blocks they come out far too small.
    """
    above = rest - float(np.median(rest))
    core = 1.4826 * float(np.median(np.abs(above)))
    is_event = above > max(CLEAR_OF_CORE * core, SMALLEST_EVENT * prior.event)
    events, others = above[is_event], above[~is_event]
    if not events.size or events.size > rest.size / 2:
        return plain
    quiet, n = others - others.mean(), rest.size
    df = max(1.0, quiet.size - 1.0)
    squares = float(quiet @ quiet)
    core_part = n * squares / df * (1 + 2 * memory)
    event_part = float(events @ events) * (1 + 2 * memory)
    total = core_part + event_part
    return _Moments(total, float((events**3).sum()), df, math.sqrt(event_part / total))


def _without_trend(rest: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Take a straight line out of centred values where it stands out; return them and their df."""
    n = rest.size
    at = np.arange(n) - (n - 1) / 2
    spread = float(at @ at)
    slope = float(at @ rest) / spread
    left = rest - slope * at
    error = math.sqrt(float(left @ left) / (n - 2) / spread)
    return (left, n - 2.0) if abs(slope) > TREND_T * error else (rest, n - 1.0)


def _memory_factor(rest: NDArray[np.float64], squares: float, expected: float) -> float:
    """Return 1 + 2 sum of correlations: those seen, each shrunk towards what is expected.

    What is expected falls off as a lag's does, by the same factor from block to block.
    """
    n, total = rest.size, 0.0
    visible = max(1, min(LONGEST_MEMORY, n // 6)) if squares > 0 else 0
    for lag in range(1, visible + 1):
        # 1 / n is what the mean, taken off, costs a correlation of nothing.
        seen = float(rest[lag:] @ rest[: n - lag]) / squares + 1 / n
        shrunk = (n * seen + MEMORY_TRUST * expected**lag) / (n + MEMORY_TRUST)
        if lag > 1 and shrunk <= 0:
            break
        total += shrunk
    total += expected ** (visible + 1) / (1 - expected)
    return max(LEAST_MEMORY, 1 + 2 * total)


def _quantile(alpha: float, looked: float, df: float, known: float) -> float:
    """Blend Student's and the normal quantile by how far the spread is that of known events.

    A spread that is known does not need Student's tails, nor could looking select it.
    """
    student, normal = float(special.stdtrit(df, looked)), float(special.ndtri(alpha))
    return float(-known * normal - (1 - known) * student)


def _moved(third: float, variance: float, alpha: float) -> float:
    """Return Johnson's shift of the sum; a single event is the most that it corrects."""
    if variance <= 0:
        return 0.0
    z = float(special.ndtri(alpha))
    skewness = min(third / (variance * math.sqrt(variance)), 1.0)
    return skewness * (1 + 2 * z * z) / 6 * math.sqrt(variance)


def _tail(alpha: float, n: int, looks: int, first_look: int | None) -> float:
    """Return what remains of a tail after looking until the interval was tight.

    The variance that stops a run is the smallest of those looked at, and it can be the smaller
    the fewer blocks it was first told by. A run that stops at its first look was not selected.
    The share is from simulation of normal blocks (`tests/core/test_sequential.py`).
    """
    first = first_look or FIRST_LOOK
    if looks <= 1 or n <= first:
        return alpha
    return alpha * (1 - LOOKED / (first + LOOKED))
