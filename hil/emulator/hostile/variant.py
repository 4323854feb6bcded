"""What one variant of a hostile board is: a name, what it does on the board, and who met it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hil.emulator.hostile.quirks import Quirks

Change = Callable[[Quirks, random.Random], Quirks]


@dataclass(frozen=True)
class Variant:
    """One defect.

    Attributes:
        name: as `--hostile-only` takes it.
        slot: variants of one slot exclude each other in a draw.
        does: what it does on the board, one sentence.
        source: where it was met: a section of a document, or the address of a report.
        change: makes a board so.
        says: what a person would have to read in a refusal to know the cause, as words of which
            one must be there (regular expressions, any case); () where nothing need go wrong.
    """

    name: str
    slot: str
    does: str
    source: str
    change: Change
    says: tuple[str, ...] = ()


def having(**fields: Any) -> Change:
    """A change that sets fields; mappings and tuples are added to what is there."""

    def change(quirks: Quirks, _draw: random.Random) -> Quirks:
        return with_fields(quirks, fields)

    return change


def with_fields(quirks: Quirks, fields: dict[str, Any]) -> Quirks:
    """Sets fields; mappings and tuples are added to what is there, .bashrc grows by lines."""
    merged: dict[str, Any] = {}
    for name, value in fields.items():
        known = getattr(quirks, name)
        if isinstance(value, dict):
            merged[name] = {**known, **value}
        elif isinstance(value, tuple) and name != "path":
            merged[name] = (*known, *value)
        elif name == "bashrc":
            merged[name] = known + value
        else:
            merged[name] = value
    return replace(quirks, **merged)
