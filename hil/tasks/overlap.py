"""Scores of segmentation: mean intersection over union, and pixel accuracy.

Pixels whose truth is void count neither for nor against anything. The mean is over classes that
occur in the truth or in the answers; a class that occurs in neither says nothing and is left out
(as in torchmetrics' macro Jaccard index). Intersections and unions are summed over all pictures
before they are divided, as CamVid, Cityscapes and Pascal VOC have it: the score is no mean over
pictures, and a class is worth the same however few pixels it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hil.tasks.marks import FloatArray, packed, unpacked

SHARED, ANSWERED, TRUE = range(3)


@dataclass(frozen=True)
class Overlaps:
    """Marks of a segmenter.

    Attributes:
        counts: `pictures x classes x 3`, pixels: answered rightly, answered, and in the truth.
    """

    counts: NDArray[np.int64]

    @property
    def pictures(self) -> int:
        """How many pictures there are."""
        return len(self.counts)

    @property
    def score(self) -> float:
        """Mean intersection over union."""
        return float(_mean_iou(self.counts.sum(axis=0)[None].astype(np.float64))[0])

    @property
    def pixel_accuracy(self) -> float:
        """Share of pixels answered rightly."""
        total = self.counts.sum(axis=(0, 1))
        return float(total[SHARED] / max(total[TRUE], 1))

    @property
    def class_iou(self) -> tuple[float | None, ...]:
        """Intersection over union of each class; None where a class does not occur."""
        shared, answered, true = np.moveaxis(self.counts.sum(axis=0), -1, 0)
        union = answered + true - shared
        return tuple(
            float(s / u) if u else None
            for s, u in zip(shared.tolist(), union.tolist(), strict=True)
        )

    @property
    def scores(self) -> Mapping[str, float]:
        """Both scores in percent."""
        return {"miou": 100 * self.score, "pixel_accuracy": 100 * self.pixel_accuracy}

    def weighted(self, weights: FloatArray) -> FloatArray:
        """See `Marks.weighted`."""
        return _mean_iou(np.tensordot(weights, self.counts.astype(np.float64), axes=1))

    def to_bytes(self) -> bytes:
        """The counts in numpy's own format."""
        return packed(counts=self.counts)

    @classmethod
    def from_bytes(cls, data: bytes) -> Overlaps:
        """Read what `to_bytes` wrote."""
        return cls(unpacked(data)["counts"])


def _mean_iou(totals: FloatArray) -> FloatArray:
    """Of each row of `b x classes x 3`; 0 where no class occurs at all."""
    union = totals[..., ANSWERED] + totals[..., TRUE] - totals[..., SHARED]
    there = union > 0
    ratio = np.divide(totals[..., SHARED], union, out=np.zeros_like(union), where=there)
    mean: FloatArray = ratio.sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return mean


def overlaps(
    answers: NDArray[np.integer], masks: NDArray[np.integer], classes: int, void: int | None
) -> Overlaps:
    """Count what an answer and the truth share.

    Args:
        answers: `n x height x width`, the class answered for each pixel.
        masks: the same shape, the true class; `void` where there is none.
        classes: how many there are.
        void: value of `masks` that is ignored; None where every pixel counts.

    Raises:
        ValueError: shapes differ, or a class is out of range.
    """
    if answers.shape != masks.shape or masks.ndim != 3:
        raise ValueError(f"answers of shape {answers.shape} do not match masks {masks.shape}")
    counts = np.zeros((len(masks), classes, 3), dtype=np.int64)
    for counted, answer, mask in zip(counts, answers, masks, strict=True):
        known = np.ones(mask.shape, bool) if void is None else mask != void
        own, true = answer[known].astype(np.int64), mask[known].astype(np.int64)
        seen = np.concatenate([own, true])
        if seen.size and (seen.min() < 0 or seen.max() >= classes):
            raise ValueError(f"a class lies outside 0..{classes - 1}")
        counted[:, SHARED] = np.bincount(true[own == true], minlength=classes)
        counted[:, ANSWERED] = np.bincount(own, minlength=classes)
        counted[:, TRUE] = np.bincount(true, minlength=classes)
    return Overlaps(counts)
