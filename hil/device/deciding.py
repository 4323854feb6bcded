"""Asks whether a run shall go on, while it runs: which evidence is complete, and when.

The load must not wait for the answer, so the host is asked about blocks 0..k while block k + 1
runs. It is asked as soon as every power source of the board has told a few lines past the end of
block k (its edge then lies between two of them), at once in a run without power, and at the
latest when block k + 1 ends. Later lines are left out, so that what is judged does not depend on
how fast messages travel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hil.core.evidence import Evidence, RunPlan
from hil.device.collecting import Lines, RunCollector
from hil.device.session import Decide

TRAILING_LINES = 3  # as many as the agent hurries home after a block


class Decider:
    """Takes a run's events and answers them.

    Args:
        collector: collects the same events.
        plan: with `max_blocks`.
        sources: number of the board's power sources.
        decide: the judge.
        evidence: makes evidence through a block of the marks and of those lines.
    """

    def __init__(
        self,
        collector: RunCollector,
        plan: RunPlan,
        sources: int,
        decide: Decide,
        evidence: Callable[[int, Mapping[int, Lines]], Evidence],
    ) -> None:
        self._collector = collector
        self._sources = range(sources)
        self._decide = decide
        self._evidence = evidence
        self._next = plan.blocks - 1
        # After the last block the run ends by itself; after the one before it the answer that
        # is due is about the one before that.
        self._last = (plan.max_blocks or plan.blocks) - 3

    def take(self, event: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Take one event; return the answer to send, where one is due."""
        self._collector.take(event)
        block = self._next
        if block > self._last or not self._complete(block):
            return None
        self._next += 1
        go = self._decide(self._evidence(block, self._lines_through(block)))
        if not go:
            self._next = self._last + 1
        return {"block": block, "go": go}

    def _complete(self, block: int) -> bool:
        mark = self._collector.block(block)
        if mark is None or len(self._collector.latency.get(block, ())) != mark.inferences:
            return False
        if self._collector.block(block + 1) is not None:
            return True
        lines = self._collector.lines
        return all(
            sum(t_ns > mark.stop_ns for t_ns, _ in lines.get(source, ())[-64:]) >= TRAILING_LINES
            for source in self._sources
        )

    def _lines_through(self, block: int) -> Mapping[int, Lines]:
        mark = self._collector.block(block)
        assert mark is not None
        return {
            source: through(lines, mark.stop_ns) for source, lines in self._collector.lines.items()
        }


def through(lines: Sequence[tuple[int, str]], stop_ns: int) -> Lines:
    """Return the lines up to that moment and the first few after it."""
    later = sum(t_ns > stop_ns for t_ns, _ in lines)
    return list(lines[: len(lines) - later + min(later, TRAILING_LINES)])
