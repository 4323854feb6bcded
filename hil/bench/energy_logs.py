"""Intervals on real logs: two halves of one steady stretch must agree as 95 % intervals do.

A log of a real board has no known truth, but its halves are about one thing where nothing changed
in between. Each half is cut into blocks and gets the product's interval of its mean; the difference
of the means is set against the two half widths, added in squares. Neighbouring stretches of equal
length are compared the same way, for a share that means something.

* tx2_1.log, lines 37 to 298: a TX2 under steady load.
* agx_orin_1.log, lines 1001 to 2200 (all cores at work) and 3401 to 4000 (desktop at rest): the two
  longest stretches of an AGX Orin in which the CPU's rail keeps to one level.
* agx_orin_1.log as a whole, told apart as not steady: work starts and stops in it, its halves are
  about different things, and no interval of a mean can or should make them agree.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from hil.core.sequential import block_interval
from hil.core.stats import Estimate
from hil.core.tegrastats import parse

TX2_RAILS = ("VDD_IN", "VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_SYS_CPU", "VDD_SYS_DDR")
ORIN_RAILS = ("VIN_SYS_5V0", "VDD_GPU_SOC", "VDD_CPU_CV")


@dataclass(frozen=True)
class Stretch:
    """Lines [first, past) of a log, in blocks of so many lines; `pair` lines make a neighbour."""

    file: str
    rails: tuple[str, ...]
    first: int
    past: int | None
    block: int
    pair: int
    steady: bool = True

    @property
    def name(self) -> str:
        """File and lines, counted from 1."""
        lines = "whole" if self.past is None else f"lines {self.first + 1} to {self.past}"
        return f"{self.file}, {lines}"


STRETCHES = (
    Stretch("tx2_1.log", TX2_RAILS, 36, 298, 10, 60),
    Stretch("agx_orin_1.log", ORIN_RAILS, 1000, 2200, 20, 200),
    Stretch("agx_orin_1.log", ORIN_RAILS, 3400, 4000, 20, 200),
    Stretch("agx_orin_1.log", ORIN_RAILS, 0, None, 20, 200, steady=False),
)


def folder() -> Path:
    """Return where recorded logs are: HIL_DATA, or the folder beside the checkout."""
    return Path(os.environ.get("HIL_DATA", "../shared/data")) / "tegrastats"


def readings_mw(text: str, rails: Sequence[str]) -> dict[str, list[float]]:
    """Return the readings of some rails, line by line; lines without power are left out."""
    found = [one for line in text.splitlines() if (one := parse(line)) and one.rails]
    return {rail: [float(one.rails[rail].now_mw) for one in found] for rail in rails}


def halves(values_mw: Sequence[float], block: int) -> tuple[Estimate, Estimate]:
    """Return the intervals of the first and the second half, from means of whole blocks."""
    count = len(values_mw) // 2 // block * block
    return _interval(values_mw[:count], block), _interval(values_mw[-count:], block)


def agree(left: Estimate, right: Estimate) -> bool:
    """Whether the difference of two means lies within their half widths, added in squares."""
    return abs(left.value - right.value) <= math.hypot(_half(left), _half(right))


def neighbours(values_mw: Sequence[float], block: int, pair: int) -> tuple[bool, ...]:
    """Return which stretches of `pair` lines agree with the one after."""
    starts = range(0, len(values_mw) - pair + 1, pair)
    parts = [_interval(values_mw[at : at + pair], block) for at in starts]
    return tuple(agree(left, right) for left, right in pairwise(parts))


def check_logs(data: Path | None = None) -> dict[str, Any]:
    """Return how halves and neighbours agree, stretch by stretch and over all steady ones."""
    where = folder() if data is None else data
    missing = sorted({one.file for one in STRETCHES if not (where / one.file).is_file()})
    if missing:
        return {"reason": f"no {', '.join(missing)} in {where}: set HIL_DATA"}
    rows = [row for stretch in STRETCHES for row in _checked(stretch, where / stretch.file)]
    steady = [row for row in rows if row["steady"]]
    pairs = sum(row["neighbours"] for row in steady)
    return {
        "steady_halves": len(steady),
        "steady_halves_agree": sum(row["halves_agree"] for row in steady) / len(steady),
        "steady_neighbours": pairs,
        "steady_neighbours_agree": sum(row["neighbours_agree"] for row in steady) / pairs,
        "stretches": rows,
    }


def _checked(stretch: Stretch, path: Path) -> list[dict[str, Any]]:
    found = readings_mw(path.read_text(encoding="utf-8"), stretch.rails)
    rows = []
    for rail, readings in found.items():
        values = readings[stretch.first : stretch.past]
        left, right = halves(values, stretch.block)
        pairs = neighbours(values, stretch.block, stretch.pair)
        rows.append(
            {
                "stretch": stretch.name,
                "steady": stretch.steady,
                "rail": rail,
                "first_half_mw": [left.value, left.low, left.high],
                "second_half_mw": [right.value, right.low, right.high],
                "halves_agree": agree(left, right),
                "neighbours": len(pairs),
                "neighbours_agree": sum(pairs),
            }
        )
    return rows


def _interval(values_mw: Sequence[float], block: int) -> Estimate:
    blocks = np.asarray(values_mw[: len(values_mw) // block * block]).reshape(-1, block)
    return block_interval(blocks.mean(axis=1).tolist())


def _half(estimate: Estimate) -> float:
    return (estimate.high - estimate.low) / 2
