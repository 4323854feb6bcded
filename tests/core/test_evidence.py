"""Evidence outlives releases: what was written is read again, now and by later versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.core.evidence import Evidence, Mark, PowerRecord, RunPlan

FIRST = Path(__file__).parent / "data" / "evidence_v1.json"
STAMPS = st.integers(0, 2**62)
LINES = st.lists(st.tuples(STAMPS, st.text()), max_size=4).map(tuple)
RECORDS = st.builds(
    PowerRecord,
    source=st.sampled_from(["tegrastats", "ina3221", "nvml", "rapl", "command"]),
    lines=LINES,
    argv=st.lists(st.text(), max_size=3).map(tuple),
    settings=st.just({}) | st.just({"sync": [[1, 2, 3]], "where": "host"}),
    clock=st.sampled_from(["board", "host"]),
)
PLANS = st.builds(
    RunPlan, max_blocks=st.none() | st.integers(4, 90), rate_hz=st.none() | st.floats(0.1, 1e3)
)
MARKS = st.builds(
    Mark, st.text(), STAMPS, STAMPS, STAMPS, st.none() | STAMPS, missed=st.none() | STAMPS
)
EVIDENCE = st.builds(
    Evidence,
    board=st.just({"name": "b"}),
    engine=st.just({"engine_sha256": "0"}),
    plan=PLANS,
    marks=st.lists(MARKS, max_size=3).map(tuple),
    latency_ns=st.lists(st.lists(STAMPS, max_size=3).map(tuple), max_size=2).map(tuple),
    states=st.just(({"t_ns": 1},)),
    provenance=st.just("measured"),
    copies=st.just("excluded"),
    power=st.lists(RECORDS, max_size=3).map(tuple),
    start=st.just({}) | st.just({"load_ns": 5, "first_ns": 7, "warmup_ns": [1], "settle_ns": []}),
)


@given(EVIDENCE)
def test_what_is_written_is_read_back_equal(evidence):
    assert Evidence.from_json(json.loads(json.dumps(evidence.to_json()))) == evidence


def test_the_first_release_s_evidence_is_read_word_for_word():
    data = json.loads(FIRST.read_text(encoding="utf-8"))

    evidence = Evidence.from_json(data)

    assert data["schema"] == "hil/evidence@1"
    (power,) = evidence.power
    assert [list(line) for line in power.lines] == data["power_lines"]
    assert (power.source, list(power.argv)) == (data["power_source"], data["power_argv"])
    assert (power.clock, power.settings) == ("board", {})
    assert [list(block) for block in evidence.latency_ns] == data["latency_ns"]
    assert [mark.stop_ns for mark in evidence.marks] == [m["stop_ns"] for m in data["marks"]]
    assert (evidence.plan.warmup, evidence.plan.max_blocks, evidence.plan.rate_hz) == (
        3,
        None,
        None,
    )
    assert (evidence.start, evidence.marks[1].missed) == ({}, None)
    assert evidence.to_json()["schema"] == "hil/evidence@2"
    assert Evidence.from_json(evidence.to_json()) == evidence


def test_the_first_release_s_evidence_without_power_has_none():
    data = json.loads(FIRST.read_text(encoding="utf-8"))
    data |= {"power_source": "none", "power_lines": [], "power_argv": []}

    evidence = Evidence.from_json(data)

    assert (evidence.power, evidence.power_source, evidence.power_lines) == ((), "none", ())


def test_the_primary_is_the_first_source():
    first = PowerRecord("ina3221", ((1, "a"),), ("sample",))
    data = json.loads(FIRST.read_text(encoding="utf-8"))
    both = Evidence.from_json({**Evidence.from_json(data).to_json(), "power": []})

    assert both.power_argv == ()
    again = Evidence.from_json(
        {**both.to_json(), "power": [_plain(first), _plain(PowerRecord("nvml", ()))]}
    )
    assert (again.power_source, again.power_lines) == ("ina3221", ((1, "a"),))
    assert again.power_argv == ("sample",)


def _plain(record: PowerRecord) -> dict:
    return {
        "source": record.source,
        "lines": [list(line) for line in record.lines],
        "argv": list(record.argv),
        "settings": dict(record.settings),
        "clock": record.clock,
    }


@pytest.mark.parametrize("schema", ["hil/evidence@3", None, "something else"])
def test_evidence_of_another_schema_is_refused(schema):
    with pytest.raises(ValueError, match="this reads hil/evidence@2"):
        Evidence.from_json({"schema": schema})
