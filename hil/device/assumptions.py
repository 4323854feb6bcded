"""What the code takes for granted about boards, and nobody has yet checked on one.

Rule of this file: data. A module that relies on an assumption names it in a comment,
`# assumes: its-id`; `hil.device.unverified` finds them and writes docs/unverified.md. A stage of
`hil bringup` settles it, or `settled_else` says what would. When a board has confirmed one, set
`verified` to where and on what.

Tags of sources: I, inferred from recorded logs or published sources; M, from memory.
"""

from __future__ import annotations

from functools import cache

from hil.device.assumed_figures import FIGURES
from hil.device.assumed_system import SYSTEM
from hil.device.assumption import Assumption

__all__ = ["ASSUMPTIONS", "Assumption", "by_id", "settled_by"]

ASSUMPTIONS = (*SYSTEM, *FIGURES)


@cache
def by_id() -> dict[str, Assumption]:
    """Return every assumption by its name."""
    return {one.id: one for one in ASSUMPTIONS}


@cache
def settled_by(stage: str) -> tuple[Assumption, ...]:
    """Return what a stage of the bring-up settles."""
    return tuple(one for one in ASSUMPTIONS if one.stage == stage)
