"""Semantic segmentation: a class for every pixel, scored by mean intersection over union.

A segmenter gives logits, `n x classes x height x width`, at the masks' size or coarser; coarser
ones are enlarged bilinearly before they are judged, so that a network that is shown smaller
pictures is scored on the same pixels as the prototype.

Distillation: the Kullback-Leibler divergence of every pixel's answer, at temperature 1 (Liu et al.,
"Structured knowledge distillation for semantic segmentation", CVPR 2019, section 3.1, pixel-wise).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hil.tasks.data import Split
from hil.tasks.marks import Marks
from hil.tasks.overlap import Overlaps, overlaps
from hil.tasks.pictures import shifted
from hil.tasks.task import Answers

_NOTHING = -100
"""What stands for void in losses; no mask can hold it."""


class Segmentation:
    """The task of `hil.tasks.task.Task` for pictures with a mask each.

    Args:
        classes: how many there are, void not counted.
        void: value of masks that is ignored; None where every pixel counts.
    """

    name = "segmentation"
    portion: int | None = 32

    def __init__(self, classes: int, void: int | None) -> None:
        self.classes, self.void = classes, void

    def targets(self, split: Split) -> Tensor:
        """Masks, `n x height x width`, uint8."""
        return torch.from_numpy(split.masks)

    def moved(self, targets: Tensor, offsets: Tensor, most: int) -> Tensor:
        """Masks moved like their pictures; what comes in is void, or the first class."""
        edge = 0 if self.void is None else self.void
        return shifted(targets[:, None], offsets, most, edge)[:, 0]

    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy, mean over pixels that are not void; 0 where there are none."""
        known = targets.long()
        if self.void is not None:
            known = known.masked_fill(known == self.void, _NOTHING)
        logits = _enlarged(outputs, targets.shape[1:])
        total = functional.cross_entropy(
            logits, known, ignore_index=_NOTHING, reduction="sum", label_smoothing=smoothing
        )
        return total / (known != _NOTHING).sum().clamp(min=1)

    def soften(self, outputs: Tensor) -> tuple[Tensor, ...]:
        """Probabilities of every pixel."""
        return (functional.softmax(outputs, dim=1),)

    def distillation(self, outputs: Tensor, softened: Sequence[Tensor]) -> Tensor:
        """Divergence from the teacher's answers, mean over pixels, void ones too."""
        teacher = softened[0]
        own = functional.log_softmax(_enlarged(outputs, teacher.shape[2:]), dim=1)
        pixels = own.numel() // own.shape[1]
        return functional.kl_div(own, teacher, reduction="sum") / pixels

    def mark(self, answers: Answers, split: Split) -> Overlaps:
        """Pixels answered rightly, answered, and true, by class; NaN counts as the first class."""
        logits = _enlarged(torch.tensor(answers[0], dtype=torch.float32), split.masks.shape[1:])
        best = np.nan_to_num(logits.numpy(), nan=-np.inf).argmax(axis=1)
        return overlaps(best, split.masks, self.classes, self.void)

    def join(self, parts: Sequence[Marks]) -> Overlaps:
        """All pictures of the portions."""
        return Overlaps(np.concatenate([p.counts for p in parts if isinstance(p, Overlaps)]))

    def read(self, data: bytes) -> Overlaps:
        """Marks from their bytes."""
        return Overlaps.from_bytes(data)


def _enlarged(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(logits.shape[2:]) == tuple(size):
        return logits
    return functional.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
