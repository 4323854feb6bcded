"""From a detector's maps to boxes: the part of detection that stays outside the engine.

Rule of this file: plain numpy, the same code for the host's network and for a board's engine.

A detector gives one map a level, finest first, each `n x (classes + 4) x height x width`: logits of
the classes, then the logarithms of the distances from the cell's centre to the left, upper, right
and lower side of the box, in cells (Tian et al., "FCOS", ICCV 2019, without centre-ness). Cells
divide the picture evenly, so that the maps alone tell how large a cell is and no stride needs to be
told: a network that is shown smaller pictures still answers in pixels of the original.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hil.tasks.precision import MOST, BoxArray, iou

LEAST_CONFIDENCE = 0.05
SUPPRESSED_FROM = 0.6
"""Overlap from which the less confident of two boxes of a class is dropped, as in FCOS."""
FARTHEST = 8.0
"""Largest logarithm taken of a distance in cells; keeps a stray answer finite."""
_CANDIDATES = 1000


def decode(maps: Sequence[NDArray[np.floating]], size: tuple[int, int]) -> tuple[BoxArray, ...]:
    """Detections of each picture, most confident first.

    Args:
        maps: a detector's answers, one a level.
        size: height and width of the pictures, whose pixels boxes are in.

    Returns:
        One array a picture, `k x 6`: class, x0, y0, x1, y1, confidence; k is 100 at most. An answer
        that is not a number detects nothing.
    """
    boxes = np.concatenate([_boxes(m, size) for m in maps], axis=1)
    logits = np.concatenate([m[:, :-4].reshape(*m[:, :-4].shape[:2], -1) for m in maps], axis=2)
    with np.errstate(over="ignore"):
        confidence = 1 / (1 + np.exp(-logits.astype(np.float32)))
    return tuple(_picked(b, c) for b, c in zip(boxes, confidence.swapaxes(1, 2), strict=True))


def centres(height: int, width: int, size: tuple[int, int]) -> BoxArray:
    """Centres of a map's cells, row by row, in pixels: `cells x 2`, x before y."""
    y = (np.arange(height, dtype=np.float32) + np.float32(0.5)) * np.float32(size[0] / height)
    x = (np.arange(width, dtype=np.float32) + np.float32(0.5)) * np.float32(size[1] / width)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    return grid.astype(np.float32)


def _boxes(level: NDArray[np.floating], size: tuple[int, int]) -> BoxArray:
    """`n x cells x 4`, cut off at the picture's sides."""
    height, width = level.shape[2:]
    pixels = np.array([size[1] / width, size[0] / height], dtype=np.float32)
    raw = level[:, -4:].astype(np.float32).reshape(len(level), 4, -1).swapaxes(1, 2)
    distance = np.exp(np.minimum(raw, FARTHEST)) * np.tile(pixels, 2)
    middle = centres(height, width, size)
    corners = np.concatenate([middle - distance[..., :2], middle + distance[..., 2:]], axis=-1)
    limit = np.array([size[1], size[0]] * 2, dtype=np.float32)
    clipped: BoxArray = np.clip(corners, 0, limit).astype(np.float32)
    return clipped


def _picked(boxes: BoxArray, confidence: NDArray[np.float32]) -> BoxArray:
    """Of one picture: confident boxes, without those that repeat a more confident one."""
    finite = np.isfinite(boxes).all(axis=1, keepdims=True)
    cell, label = np.nonzero((confidence > LEAST_CONFIDENCE) & finite)
    scores = confidence[cell, label]
    order = np.argsort(-scores, kind="stable")[:_CANDIDATES]
    cell, label, scores = cell[order], label[order], scores[order]
    kept = suppress(boxes[cell], scores, label)[:MOST]
    found = np.column_stack([label[kept], boxes[cell[kept]], scores[kept]])
    return found.astype(np.float32)


def suppress(
    boxes: BoxArray,
    scores: NDArray[np.floating],
    labels: NDArray[np.integer],
    overlap: float = SUPPRESSED_FROM,
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression, class by class.

    Args:
        boxes: `k x 4`.
        scores: `k`.
        labels: `k`; boxes of different classes do not suppress each other.
        overlap: intersection over union above which the lower score goes.

    Returns:
        Positions of those that stay, by falling score; of equal ones the earlier first.
    """
    order = np.argsort(-scores, kind="stable")
    shared = iou(boxes[order], boxes[order]) > overlap
    shared &= labels[order][:, None] == labels[order][None]
    dropped = np.zeros(len(order), dtype=bool)
    for position in range(len(order)):
        if not dropped[position]:
            dropped[position + 1 :] |= shared[position, position + 1 :]
    return order[~dropped].astype(np.int64)
