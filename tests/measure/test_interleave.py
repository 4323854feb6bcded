"""Order of interleaved runs, through a session that notes what it is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.core.evidence import Evidence, Mark, RunPlan
from hil.device.session import EngineInfo, EngineSpec
from hil.measure.interleave import by_turns, first_sides, interleave, run_seconds

INFO = EngineInfo(
    spec=EngineSpec(onnx_sha256="1" * 64),
    engine_sha256="a0",
    key="3" * 64,
    cached=False,
    build_s=1.0,
    runtime_version="8.2.1.8",
    plan_bytes=1000,
    device_memory_bytes=None,
    inputs=(),
    outputs=(),
)


def evidence(start_ns: int) -> Evidence:
    marks = (Mark("idle_before", 0, start_ns, start_ns + 10, None),)
    return Evidence({}, {}, RunPlan(), marks, (), (), "replayed")


@dataclass
class Board:
    """Answers `run`; its clock counts runs."""

    ran: list[tuple[str, str]] = field(default_factory=list)

    def run(self, info, plan, power, decide=None):
        self.ran.append((info.engine_sha256, power))
        return evidence(100 * len(self.ran))


def engines(side: str, builds: int = 1) -> list[EngineInfo]:
    return [replace(INFO, engine_sha256=f"{side}{k}") for k in range(builds)]


@given(seed=st.integers(0, 10_000))
def test_each_pair_of_rounds_is_mirrored_so_that_a_linear_drift_cancels(seed):
    firsts = list(islice(first_sides(seed), 40))
    times = {"a": 0, "b": 0}
    for pair in range(20):
        for place, first in enumerate(firsts[2 * pair : 2 * pair + 2]):
            times[first] += 4 * pair + 2 * place
            times["b" if first == "a" else "a"] += 4 * pair + 2 * place + 1

        assert set(firsts[2 * pair : 2 * pair + 2]) == {"a", "b"}
        assert times["a"] == times["b"]  # the mean moment of either side is the same


def test_the_order_of_pairs_is_drawn_and_repeats_with_its_seed():
    firsts = [tuple(islice(first_sides(seed), 40)) for seed in (1, 1, 2)]

    assert firsts[0] == firsts[1]
    assert firsts[0] != firsts[2]
    assert 4 < sum(first == "a" for first in firsts[0][::2]) < 16


def test_rounds_hold_what_each_side_sent_home_and_stop_when_told():
    board, looked = Board(), []

    def go_on(rounds):
        looked.append(len(rounds))
        return len(rounds) < 6

    sides = {"a": engines("a"), "b": engines("b")}
    rounds = interleave(board, sides, RunPlan(), "tegrastats", seed=3, go_on=go_on)

    assert looked == [2, 4, 6]
    assert [one.index for one in rounds] == list(range(6))
    asked = [f"{side}0" for one in rounds for side in (one.first, "ba"[one.first == "b"])]
    assert [name for name, _ in board.ran] == asked
    for place, one in enumerate(rounds):
        started = {"first": 100 * (2 * place + 1), "second": 100 * (2 * place + 2)}
        assert one.of(one.first).marks[0].start_ns == started["first"]
        assert one.of("b" if one.first == "a" else "a").marks[0].start_ns == started["second"]


def test_every_pair_of_rounds_runs_the_next_builds():
    board = Board()
    sides = {"a": engines("a", 3), "b": engines("b", 3)}

    rounds = interleave(board, sides, RunPlan(), "none", seed=0, go_on=lambda done: len(done) < 12)

    assert [one.build for one in rounds] == [0, 0, 1, 1, 2, 2] * 2
    assert {name[1] for name, _ in board.ran[:4]} == {"0"}
    assert {power for _, power in board.ran} == {"none"}


def test_each_run_is_told_as_it_comes_home():
    told = []
    sides = {"a": engines("a"), "b": engines("b")}

    interleave(
        *(Board(), sides, RunPlan(), "none"),
        seed=0,
        go_on=lambda _: False,
        on_run=lambda side, sent: told.append((side, sent.marks[0].start_ns)),
    )

    assert [start for _, start in told] == [100, 200, 300, 400]


@pytest.mark.parametrize("builds", [(1, 2), (0, 0)])
def test_sides_with_unequal_builds_or_none_are_refused(builds):
    sides = {"a": engines("a", builds[0]), "b": engines("b", builds[1])}

    with pytest.raises(ValueError, match="same number of builds"):
        interleave(Board(), sides, RunPlan(), "none", seed=0, go_on=lambda _: False)


def test_an_error_of_a_run_ends_the_rounds():
    def run(side, build):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        by_turns(run, seed=0, go_on=lambda _: True)


def test_board_time_of_a_run_is_from_its_first_mark_to_its_last():
    marks = (Mark("block", 0, 2_000_000_000, 5_000_000_000, 3), Mark("idle", 0, 0, 10**9, None))

    assert run_seconds(replace(evidence(0), marks=marks)) == 5.0
    assert run_seconds(replace(evidence(0), marks=())) == 0.0
