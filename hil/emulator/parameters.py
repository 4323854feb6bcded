"""Numbers of a board by their dotted names (`timing.efficiency.conv1x1`): reading and replacing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hil.core.errors import ConfigError
from hil.emulator.board import Board


def parameter(board: Board, name: str) -> float:
    """Returns one number of a board.

    Raises:
        ConfigError: the board has no such number.
    """
    value: Any = board
    for part in name.split("."):
        known = value if isinstance(value, dict) else vars(value) if hasattr(value, part) else {}
        if part not in known:
            raise ConfigError(f"{board.name} has no parameter {name}")
        value = known[part]
    return float(value)


def with_parameters(board: Board, values: Mapping[str, float]) -> Board:
    """Returns a board with some numbers replaced.

    Raises:
        ConfigError: the board has no such number.
    """
    sections: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        parameter(board, name)
        section, field, *entry = name.split(".")
        fields = sections.setdefault(section, {})
        if entry:
            table = fields.setdefault(field, dict(getattr(getattr(board, section), field)))
            table[entry[0]] = value
        else:
            fields[field] = value
    return board.model_copy(
        update={
            section: getattr(board, section).model_copy(update=fields)
            for section, fields in sections.items()
        }
    )
