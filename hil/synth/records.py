"""What the search passes around: limits, observations, proposals. Data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Arch = tuple[int, ...]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Sense = Literal["max", "min"]
Verdict = Literal["feasible", "infeasible", "undecided"]
ACCURACY = "accuracy"
EXACT_METRICS = ("macs", "params")


class Utility(Protocol):
    """U: accuracy (a fraction), MACs and parameters (counts) to a score, elementwise."""

    def __call__(self, accuracy: FloatArray, macs: FloatArray, params: FloatArray) -> FloatArray:
        """Scores, higher is better."""
        ...


@dataclass(frozen=True)
class Limit:
    """One operational requirement in absolute terms.

    Attributes:
        metric: a measured metric (`energy_mj`, ...), `accuracy` (a fraction), `macs` or `params`.
        bound: the limit, in the metric's unit.
        sense: "max" where the metric may not exceed the bound, "min" where it may not fall below.
        alpha: one-sided miss rate of the screen for this limit. It only screens; it certifies
            nothing, so it is kept mild.
    """

    metric: str
    bound: float
    sense: Sense = "max"
    alpha: float = 0.1

    def to_json(self) -> dict[str, Any]:
        """The limit as plain data."""
        return {
            "metric": self.metric,
            "bound": self.bound,
            "sense": self.sense,
            "alpha": self.alpha,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Limit:
        """Inverse of `to_json`."""
        return Limit(data["metric"], float(data["bound"]), data["sense"], float(data["alpha"]))


@dataclass(frozen=True)
class Observation:
    """What was learned about one architecture.

    Attributes:
        arch: the architecture.
        costs: metric to (value, standard deviation of that value); a metric that was not measured
            is absent.
        accuracy: fraction right on the search split, or None where the network was not trained.
        verdict: of all requirements together, as judged by measurement.
        round: the round at whose end it was folded in; generators advance once a round.
        accuracy_sd: standard deviation of `accuracy`, or None where unknown.
    """

    arch: Arch
    costs: dict[str, tuple[float, float]] = field(default_factory=dict)
    accuracy: float | None = None
    verdict: Verdict = "undecided"
    round: int = 0
    accuracy_sd: float | None = None


@dataclass(frozen=True)
class Proposal:
    """An architecture worth measuring and why: `design`, `thompson`, `improve`, `calibration`.

    Attributes:
        train: whether it is worth a training as well, should it fit; hardware stimuli are not.
    """

    arch: Arch
    source: str
    train: bool = True
