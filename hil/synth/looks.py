"""The sequential test behind a certificate, on whole arrays of runs at once.

Rule of this file: numbers in, numbers out; it knows no network, board or file. `confirmation.py`
calls it for one run, `bench/certificate.py` for ten thousand; there is no second copy.

Everything is said in *excesses*: for each build the logarithm of its figure over the limit (a
relative limit: of the finalist's figure over the prototype's, measured beside it, over the limit).
Above 0 the limit is broken. The last axis is builds, the one before it requirements.

The p-value of one look, after n builds, is the larger of two.

* Student's t of the mean excess, n - 1 degrees of freedom.
* What the builds seen cannot show. Whatever the distribution, the share of builds beyond the
  largest of n independent ones is below 1 - a^(1/n) with confidence 1 - a. Where unseen builds
  (another kernel chosen) may be worse by up to `unseen`, the mean may be unseen * (1 - a^(1/n))
  higher than seen. Turned round: p = (1 - gap / unseen)^n for a mean excess of -gap.

Student's t alone takes three alike builds for three proofs; a kernel that one build in ten gets
wrong makes it accept several times too often.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
Unseen = float | FloatArray

GIVE_UP = 0.02
"""A finalist is given up where its chance of ever being certified is below this."""
# Equal figures from a few builds show the instrument's resolution, not builds that are all alike.
_LEAST_SPREAD = 0.001
_GROWTH = 4 / 3


@dataclass(frozen=True)
class Design:
    """The looks of one finalist, fixed before the first build.

    Attributes:
        looks: numbers of builds after which it is judged, ascending.
        shares: of its error, which each look may spend; they add up to 1.
    """

    looks: tuple[int, ...]
    shares: tuple[float, ...]

    @classmethod
    def between(cls, fewest: int, most: int) -> Design:
        """Looks a third of the builds apart; later ones, which decide close cases, spend more."""
        looks = [fewest]
        while looks[-1] < most:
            looks.append(min(most, max(looks[-1] + 1, round(looks[-1] * _GROWTH))))
        total = sum(n**2 for n in looks)
        return cls(tuple(looks), tuple(n**2 / total for n in looks))


@dataclass(frozen=True)
class Followed:
    """What came of finalists followed from look to look.

    Attributes:
        spent: the least error at which all requirements are met, by finalist: the largest of
            those of its requirements. It is certified where this is at most its error.
        by_requirement: the same for each requirement, (..., requirements).
        refused: a requirement is broken beyond doubt.
        given_up: certifying it is too unlikely to go on.
        builds: how many the last look saw, 0 before the first.
    """

    spent: FloatArray
    by_requirement: FloatArray
    refused: BoolArray
    given_up: BoolArray
    builds: IntArray


def p_value(excesses: FloatArray, unseen: Unseen) -> FloatArray:
    """Chance of builds as good as these, or better, if the mean excess were 0.

    Args:
        excesses: (..., requirements, builds), or (..., builds) with one number for `unseen`.
        unseen: by how much, as a logarithm, a build may lie beyond all that were seen.
    """
    n = excesses.shape[-1]
    gap = -excesses.mean(axis=-1)
    error = spread(excesses) / np.sqrt(n)
    student = special.stdtr(n - 1, -gap / error)
    return np.asarray(np.maximum(student, _tail(gap, n, unseen)), dtype=np.float64)


def _tail(gap: FloatArray, n: int, unseen: Unseen) -> FloatArray:
    # Nothing unseen: any gap at all is beyond it.
    part = np.where(np.asarray(unseen) > 0, gap / np.maximum(unseen, 1e-12), np.sign(gap))
    return np.asarray((1 - np.clip(part, 0.0, 1.0)) ** n, dtype=np.float64)


def margin(sd: FloatArray, n: int, error: float, unseen: Unseen) -> FloatArray:
    """By how much the mean excess of n builds must lie below 0 to be accepted at `error`."""
    student = -special.stdtrit(n - 1, error) * sd / np.sqrt(n)
    return np.asarray(
        np.maximum(student, np.asarray(unseen) * (1 - error ** (1 / n))), dtype=np.float64
    )


def spread(excesses: FloatArray) -> FloatArray:
    """Standard deviation over builds, never below what an instrument resolves."""
    return np.asarray(np.maximum(excesses.std(axis=-1, ddof=1), _LEAST_SPREAD), dtype=np.float64)


def chance(excesses: FloatArray, builds: int, error: float, unseen: Unseen) -> FloatArray:
    """Chance that a look at so many builds, all told, accepts at `error`; by requirement.

    Predicted from the builds there are, with what is not known of their mean in it. It only says
    where builds are worth their time; nothing is accepted by it.
    """
    n = excesses.shape[-1]
    sd = spread(excesses)
    distance = -excesses.mean(axis=-1) - margin(sd, builds, error, unseen)
    wander = sd * np.sqrt(max(1 / n - 1 / builds, 0.0))
    with np.errstate(divide="ignore"):
        return np.asarray(special.stdtr(n - 1, distance / wander), dtype=np.float64)


def follow(
    excesses: FloatArray,
    design: Design,
    unseen: Unseen,
    error: float,
    last_error: float,
    give_up: float = GIVE_UP,
) -> Followed:
    """Judge finalists at each look there are builds for; a decided one is not looked at again.

    Args:
        excesses: (..., requirements, builds).
        design: the looks.
        unseen: as `p_value` takes it.
        error: what each finalist may spend whatever becomes of the others.
        last_error: what it may spend once all others are certified.
        give_up: chance of ever being certified below which a finalist is left.
    """
    around, requirements = excesses.shape[:-2], excesses.shape[-2]
    least = np.full((*around, requirements), np.inf)
    refused, given_up = np.zeros(around, bool), np.zeros(around, bool)
    active, builds = np.ones(around, bool), np.zeros(around, np.int64)
    last, last_share = design.looks[-1], design.shares[-1]
    for n, share in zip(design.looks, design.shares, strict=True):
        if n > excesses.shape[-1] or not active.any():
            break
        seen = excesses[..., :n]
        now = active[..., None]
        least = np.where(now, np.minimum(least, p_value(seen, unseen) / share), least)
        broken = (p_value(-seen, unseen) <= error * share).any(axis=-1)
        kept = least.max(axis=-1, initial=0.0) <= error
        refused |= active & broken & ~kept
        if n < last:
            odds = chance(seen, last, last_error * last_share, unseen)
            open_still = least > last_error
            worst = np.where(open_still, odds, 1.0).min(axis=-1, initial=1.0)
            given_up |= active & ~broken & ~kept & (worst < give_up)
        builds = np.where(active, n, builds)
        active = active & ~kept & ~refused & ~given_up
    spent = np.where(refused, np.inf, least.max(axis=-1, initial=0.0))
    return Followed(spent, least, refused, given_up, builds)


def certified(spent: FloatArray, alpha: float) -> BoolArray:
    """Which finalists (last axis) are certified, the error `alpha` shared among all of them.

    Holm's procedure (S. Holm, Scand. J. Stat. 6, 1979): each may spend an equal share; the share
    of one that is certified passes to the others.
    """
    order = np.argsort(spent, axis=-1)
    count = spent.shape[-1]
    ranked = np.take_along_axis(spent, order, axis=-1) * np.arange(count, 0, -1)
    good = np.logical_and.accumulate(ranked <= alpha, axis=-1)
    result = np.zeros_like(good)
    np.put_along_axis(result, order, good, axis=-1)
    return np.asarray(result, dtype=np.bool_)
