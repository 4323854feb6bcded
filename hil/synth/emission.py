"""Seed to architecture, and back inside the limits: counter-based draws and greedy repair.

Only Philox's raw 64-bit words and additions of stored probabilities decide a draw, so a seed
means the same architecture in every process and on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hil.synth.philox import philox
from hil.synth.records import ACCURACY, Arch, FloatArray, IntArray
from hil.synth.screen import Screen
from hil.synth.searchspace import Batch

_SCALE = 2.0**-53
_FLAT = 1e-3  # accuracy fraction below which an edit's loss is taken as nothing


@dataclass(frozen=True)
class Mixture:
    """theta_G: a mixture of products of categorical distributions.

    Attributes:
        weights: (components,) mixture weights.
        tables: per variable, (components, choices) probabilities.
    """

    weights: FloatArray
    tables: tuple[FloatArray, ...]

    def log_prob(self, choices: IntArray) -> FloatArray:
        """Log probability of each row of choices, (rows,)."""
        joint = self.log_joint(choices)
        top = joint.max(axis=1, keepdims=True)
        result: FloatArray = top[:, 0] + np.log(np.exp(joint - top).sum(axis=1))
        return result

    def log_joint(self, choices: IntArray) -> FloatArray:
        """Log of component weight times probability under it, (rows, components)."""
        joint = np.tile(np.log(self.weights), (len(choices), 1))
        for j, table in enumerate(self.tables):
            joint += np.log(table).T[choices[:, j]]
        return joint

    def marginals(self) -> list[FloatArray]:
        """Probability of each choice of each variable."""
        return [self.weights @ table for table in self.tables]

    def to_json(self) -> dict[str, Any]:
        """The mixture as plain data."""
        return {
            "weights": self.weights.tolist(),
            "tables": [table.tolist() for table in self.tables],
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Mixture:
        """Inverse of `to_json`."""
        tables = tuple(np.array(t, dtype=np.float64) for t in data["tables"])
        return Mixture(np.array(data["weights"], dtype=np.float64), tables)


def uniforms(seeds: Sequence[int], attempt: int, count: int) -> FloatArray:
    """(seeds, count) numbers in [0, 1); each row depends on its seed and the attempt alone."""
    words = philox(np.array(seeds, dtype=np.uint64), attempt, count) >> np.uint64(11)
    return words.astype(np.float64) * _SCALE


def draw(mixture: Mixture, seeds: Sequence[int], attempt: int) -> list[Arch]:
    """Unscreened architectures of the seeds at one attempt, by inverse distribution functions."""
    u = uniforms(seeds, attempt, 1 + len(mixture.tables))
    component = _invert(
        np.broadcast_to(mixture.weights, (len(seeds), len(mixture.weights))), u[:, 0]
    )
    columns = [_invert(t[component], u[:, 1 + j]) for j, t in enumerate(mixture.tables)]
    return [tuple(int(c) for c in row) for row in np.stack(columns, axis=1)]


def _invert(probabilities: FloatArray, u: FloatArray) -> IntArray:
    steps = np.cumsum(probabilities, axis=1)
    index = (u[:, None] * steps[:, -1:] >= steps).sum(axis=1)
    result: IntArray = np.minimum(index, probabilities.shape[1] - 1)
    return result


def repair(screen: Screen, arch: Arch, edits: int) -> tuple[Arch, int]:
    """Greedy edits towards the limits: most predicted excess removed per accuracy lost.

    Args:
        screen: the bounds to meet.
        arch: where to start.
        edits: at most this many.

    Returns:
        The architecture reached, which may still violate, and the edits made.
    """
    encoder = screen.encoder
    current = float(screen.excess(encoder.encode([arch]))[0])
    for step in range(edits):
        if current <= 0.0:
            return arch, step
        options = [arch, *encoder.space.neighbours(arch)]
        batch = encoder.encode(options)
        excess = screen.excess(batch)
        gain = (current - excess) / (_FLAT + _loss(screen, batch))
        best = int(np.argmax(np.where(excess < current, gain, -np.inf)))
        if excess[best] >= current:
            return arch, step
        arch, current = options[best], float(excess[best])
    return arch, edits


def _loss(screen: Screen, batch: Batch) -> FloatArray:
    """Predicted accuracy lost against the first row, at least zero."""
    if ACCURACY not in screen.posteriors:
        return np.zeros(len(batch))
    accuracy = screen.mean(ACCURACY, batch)
    result: FloatArray = np.maximum(accuracy[0] - accuracy, 0.0)
    return result
