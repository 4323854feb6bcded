"""Energy against closed forms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.core.energy import NS_PER_S, PowerSample, Window, energy_j, inside, mean_power_w


def at(seconds: float) -> int:
    return round(seconds * NS_PER_S)


RAMP = [PowerSample(at(t), 2.0 * t) for t in range(11)]

steps = st.lists(st.integers(1, 10**9), min_size=2, max_size=30)
powers = st.floats(0, 100)


@st.composite
def traces(draw):
    stamps = [0]
    for step in draw(steps):
        stamps.append(stamps[-1] + step)
    return [PowerSample(t_ns, draw(powers)) for t_ns in stamps]


@given(start_s=st.floats(0, 4.9), stop_s=st.floats(5, 10))
def test_energy_of_a_ramp_is_the_closed_form(start_s, stop_s):
    got_j = energy_j(RAMP, Window(at(start_s), at(stop_s)))

    assert got_j == pytest.approx(stop_s**2 - start_s**2, rel=1e-7)


def test_energy_between_two_samples_is_interpolated_on_both_sides():
    assert energy_j(RAMP, Window(at(2.25), at(2.75))) == pytest.approx(2.75**2 - 2.25**2)


def test_energy_of_unevenly_stamped_constant_power_is_power_times_time():
    samples = [PowerSample(t, 4.8) for t in (3, 10, 11, 500, 10**9, 3 * 10**9)]

    assert energy_j(samples, Window(3, 3 * 10**9)) == pytest.approx(4.8 * (3 - 3e-9))
    assert mean_power_w(samples, Window(17, 2 * 10**9)) == pytest.approx(4.8)


@given(trace=traces(), data=st.data())
def test_energy_is_additive_over_adjacent_windows(trace, data):
    last_ns = trace[-1].t_ns
    middle_ns = data.draw(st.integers(1, last_ns - 1))

    parts_j = energy_j(trace, Window(0, middle_ns)) + energy_j(trace, Window(middle_ns, last_ns))

    assert parts_j == pytest.approx(energy_j(trace, Window(0, last_ns)), rel=1e-9, abs=1e-12)


@given(trace=traces(), factor=st.floats(0, 10))
def test_scaling_power_scales_energy(trace, factor):
    window = Window(0, trace[-1].t_ns)
    scaled = [PowerSample(t_ns, factor * power_w) for t_ns, power_w in trace]

    assert energy_j(scaled, window) == pytest.approx(factor * energy_j(trace, window), abs=1e-9)


@given(trace=traces(), data=st.data())
def test_mean_power_lies_between_the_extremes(trace, data):
    start_ns = data.draw(st.integers(0, trace[-1].t_ns - 1))
    stop_ns = data.draw(st.integers(start_ns + 1, trace[-1].t_ns))
    low_w, high_w = min(p for _, p in trace), max(p for _, p in trace)

    got_w = mean_power_w(trace, Window(start_ns, stop_ns))

    assert low_w - 1e-9 <= got_w <= high_w + 1e-9


@pytest.mark.parametrize("window", [Window(-1, at(5)), Window(at(5), at(10) + 1)])
def test_a_window_that_is_not_covered_has_no_energy(window):
    with pytest.raises(ValueError, match="do not cover"):
        energy_j(RAMP, window)


def test_no_samples_have_no_energy():
    with pytest.raises(ValueError, match="no sample"):
        energy_j([], Window(0, 1))


def test_stamps_that_do_not_rise_have_no_energy():
    samples = [PowerSample(t, 1.0) for t in (0, 5, 5, 10)]

    with pytest.raises(ValueError, match="do not rise"):
        energy_j(samples, Window(0, 10))


def test_an_empty_window_is_refused():
    with pytest.raises(ValueError, match="empty window"):
        Window(7, 7)


def test_inside_takes_both_ends():
    assert [s.t_ns for s in inside(RAMP, Window(at(2), at(4)))] == [at(2), at(3), at(4)]
