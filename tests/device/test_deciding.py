"""A run's evidence is judged once a block, whole blocks only, the same however messages travel."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.core.evidence import RunPlan
from hil.device.collecting import RunCollector
from hil.device.deciding import TRAILING_LINES, Decider, through

PLAN = RunPlan(blocks=2, max_blocks=6)
EMPTY = base64.b64encode(struct.pack("<d", 0.0)).decode("ascii")


class Judge:
    """Goes on until `stop_at` blocks have been seen; keeps what it was shown."""

    def __init__(self, stop_at: int = 99) -> None:
        self.stop_at = stop_at
        self.seen: list[tuple[int, dict]] = []

    def evidence(self, block: int, lines: dict) -> tuple[int, dict]:
        return block, {source: list(some) for source, some in lines.items()}

    def __call__(self, evidence: tuple[int, dict]) -> bool:
        self.seen.append(evidence)
        return evidence[0] + 1 < self.stop_at


def decider(judge: Judge, plan: RunPlan = PLAN, sources: int = 1) -> Decider:
    return Decider(RunCollector(), plan, sources, judge, judge.evidence)


def mark(block: int) -> dict:
    """Block k takes from 100 k to 100 k + 100."""
    edges = {"start_ns": 100 * block, "stop_ns": 100 * block + 100}
    return {"kind": "mark", "name": "block", "index": block, "inferences": 1, **edges}


def latency(block: int) -> dict:
    packed = {"starts_b64": EMPTY, "stops_b64": EMPTY}
    return {"kind": "latency", "phase": "block", "index": block, **packed}


def power(*stamps: int, source: int = 0) -> dict:
    return {"kind": "power", "source": source, "lines": [[t_ns, f"at {t_ns}"] for t_ns in stamps]}


def answers(made: Decider, *events: dict) -> list[dict]:
    return [answer for event in events if (answer := made.take(event)) is not None]


def test_the_first_answer_waits_for_whole_blocks_and_the_lines_past_their_end():
    judge = Judge()
    made = decider(judge)

    early = answers(made, mark(0), latency(0), power(50, 120, 150, 180), mark(1), latency(1))
    edge = answers(made, power(190, 210, 220))
    due = answers(made, power(230, 240))

    assert early == edge == []
    assert due == [{"block": 1, "go": True}]
    ((block, lines),) = judge.seen
    assert block == 1
    assert [t_ns for t_ns, _ in lines[0]] == [50, 120, 150, 180, 190, 210, 220, 230]


def test_the_end_of_the_next_block_is_the_last_moment_to_answer():
    judge = Judge()

    given_up_waiting = answers(
        decider(judge), mark(0), latency(0), mark(1), latency(1), power(150, 250), mark(2)
    )

    assert given_up_waiting == [{"block": 1, "go": True}]
    assert [t_ns for t_ns, _ in judge.seen[0][1][0]] == [150, 250]


def test_every_source_must_have_told_its_lines():
    judge = Judge()
    made = decider(judge, sources=2)
    events = [mark(0), latency(0), mark(1), latency(1), power(210, 220, 230)]

    assert answers(made, *events) == []
    assert answers(made, power(205, 215, 225, source=1)) == [{"block": 1, "go": True}]


def test_a_run_without_power_is_judged_as_soon_as_its_latencies_are_there():
    made = decider(Judge(), sources=0)

    assert answers(made, mark(0), latency(0), mark(1)) == []
    assert answers(made, latency(1)) == [{"block": 1, "go": True}]


def whole_run(blocks: int) -> list[dict]:
    events = []
    for block in range(blocks):
        lines = power(*(100 * block + at for at in (10, 20, 30, 40, 90)))
        events += [lines, mark(block), latency(block)]
    return events


@pytest.mark.parametrize(
    ("plan", "asked"),
    [
        (RunPlan(blocks=2, max_blocks=6), [1, 2, 3]),
        (RunPlan(blocks=2, max_blocks=4), [1]),
        (RunPlan(blocks=2, max_blocks=3), []),
        (RunPlan(blocks=2, max_blocks=2), []),
    ],
)
def test_one_answer_a_block_until_the_run_ends_by_itself(plan, asked):
    judge = Judge()

    told = answers(decider(judge, plan), *whole_run(plan.max_blocks))

    assert [answer["block"] for answer in told] == asked
    assert [block for block, _ in judge.seen] == asked


def test_after_a_stop_nothing_is_asked_any_more():
    judge = Judge(stop_at=3)

    told = answers(decider(judge), *whole_run(4))

    assert told == [{"block": 1, "go": True}, {"block": 2, "go": False}]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=30), st.integers(0, 8))
def test_what_is_judged_does_not_depend_on_how_lines_are_batched(sizes, seed):
    stamps = list(range(7 * (seed + 1), 600, 13))
    whole, cut = Judge(), Judge()

    by_line = answers(decider(whole), *sent(stamps, [1] * len(stamps)))
    by_batch = answers(decider(cut), *sent(stamps, sizes * len(stamps)))

    assert by_line == by_batch
    assert whole.seen == cut.seen


def sent(stamps: list[int], sizes: list[int]) -> list[dict]:
    """Lines in batches of these sizes, all that belong before a mark before it."""
    events, waiting, left = [], list(stamps), list(sizes)
    for block in range(6):
        while waiting and waiting[0] <= 100 * block + 100:
            inside = [t_ns for t_ns in waiting if t_ns <= 100 * block + 100][: left.pop(0)]
            waiting = waiting[len(inside) :]
            events.append(power(*inside))
        events += [mark(block), latency(block)]
    return events


@given(st.lists(st.integers(0, 50), max_size=20).map(sorted), st.integers(0, 50))
def test_a_few_lines_past_the_end_and_no_more(stamps, stop_ns):
    kept = [t_ns for t_ns, _ in through([(t_ns, "") for t_ns in stamps], stop_ns)]

    assert kept == stamps[: len(kept)]
    assert sum(t_ns > stop_ns for t_ns in kept) == min(
        TRAILING_LINES, sum(t_ns > stop_ns for t_ns in stamps)
    )
    assert all(t_ns in kept for t_ns in stamps if t_ns <= stop_ns)
