"""One-sided bounds that keep their promise: conformal quantiles of studentised residuals.

A posterior's own standard deviation ranks architectures by uncertainty; how many of them a bound
must be away is read from leave-one-out residuals, so a wrong model widens its own bounds. With
fewer observations than the level needs, no finite conformal bound exists; then the quantile is a
Student t's with as many degrees of freedom as there are observations to spare, and never less
than the worst residual seen: wider, and marked as not exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from hil.synth.records import FloatArray, Sense


@dataclass(frozen=True)
class Calibrator:
    """Leave-one-out residuals of one metric, in predictive standard deviations, ascending."""

    residuals: tuple[float, ...]

    @staticmethod
    def of(residuals: FloatArray) -> Calibrator:
        """Calibrator from residuals in any order."""
        return Calibrator(tuple(float(r) for r in np.sort(residuals)))

    def exact(self, alpha: float) -> bool:
        """Whether there are observations enough for a conformal bound at `alpha`."""
        return math.ceil((len(self.residuals) + 1) * (1.0 - alpha)) <= len(self.residuals)

    def quantile(self, alpha: float, sense: Sense) -> float:
        """Standard deviations between mean and bound; negative only for `alpha` above one half.

        Args:
            alpha: one-sided miss rate. Above one half the bound lies on the far side of the mean:
                it refuses only what is likely to miss.
            sense: "max" for an upper bound (the limit is a maximum), "min" for a lower one.
        """
        count = len(self.residuals)
        away = sorted(r if sense == "max" else -r for r in self.residuals)
        if self.exact(alpha):
            least = 0.0 if alpha <= 0.5 else -math.inf
            return max(least, away[math.ceil((count + 1) * (1.0 - alpha)) - 1])
        degrees = max(1, count - 1)
        widened = float(student.ppf(1.0 - alpha, degrees)) * math.sqrt(1.0 + 1.0 / max(1, count))
        return max([widened, *away])

    def to_json(self) -> dict[str, Any]:
        """The calibrator as plain data."""
        return {"residuals": list(self.residuals)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Calibrator:
        """Inverse of `to_json`."""
        return Calibrator(tuple(float(r) for r in data["residuals"]))
