"""What a picture's right answer is: a class, a mask of classes, or boxes.

Rule of this file: plain numpy; which kind it is follows from the arrays alone.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
"""Classes, `n`, counted from 0."""
Masks = NDArray[np.uint8]
"""A class for every pixel, `n x height x width`; a void value where nobody knows."""
Boxes = tuple[NDArray[np.float32], ...]
"""One array a picture, `k x 5`: class, x0, y0, x1, y1, in pixels; k may be 0."""
Targets = Labels | Masks | Boxes
Kind = Literal["classes", "masks", "boxes"]

VOID = 255
"""What marks a pixel without a class, unless the data say otherwise."""


def kind_of(targets: Targets) -> Kind:
    """Which kind of right answers these are."""
    if isinstance(targets, tuple):
        return "boxes"
    return "masks" if targets.ndim == 3 else "classes"


def given_as(targets: object) -> object:
    """Right answers as people give them, in the types of this file where that loses nothing."""
    if isinstance(targets, list) and all(isinstance(t, np.ndarray) for t in targets):
        targets = tuple(targets)
    if isinstance(targets, tuple):
        arrays = (np.asarray(t) for t in targets)
        return tuple(a.reshape(-1, 5) if not a.size else a.astype(np.float32) for a in arrays)
    if isinstance(targets, np.ndarray) and targets.dtype.kind in "iu":
        if targets.ndim == 3 and targets.min(initial=0) >= 0 and targets.max(initial=0) <= VOID:
            return targets.astype(np.uint8)
        return targets.astype(np.int64)
    return targets


def pick(targets: Targets, chosen: NDArray[np.integer]) -> Targets:
    """The right answers to some of the pictures."""
    if isinstance(targets, tuple):
        return tuple(targets[int(i)] for i in chosen)
    picked: Labels | Masks = targets[chosen]
    return picked


def highest(targets: Targets, void: int | None) -> int:
    """The highest class that occurs; -1 where none does."""
    if isinstance(targets, tuple):
        return max((int(t[:, 0].max()) for t in targets if len(t)), default=-1)
    known = targets if void is None or targets.ndim == 1 else targets[targets != void]
    return int(known.max()) if known.size else -1


def problem(targets: object, shape: tuple[int, ...]) -> str | None:
    """What is wrong with right answers to pictures of a shape (NCHW), in words, or None."""
    if isinstance(targets, tuple):
        return _boxes_problem(targets, shape)
    if not isinstance(targets, np.ndarray):
        return None
    if targets.ndim == 3:
        if targets.shape != (shape[0], *shape[2:]):
            return f"masks of shape {targets.shape} do not match inputs of shape {shape}"
        return None if targets.dtype == np.uint8 else f"masks must be uint8, not {targets.dtype}"
    if targets.shape != shape[:1]:
        return f"labels of shape {targets.shape} do not match inputs"
    return None if targets.dtype == np.int64 else f"labels must be int64, not {targets.dtype}"


def bad_values(targets: Targets) -> str | None:
    """Which values no right answer can have, in words, or None."""
    if isinstance(targets, tuple):
        every = np.concatenate([np.zeros((0, 5), np.float32), *targets])
        if not np.isfinite(every).all():
            return "boxes hold values that are not finite"
        if (every[:, 0] < 0).any() or (every[:, 0] % 1).any():
            return "a box's class must be a whole number, 0 or greater"
        return (
            "a box must have its lower corner first"
            if (every[:, 3:] < every[:, 1:3]).any()
            else None
        )
    if targets.ndim == 1 and targets.min(initial=0) < 0:
        return "labels must be 0 or greater"
    return None


def _boxes_problem(targets: tuple[object, ...], shape: tuple[int, ...]) -> str | None:
    if len(targets) != shape[0]:
        return f"boxes of {len(targets)} pictures do not match {shape[0]} inputs"
    for number, boxes in enumerate(targets):
        if not isinstance(boxes, np.ndarray) or boxes.ndim != 2 or boxes.shape[1] != 5:
            return f"boxes of picture {number} must be an array k x 5: class, x0, y0, x1, y1"
        if boxes.dtype != np.float32:
            return f"boxes must be float32, not {boxes.dtype}"
    return None
