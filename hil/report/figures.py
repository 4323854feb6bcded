"""How a figure is written for people, on the terminal and on pages alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Column:
    """One column of the table of networks.

    Attributes:
        field: the JSON field shown.
        title: heading with its unit.
        digits: significant digits, or decimals where `fixed`.
        scale: factor from the field's unit to the heading's.
        interval: whether the field's 95 % interval is shown below it.
    """

    field: str
    title: str
    digits: int = 3
    scale: float = 1.0
    fixed: bool = False
    interval: bool = True


NETWORK_COLUMNS = (
    Column("accuracy", "accuracy %", 2, fixed=True),
    Column("energy_mj", "energy mJ", 4),
    Column("inferences_per_joule", "inf/J", 4),
    Column("latency_p50_ms", "p50 ms", 4),
    Column("latency_p99_ms", "p99 ms", 4),
    Column("macs", "MACs M", 3, 1e-6, interval=False),
    Column("parameters", "params k", 3, 1e-3, interval=False),
    Column("netscore", "NetScore", 1, fixed=True, interval=False),
    Column("inferences_per_joule_ratio", "inf/J ratio", 2, fixed=True),
)


def figure_text(network: Mapping[str, Any], column: Column) -> tuple[str, str]:
    """Return (figure, interval) as text; unknown is a dash, never zero."""
    value = network.get(column.field)
    if value is None:
        return "-", ""
    text = number(value * column.scale, column.digits, fixed=column.fixed)
    interval = network.get(f"{column.field}_ci95")
    if not column.interval or interval is None:
        return text, ""
    low, high = (number(end * column.scale, column.digits, fixed=column.fixed) for end in interval)
    return text, f"[{low}, {high}]"


def number(value: float, digits: int, *, fixed: bool = False) -> str:
    """Write a number with so many significant digits, or decimals where fixed."""
    if fixed:
        return f"{value:.{digits}f}"
    if value == 0:
        return "0"
    magnitude = len(str(int(abs(value)))) if abs(value) >= 1 else 1
    return f"{value:.{max(digits - magnitude, 0)}f}" if abs(value) >= 0.1 else f"{value:.{digits}g}"
