"""Accuracy compared over the same pictures where the score is no mean over pictures.

Mean intersection over union and average precision pool all pictures before anything is divided, so
there is no right or wrong to count. Instead both networks' scores are worked out anew without each
picture in turn, and the spread of their difference tells how far other pictures would move it.

Bound: the jackknife's standard error over pictures (B. Efron and C. Stein, "The jackknife estimate
of variance", Annals of Statistics 9, 1981) times Student's t of n - 1 degrees of freedom. Both
networks answer the same pictures, so that what makes a picture hard for both cancels. It is no
exact bound: tests/synth/test_resampled.py holds how often it covers the truth. Where not one
picture tells the two networks apart there is no spread to see; then the bound is that of n pictures
of which none was lost (`paired.score_bound`), as a picture lost entirely could still be to come.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
from scipy import special

from hil.core.errors import ConfigError
from hil.synth.paired import Paired, score_bound
from hil.tasks.marks import FloatArray, Marks, Right

LEAST_PICTURES = 30
"""Held-out pictures below which the bound is not to be relied on, as the simulation has it."""
_ROWS = 256


@dataclass(frozen=True)
class Resampled:
    """Scores of two networks on the same pictures, in percent, and how sure they are.

    Attributes:
        pictures: how many there are.
        accuracy: the candidate's main score.
        prototype_accuracy: the prototype's.
        accuracy_error: standard error of the candidate's, in points.
        difference_error: standard error of the difference, in points.
        scores: all of the candidate's scores by name.
    """

    pictures: int
    accuracy: float
    prototype_accuracy: float
    accuracy_error: float
    difference_error: float
    scores: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, prototype: Marks, candidate: Marks) -> Self:
        """Compare marks of the same pictures, in the same order.

        Raises:
            ValueError: they are of different pictures, or of fewer than two.
        """
        count = candidate.pictures
        if prototype.pictures != count or count < 2:
            raise ValueError(f"not the same pictures: {prototype.pictures} and {count}")
        own, other = without_each(candidate), without_each(prototype)
        return cls(
            pictures=count,
            accuracy=100 * candidate.score,
            prototype_accuracy=100 * prototype.score,
            accuracy_error=100 * jackknife_error(own),
            difference_error=100 * jackknife_error(own - other),
            scores=dict(candidate.scores),
        )

    @property
    def difference(self) -> float:
        """Candidate minus prototype, in points."""
        return self.accuracy - self.prototype_accuracy

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Two-sided interval of the difference, in points."""
        half = self._half(self.difference_error, (1 - confidence) / 2)
        return self.difference - half, self.difference + half

    def lower(self, alpha: float) -> float:
        """One-sided lower bound of the difference at confidence 1 - `alpha`, in points."""
        return self.difference - self._half(self.difference_error, alpha)

    def accuracy_interval(self) -> tuple[float, float]:
        """95 % interval of the candidate's score, in percent."""
        half = self._half(self.accuracy_error, 0.025)
        return max(self.accuracy - half, 0.0), min(self.accuracy + half, 100.0)

    def accuracy_lower(self, alpha: float) -> float:
        """One-sided lower bound of the candidate's score, in percent."""
        return max(self.accuracy - self._half(self.accuracy_error, alpha), 0.0)

    def _half(self, error: float, alpha: float) -> float:
        if error == 0:
            return -100 * score_bound(self.pictures, 0, 0, alpha)
        return -float(special.stdtrit(self.pictures - 1, alpha)) * error

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `from_json` gives back an equal record."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(**data)


Comparison = Paired | Resampled
"""Two networks on the same pictures; both kinds give the same figures."""


def compare(prototype: Marks, candidate: Marks) -> Comparison:
    """Compare two networks: by counts where pictures are right or wrong, else by resampling.

    Raises:
        ValueError: they were not marked on the same pictures.
    """
    if isinstance(prototype, Right) and isinstance(candidate, Right):
        return Paired.count(prototype.right, candidate.right)
    return Resampled.of(prototype, candidate)


def comparison_from_json(data: Mapping[str, Any]) -> Comparison:
    """Read what either kind's `to_json` wrote."""
    return Resampled.from_json(data) if "difference_error" in data else Paired.from_json(data)


def without_each(marks: Marks) -> FloatArray:
    """The score without each picture in turn (`pictures`)."""
    count = marks.pictures
    parts = []
    for start in range(0, count, _ROWS):
        weights = np.ones((min(_ROWS, count - start), count))
        rows = np.arange(len(weights))
        weights[rows, start + rows] = 0.0
        parts.append(marks.weighted(weights))
    return np.concatenate(parts)


def jackknife_error(without: FloatArray) -> float:
    """Standard error of a statistic, from its values without each picture in turn."""
    count = len(without)
    spread = without - without.mean()
    error = math.sqrt((count - 1) / count * float(spread @ spread))
    # Rounding leaves a spread of 1e-16 where there is none.
    return error if error > 1e-12 else 0.0


def require_pictures(pictures: int) -> None:
    """Refuse to let a bound bind that so few held-out pictures cannot carry.

    Raises:
        ConfigError: there are fewer than `LEAST_PICTURES`.
    """
    if pictures < LEAST_PICTURES:
        raise ConfigError(
            f"{pictures} held-out pictures are too few for a bound of this task's score",
            why=f"the jackknife over pictures needs {LEAST_PICTURES} to keep its confidence",
            fix="hold out more pictures, or remove `confidence` from the profile",
        )
