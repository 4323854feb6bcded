"""Pictures that all but hold another: the same scene recompressed, recoloured or mirrored.

Rule of this file: pure. Each picture becomes the edges (differences of neighbours) of a grey
thumbnail of 16x16, scaled to length 1; the inner product of two is their likeness. Edges rather
than the thumbnail itself: any two pictures of sky over water are alike in the large. The mirrored
picture is asked as well, since training mirrors pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hil.tasks.readers.reading import Pixels

SIDE = 16
NEAR = 0.75
"""Likeness from which two pictures are called near duplicates. Of the 2,000 test pictures of one
CIFAR-10 sample 19 have a training picture so alike, all of them the same photograph or product seen
again by eye; below 0.7 most are strangers."""
FLAT = 4.0
"""Standard deviation of a thumbnail (of 255) below which a picture shows too little to compare."""

_BLOCK = 1024


@dataclass(frozen=True)
class Pair:
    """A picture of one part beside the most alike of another, by their places."""

    first: int
    second: int
    likeness: float


def thumbnails(inputs: Pixels) -> NDArray[np.float32]:
    """Descriptors, `n x 480`; of flat pictures all zeros, which are like nothing.

    Args:
        inputs: `n x c x h x w`.
    """
    parts = [_thumbnails(inputs[i : i + 64]) for i in range(0, len(inputs), 64)]
    return np.concatenate(parts) if parts else np.zeros((0, 2 * SIDE * (SIDE - 1)), np.float32)


def _thumbnails(inputs: Pixels) -> NDArray[np.float32]:
    grey = inputs.astype(np.float32).mean(axis=1)
    for axis in (1, 2):
        pixels = grey.shape[axis]
        # Of pictures smaller than the thumbnail some pixels are taken more than once.
        starts = np.arange(SIDE) * pixels // SIDE
        ends = np.maximum((np.arange(SIDE) + 1) * pixels // SIDE, starts + 1)
        summed = np.cumsum(grey, axis=axis, dtype=np.float64)
        summed = np.concatenate([np.zeros_like(summed.take([0], axis)), summed], axis=axis)
        width = (ends - starts).reshape([-1 if i == axis else 1 for i in range(3)])
        grey = (summed.take(ends, axis) - summed.take(starts, axis)) / width
    across = np.diff(grey, axis=2).reshape(len(grey), -1)
    down = np.diff(grey, axis=1).reshape(len(grey), -1)
    edges = np.concatenate([across, down], axis=1)
    length = np.sqrt((edges**2).sum(axis=1, keepdims=True))
    shows = grey.std(axis=(1, 2))[:, None] >= FLAT
    scaled: NDArray[np.float32] = np.where(shows, edges / np.maximum(length, 1e-12), 0).astype(
        np.float32
    )
    return scaled


def mirrored(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Descriptors of the pictures seen in a mirror."""
    count = SIDE * (SIDE - 1)
    across = descriptors[:, :count].reshape(-1, SIDE, SIDE - 1)[:, :, ::-1]
    down = descriptors[:, count:].reshape(-1, SIDE - 1, SIDE)[:, :, ::-1]
    flat = (-across.reshape(-1, count), down.reshape(-1, count))
    return np.concatenate(flat, axis=1)


def near_pairs(
    first: NDArray[np.float32], second: NDArray[np.float32], least: float = NEAR
) -> tuple[Pair, ...]:
    """Every picture of `first` that has one in `second` at least so much like it, and that one.

    Args:
        first: descriptors (see `thumbnails`).
        second: likewise.
        least: likeness, from -1 to 1.
    """
    if not len(second):
        return ()
    turned = mirrored(second)
    found = []
    for begin in range(0, len(first), _BLOCK):
        rows = first[begin : begin + _BLOCK]
        like = np.maximum(rows @ second.T, rows @ turned.T)
        best = like.argmax(axis=1)
        top = like[np.arange(len(rows)), best]
        found += [
            Pair(begin + int(i), int(best[i]), float(top[i])) for i in np.flatnonzero(top >= least)
        ]
    return tuple(found)
