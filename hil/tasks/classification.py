"""Image classification: one class a picture, scored by how many are right.

Distillation: the Kullback-Leibler divergence of both answers softened at temperature 4
(G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hil.tasks.data import Split
from hil.tasks.marks import Marks, Right
from hil.tasks.targets import Labels
from hil.tasks.task import Answers

TEMPERATURE = 4.0
"""Softening of both answers in distillation."""


class Classification:
    """The task of `hil.tasks.task.Task` for pictures that have one class each."""

    name = "classification"
    portion: int | None = None

    def targets(self, split: Split) -> Tensor:
        """Classes, `n`."""
        return torch.from_numpy(split.labels)

    def moved(self, targets: Tensor, offsets: Tensor, most: int) -> Tensor:  # noqa: ARG002
        """A picture that was moved shows what it showed."""
        return targets

    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy of logits (`n x classes`)."""
        return functional.cross_entropy(outputs, targets, label_smoothing=smoothing)

    def soften(self, outputs: Tensor) -> tuple[Tensor, ...]:
        """Probabilities (`n x classes`) at the temperature."""
        return (functional.softmax(outputs / TEMPERATURE, dim=1),)

    def distillation(self, outputs: Tensor, softened: Sequence[Tensor]) -> Tensor:
        """Divergence from the teacher's answers."""
        own = functional.log_softmax(outputs / TEMPERATURE, dim=1)
        # T^2 keeps the gradient's size independent of T (Hinton et al., section 2.1).
        return functional.kl_div(own, softened[0], reduction="batchmean") * TEMPERATURE**2

    def mark(self, answers: Answers, split: Split) -> Right:
        """Which pictures were answered rightly."""
        return Right(correct(answers[0], split.labels))

    def join(self, parts: Sequence[Marks]) -> Right:
        """All pictures of the portions."""
        return Right(np.concatenate([p.right for p in parts if isinstance(p, Right)]))

    def read(self, data: bytes) -> Right:
        """Marks from their bytes."""
        return Right.from_bytes(data)


def correct(logits: NDArray[np.floating], labels: Labels) -> NDArray[np.bool_]:
    """Which pictures (`n`) a classifier got right; an answer with a NaN in it is wrong.

    Args:
        logits: `n x classes`, from the host's network or from a board's engine.
        labels: `n`.
    """
    sane = ~np.isnan(logits).any(axis=1)
    right: NDArray[np.bool_] = sane & (logits.argmax(axis=1) == labels)
    return right


def accuracy_percent(right: NDArray[np.bool_]) -> float:
    """Share of pictures answered rightly, in percent."""
    return 100.0 * float(np.mean(right))
