"""What the inquisitor believes about requirements: bounds, probabilities, violations.

A screen may rank and reject; it never accepts. It travels inside the saved generator, so that
the generator screens its own emissions without the run that made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr

from hil.synth.calibration import Calibrator
from hil.synth.posterior import Posterior, unwarp, warp
from hil.synth.records import ACCURACY, EXACT_METRICS, FloatArray, Limit, Sense
from hil.synth.searchspace import Batch, Encoder

# Two points of accuracy in a network that errs nowhere weigh as much as doubling an energy limit.
_ERROR_SLACK = 0.02
# Excess of a metric that nobody measured: finite, so that the other limits still guide an edit.
_UNKNOWN = 1e6


@dataclass(frozen=True)
class Screen:
    """Posteriors, calibrators and limits.

    Attributes:
        encoder: the space's encoder.
        limits: the requirements.
        posteriors: by metric; a limit on a metric without one is unknown and never holds.
        calibrators: by metric.
    """

    encoder: Encoder
    limits: tuple[Limit, ...]
    posteriors: Mapping[str, Posterior]
    calibrators: Mapping[str, Calibrator]

    def bound(self, metric: str, batch: Batch, sense: Sense, alpha: float) -> FloatArray:
        """Calibrated one-sided bound in the metric's own unit; exact metrics are themselves."""
        if metric in EXACT_METRICS:
            return batch.macs if metric == "macs" else batch.params
        if metric not in self.posteriors:
            return np.full(len(batch), np.inf if sense == "max" else -np.inf)
        posterior = self.posteriors[metric]
        away = self.calibrators[metric].quantile(alpha, sense)
        belief = posterior.predict(batch)
        sign = 1.0 if sense == "max" else -1.0
        return unwarp(belief.mean + sign * away * belief.sd, posterior.kind)

    def excesses(self, batch: Batch) -> FloatArray:
        """By how much each limit is exceeded at its calibrated bound, (limits, len(batch))."""
        rows = [
            excess(limit, self.bound(limit.metric, batch, limit.sense, limit.alpha))
            for limit in self.limits
        ]
        return np.array(rows).reshape(len(self.limits), len(batch))

    def excess(self, batch: Batch) -> FloatArray:
        """Total excess over all limits, zero where all bounds hold, (len(batch),)."""
        result: FloatArray = self.excesses(batch).sum(axis=0)
        return result

    def holds(self, batch: Batch) -> FloatArray:
        """1.0 where every calibrated bound holds, else 0.0, (len(batch),)."""
        return (self.excess(batch) <= 0.0).astype(np.float64)

    def probability(self, batch: Batch) -> FloatArray:
        """Predictive probability that every limit holds (metrics taken as independent)."""
        chance = np.ones(len(batch))
        for limit in self.limits:
            chance = chance * self._chance(limit, batch)
        return chance

    def mean(self, metric: str, batch: Batch) -> FloatArray:
        """Predicted medians in the metric's own unit."""
        if metric in EXACT_METRICS:
            return batch.macs if metric == "macs" else batch.params
        return self.posteriors[metric].mean(batch)

    def to_json(self) -> dict[str, Any]:
        """The screen as plain data."""
        return {
            "limits": [limit.to_json() for limit in self.limits],
            "posteriors": {m: p.to_json() for m, p in sorted(self.posteriors.items())},
            "calibrators": {m: c.to_json() for m, c in sorted(self.calibrators.items())},
        }

    @staticmethod
    def from_json(data: dict[str, Any], encoder: Encoder) -> Screen:
        """Inverse of `to_json`, on the same space."""
        posteriors = {m: Posterior.from_json(p, encoder) for m, p in data["posteriors"].items()}
        calibrators = {m: Calibrator.from_json(c) for m, c in data["calibrators"].items()}
        limits = tuple(Limit.from_json(limit) for limit in data["limits"])
        return Screen(encoder, limits, posteriors, calibrators)

    def _chance(self, limit: Limit, batch: Batch) -> FloatArray:
        if limit.metric in EXACT_METRICS or limit.metric not in self.posteriors:
            bound = self.bound(limit.metric, batch, limit.sense, limit.alpha)
            return (excess(limit, bound) <= 0.0).astype(np.float64)
        posterior = self.posteriors[limit.metric]
        if posterior.kind == "log" and limit.bound <= 0.0:
            return np.full(len(batch), 0.0 if limit.sense == "max" else 1.0)
        belief = posterior.predict(batch)
        edge = warp(np.array([limit.bound]), posterior.kind)[0]
        sign = 1.0 if limit.sense == "max" else -1.0
        return np.asarray(ndtr(sign * (edge - belief.mean) / belief.sd), dtype=np.float64)


def excess(limit: Limit, values: FloatArray) -> FloatArray:
    """Excess over one limit relative to its size, zero where it holds.

    An accuracy's shortfall is relative to the error the limit allows.
    """
    gap = values - limit.bound if limit.sense == "max" else limit.bound - values
    size = abs(limit.bound)
    if limit.metric == ACCURACY:
        size = 1.0 - limit.bound + _ERROR_SLACK
    relative = np.clip(gap / max(size, 1e-300), 0.0, _UNKNOWN)
    return np.asarray(relative, dtype=np.float64)
