"""Evidence is what the agent told, in order, nothing added and nothing lost."""

from __future__ import annotations

import base64
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.core.errors import ProtocolError
from hil.core.evidence import Mark
from hil.device.collecting import RunCollector, board_records, latencies_ns

STAMPS = st.floats(0, 1e7, allow_nan=False)


def encoded(*stamps: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(stamps)}d", *stamps)).decode("ascii")


def latency(index: int, *pairs: tuple[float, float], phase: str = "block") -> dict:
    starts, stops = zip(*pairs, strict=True)
    packed = {"starts_b64": encoded(*starts), "stops_b64": encoded(*stops)}
    return {"kind": "latency", "phase": phase, "index": index, **packed}


def collected(*events: dict) -> RunCollector:
    collector = RunCollector()
    for event in events:
        collector.take(event)
    return collector


@given(st.lists(st.tuples(STAMPS, STAMPS)))
def test_latencies_are_differences_of_whole_nanoseconds_as_python_rounds_them(pairs):
    starts, stops = [a for a, _ in pairs], [b for _, b in pairs]

    got = latencies_ns(encoded(*starts), encoded(*stops))

    assert got == [round(b * 1e9) - round(a * 1e9) for a, b in pairs]


@pytest.mark.parametrize(
    ("starts", "stops"),
    [
        (encoded(1.0, 2.0), encoded(3.0)),
        (encoded(math.nan), encoded(1.0)),
        (encoded(1.0), encoded(math.inf)),
        ("AAAA", "AAAA"),
        ("not base64!", encoded(1.0)),
    ],
)
def test_stamps_that_are_no_times_are_refused(starts, stops):
    with pytest.raises(ValueError):  # noqa: PT011 - several makers of it, one meaning
        latencies_ns(starts, stops)


def test_batches_are_joined_in_order_by_block_and_by_source():
    collector = collected(
        latency(1, (0.0, 30e-9)),
        latency(0, (1.0, 1.000001), (2.0, 2.000002)),
        latency(0, (3.0, 3.000003)),
        {"kind": "source", "source": 1, "argv": ["s"], "settings": {"interval_ms": 20}},
        {"kind": "power", "source": 0, "lines": [[1, "a"], [2, "b"]]},
        {"kind": "power", "source": 1, "lines": [[2, "x"]]},
        {"kind": "power", "source": 0, "lines": [[3, "c"]]},
    )

    assert collector.latency == {0: [1000, 2000, 3000], 1: [30]}
    assert collector.sources == {1: {"argv": ["s"], "settings": {"interval_ms": 20}}}
    assert collector.lines == {0: [(1, "a"), (2, "b"), (3, "c")], 1: [(2, "x")]}


def test_marks_and_states_are_kept_and_kinds_of_a_later_release_are_not():
    mark = {"kind": "mark", "name": "block", "index": 2, "start_ns": 1, "stop_ns": 2}
    collector = collected(
        {**mark, "inferences": 7, "missed": 3},
        {**mark, "inferences": None},
        {"kind": "state", "t_ns": 5, "gpu_hz": None},
        {"kind": "of a later release", "x": 1},
    )

    assert collector.marks == [Mark("block", 2, 1, 2, 7, 3), Mark("block", 2, 1, 2)]
    assert collector.states == [{"t_ns": 5, "gpu_hz": None}]
    assert collector.block(2) == Mark("block", 2, 1, 2, 7, 3)
    assert collector.block(0) is None


def test_the_first_inference_stands_apart_from_those_after_it():
    loaded = {"kind": "start", "load_ns": 9}
    warmup = latency(0, (0.0, 5e-9), (1.0, 1.0 + 4e-6), phase="warmup")
    settle = latency(0, (2.0, 2.0 + 3e-6), phase="settle")

    both = collected(loaded, warmup, settle).start
    cold = collected(settle).start

    assert both == {"load_ns": 9, "first_ns": 5, "warmup_ns": [4000], "settle_ns": [3000]}
    assert cold == {"first_ns": 3000, "settle_ns": []}
    assert collected({"kind": "start", "load_ns": 0}).start == {}


def test_each_source_keeps_its_own_lines_and_what_it_said_of_itself():
    told = [
        {"source": "tegrastats", "argv": ["t", "--interval", "100"], "settings": {}, "exit": None},
        {"source": "ina3221", "argv": ["s"], "settings": {"running_mode": {"a": 7}}, "exit": 1},
    ]

    first, second = board_records(told, {1: [(4, "VDD_IN=1mW")]})

    assert (first.source, first.argv, first.lines) == ("tegrastats", ("t", "--interval", "100"), ())
    assert second.lines == ((4, "VDD_IN=1mW"),)
    assert second.settings == {"running_mode": {"a": 7}, "where": "board", "exit": 1}
    assert {first.clock, second.clock} == {"board"}
    with pytest.raises(ProtocolError):
        board_records([{"source": "tegrastats"}], {})


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "start"},
        {"kind": "power", "lines": []},
        {"kind": "source", "source": 0, "argv": ["s"]},
        {"kind": "power", "source": 0, "lines": [[1]]},
        {"kind": "mark", "name": "block"},
        {"kind": "latency", "phase": "block", "index": 0, "starts_b64": encoded(1.0)},
        {**latency(0, (1.0, 2.0)), "stops_b64": "AAAA"},
        {**latency(0, (1.0, 2.0)), "index": None},
        latency(0, (1.0, 2.0), phase="elsewhere"),
    ],
)
def test_an_event_that_cannot_be_read_is_a_breach_of_protocol(event):
    with pytest.raises(ProtocolError):
        RunCollector().take(event)
