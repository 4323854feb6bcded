"""Pictures of coloured shapes with masks and boxes: made by a rule, so that they can be learned.

Red discs, green squares and blue crosses of different sizes on a noisy ground, at random places;
masks are void along the edges of shapes, as in data that people outline.
"""

from __future__ import annotations

import numpy as np

NAMES = ("ground", "disc", "square", "cross")
VOID = 255
COLOURS = np.array([[0.9, 0.2, 0.2], [0.2, 0.8, 0.3], [0.25, 0.3, 0.9]])


def inside(kind, y, x, radius):
    """Where a shape is, from distances to its centre."""
    if kind == 0:
        return y**2 + x**2 <= radius**2
    square = np.maximum(abs(y), abs(x)) <= radius
    return square if kind == 1 else square & (np.minimum(abs(y), abs(x)) <= radius / 3)


def draw(count, side, seed):
    """Pictures (NCHW), masks without void, edges, and boxes of three classes."""
    rng = np.random.Generator(np.random.Philox(seed))
    pictures = rng.uniform(0.25, 0.6, (count, 1, 1, 1)) + rng.normal(
        0, 0.05, (count, 3, side, side)
    )
    masks = np.zeros((count, side, side), np.uint8)
    edges = np.zeros((count, side, side), bool)
    boxes = []
    row, column = np.mgrid[:side, :side] + 0.5
    for picture, mask, edge in zip(pictures, masks, edges, strict=True):
        found = []
        for _ in range(rng.integers(1, 4)):
            kind, radius = rng.integers(3), rng.integers(4, 8)
            y, x = rng.integers(radius, side - radius + 1, 2)
            there = inside(kind, row - y, column - x, radius)
            around = inside(kind, row - y, column - x, radius + 1)
            if mask[around].any():
                continue
            picture[:, there] = (COLOURS[kind] * rng.uniform(0.6, 1.1))[:, None]
            mask[there], edge[around & ~there] = kind + 1, True
            rows, columns = np.nonzero(there)
            corners = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            found.append((kind, *corners))
        boxes.append(np.array(found, np.float32))
    return pictures.astype(np.float32), masks, edges, tuple(boxes)


def with_masks(count=120, side=32, seed=0):
    """Pictures and masks, void along the edges."""
    pictures, masks, edges, _ = draw(count, side, seed)
    masks[edges] = VOID
    return pictures, masks


def with_boxes(count=120, side=32, seed=0):
    """Pictures and boxes."""
    pictures, _, _, boxes = draw(count, side, seed)
    return pictures, list(boxes)
