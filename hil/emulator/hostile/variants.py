"""All variants, and how a seed draws a board from them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from hil.core.errors import ConfigError
from hil.emulator.hostile import boardside, loginside, powerside, softwareside
from hil.emulator.hostile.quirks import Quirks
from hil.emulator.hostile.variant import Variant, with_fields

SHARE = 0.085
"""Chance that a slot has a variant on it: two defects a board, about one board in ten healthy."""


def _known() -> Mapping[str, Variant]:
    parts = (softwareside, loginside, powerside, boardside)
    every = [variant for part in parts for variant in part.VARIANTS]
    known = {variant.name: variant for variant in every}
    assert len(known) == len(every), "two variants of one name"
    return known


VARIANTS: Mapping[str, Variant] = _known()
SLOTS = tuple(dict.fromkeys(variant.slot for variant in VARIANTS.values()))


def drawn(seed: int) -> tuple[Variant, ...]:
    """The variants of a seed: one draw a slot, so that a new slot leaves the others as they are."""
    chosen = []
    for slot in SLOTS:
        draw = random.Random(f"hostile {seed} {slot}")
        within = [variant for variant in VARIANTS.values() if variant.slot == slot]
        if draw.random() < SHARE:
            chosen.append(draw.choice(within))
    return tuple(chosen)


def named(names: Iterable[str]) -> tuple[Variant, ...]:
    """Variants by name.

    Raises:
        ConfigError: no such variant.
    """
    found = []
    for name in names:
        if name not in VARIANTS:
            raise ConfigError(
                f"no variant of a hostile board is called {name}",
                fix="hil emulate --list-hostile shows them",
            )
        found.append(VARIANTS[name])
    return tuple(found)


def quirks_of(variants: Iterable[Variant], seed: int) -> Quirks:
    """The board that has these variants; what is drawn inside a variant follows the seed."""
    quirks = Quirks()
    for variant in variants:
        quirks = variant.change(quirks, random.Random(f"hostile {seed} within {variant.name}"))
        quirks = with_fields(quirks, {"names": (variant.name,)})
    return quirks


def table() -> str:
    """The variants as a table in Markdown, for docs/emulated-board.md."""
    lines = ["| variant | slot | on the board | source |", "| --- | --- | --- | --- |"]
    lines += [f"| `{v.name}` | {v.slot} | {v.does} | {v.source} |" for v in VARIANTS.values()]
    return "\n".join(lines) + "\n"
