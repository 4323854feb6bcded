"""Intervals that hold the truth: repeatability and the sensor's own limits, convolved.

Rule of this file: numbers only; which terms a figure has is in `hil.measure.budget`.

A limit without a distribution, as data sheets state them, is a rectangle (GUM, JCGM 100:2008,
4.3.7). The spread of repeated windows is Student's t. What the true value is, given a reading, is
then distributed as the sum of one scaled t and several rectangles, and the interval is that sum's
95 % coverage interval (propagation of distributions, GUM supplement 1, JCGM 101:2008), found by
quadrature instead of by drawing. Adding half widths linearly would cover too much, adding them in
quadrature too little where one rectangle rules: alone, a rectangle's 95 % interval is 0.95 of its
half width, and not 1.13 of it, which 1.96 standard deviations would make.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hil.core.stats import CONFIDENCE, Estimate

Floats = NDArray[np.float64]
# Narrower than this part of the widest, a rectangle moves the interval by less than a millionth.
_NEGLIGIBLE = 1e-4
_CELLS = 2000
_STRATA = 1000
_HALVINGS = 40


def half_width(
    repeatability: float,
    df: float,
    rectangles: Sequence[float],
    confidence: float = CONFIDENCE,
) -> float:
    """Return the half width of the coverage interval of a scaled t plus rectangles around zero.

    Args:
        repeatability: half width of the t term's own interval at the same confidence.
        df: its degrees of freedom.
        rectangles: half widths of independent uniform terms; zeros are left out.
        confidence: two-sided.
    """
    kept = _kept(rectangles)
    if not kept:
        return repeatability
    tail = (1 + confidence) / 2
    grid, below = _rectangles_cdf(kept)
    scale = repeatability / float(special.stdtrit(df, tail))
    # Strata of equal probability stand for the t term; its far tails are where the rest is 0 or 1.
    steps = scale * special.stdtrit(df, (np.arange(_STRATA) + 0.5) / _STRATA)
    low, high = 0.0, sum(kept) + repeatability
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if float(np.interp(middle - steps, grid, below).mean()) < tail:
            low = middle
        else:
            high = middle
    # With no spread at all this may fall short of the reading's own interval by a rounding.
    return max(repeatability, (low + high) / 2)


def total(
    estimate: Estimate, df: float, rectangles: Sequence[float], confidence: float = CONFIDENCE
) -> Estimate:
    """Return the figure with the interval that holds its true value.

    The two sides of an uneven interval are widened each by itself.
    """
    down, up = estimate.value - estimate.low, estimate.high - estimate.value
    below = half_width(down, df, rectangles, confidence)
    even = math.isclose(down, up, rel_tol=1e-9)
    above = below if even else half_width(up, df, rectangles, confidence)
    return Estimate(estimate.value, estimate.value - below, estimate.value + above)


def rectangle_interval(half: float, confidence: float = CONFIDENCE) -> float:
    """Return the half width of the interval of one rectangle alone."""
    return confidence * half


def shares(repeatabilities: Sequence[float], rectangles: Sequence[float]) -> tuple[float, ...]:
    """Return each term's share of the total variance, in order; they add up to 1.

    Args:
        repeatabilities: 95 % half widths; taken as 1.96 standard deviations, so that few blocks
            count for what they cost.
        rectangles: half widths; their variance is a third of the square.
    """
    z = float(special.ndtri((1 + CONFIDENCE) / 2))
    variances = [(half / z) ** 2 for half in repeatabilities] + [r**2 / 3 for r in rectangles]
    whole = math.fsum(variances)
    return tuple(v / whole if whole > 0 else 0.0 for v in variances)


def _kept(rectangles: Sequence[float]) -> list[float]:
    halves = [abs(half) for half in rectangles]
    widest = max(halves, default=0.0)
    return sorted((half for half in halves if half > _NEGLIGIBLE * widest), reverse=True)


def _rectangles_cdf(halves: Sequence[float]) -> tuple[Floats, Floats]:
    """Return a grid and the distribution function of a sum of uniform terms on it.

    Convolving F with a rectangle of half width a gives (I(x + a) - I(x - a)) / 2a, where I is the
    integral of F; the widest comes first and is exact.
    """
    reach = math.fsum(halves) * (1 + 2 / _CELLS)
    grid = np.linspace(-reach, reach, 2 * _CELLS + 1)
    below = np.clip((grid + halves[0]) / (2 * halves[0]), 0.0, 1.0)
    step = grid[1] - grid[0]
    for half in halves[1:]:
        whole = np.concatenate(([0.0], np.cumsum((below[1:] + below[:-1]) * step / 2)))
        ahead = np.minimum(grid + half, reach)
        # Past the grid's end the function is 1 and its integral grows by the distance.
        right = _between(grid, below, whole, ahead) + (grid + half - ahead)
        left = _between(grid, below, whole, np.maximum(grid - half, -reach))
        below = np.clip((right - left) / (2 * half), 0.0, 1.0)
    return grid, below


def _between(grid: Floats, below: Floats, whole: Floats, x: Floats) -> Floats:
    """Return the integral up to x of the function that is straight between grid points."""
    step = grid[1] - grid[0]
    at = np.clip(((x - grid[0]) / step).astype(int), 0, grid.size - 2)
    into = x - grid[at]
    slope = (below[at + 1] - below[at]) / step
    return np.asarray(whole[at] + into * (below[at] + slope * into / 2))
