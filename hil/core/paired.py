"""Accuracy compared over the same pictures: two networks, right or wrong on each one.

Only pictures on which exactly one of the two is right say anything about the difference; counting
them apart makes the interval far tighter than two separate accuracies would.

Interval: the score interval of T. Tango, "Equivalence test and confidence interval for the
difference in proportions for the paired-sample design", Statistics in Medicine 17 (1998).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special


@dataclass(frozen=True)
class Paired:
    """What two networks got right on the same pictures.

    Attributes:
        pictures: how many there are.
        both: both networks right.
        gained: the candidate right, the prototype wrong.
        lost: the prototype right, the candidate wrong.
    """

    pictures: int
    both: int
    gained: int
    lost: int

    @classmethod
    def count(cls, prototype: NDArray[np.bool_], candidate: NDArray[np.bool_]) -> Self:
        """Count from which pictures each got right, in the same order.

        Raises:
            ValueError: the arrays differ in length, are empty or are not boolean.
        """
        if prototype.shape != candidate.shape or prototype.ndim != 1 or prototype.size == 0:
            raise ValueError(f"not the same pictures: {prototype.shape} and {candidate.shape}")
        if prototype.dtype != np.bool_ or candidate.dtype != np.bool_:
            raise ValueError("right or wrong is expected, as booleans")
        return cls(
            pictures=prototype.size,
            both=int(np.sum(prototype & candidate)),
            gained=int(np.sum(~prototype & candidate)),
            lost=int(np.sum(prototype & ~candidate)),
        )

    @property
    def accuracy(self) -> float:
        """The candidate's, in percent."""
        return 100 * (self.both + self.gained) / self.pictures

    @property
    def prototype_accuracy(self) -> float:
        """The prototype's, in percent."""
        return 100 * (self.both + self.lost) / self.pictures

    @property
    def difference(self) -> float:
        """Candidate minus prototype, in points."""
        return 100 * (self.gained - self.lost) / self.pictures

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Two-sided score interval of the difference, in points."""
        tail = (1 - confidence) / 2
        low = score_bound(self.pictures, self.gained, self.lost, tail)
        high = -score_bound(self.pictures, self.lost, self.gained, tail)
        return 100 * low, 100 * high

    def lower(self, alpha: float) -> float:
        """One-sided lower bound of the difference at confidence 1 - `alpha`, in points."""
        return 100 * score_bound(self.pictures, self.gained, self.lost, alpha)

    def accuracy_interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the candidate's accuracy, in percent (E. B. Wilson, 1927)."""
        z, n, share = 1.959964, self.pictures, self.accuracy / 100
        centre = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        return 100 * (centre - half), 100 * (centre + half)

    @property
    def scores(self) -> Mapping[str, float]:
        """Scores beside the accuracy, by name: none."""
        return {}

    def accuracy_lower(self, alpha: float) -> float:
        """One-sided exact (Clopper-Pearson) lower bound of the candidate's accuracy, percent."""
        return 100 * exact_lower(self.both + self.gained, self.pictures, alpha)

    def chance_of_losing_at_most(self, points: float) -> float:
        """Return the one-sided p-value of "no more than so many points are lost".

        It is the error at which the upper end of `interval` falls to -`points`.
        """
        score = _score(self.pictures, self.gained, self.lost, -points / 100)
        return float(special.ndtr(score))

    def exact_interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Two-sided exact (Clopper-Pearson) interval of the candidate's accuracy, in percent."""
        tail, right = (1 - confidence) / 2, self.both + self.gained
        high = 1 - exact_lower(self.pictures - right, self.pictures, tail)
        return 100 * exact_lower(right, self.pictures, tail), 100 * high

    def chance_of_accuracy(self, percent: float) -> float:
        """Return the one-sided p-value of "the accuracy is at least so many percent"."""
        return float(special.bdtr(self.both + self.gained, self.pictures, percent / 100))

    def to_json(self) -> dict[str, int]:
        """Return plain data; `from_json` gives back an equal record."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(**{name: int(data[name]) for name in ("pictures", "both", "gained", "lost")})


def score_bound(pictures: int, gained: int, lost: int, alpha: float) -> float:
    """Tango's one-sided lower bound of the difference of two paired proportions.

    The difference d at which the score statistic of "the true difference is d" equals the
    normal quantile; the nuisance parameter is at its maximum likelihood under d.
    """
    critical = -float(special.ndtri(alpha))

    def gap(difference: float) -> float:
        return _score(pictures, gained, lost, difference) - critical

    observed = (gained - lost) / pictures
    if observed <= -1 or gap(-1 + 1e-12) <= 0:
        return -1.0
    return float(optimize.brentq(gap, -1 + 1e-12, observed, xtol=1e-12))


def _score(pictures: int, gained: int, lost: int, difference: float) -> float:
    """Score statistic, falling in `difference`; 0 at the observed one."""
    b = (2 * pictures - gained + lost) * difference - gained - lost
    c = -lost * difference * (1 - difference)
    # Rounding can push a discriminant of nothing just below 0.
    nuisance = (math.sqrt(max(b * b - 8 * pictures * c, 0.0)) - b) / (4 * pictures)
    variance = pictures * (2 * nuisance + difference * (1 - difference))
    distance = gained - lost - pictures * difference
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def exact_lower(right: int, pictures: int, alpha: float) -> float:
    """Clopper and Pearson's one-sided lower bound of a proportion."""
    return 0.0 if right == 0 else float(special.betaincinv(right, pictures - right + 1, alpha))


def resolvable_margin(pictures: int, alpha: float, disagreement: float = 0.0) -> float:
    """Smallest loss, in points, that so many pictures can tell from no loss.

    It is what the lower bound still allows when a candidate is as good as the prototype.

    Args:
        pictures: how many both networks answer.
        alpha: one-sided error of the bound.
        disagreement: share of the pictures on which one of the two is wrong alone; 0 is the best
            case, two networks of error rate e disagree on up to 2 e.
    """
    apart = math.ceil(disagreement * pictures / 2)
    return -100 * score_bound(pictures, apart, apart, alpha)
