"""Prior covariance over architectures: additive choices, linear features, two smooth residuals.

A metric is modelled as a sum of independent Gaussian terms whose variances are learned:

    trend      slope of a given prior mean (task stimuli), uncertain by its own size
    additive   one effect per variable and choice; ordered choices are correlated by distance
    linear     weights on standardised features: the hardware's (bilinear vertex costs are among
               them), or for accuracy the training-free signals where the space has any
    matern     smooth function of the features: what a weight cannot say
    hamming    interactions: correlation falls with every variable that differs

`paths.py` draws functions from the same prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hil.synth.records import FloatArray
from hil.synth.searchspace import Batch, VariableSpec

View = Literal["linear", "logs", "signals"]
COMPONENTS = ("trend", "additive", "linear", "matern", "hamming")
CONSTANT_VARIANCE = 1.0
_REACH = 3.0  # log-correlation lost when every variable differs


@dataclass(frozen=True)
class Kernel:
    """Fixed shape of the covariance; the variances of its terms are hyperparameters.

    Attributes:
        variables: the space's variables.
        weights: share of each variable in the additive variance; sums to one.
        view: which features the linear and smooth terms read.
    """

    variables: tuple[VariableSpec, ...]
    weights: FloatArray
    view: View

    @property
    def stay(self) -> float:
        """Chance that a residual ignores one variable."""
        return float(np.exp(-_REACH / len(self.variables)))

    def correlation(self, index: int) -> FloatArray:
        """Correlation between the choices of one variable, (choices, choices)."""
        variable = self.variables[index]
        if not variable.ordered:
            return np.eye(variable.size)
        levels = np.arange(variable.size)
        gaps = np.abs(levels[:, None] - levels[None, :])
        return np.asarray(np.exp(-gaps / correlation_length(variable)), dtype=np.float64)

    def components(self, a: Batch, b: Batch, trends: tuple[FloatArray, FloatArray]) -> FloatArray:
        """Covariances of each term at unit variance, (terms, len(a), len(b))."""
        additive = np.zeros((len(a), len(b)))
        hamming = np.ones((len(a), len(b)))
        for j in range(len(self.variables)):
            table = self.correlation(j)
            pairs = table[a.choices[:, j]][:, b.choices[:, j]]
            additive += self.weights[j] * pairs
            hamming *= self.stay + (1.0 - self.stay) * pairs
        fa, fb = self.read(a), self.read(b)
        linear = fa @ fb.T / fa.shape[1]
        trend = np.outer(trends[0], trends[1])
        return np.stack([trend, additive, linear, _matern(fa, fb), hamming])

    def diagonal(self, a: Batch, trend: FloatArray) -> FloatArray:
        """The same for each architecture with itself, (terms, len(a))."""
        features = self.read(a)
        ones = np.ones(len(a))
        return np.stack([trend**2, ones, (features**2).mean(axis=1), ones, ones])

    def read(self, batch: Batch) -> FloatArray:
        """The features this kernel reads."""
        views: dict[View, FloatArray] = {
            "linear": batch.linear,
            "logs": batch.logs,
            "signals": batch.signals,
        }
        return views[self.view]


def correlation_length(variable: VariableSpec) -> float:
    """Levels over which an ordered variable's effect loses most of its correlation."""
    return max(1.0, 0.75 * (variable.size - 1))


def _matern(fa: FloatArray, fb: FloatArray) -> FloatArray:
    """Matern 5/2 in the root mean square feature distance."""
    square = (fa**2).mean(1)[:, None] + (fb**2).mean(1)[None, :] - 2 * fa @ fb.T / fa.shape[1]
    distance = np.sqrt(5.0 * np.maximum(square, 0.0))
    result: FloatArray = (1.0 + distance + distance**2 / 3.0) * np.exp(-distance)
    return result
