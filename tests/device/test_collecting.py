"""Evidence is what the agent told, in order, nothing added and nothing lost."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.core.errors import ProtocolError
from hil.core.evidence import Mark, RunPlan
from hil.device.collecting import RunCollector, nanoseconds


def encoded(*values: int) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}Q", *values)).decode("ascii")


def collected(*events: dict):
    collector = RunCollector()
    for event in events:
        collector.take(event)
    return collector.evidence(
        board={"model": "quill"},
        engine={},
        plan=RunPlan(),
        power="tegrastats",
        provenance="emulated",
        result={"power_argv": ["tegrastats", "--interval", "100"], "copies": "included"},
    )


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_latencies_come_back_as_they_were_packed(values):
    assert list(nanoseconds(encoded(*values))) == values


def test_batches_are_joined_in_order_by_block():
    evidence = collected(
        {"kind": "latency", "block": 1, "ns_b64": encoded(30)},
        {"kind": "latency", "block": 0, "ns_b64": encoded(10, 11)},
        {"kind": "latency", "block": 0, "ns_b64": encoded(12)},
        {"kind": "power", "lines": [[1, "a"], [2, "b"]]},
        {"kind": "power", "lines": [[3, "c"]]},
    )

    assert evidence.latency_ns == ((10, 11, 12), (30,))
    assert evidence.power_lines == ((1, "a"), (2, "b"), (3, "c"))


def test_marks_states_and_the_result_are_kept():
    evidence = collected(
        {
            "kind": "mark",
            "name": "idle_before",
            "index": 0,
            "start_ns": 1,
            "stop_ns": 2,
            "inferences": None,
        },
        {"kind": "state", "t_ns": 5, "gpu_hz": None},
        {"kind": "of a later release", "x": 1},
    )

    assert evidence.marks == (Mark("idle_before", 0, 1, 2, None),)
    assert evidence.states == ({"t_ns": 5, "gpu_hz": None},)
    assert evidence.copies == "included"
    assert evidence.power_argv == ("tegrastats", "--interval", "100")
    assert evidence.provenance == "emulated"


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "power"},
        {"kind": "power", "lines": [[1]]},
        {"kind": "mark", "name": "block"},
        {"kind": "latency", "block": 0, "ns_b64": "AAAA"},
        {"kind": "latency", "block": 0, "ns_b64": "not base64!"},
        {"kind": "latency", "block": None, "ns_b64": ""},
    ],
)
def test_an_event_that_cannot_be_read_is_a_breach_of_protocol(event):
    with pytest.raises(ProtocolError):
        RunCollector().take(event)
