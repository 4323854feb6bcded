"""Which points no other point beats."""

from __future__ import annotations

import math
from collections.abc import Sequence


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether `a` is nowhere worse than `b` and somewhere better; every objective is minimised.

    A point holding NaN dominates nothing.
    """
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(
        x < y for x, y in zip(a, b, strict=True)
    )


def non_dominated(points: Sequence[Sequence[float]]) -> tuple[bool, ...]:
    """Mark the points no other point dominates. Every objective is minimised.

    Args:
        points: shape (n, m), n >= 0. A point holding NaN is never marked and beats nothing.

    Returns:
        n flags in the order given; equal points are marked alike.

    Source: Deb et al., NSGA-II (2002), section III-A, after sorting: only a point earlier in
    lexicographic order can dominate, and only one already marked needs asking.
    """
    marked = [False] * len(points)
    front: list[Sequence[float]] = []
    known = [i for i, point in enumerate(points) if not any(math.isnan(x) for x in point)]
    for i in sorted(known, key=lambda i: tuple(points[i])):
        if not any(dominates(other, points[i]) for other in front):
            marked[i] = True
            front.append(points[i])
    return tuple(marked)
