"""Two engines by turns on one leased board, so that what drifts touches both alike.

Rule of this file: it orders runs and asks for them; it scores nothing. Whoever calls it scores the
rounds so far and says whether to go on.

Rounds come in pairs whose orders are mirrored (ABBA or BAAB, drawn by a seed), so that a linear
drift of the board cancels in every pair of rounds, and no periodic disturbance can keep step.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hil.core.evidence import Evidence, RunPlan
from hil.device.session import EngineInfo, Session

Side = Literal["a", "b"]
SIDES: tuple[Side, Side] = ("a", "b")
ROUNDS_AT_ONCE = 2


@dataclass(frozen=True)
class Round:
    """One run of either engine, one right after the other.

    Attributes:
        index: 0, 1, ... in order of time.
        build: which of the engine builds ran (the same number for both sides).
        first: the side that ran first.
        a: what its run sent home.
        b: likewise.
    """

    index: int
    build: int
    first: Side
    a: Evidence
    b: Evidence

    def of(self, side: Side) -> Evidence:
        """Return the evidence of one side."""
        return self.a if side == "a" else self.b


def first_sides(seed: int) -> Iterator[Side]:
    """Return who starts each round, without end: pairs of rounds mirrored, their order drawn."""
    draw = random.Random(seed)
    while True:
        first, second = draw.sample(SIDES, 2)
        yield first
        yield second


def by_turns(
    run: Callable[[Side, int], Evidence],
    *,
    builds: int = 1,
    seed: int,
    go_on: Callable[[Sequence[Round]], bool],
) -> tuple[Round, ...]:
    """Run two sides by turns until enough is known.

    Args:
        run: runs one build of one side, and returns what came home.
        builds: how many builds either side has; pairs of rounds go through them in turn.
        seed: of the order.
        go_on: told all rounds so far after each pair of rounds; False ends it.
    """
    rounds: list[Round] = []
    starts = first_sides(seed)
    while True:
        for _ in range(ROUNDS_AT_ONCE):
            build = len(rounds) // ROUNDS_AT_ONCE % builds
            first = next(starts)
            ran = {side: run(side, build) for side in (first, _other(first))}
            rounds.append(Round(len(rounds), build, first, ran["a"], ran["b"]))
        if not go_on(rounds):
            return tuple(rounds)


def interleave(
    session: Session,
    engines: Mapping[Side, Sequence[EngineInfo]],
    plan: RunPlan,
    power: str,
    *,
    seed: int,
    go_on: Callable[[Sequence[Round]], bool],
    on_run: Callable[[Side, Evidence], None] = lambda _side, _evidence: None,
) -> tuple[Round, ...]:
    """Run two engines by turns on a leased board until enough is known.

    Args:
        session: in the state that is to be measured.
        engines: for each side its builds, equally many.
        plan: of a single run.
        power: name of the power source, or "none".
        seed: of the order.
        go_on: told all rounds so far after each pair of rounds; False ends it.
        on_run: told each run as it comes home.

    Raises:
        ValueError: the sides have different numbers of builds, or none.
    """
    counts = {len(engines[side]) for side in SIDES}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"either side needs the same number of builds, not {sorted(counts)}")

    def run(side: Side, build: int) -> Evidence:
        evidence = session.run(engines[side][build], plan, power)
        on_run(side, evidence)
        return evidence

    return by_turns(run, builds=counts.pop(), seed=seed, go_on=go_on)


def _other(side: Side) -> Side:
    return "b" if side == "a" else "a"


def run_seconds(evidence: Evidence) -> float:
    """Return board time from the first mark of a run to its last, in seconds."""
    if not evidence.marks:
        return 0.0
    starts = [mark.start_ns for mark in evidence.marks]
    return (max(mark.stop_ns for mark in evidence.marks) - min(starts)) / 1e9
