"""The load has no pause that it was not asked for, and every slot of a pace is accounted for."""

import json
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.agent import packing
from hil.agent.loadloop import Load, back_to_back, run
from hil.agent.pace import Pace

from .conftest import latencies

PLAN = {"settle_s": 0.2, "window_s": 1.0, "tail_s": 0.1, "blocks": 2, "max_blocks": None}


class BoardClock:
    """Time that moves when somebody works or sleeps."""

    def __init__(self, step_s=0.01):
        self.now_s = 1000.0
        self.step_s = step_s
        self.steps = 0
        self.slept_s = 0.0

    def __call__(self):
        return self.now_s

    def step(self):
        self.steps += 1
        self.now_s += self.step_s

    def sleep(self, seconds):
        assert seconds > 0
        self.slept_s += seconds
        self.now_s += seconds


def folders(tmp_path):
    """An empty board root, and where stamps go."""
    (tmp_path / "root").mkdir()
    return str(tmp_path / "root"), str(tmp_path / "stamps")


def unpacked(events):
    """What the agent does with a worker's events: stamps are read from their file."""

    def emit(event):
        events.extend(packing.unspill(event) if event["kind"] == "stamps" else [event])

    return emit


def events_of(clock, plan, tmp_path, rate_hz=None, go_on=None):
    events = []
    load = Load(clock.step, rate_hz, *folders(tmp_path), unpacked(events), clock, clock.sleep)
    run(load, dict(PLAN, **plan), go_on)
    return events


def marks(events):
    return [event for event in events if event["kind"] == "mark"]


def blocks(events):
    return [event for event in marks(events) if event["name"] == "block"]


def test_back_to_back_nothing_lies_between_two_inferences(tmp_path):
    clock = BoardClock()

    events = events_of(clock, {}, tmp_path)

    assert [(m["name"], m["index"]) for m in marks(events)] == [
        *(("settle", 0), ("block", 0), ("block", 1), ("tail", 0))
    ]
    assert clock.slept_s == 0.0
    for before, after in zip(marks(events), marks(events)[1:], strict=False):
        assert after["start_ns"] == before["stop_ns"]
    assert sum(mark["inferences"] for mark in marks(events)) == clock.steps
    assert {mark["missed"] for mark in marks(events)} == {None}


def test_latencies_of_a_fixed_plan_leave_after_the_load(tmp_path):
    events = events_of(BoardClock(), {}, tmp_path)

    kinds = [event["kind"] for event in events]
    last_mark = len(kinds) - 1 - kinds[::-1].index("mark")
    assert kinds.index("latency") > last_mark
    told = {(e["phase"], e["index"]): latencies(e) for e in events if e["kind"] == "latency"}
    assert [*told] == [("settle", 0), ("block", 0), ("block", 1)]
    for mark in blocks(events):
        series = told["block", mark["index"]]
        assert len(series) == mark["inferences"]
        assert sum(series) == mark["stop_ns"] - mark["start_ns"]  # back to back, nothing else


@pytest.mark.parametrize(("stop_after", "kept"), [(1, 3), (2, 4), (3, 5), (9, 6)])
def test_a_run_goes_on_until_told_otherwise_and_at_most_to_its_cap(stop_after, kept, tmp_path):
    asked, seen = [], []

    def go_on(block):
        asked.append(block)
        seen.append([e["index"] for e in events if e.get("phase") == "block"])
        return block + 1 <= stop_after

    events = []
    clock = BoardClock()
    load = Load(clock.step, None, *folders(tmp_path), unpacked(events), clock, clock.sleep)
    run(load, dict(PLAN, max_blocks=6), go_on)

    assert len(blocks(events)) == kept
    assert asked == list(range(1, 1 + len(asked)))
    # When the answer about a block is due, the next one has run and its latencies are told.
    assert seen == [list(range(block + 2)) for block in asked]
    assert marks(events)[-1]["name"] == "tail"


