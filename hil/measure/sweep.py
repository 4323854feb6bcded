"""Operating points: the same network measured at several power modes, rates or precisions.

Rule of this file: a point that fails is kept with its error, and the others go on; the board's
state is put back whatever happens.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from hil.core.errors import ConfigError, HilError

R = TypeVar("R")
KEYS = ("nvpmodel", "rate", "precision")
_ITEM = re.compile(r"(?P<key>[a-z_]+)=(?P<values>.+)")


@dataclass(frozen=True)
class OperatingPoint:
    """One way to run a network; None leaves that setting as it is.

    Attributes:
        nvpmodel: id of the power mode.
        rate_hz: inferences started a second, None for back to back.
        precision: fp16, fp32 or int8.
    """

    nvpmodel: int | None = None
    rate_hz: float | None = None
    precision: str | None = None

    @property
    def name(self) -> str:
        """How people call it, e.g. "nvpmodel 2, 30 Hz"."""
        parts = []
        if self.nvpmodel is not None:
            parts.append(f"nvpmodel {self.nvpmodel}")
        if self.rate_hz is not None:
            parts.append(f"{self.rate_hz:g} Hz")
        if self.precision is not None:
            parts.append(self.precision)
        return ", ".join(parts) or "as the device file says"


@dataclass(frozen=True)
class PointResult(Generic[R]):
    """What came of one operating point: exactly one of the two is known."""

    point: OperatingPoint
    result: R | None
    error: HilError | None


def parse_sweep(given: Sequence[str]) -> tuple[OperatingPoint, ...]:
    """Read `nvpmodel=0,2,3` and the like; several of them are combined, the last running fastest.

    Raises:
        ConfigError: an unknown setting, one named twice, no value or a wrong one.
    """
    axes: dict[str, list[Any]] = {}
    for text in given:
        match = _ITEM.fullmatch(text.strip())
        if match is None or match["key"] not in KEYS:
            raise ConfigError(
                f"{text!r} is nothing to sweep over",
                fix=f"write it as nvpmodel=0,2,3; there are {', '.join(KEYS)}",
            )
        key = match["key"]
        if key in axes:
            raise ConfigError(f"{key} is swept over twice", fix="name all its values in one list")
        values = [_value(key, word.strip()) for word in match["values"].split(",")]
        if len(set(values)) != len(values):
            raise ConfigError(f"{text!r} names a value twice", fix="name each value once")
        axes[key] = values
    points = []
    for combination in itertools.product(*axes.values()):
        chosen = dict(zip(axes, combination, strict=True))
        points.append(
            OperatingPoint(
                nvpmodel=chosen.get("nvpmodel"),
                rate_hz=chosen.get("rate"),
                precision=chosen.get("precision"),
            )
        )
    return tuple(points)


def _value(key: str, word: str) -> Any:
    if key == "nvpmodel" and re.fullmatch(r"\d{1,2}", word):
        return int(word)
    if key == "rate" and re.fullmatch(r"\d+(\.\d+)?", word) and float(word) > 0:
        return float(word)
    if key == "precision" and word in ("fp16", "fp32", "int8"):
        return word
    fix = {
        "nvpmodel": "power modes are numbers; the board's are in /etc/nvpmodel.conf",
        "rate": "rates are frames a second, more than 0",
        "precision": "there are fp16, fp32 and int8",
    }[key]
    raise ConfigError(f"{word!r} is no {key}", fix=fix)


class Restorable(Protocol):
    """The part of a session that a sweep needs beside measuring."""

    def pin(self, nvpmodel: int | None = None, clocks: bool | None = None) -> None:
        """Set power mode and clocks; None is what the device file says."""

    def restore(self) -> None:
        """Put them back as they were found."""


def sweep(
    board: Restorable,
    points: Sequence[OperatingPoint],
    measure: Callable[[OperatingPoint], R],
    on_point: Callable[[PointResult[R]], None] = lambda _result: None,
) -> tuple[PointResult[R], ...]:
    """Measure at every point; afterwards the board is as it was found.

    Args:
        board: changed by `pin` before each point that names a power mode.
        points: in the order they are measured.
        measure: builds and measures; its failures are kept beside the point.
        on_point: told each point as it is done.

    Raises:
        InterruptedRunError: Ctrl-C is no failure of a point.
    """
    results = []
    try:
        for point in points:
            result: PointResult[R]
            try:
                board.pin(nvpmodel=point.nvpmodel)
                result = PointResult(point, measure(point), None)
            except HilError as error:
                result = PointResult(point, None, error)
            results.append(result)
            on_point(result)
    finally:
        with suppress(HilError):  # closing the session tries again, and tells
            board.restore()
    return tuple(results)


def least(values: Sequence[float | None]) -> int | None:
    """Return the index of the smallest known value, None where none is known."""
    known = [(value, index) for index, value in enumerate(values) if value is not None]
    return min(known)[1] if known else None
