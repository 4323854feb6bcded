"""Functions drawn from the prior of `kernels.py`, readable at any number of architectures.

The additive and linear terms are drawn exactly; the two smooth residuals through random features.
The residual over choices has sign features: a product of independent telegraph processes (random
signs that flip between neighbouring levels) has precisely the covariance of the `hamming` term.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hil.synth.kernels import CONSTANT_VARIANCE, Kernel, correlation_length
from hil.synth.records import FloatArray, IntArray
from hil.synth.searchspace import Batch

_FEATURES = 192
_MATERN_DEGREES = 5  # Matern 5/2 has a multivariate t spectrum with five degrees of freedom


@dataclass(frozen=True)
class PriorPaths:
    """Sample functions of the prior; every array's last axis counts the functions."""

    kernel: Kernel
    constant: FloatArray
    slope: FloatArray
    tables: tuple[FloatArray, ...]
    weights: FloatArray
    frequencies: FloatArray
    phases: FloatArray
    waves: FloatArray
    bits: tuple[NDArray[np.int8], ...]
    signs: FloatArray

    def read(self, batch: Batch, trend: FloatArray) -> FloatArray:
        """Values of the functions, (len(batch), functions)."""
        features = self.kernel.read(batch)
        values = self.constant + np.outer(trend, self.slope) + features @ self.weights
        for j, table in enumerate(self.tables):
            values = values + table[batch.choices[:, j]]
        cosines = np.cos(features @ self.frequencies + self.phases)
        values = values + cosines @ self.waves + self._parity(batch) @ self.signs
        return np.asarray(values, dtype=np.float64)

    def _parity(self, batch: Batch) -> FloatArray:
        total = np.zeros((len(batch), _FEATURES), dtype=np.int8)
        for j, bits in enumerate(self.bits):
            total ^= bits[batch.choices[:, j]]
        return 1.0 - 2.0 * total.astype(np.float64)


def draw_prior(
    kernel: Kernel, variances: FloatArray, width: int, count: int, rng: np.random.Generator
) -> PriorPaths:
    """`count` functions from the prior.

    Args:
        kernel: the prior's shape.
        variances: variance of each term, in the order of `kernels.COMPONENTS`.
        width: number of features a batch carries.
        count: number of functions.
        rng: source of all randomness.
    """
    trend, additive, linear, matern, hamming = np.sqrt(variances)
    chi = rng.chisquare(_MATERN_DEGREES, _FEATURES)
    frequencies = rng.standard_normal((width, _FEATURES)) * np.sqrt(_MATERN_DEGREES / chi / width)
    variables = range(len(kernel.variables))
    return PriorPaths(
        kernel=kernel,
        constant=rng.standard_normal(count) * np.sqrt(CONSTANT_VARIANCE),
        slope=rng.standard_normal(count) * trend,
        tables=tuple(_table(kernel, j, count, rng) * additive for j in variables),
        weights=rng.standard_normal((width, count)) * linear / np.sqrt(width),
        frequencies=frequencies,
        phases=rng.random(_FEATURES) * 2 * np.pi,
        waves=rng.standard_normal((_FEATURES, count)) * matern * np.sqrt(2.0 / _FEATURES),
        bits=tuple(_telegraph(kernel, j, rng) for j in variables),
        signs=rng.standard_normal((_FEATURES, count)) * hamming / np.sqrt(_FEATURES),
    )


def _table(kernel: Kernel, j: int, count: int, rng: np.random.Generator) -> FloatArray:
    size = kernel.variables[j].size
    root = np.linalg.cholesky(kernel.correlation(j) + 1e-10 * np.eye(size))
    result: FloatArray = np.sqrt(kernel.weights[j]) * root @ rng.standard_normal((size, count))
    return result


def _telegraph(kernel: Kernel, j: int, rng: np.random.Generator) -> NDArray[np.int8]:
    """Bits (choices, features) whose signs have the covariance stay + (1 - stay) correlation."""
    variable = kernel.variables[j]
    if variable.ordered:
        flip = 0.5 * (1.0 - np.exp(-1.0 / correlation_length(variable)))
        flips: IntArray = (rng.random((variable.size, _FEATURES)) < flip).astype(np.int64)
        bits = np.cumsum(flips, axis=0) % 2
    else:
        bits = rng.integers(0, 2, size=(variable.size, _FEATURES))
    heard = rng.random(_FEATURES) >= kernel.stay
    return (bits * heard).astype(np.int8)
