"""Intervals for figures that come in blocks: t, order statistics, Welch on logarithms.

Rules of this file:

* Blocks are the unit of replication. Samples inside a block are correlated (sensor lag, operating
  system, heat) and never counted as if they were independent.
* An interval that the data cannot carry is None or a ValueError, never a narrow guess.
* Confidence is two-sided in an interval and one-sided in a bound; both default to 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

CONFIDENCE = 0.95
# Geyer's sum stops by itself long before this; the cap keeps a trending series affordable.
MAX_LAG = 500

Series = Sequence[float] | NDArray[Any]


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval, in the unit of the figure; two-sided 95 % unless said."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value} lies outside its interval {self.low} to {self.high}")


@dataclass(frozen=True)
class Spread:
    """A mean with its standard error and the degrees of freedom that error was estimated with."""

    mean: float
    standard_error: float
    df: float

    def interval(self, confidence: float = CONFIDENCE) -> Estimate:
        """Return the two-sided t interval."""
        half = self._half((1 + confidence) / 2)
        return Estimate(self.mean, self.mean - half, self.mean + half)

    def upper(self, confidence: float = CONFIDENCE) -> float:
        """Return the one-sided bound that the true mean is below at this confidence."""
        return self.mean + self._half(confidence)

    def lower(self, confidence: float = CONFIDENCE) -> float:
        """Return the one-sided bound that the true mean is above at this confidence."""
        return self.mean - self._half(confidence)

    def chance_below(self, value: float) -> float:
        """Return the one-sided error at which the true mean is shown to be above a value.

        It is the p-value of "the true mean is at most `value`": `lower(1 - p)` equals `value`.
        """
        if self.standard_error == 0:
            return 0.0 if self.mean > value else 1.0
        return float(special.stdtr(self.df, (value - self.mean) / self.standard_error))

    def _half(self, probability: float) -> float:
        if not 0 < probability < 1:
            raise ValueError(f"a confidence lies between 0 and 1, not at {probability}")
        if self.standard_error == 0:
            return 0.0
        return float(special.stdtrit(self.df, probability)) * self.standard_error


@dataclass(frozen=True)
class Ratio:
    """A ratio of geometric means, kept as the difference of the mean logarithms."""

    log: Spread

    @property
    def value(self) -> float:
        """The ratio itself."""
        return math.exp(self.log.mean)

    @property
    def df(self) -> float:
        """Welch-Satterthwaite degrees of freedom."""
        return self.log.df

    def interval(self, confidence: float = CONFIDENCE) -> Estimate:
        """Return the two-sided interval of the ratio."""
        log = self.log.interval(confidence)
        return Estimate(self.value, math.exp(log.low), math.exp(log.high))

    def upper(self, confidence: float = CONFIDENCE) -> float:
        """Return the one-sided bound that the true ratio is below at this confidence."""
        return math.exp(self.log.upper(confidence))

    def lower(self, confidence: float = CONFIDENCE) -> float:
        """Return the one-sided bound that the true ratio is above at this confidence."""
        return math.exp(self.log.lower(confidence))


def spread(values: Series) -> Spread:
    """Return mean and standard error of independent values, n - 1 degrees of freedom.

    Raises:
        ValueError: fewer than two values.
    """
    data = np.asarray(values, dtype=float)
    if data.size < 2:
        raise ValueError(f"a spread needs two values or more, not {data.size}")
    error = float(data.std(ddof=1)) / math.sqrt(data.size)
    return Spread(float(data.mean()), error, data.size - 1.0)


def mean_interval(values: Series, confidence: float = CONFIDENCE) -> Estimate:
    """Return the t interval of the mean over blocks."""
    return spread(values).interval(confidence)


def upper_bound(values: Series, confidence: float = CONFIDENCE) -> float:
    """Return the one-sided t bound that the true mean is below."""
    return spread(values).upper(confidence)


def lower_bound(values: Series, confidence: float = CONFIDENCE) -> float:
    """Return the one-sided t bound that the true mean is above."""
    return spread(values).lower(confidence)


def combine(*terms: tuple[float, Spread]) -> Spread:
    """Return the spread of sum(weight * mean) of independent means.

    Degrees of freedom after Welch (1947) and Satterthwaite (1946).
    """
    parts = [((weight * part.standard_error) ** 2, part.df) for weight, part in terms]
    variance = sum(part for part, _ in parts)
    below = sum(part**2 / df for part, df in parts)
    return Spread(
        sum(weight * part.mean for weight, part in terms),
        math.sqrt(variance),
        variance**2 / below if below > 0 else sum(df for _, df in parts),
    )


def log_ratio(a: Series, b: Series) -> Ratio:
    """Compare positive values of two independent groups: geometric mean of `a` over that of `b`.

    Welch's t on the logarithms: the variances may differ, and so may the group sizes.

    Raises:
        ValueError: a group has fewer than two values or one that is not positive.
    """
    if min(np.min(a, initial=math.inf), np.min(b, initial=math.inf)) <= 0:
        raise ValueError("a ratio of logarithms needs positive values")
    return Ratio(combine((1.0, spread(np.log(a))), (-1.0, spread(np.log(b)))))


def batch_means(values: Series, batches: int) -> tuple[float, ...]:
    """Return the means of `batches` runs of nearly equal length, in order.

    Raises:
        ValueError: a batch would be empty.
    """
    data = np.asarray(values, dtype=float)
    if not 0 < batches <= data.size:
        raise ValueError(f"{data.size} values do not fill {batches} batches")
    return tuple(float(part.mean()) for part in np.array_split(data, batches))


def quantile(values: Series, q: float) -> float:
    """Return the order statistic of rank ceil(q n): a value that was seen, never interpolated.

    Raises:
        ValueError: no values.
    """
    return float(np.quantile(np.asarray(values, dtype=float), q, method="inverted_cdf"))


def quantile_interval(
    values: Series, q: float, *, confidence: float = CONFIDENCE, effective: float | None = None
) -> Estimate | None:
    """Return the quantile with its distribution-free interval between two order statistics.

    Coverage is at least `confidence` for n independent values of any distribution (David and
    Nagaraja, Order Statistics, 2003, section 7.1). For dependent values the ranks are those of
    a sample of `effective` size, stretched to n.

    Returns:
        None where so few values have no such interval (see `smallest_sample`).
    """
    data = np.sort(np.asarray(values, dtype=float))
    n = data.size
    size = n if effective is None else max(1, min(n, int(effective)))
    tail = (1 - confidence) / 2
    low, high = _binomial_rank(tail, size, q), _binomial_rank(1 - tail, size, q) + 1
    if n == 0 or low < 1 or high > size:
        return None
    first, last = max(1, low * n // size), min(n, -(-high * n // size))
    # Rank by the same rule as `quantile`; the stretch cannot carry the ranks across it.
    return Estimate(quantile(data, q), float(data[first - 1]), float(data[last - 1]))


def block_quantile(
    blocks: Sequence[Series], q: float, *, confidence: float = CONFIDENCE
) -> Estimate | None:
    """Return the pooled quantile of correlated series in blocks, with the wider of two intervals.

    One is of order statistics over the effective size, blind to whatever moves slower than a
    block; the other is Student's t over the blocks' own quantiles, which sees that but needs
    blocks long enough to hold the quantile. Positive values (latencies) are taken as logarithms
    for it, so that no end lies where no value can.

    Returns:
        None where neither interval can be had.
    """
    pooled = np.concatenate([np.asarray(block, dtype=float) for block in blocks])
    size = effective_size(blocks, q)
    intervals = [quantile_interval(pooled, q, confidence=confidence, effective=size)]
    if len(blocks) > 1 and min(len(block) for block in blocks) * min(q, 1 - q) >= 1 - 1e-9:
        intervals.append(_typical([quantile(block, q) for block in blocks], confidence))
    known = [interval for interval in intervals if interval is not None]
    if not known:
        return None
    value = quantile(pooled, q)
    low, high = min(i.low for i in known), max(i.high for i in known)
    return Estimate(value, min(low, value), max(high, value))


def _typical(values: Series, confidence: float) -> Estimate:
    """Return Student's t over the values, on their logarithms where all of them are positive."""
    if min(values) <= 0:
        return mean_interval(values, confidence)
    log = mean_interval(np.log(values), confidence)
    return Estimate(math.exp(log.value), math.exp(log.low), math.exp(log.high))


