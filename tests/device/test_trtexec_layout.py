"""Windows inside a load that tells no clock: they are right wherever its zero may have been."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.core.errors import MeasurementError
from hil.core.evidence import Mark, RunPlan
from hil.device.trtexec_layout import PIPE_NS, Query, lay_out, read_queries

S = 1_000_000_000
PLAN = RunPlan(settle_s=3.0, window_s=2.5, blocks=4, tail_s=0.5)


def scripted(zero_s, period_ms=10.0, seconds=20.0, load_s=1.7, after_s=0.4, lag_s=0.001):
    """A run whose zero of time is known: (whole, lines, queries)."""
    count = int(seconds * 1e3 / period_ms)
    queries = [Query(n * period_ms, (n + 1) * period_ms, period_ms * 0.9) for n in range(count)]
    begins, ends = zero_s - 0.01, zero_s + seconds
    lines = [
        (round((begins - 1.0 + lag_s) * S), "[I] Engine loaded in 0.9 sec."),
        (round((begins + lag_s) * S), "[01/01/1970-00:00:00] [I] Starting inference"),
        (round((ends + 0.05) * S), "[I] Warmup completed 20 queries over 200 ms"),
        (round((ends + 0.06) * S), "[I] === Performance summary ==="),
    ]
    whole = Mark("trtexec", 0, round((begins - load_s) * S), round((ends + after_s) * S))
    return whole, lines, queries


@settings(deadline=None, max_examples=40)
@given(
    zero_s=st.floats(5.0, 1e6),
    period_ms=st.floats(0.5, 300.0),
    lag_s=st.floats(0.0, 0.2),
    told=st.booleans(),
)
def test_windows_lie_in_settled_load_wherever_the_zero_was(zero_s, period_ms, lag_s, told):
    whole, lines, queries = scripted(zero_s, period_ms, seconds=25.0, lag_s=lag_s)

    found = lay_out(PLAN, whole, lines if told else [], queries, 200.0)

    low_ns, high_ns = found.zero_ns
    assert low_ns <= round(zero_s * S) <= high_ns
    began_ns, ended_ns = round((zero_s + 0.2) * S), round((zero_s + queries[-1].stop_ms / 1e3) * S)
    blocks = [mark for mark in found.marks if mark.name == "block"]
    assert blocks
    assert blocks[0].start_ns - began_ns >= 3 * S - 1000
    assert ended_ns - blocks[-1].stop_ns >= 0.5 * S - 1000
    for mark, latencies in zip(blocks, found.latency_ns, strict=True):
        assert mark.inferences == len(latencies)
        # edges are starts of queries: a window holds whole periods and nothing else
        per_inference_ms = (mark.stop_ns - mark.start_ns) / mark.inferences / 1e6
        assert per_inference_ms == pytest.approx(period_ms, rel=1e-6)
        assert mark.stop_ns - mark.start_ns >= 2.5 * S - 1000


def test_the_lines_bound_the_zero_better_than_the_process_does():
    whole, lines, queries = scripted(100.0)

    by_lines = lay_out(PLAN, whole, lines, queries, 200.0).zero_ns
    by_process = lay_out(PLAN, whole, [], queries, 200.0).zero_ns

    assert by_lines[1] - by_lines[0] < PIPE_NS + 0.1 * S
    assert by_process[1] - by_process[0] == pytest.approx(1.7 * S + 0.01 * S + 0.4 * S, rel=0.01)


def test_a_line_that_was_stamped_far_too_late_bounds_nothing():
    whole, lines, queries = scripted(100.0)
    late = [(t_ns + (3 * S if "Starting" in text else 0), text) for t_ns, text in lines]

    found = lay_out(PLAN, whole, late, queries, 200.0).zero_ns

    assert found == lay_out(PLAN, whole, [], queries, 200.0).zero_ns


def test_a_warm_up_that_was_written_down_is_in_no_window():
    whole, lines, queries = scripted(100.0)

    found = lay_out(PLAN, whole, lines, queries, 5000.0)

    assert found.marks[0].start_ns >= 105 * S


def test_a_release_that_leaves_the_warm_up_out_is_bounded_from_its_first_query():
    whole, lines, queries = scripted(100.0)
    later = [query for query in queries if query.start_ms >= 200.0]

    low_ns, high_ns = lay_out(PLAN, whole, lines, later, 200.0).zero_ns

    assert low_ns <= 100 * S <= high_ns


@pytest.mark.parametrize(
    ("seconds", "stretch", "told"), [(2.0, 1.0, "holds no window"), (20.0, 2.0, "do not fit")]
)
def test_what_cannot_be_laid_out_is_refused(seconds, stretch, told):
    whole, lines, queries = scripted(100.0, seconds=seconds)
    stretched = [Query(q.start_ms * stretch, q.stop_ms * stretch, 9.0) for q in queries]

    with pytest.raises(MeasurementError, match=told):
        lay_out(PLAN, whole, lines, stretched, 200.0)


def test_queries_are_read_in_order_of_their_starts():
    rows = [
        {"startComputeMs": 20.0, "endComputeMs": 28.0, "latencyMs": 8.0},
        {"startComputeMs": 10.0, "endComputeMs": 19.0, "latencyMs": 9.0},
    ]

    assert read_queries(json.dumps(rows).encode()) == (Query(10, 19, 9), Query(20, 28, 8))


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"[1]", b'[{"latencyMs": 1}]', b"null"])
def test_a_file_that_is_not_trtexec_s_is_refused(data):
    with pytest.raises(MeasurementError, match="trtexec"):
        read_queries(data)
