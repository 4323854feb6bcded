"""Shapes of open inputs, as a command line names them: one, or ranges of several profiles."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from hil.core.errors import ConfigError

if TYPE_CHECKING:
    from hil.device.session import Range, Shape

RangeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--shapes",
        help="An optimisation profile, NAME=MIN:OPT:MAX[,NAME=...], each as 1x3x224x224; "
        "repeated for more. What is run is --shape, else OPT of the first.",
    ),
]
_SIZES = r"\d+(?:x\d+)*"
_SHAPE = re.compile(rf"(?P<name>.+)=(?P<sizes>{_SIZES})")
_RANGE = re.compile(rf"(?P<name>[^,]+?)=(?P<sizes>{_SIZES}:{_SIZES}:{_SIZES})(?:,|$)")


def parse_shapes(given: Sequence[str]) -> dict[str, Shape]:
    """Read shapes such as input=1x3x224x224.

    Raises:
        ConfigError: one that is none.
    """
    shapes = {}
    for text in given:
        match = _SHAPE.fullmatch(text)
        if match is None:
            raise ConfigError(f"{text!r} is no shape", fix="write it as NAME=1x3x224x224")
        shapes[match["name"]] = _sizes(match["sizes"])
    return shapes


def parse_ranges(given: Sequence[str]) -> tuple[Mapping[str, Range], ...]:
    """Read optimisation profiles such as input=1x3x64x64:4x3x64x64:8x3x64x64.

    Raises:
        ConfigError: one that is none, names an input twice, or does not grow from MIN to MAX.
    """
    return tuple(_profile(text) for text in given)


def run_shapes(
    given: Mapping[str, Shape], profiles: Sequence[Mapping[str, Range]]
) -> dict[str, Shape]:
    """Shapes that are run: those given, and the best of the first profile for the other inputs.

    Raises:
        ConfigError: no profile holds them.
    """
    shapes = dict(given)
    for name, (_, best, _) in (profiles[0] if profiles else {}).items():
        shapes.setdefault(name, best)
    if profiles and not any(_holds(each, shapes) for each in profiles):
        asked = ", ".join(f"{n}={'x'.join(map(str, s))}" for n, s in sorted(shapes.items()))
        raise ConfigError(
            f"no optimisation profile holds {asked}",
            why="every open input must lie between MIN and MAX of one of the --shapes",
            fix="give a --shape within one of them, or one more --shapes",
        )
    return shapes


def _profile(text: str) -> Mapping[str, Range]:
    found: dict[str, Range] = {}
    position = 0
    while position < len(text):
        match = _RANGE.match(text, position)
        if match is None or match["name"] in found:
            raise ConfigError(
                f"{text!r} is no optimisation profile",
                fix="write it as NAME=1x3x64x64:4x3x64x64:8x3x64x64 (smallest, best, largest), "
                "further inputs behind a comma",
            )
        low, best, high = (_sizes(each) for each in match["sizes"].split(":"))
        grows = len(low) == len(best) == len(high) and all(
            0 < a <= b <= c for a, b, c in zip(low, best, high, strict=True)
        )
        if not grows:
            raise ConfigError(
                f"the sizes of {match['name']} in {text!r} do not grow",
                why="no size may fall from the smallest over the best to the largest shape",
            )
        found[match["name"]] = (low, best, high)
        position = match.end()
    if not found:
        raise ConfigError("an optimisation profile is empty", fix="leave --shapes out")
    return found


def _holds(each: Mapping[str, Range], shapes: Mapping[str, Shape]) -> bool:
    return all(
        len(shapes[name]) == len(low)
        and all(a <= b <= c for a, b, c in zip(low, shapes[name], high, strict=True))
        for name, (low, _, high) in each.items()
    )


def _sizes(text: str) -> Shape:
    return tuple(int(size) for size in text.split("x"))