def smallest_sample(q: float, confidence: float = CONFIDENCE) -> int:
    """Return the fewest independent values that carry an interval of this quantile."""
    tail = (1 - confidence) / 2
    return math.ceil(math.log(tail) / math.log(max(q, 1 - q)))


def effective_size(blocks: Sequence[Series], q: float) -> float:
    """Return how many independent values would tell as much about the quantile.

    The values above the pooled quantile are marked; their marks are as good as n / d independent
    ones, where d is the larger of two design effects, and at least 1: the integrated
    autocorrelation time inside blocks (Geyer 1992, initial positive sequence), and `_drift`.
    """
    pooled = np.concatenate([np.asarray(block, dtype=float) for block in blocks])
    level = quantile(pooled, q)
    marks = [(np.asarray(block, dtype=float) > level).astype(float) for block in blocks]
    fraction = float(np.concatenate(marks).mean())
    variance = fraction * (1 - fraction)
    if variance == 0:
        return float(pooled.size)
    centred = [block - fraction for block in marks if block.size]
    within = autocorrelation_time(centred, variance)
    return pooled.size / max(within, _drift(centred, variance, within))


def _drift(centred: Sequence[NDArray[Any]], variance: float, within: float) -> float:
    """Return the design effect of blocks that differ among themselves; 1 where they do not.

    It is the variance of the blocks' marked fractions over the binomial one, counted once it
    exceeds what `within` explains nine times in ten, and stretched by Student over normal because
    few blocks tell it badly. A series correlated over longer than a block shows here only.
    """
    df = len(centred) - 1
    if df < 1:
        return 1.0
    between = sum(block.size * float(block.mean()) ** 2 for block in centred) / variance / df
    if between <= within * float(special.chdtri(df, 0.1)) / df:
        return 1.0
    tail = (1 + CONFIDENCE) / 2
    return between * float(special.stdtrit(df, tail) / special.ndtri(tail)) ** 2


def autocorrelation_time(blocks: Sequence[NDArray[Any]], variance: float) -> float:
    """Return 1 + 2 sum of autocorrelations, summed while pairs of them stay positive.

    Args:
        blocks: pieces of one series, their common mean taken off.
        variance: of the series, greater than 0.
    """
    longest = max(block.size for block in blocks)
    total = sum(block.size for block in blocks)

    def correlation(lag: int) -> float:
        products = sum(float(b[lag:] @ b[: b.size - lag]) for b in blocks if b.size > lag)
        return products / total / variance

    time = -1.0
    for lag in range(0, min(longest // 2, MAX_LAG), 2):
        pair = correlation(lag) + correlation(lag + 1)
        if pair <= 0:
            break
        time += 2 * pair
    return max(1.0, time)


def _binomial_rank(probability: float, n: int, q: float) -> int:
    """Return the smallest k with P(Binomial(n, q) <= k) >= probability."""
    k = max(0, math.ceil(float(special.bdtrik(probability, n, q))))
    return k - 1 if k > 0 and float(special.bdtr(k - 1, n, q)) >= probability else k
