"""Lines come in order or are counted; rails integrate as their kind says."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.core.energy import Window
from hil.core.errors import MeasurementError
from hil.core.evidence import PowerRecord
from hil.measure.sources.series import counter_rail
from hil.measure.trace import DEFAULT_RAILS, SOURCES, read_power

NS = 1_000_000_000
LINE = "RAM 1/2MB (lfb 1x4MB) CPU [1%@345] EMC_FREQ 0% GR3D_FREQ 0% GPU@40C VDD_IN {0}/{1}"


def tegrastats(*readings: tuple[int, int, int]) -> PowerRecord:
    lines = tuple((t_ns, LINE.format(now, mean)) for t_ns, now, mean in readings)
    return PowerRecord("tegrastats", lines, ("tegrastats",), {"running_mode": {"0-0041": 1}})


def test_a_tegrastats_record_reads_into_rails_readings_and_settings():
    trace = read_power(tegrastats((0, 4000, 4000), (NS, 5000, 4500), (3 * NS, 6000, 5000)))

    assert trace.source == "tegrastats"
    assert trace.stamps_ns == (0, NS, 3 * NS)
    assert [reading.temps_c for reading in trace.readings] == [{"GPU": 40.0}] * 3
    assert trace.period_ms == 1500.0
    assert trace.fault is None
    assert trace.settings == {"running_mode": {"0-0041": 1}}
    rail = trace.rails["VDD_IN"]
    assert (rail.kind, rail.points, rail.span_ns) == ("power", (), (0, 3 * NS))
    # Trapezoids: 4.5 W for the first second, 5.25 W on the mean of the next.
    assert rail.energy_j(Window(0, 2 * NS)) == pytest.approx(4.5 + 5.25)
    assert rail.mean_power_w(Window(0, 2 * NS)) == pytest.approx((4.5 + 5.25) / 2)
    assert rail.edge_bound_j(Window(0, 2 * NS)) == 0.0
    assert [t_ns for t_ns, _ in trace.during(Window(NS, 4 * NS))] == [NS, 3 * NS]


def test_what_is_left_out_is_counted():
    lines = (
        (5, "sudo: a password is required"),
        (10, LINE.format(100, 100)),
        (20, LINE.format(102, 101)),
        (20, LINE.format(104, 102)),
        (15, LINE.format(106, 103)),
        (30, LINE.format(108, 104)),
    )

    trace = read_power(PowerRecord("tegrastats", lines))

    assert (trace.unread, trace.repeated, trace.backwards) == (1, 1, 1)
    assert trace.stamps_ns == (10, 20, 30)
    assert [r.rails["VDD_IN"].now_mw for r in trace.readings] == [100, 104, 108]
    assert trace.fault is None  # the mean is held against every line, kept or not


def test_a_lost_line_shows_in_the_fault():
    trace = read_power(tegrastats((0, 4000, 4000), (2, 6000, 5000 - 1)))

    assert trace.fault is not None
    assert (trace.fault.kind, trace.fault.line) == ("lost", 2)


def test_a_source_nobody_reads_is_refused_by_name():
    with pytest.raises(MeasurementError, match="wattmeter"):
        read_power(PowerRecord("wattmeter", ()))


def test_every_source_reads_an_empty_record_as_nothing():
    for source in SOURCES:
        trace = read_power(PowerRecord(source, ()))
        assert (trace.stamps_ns, dict(trace.rails), trace.period_ms) == ((), {}, None)


def test_default_rails_are_those_that_sources_give():
    assert DEFAULT_RAILS == {"nvml": "gpu", "rapl": "package-0", "command": "meter"}


points = st.lists(st.tuples(st.integers(1, 10**9), st.floats(0, 50)), min_size=1, max_size=20).map(
    lambda steps: (
        [(0, 0.0)]
        + [
            (sum(dt for dt, _ in steps[: i + 1]), sum(j for _, j in steps[: i + 1]))
            for i in range(len(steps))
        ]
    )
)


@settings(deadline=None, derandomize=True)
@given(points, st.data())
def test_a_counter_is_additive_and_whole_over_its_span(points, data):
    rail = counter_rail(points)
    total_ns = points[-1][0]
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, total_ns - 1)), max_size=5)))
    edges = [0, *(cut for cut in cuts if 0 < cut < total_ns), total_ns]

    parts = [rail.energy_j(Window(a, b)) for a, b in pairwise(edges)]

    assert sum(parts) == pytest.approx(points[-1][1], abs=1e-6)
    assert all(part >= -1e-9 for part in parts)
    assert len(rail.samples) == len(points) - 1


@settings(deadline=None, derandomize=True)
@given(points, st.data())
def test_a_counters_edges_are_wrong_by_no_more_than_their_bound(points, data):
    total_ns = points[-1][0]
    start = data.draw(st.integers(0, total_ns - 1))
    window = Window(start, data.draw(st.integers(start + 1, total_ns)))
    rail = counter_rail(points)

    # Any true course between two readings lies between them: the extremes are all early, all late.
    def at(t_ns, *, late):
        known = [j for t, j in points if (t <= t_ns if late else t < t_ns)]
        after = [j for t, j in points if t >= t_ns]
        return (known[-1] if known else 0.0) if late else after[0]

    told, bound = rail.energy_j(window), rail.edge_bound_j(window)
    for first in (True, False):
        for second in (True, False):
            true_j = at(window.stop_ns, late=second) - at(window.start_ns, late=first)
            on_points = {t for t, _ in points}
            if {window.start_ns, window.stop_ns} & on_points:
                continue
            assert abs(true_j - told) <= bound + 1e-6


def test_a_window_beyond_a_counter_has_no_energy():
    rail = counter_rail([(0, 0.0), (NS, 7.0)])

    assert rail.energy_j(Window(0, NS)) == 7.0
    assert rail.samples[0].power_w == 7.0
    with pytest.raises(ValueError, match="does not cover"):
        rail.energy_j(Window(0, NS + 1))
    with pytest.raises(ValueError, match="no reading"):
        counter_rail([]).energy_j(Window(0, 1))
