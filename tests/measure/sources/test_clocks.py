"""Clocks laid over each other: known offsets and skews come back within their stated error."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.core.errors import MeasurementError
from hil.measure.sources.clocks import from_arrivals, from_sync

NS = 1_000_000_000
MS = 1_000_000


def asked(at_s: float, trip_ns: int, share: float, offset_ns: int, skew: float) -> list[int]:
    """One question to a board whose clock is host + offset + skew * host."""
    before = round(at_s * NS)
    answered = before + round(share * trip_ns)
    return [before, answered + offset_ns + round(skew * answered), before + trip_ns]


@settings(deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.floats(0, 0.5), st.integers(1000, 20 * MS), st.floats(0, 1)),
        min_size=1,
        max_size=8,
    ),
    st.integers(-(10**15), 10**15),
)
def test_without_skew_the_shortest_trip_bounds_the_error(questions, offset_ns):
    rows = [asked(*question, offset_ns, 0.0) for question in questions]

    clock = from_sync(rows)

    assert abs(clock(3 * NS) - (3 * NS + offset_ns)) <= clock.error_ns + 2
    assert clock.error_ns <= max(trip for _, trip, _ in questions)


@settings(deadline=None, derandomize=True)
@given(
    st.floats(-100e-6, 100e-6),
    st.integers(-(10**12), 10**12),
    st.lists(st.tuples(st.integers(1000, 5 * MS), st.floats(0, 1)), min_size=4, max_size=4),
    st.floats(0, 60),
)
def test_skew_between_the_first_and_the_last_question_is_followed(skew, offset_ns, trips, at_s):
    rows = [asked(at, *trip, offset_ns, skew) for at, trip in zip((0, 1, 59, 60), trips)]  # noqa: B905

    clock = from_sync(rows)

    host_ns = round(at_s * NS)
    true_ns = host_ns + offset_ns + round(skew * host_ns)
    assert abs(clock(host_ns) - true_ns) <= 1.1 * clock.error_ns + 5


def test_without_a_question_or_with_another_time_there_is_no_map():
    with pytest.raises(MeasurementError, match="no points"):
        from_sync([])
    # An emulated board: 90 s of its time in 3 s of ours.
    with pytest.raises(MeasurementError, match="different speeds"):
        from_sync([[0, 0, MS], [3 * NS, 90 * NS, 3 * NS + MS]])


@settings(deadline=None, derandomize=True)
@given(
    st.floats(-200e-6, 200e-6),
    st.integers(-(10**13), 10**13),
    st.lists(st.integers(0, 80 * MS), min_size=40, max_size=60),
)
def test_late_lines_never_move_the_estimate(skew, offset_ns, late):
    # The least delay is reached now and then, as it is on any pipe; the rest may be anything.
    printed = [i * NS for i in range(len(late))]
    delays = [0 if i % 8 == 0 else delay for i, delay in enumerate(late)]
    arrived = [
        p + offset_ns + round(skew * p) + delay for p, delay in zip(printed, delays, strict=True)
    ]

    clock = from_arrivals(printed, arrived)

    for p in (printed[0], printed[len(late) // 2], printed[-1]):
        assert clock(p) - (p + offset_ns + round(skew * p)) <= 2
        # Never later than truth; how much earlier is bounded by the delays at the very ends.
        assert clock(p) <= arrived[printed.index(p)] + 2
    middle = printed[8 * (len(late) // 16)]
    assert clock(middle) == pytest.approx(middle + offset_ns + round(skew * middle), abs=3)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 10**10), st.integers(0, 10**8)), min_size=2, max_size=30))
def test_no_line_ever_lies_above_an_arrival(lines):
    printed = sorted(p for p, _ in lines)
    arrived = [p + 10**9 + delay for p, (_, delay) in zip(printed, lines, strict=True)]
    try:
        clock = from_arrivals(printed, arrived)
    except MeasurementError:
        return

    assert all(clock(p) <= a + 2 for p, a in zip(printed, arrived, strict=True))


@pytest.mark.parametrize(
    ("printed", "arrived"),
    [
        ([i * MS for i in range(100)], [i * NS for i in range(100)]),  # milliseconds, not seconds
        ([i * NS for i in range(100)], [100 * NS] * 100),  # all lines held back to the end
    ],
)
def test_a_time_that_is_not_in_seconds_and_lines_held_back_are_refused(printed, arrived):
    with pytest.raises(MeasurementError, match="does not fit the time its lines came at"):
        from_arrivals(printed, arrived)
