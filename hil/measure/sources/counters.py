"""Counters of energy: how readings become energy since the first, wraps undone.

A counter that has not moved since the last reading was not updated in between: such readings
say nothing and are left out. What a counter cannot say for sure is refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

from hil.core.energy import NS_PER_S
from hil.core.errors import MeasurementError

# More than any socket or accelerator board in use draws; beyond it a jump is a reset.
MOST_W = 2000.0


def unwrap(previous: int, now: int, modulus: int | None, *, least: int = 0, most: int) -> int:
    """Return by how much a counter grew between two readings.

    Args:
        previous: the earlier reading.
        now: the later one.
        modulus: it counts 0 .. modulus - 1 and starts over; None for one that never does.
        least: it grew by at least so much.
        most: and at most by so much, both included.

    Raises:
        ValueError: no growth within the bounds leads to the reading, or more than one does.
    """
    if modulus is None:
        grown, others = now - previous, False
    else:
        residue = (now - previous) % modulus
        grown = residue + max(0, -(-(least - residue) // modulus)) * modulus
        others = grown + modulus <= most
    if not least <= grown <= most:
        raise ValueError(f"from {previous} to {now}: no growth from {least} to {most} fits")
    if others:
        raise ValueError(
            f"from {previous} to {now}: {grown} fits as well as {grown + modulus if modulus else 0}"
        )
    return grown


def counted(
    readings: Sequence[tuple[int, int, int | None]], unit_j: float, name: str
) -> list[tuple[int, float]]:
    """Return stamp and joules since the first reading, one point for each update.

    Args:
        readings: stamp in ns, what the counter showed, and its modulus (None: it never wraps).
        unit_j: joules of one count.
        name: of the rail, for the message.

    Raises:
        MeasurementError: the counter went back, jumped, or may have wrapped more than once.
    """
    points: list[tuple[int, float]] = []
    shown = total = looked_ns = 0
    for t_ns, now, modulus in readings:
        if not points:
            points.append((t_ns, 0.0))
        else:
            passed_s = (t_ns - looked_ns) / NS_PER_S
            # An update may hold the energy of the updates before it that were not seen.
            since_s = (t_ns - points[-1][0]) / NS_PER_S
            try:
                grown = unwrap(shown, now, modulus, most=int(MOST_W * (since_s + 1.0) / unit_j))
            except ValueError as error:
                raise MeasurementError(
                    f"the energy counter of {name} cannot be followed",
                    why=f"{error}, in {passed_s:.2f} s",
                    fix="read it more often, and see whether its driver was loaded anew",
                ) from error
            total += grown
            if grown:
                points.append((t_ns, total * unit_j))
        shown, looked_ns = now, t_ns
    return points
