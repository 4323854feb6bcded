"""Runs at a fixed rate: what was asked, what was kept."""

from __future__ import annotations

from dataclasses import dataclass

from hil.core.evidence import Evidence


@dataclass(frozen=True)
class Pace:
    """How a paced run went, over its blocks.

    Attributes:
        achieved_hz: inferences over the blocks' time.
        missed: slots without an inference.
        slots: all of them.
    """

    asked_hz: float
    achieved_hz: float
    missed: int
    slots: int


def paced(evidence: Evidence) -> Pace | None:
    """Return how a paced run went, None where inferences followed back to back.

    A block begins with a slot and ends where the next one begins, so its time holds whole slots.
    """
    asked_hz = evidence.plan.rate_hz
    blocks = evidence.named("block")
    if asked_hz is None or not blocks:
        return None
    seconds = sum(mark.stop_ns - mark.start_ns for mark in blocks) / 1e9
    done = sum(mark.inferences or 0 for mark in blocks)
    missed = 0
    for mark in blocks:
        due = round((mark.stop_ns - mark.start_ns) / 1e9 * asked_hz)
        lacking = max(0, due - (mark.inferences or 0))
        missed += lacking if mark.missed is None else mark.missed
    return Pace(asked_hz, done / seconds, missed, done + missed)
