"""One thing that the code takes for granted about boards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Assumption:
    """One thing taken for granted.

    Attributes:
        id: its name in comments.
        statement: what is assumed, as a sentence that a board can contradict.
        tag: I or M (see above).
        source: what it rests on.
        stage: of `hil bringup` that settles it; None where none can.
        consequence: what is wrong in `hil` where it does not hold.
        settled_else: what settles it, where no stage does.
        verified: board, release and date on which it was confirmed; None until then.
    """

    id: str
    statement: str
    tag: Literal["I", "M"]
    source: str
    stage: str | None
    consequence: str
    settled_else: str | None = None
    verified: str | None = None