@pytest.mark.parametrize("most", [2, 3])
def test_a_cap_that_leaves_nothing_to_decide_asks_nothing(most, tmp_path):
    def nobody(_block):
        raise AssertionError

    assert (
        len(blocks(events_of(BoardClock(), {"max_blocks": most}, tmp_path, go_on=nobody))) == most
    )


def test_paced_windows_hold_whole_periods_with_their_pauses(tmp_path):
    clock = BoardClock(step_s=0.01)

    events = events_of(clock, {}, tmp_path, rate_hz=8)

    for mark in blocks(events):
        length_s = (mark["stop_ns"] - mark["start_ns"]) / 1e9
        assert length_s == pytest.approx(mark["inferences"] / 8, abs=1e-6)
        assert mark["inferences"] == 8
        assert mark["missed"] == 0
    starts = [mark["start_ns"] for mark in marks(events)]
    assert all((start - starts[0]) % 125_000_000 == 0 for start in starts)  # one schedule


def test_who_is_slower_than_the_rate_runs_back_to_back_and_says_what_was_missed(tmp_path):
    clock = BoardClock(step_s=0.1)

    events = events_of(clock, {"window_s": 3.0}, tmp_path, rate_hz=25)

    assert clock.slept_s == 0.0
    for mark in blocks(events):
        slots = (mark["stop_ns"] - mark["start_ns"]) / 40e6
        assert mark["inferences"] == 30
        assert abs(mark["inferences"] + mark["missed"] - slots) <= 1


@given(st.lists(st.floats(0.0, 0.4), min_size=1, max_size=60))
def test_each_slot_is_used_or_missed_and_no_delay_adds_up(works_s):
    clock = BoardClock()
    pace = Pace(0.1, clock, clock.sleep)
    missed = pace.wait()
    origin_s = clock()
    used = 1

    for work_s in works_s:
        clock.now_s += work_s
        missed += pace.wait()
        used += 1
        slot = used + missed - 1
        begun_s = origin_s + slot * 0.1
        assert begun_s - 1e-6 <= clock() < begun_s + 0.1 + 1e-6  # within the slot it counts for


def test_a_late_start_keeps_the_schedule():
    clock = BoardClock()
    pace = Pace(0.1, clock, clock.sleep)
    pace.wait()
    clock.now_s += 0.13  # runs over by a third of the next slot

    assert pace.wait() == 0
    clock.now_s += 0.02
    assert pace.wait() == 0
    assert clock() == pytest.approx(1000.2)


@given(st.floats(0.001, 0.5), st.floats(0.0, 2.0))
def test_a_window_is_at_least_as_long_as_asked_and_at_most_one_inference_longer(step_s, asked_s):
    clock = BoardClock(step_s)

    window = back_to_back(clock.step, asked_s, clock)

    assert asked_s <= window.stop_s - window.start_s + 1e-9
    assert window.stop_s - window.start_s <= asked_s + step_s + 1e-9
    assert len(window.starts) == len(window.stops) == clock.steps >= 1


ON_THE_BOARD = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from hil_agent import loadloop, packing
events = []
load = loadloop.Load(lambda: time.sleep(0.002), 100, sys.argv[2], sys.argv[2] + "/s", events.append)
plan = {"settle_s": 0.02, "window_s": 0.05, "tail_s": 0.01, "blocks": 2, "max_blocks": 5}
asked = []
loadloop.run(load, plan, lambda block: not asked.append(block))
counts = [len(list(packing.unspill(e))) for e in events if e["kind"] == "stamps"]
print(json.dumps([asked, [e["name"] for e in events if e["kind"] == "mark"], counts]))
"""


def test_the_load_runs_on_the_boards_own_python(interpreter, zipapp, tmp_path):
    argv = [interpreter, "-c", ON_THE_BOARD, str(zipapp), str(tmp_path)]

    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stderr
    asked, names, counts = json.loads(done.stdout)
    assert asked == [1, 2]
    assert names == ["settle", *["block"] * 5, "tail"]
    assert counts == [1] * 6
