"""Scores of detection: average precision as COCO computes it (Lin et al., "Microsoft COCO", 2014).

For each class and each overlap asked for (0.50, 0.55, ..., 0.95), detections of a picture are taken
by falling score, at most 100 of a class; each takes the true box, not yet taken, that it overlaps
most, if that is at least what is asked. Precision is made falling in recall and read at 101 recalls
(0, 0.01, ..., 1); the mean is over classes that occur in the truth.

Ties: of equal scores the earlier detection, of the earlier picture, goes first; of true boxes that
a detection overlaps equally the later one is taken. Both as the reference implementation has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hil.tasks.marks import FloatArray, packed, unpacked

OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = 100
_CELLS = 4_000_000  # numbers in one working array at most

BoxArray = NDArray[np.float32]


@dataclass(frozen=True)
class Hits:
    """Marks of a detector: its detections, each with what it matched, in the pictures' order.

    Attributes:
        picture: `d`, which picture each detection is in.
        label: `d`, its class.
        confidence: `d`, its score.
        hit: `d x 10`, whether it matched a true box, by `OVERLAPS`.
        truths: `pictures x classes`, how many true boxes there are.
    """

    picture: NDArray[np.int64]
    label: NDArray[np.int64]
    confidence: NDArray[np.float32]
    hit: NDArray[np.bool_]
    truths: NDArray[np.int64]

    @classmethod
    def joined(cls, parts: Sequence[Hits]) -> Hits:
        """Marks of portions of pictures, one after the other, as those of all of them."""
        before = np.cumsum([0, *(p.pictures for p in parts[:-1])])
        return cls(
            picture=np.concatenate([p.picture + n for p, n in zip(parts, before, strict=True)]),
            label=np.concatenate([p.label for p in parts]),
            confidence=np.concatenate([p.confidence for p in parts]),
            hit=np.concatenate([p.hit for p in parts]),
            truths=np.concatenate([p.truths for p in parts]),
        )

    @property
    def pictures(self) -> int:
        """How many pictures there are."""
        return len(self.truths)

    @property
    def score(self) -> float:
        """Average precision, mean over classes and over overlaps from 0.50 to 0.95."""
        return float(self.weighted(np.ones((1, self.pictures)))[0])

    @property
    def at_half(self) -> float:
        """Average precision at an overlap of 0.50, mean over classes."""
        return float(self._precision(np.ones((1, self.pictures)), 1)[0])

    @property
    def scores(self) -> Mapping[str, float]:
        """Both scores in percent."""
        return {"map": 100 * self.score, "map50": 100 * self.at_half}

    def weighted(self, weights: FloatArray) -> FloatArray:
        """See `Marks.weighted`."""
        return self._precision(weights, len(OVERLAPS))

    def _precision(self, weights: FloatArray, overlaps: int) -> FloatArray:
        classes = self.truths.shape[1]
        by_class, there = np.zeros((classes, len(weights))), np.zeros((classes, len(weights)))
        for label in range(classes):
            own = np.flatnonzero(self.label == label)
            own = own[np.argsort(-self.confidence[own], kind="stable")]
            total = weights @ self.truths[:, label]
            there[label] = total > 0
            rows = max(_CELLS // max(len(own), 1), 1)
            for start in range(0, len(weights), rows):
                part = slice(start, start + rows)
                counted = weights[part][:, self.picture[own]]
                found = [
                    _average_precision(counted, self.hit[own, k], total[part])
                    for k in range(overlaps)
                ]
                by_class[label, part] = np.mean(found, axis=0)
        mean: FloatArray = (by_class * there).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
        return mean

    def to_bytes(self) -> bytes:
        """Everything in numpy's own format."""
        return packed(
            picture=self.picture,
            label=self.label,
            confidence=self.confidence,
            hit=self.hit,
            truths=self.truths,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Hits:
        """Read what `to_bytes` wrote."""
        return cls(**unpacked(data))


def _average_precision(
    counted: FloatArray, hit: NDArray[np.bool_], truths: FloatArray
) -> FloatArray:
    """Of one class, of detections by falling score; `counted` is `b x d`, `truths` is `b`."""
    if not len(hit):
        return np.zeros(len(counted))
    right = np.cumsum(counted * hit, axis=1)
    wrong = np.cumsum(counted * ~hit, axis=1)
    precision = right / np.maximum(right + wrong, np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = right / np.maximum(truths, np.spacing(1))[:, None]
    average = np.zeros(len(counted))
    for row in range(len(counted)):
        at = np.searchsorted(recall[row], RECALLS, side="left")
        average[row] = envelope[row, at[at < len(hit)]].sum() / len(RECALLS)
    return average


def iou(boxes: BoxArray, others: BoxArray) -> FloatArray:
    """Intersection over union of boxes (`n x 4`) with others (`m x 4`), `n x m`; x0, y0, x1, y1.

    Boxes are areas of the plane: one from 0 to 2 is 2 wide. Two without any area overlap by 0.
    """
    a, b = boxes.astype(np.float64)[:, None], others.astype(np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.prod(np.maximum(sides, 0.0), axis=-1)
    union = np.prod(a[..., 2:] - a[..., :2], axis=-1) + np.prod(b[..., 2:] - b[..., :2], axis=-1)
    union = union - shared
    ratio: FloatArray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


def hits(detections: Sequence[BoxArray], truths: Sequence[BoxArray], classes: int) -> Hits:
    """Match detections with the truth.

    Args:
        detections: one array a picture, `k x 6`: class, x0, y0, x1, y1, score.
        truths: one array a picture, `k x 5`: class, x0, y0, x1, y1.
        classes: how many there are.

    Raises:
        ValueError: not the same number of pictures, or a class out of range.
    """
    if len(detections) != len(truths):
        raise ValueError(f"{len(detections)} answers to {len(truths)} pictures")
    pictures: list[int] = []
    labels, confidences, matched = [], [], []
    counts = np.zeros((len(truths), classes), dtype=np.int64)
    for number, (found, true) in enumerate(zip(detections, truths, strict=True)):
        for array in (found, true):
            if len(array) and (array[:, 0].min() < 0 or array[:, 0].max() >= classes):
                raise ValueError(f"picture {number}: a class lies outside 0..{classes - 1}")
        counts[number] = np.bincount(true[:, 0].astype(np.int64), minlength=classes)
        for label in np.unique(found[:, 0]):
            own = found[found[:, 0] == label]
            own = own[np.argsort(-own[:, 5], kind="stable")][:MOST]
            pictures += [number] * len(own)
            labels.append(own[:, 0].astype(np.int64))
            confidences.append(own[:, 5])
            matched.append(_matched(iou(own[:, 1:5], true[true[:, 0] == label, 1:5])))
    return Hits(
        picture=np.array(pictures, dtype=np.int64),
        label=np.concatenate([np.zeros(0, np.int64), *labels]),
        confidence=np.concatenate([np.zeros(0, np.float32), *confidences]).astype(np.float32),
        hit=np.concatenate([np.zeros((0, len(OVERLAPS)), bool), *matched]),
        truths=counts,
    )


def _matched(overlap: FloatArray) -> NDArray[np.bool_]:
    """Which detections (rows, by falling score) match one of the true boxes, by `OVERLAPS`."""
    hit = np.zeros((len(overlap), len(OVERLAPS)), dtype=bool)
    for k, asked in enumerate(OVERLAPS):
        free = np.ones(overlap.shape[1], dtype=bool)
        for row, shared in enumerate(overlap):
            candidates = np.where(free & (shared >= min(asked, 1 - 1e-10)), shared, -1.0)
            if candidates.size and candidates.max() >= 0:
                last = len(candidates) - 1 - int(np.argmax(candidates[::-1]))
                free[last], hit[row, k] = False, True
    return hit
