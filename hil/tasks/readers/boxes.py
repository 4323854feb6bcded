"""Boxes as annotated, held against their picture: what is outside goes, and is named.

Rule of this file: pure; the formats' readers bring boxes as class name and edges, x1 and y1
exclusive, in pixels of the picture as stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hil.tasks.readers.listing import Box
from hil.tasks.readers.reading import Fault

Edges = tuple[float, float, float, float]
SLACK = 1e-3
"""Pixels by which a box may overstep before that is worth a word: rounding of published numbers."""


def judged(
    file: str,
    objects: Sequence[tuple[str, Edges]],
    numbers: Mapping[str, int],
    size: tuple[int, int] | None,
) -> tuple[tuple[Box, ...], tuple[Fault, ...]]:
    """Keep the boxes that can be learned from; clip those that overstep the picture.

    Args:
        file: for messages.
        objects: class name and edges of each.
        numbers: of the classes.
        size: height and width of the picture; None where unknown.

    Returns:
        the boxes, and what was wrong with the others; the picture is used all the same.
    """
    kept: list[Box] = []
    faults: list[Fault] = []

    def say(what: str) -> None:
        faults.append(Fault(file, what, mended=True))

    for name, edges in objects:
        shown = f"box {name} {', '.join(f'{edge:g}' for edge in edges)}"
        if name not in numbers:
            say(f"{shown}: class {name} is none of {', '.join(numbers)}; left out")
            continue
        if edges[2] <= edges[0] or edges[3] <= edges[1]:
            say(f"{shown} has no area; left out")
            continue
        clipped = edges if size is None else _clipped(edges, size)
        if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
            say(f"{shown} lies outside the picture; left out")
            continue
        if max(abs(a - b) for a, b in zip(clipped, edges, strict=True)) > SLACK:
            say(f"{shown} oversteps the picture; clipped")
        kept.append((float(numbers[name]), *clipped))
    return tuple(kept), tuple(faults)


def _clipped(edges: Edges, size: tuple[int, int]) -> Edges:
    height, width = size
    x0, y0, x1, y1 = edges
    return (
        min(max(x0, 0.0), width),
        min(max(y0, 0.0), height),
        min(max(x1, 0.0), width),
        min(max(y1, 0.0), height),
    )
