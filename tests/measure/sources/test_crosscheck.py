"""Two sources of one truth: gain, offset, ratio and lag that were put in come back."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hil.core.energy import PowerSample, Window
from hil.core.errors import MeasurementError
from hil.measure.sources.crosscheck import compare_sources, lag_s
from hil.measure.sources.series import PowerTrace, RailTrace, counter_rail, power_rail

NS = 1_000_000_000
LEVELS = ((0.0, 3.0), (10.0, 7.0), (25.0, 3.2), (35.0, 9.0), (50.0, 3.1))
END_S = 60.0


def truth_w(t: float) -> float:
    return next(power for start, power in reversed(LEVELS) if t >= start)


def lagged_w(t: float, tau_s: float) -> float:
    """What a first-order sensor shows of the truth, in closed form."""
    shown, at = LEVELS[0][1], 0.0
    for (start, power), stop in zip(LEVELS, [s for s, _ in LEVELS[1:]] + [math.inf], strict=True):
        at = start
        if t < stop:
            return power + (shown - power) * math.exp(-(t - at) / tau_s)
        shown = power + (shown - power) * math.exp(-(stop - at) / tau_s)
    raise AssertionError


def trace(rail: RailTrace, source: str = "meter") -> PowerTrace:
    stamps = tuple(sample.t_ns for sample in rail.samples)
    return PowerTrace(source, stamps, (), {"IN": rail})


def sampled(shown, period_s: float, noise_w: float = 0.0, seed: int = 0) -> RailTrace:
    rng = np.random.default_rng(seed)
    times = np.arange(0.0, END_S, period_s)
    return power_rail(
        PowerSample(round(t * NS), shown(t) + noise_w * float(rng.normal())) for t in times
    )


def windows(*spans: tuple[float, float]) -> list[Window]:
    return [Window(round(a * NS), round(b * NS)) for a, b in spans]


LOAD = windows((13, 16), (17, 20), (21, 24), (38, 42), (43, 47))
IDLE = windows((3, 6), (6, 9), (29, 33), (54, 58))


def test_gain_and_offset_of_a_second_source_come_back_exactly_without_noise():
    a = sampled(truth_w, 0.1)
    b = sampled(lambda t: 1.04 * truth_w(t) - 0.25, 0.05)

    told = compare_sources(trace(a), "IN", trace(b), "IN", LOAD, also=IDLE)

    assert told.gain is not None
    assert told.offset_w is not None
    assert told.gain.value == pytest.approx(1.04, rel=1e-9)
    assert told.offset_w.value == pytest.approx(-0.25, abs=1e-9)
    assert told.residual_w == pytest.approx(0.0, abs=1e-9)
    # Three windows at 7 W, two at 9 W: the geometric mean of the ratios by hand.
    by_hand = (3 * math.log(7.03 / 7) + 2 * math.log(9.11 / 9)) / 5
    assert told.ratio.value == pytest.approx(math.exp(by_hand))
    assert told.windows == 5


def test_intervals_cover_what_was_put_in_as_often_as_they_say():
    inside = {"gain": 0, "offset_w": 0, "ratio": 0}
    rounds = 100
    level = windows((13, 14), (15, 16), (17, 18), (19, 20), (21, 22))
    for seed in range(rounds):
        a = sampled(truth_w, 0.1, 0.05, seed)
        b = sampled(lambda t: 1.02 * truth_w(t) + 0.1, 0.1, 0.05, seed + 10_000)
        told = compare_sources(trace(a), "IN", trace(b), "IN", level, also=IDLE)
        true = {"gain": 1.02, "offset_w": 0.1, "ratio": (1.02 * 7 + 0.1) / 7}
        for name, value in true.items():
            interval = getattr(told, name)
            inside[name] += interval.low <= value <= interval.high

    # Of 100, 95 on average; fewer than 88 has a chance of 0.4 % for each.
    assert min(inside.values()) >= 88


def test_windows_of_one_level_tell_a_ratio_and_no_line():
    a, b = sampled(truth_w, 0.1, 0.01), sampled(truth_w, 0.1, 0.01, 5)

    told = compare_sources(trace(a), "IN", trace(b), "IN", LOAD[:3])

    assert (told.gain, told.offset_w, told.residual_w) == (None, None, None)
    assert told.ratio.value == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("delay_s", [-0.7, 0.0, 0.13, 0.4])
def test_a_pure_delay_is_found(delay_s):
    a = sampled(lambda t: lagged_w(t, 0.3), 0.05)
    b = sampled(lambda t: 2.0 + 0.5 * lagged_w(max(0.0, t - delay_s), 0.3), 0.05)

    assert lag_s(a, b) == pytest.approx(delay_s, abs=0.01)


def test_a_slower_sensor_lags_by_about_the_difference_of_the_time_constants():
    a = sampled(lambda t: lagged_w(t, 0.02), 0.02)
    b = sampled(lambda t: lagged_w(t, 0.42), 0.1)

    found = lag_s(a, b)

    assert found is not None
    assert 0.15 < found < 0.45


def test_a_counter_does_not_seem_late_for_being_stamped_at_the_ends():
    times = np.arange(0.0, END_S, 0.1)
    energy = np.concatenate([[0.0], np.cumsum([0.1 * truth_w(t + 0.05) for t in times[:-1]])])
    points = [(round(t * NS), float(j)) for t, j in zip(times, energy, strict=True)]
    counter = counter_rail(points)

    told = compare_sources(trace(sampled(truth_w, 0.02)), "IN", trace(counter), "IN", LOAD)

    assert told.ratio.value == pytest.approx(1.0, rel=2e-3)
    assert told.lag_s == pytest.approx(0.0, abs=0.03)


def test_nothing_that_changes_has_no_lag():
    still = power_rail(PowerSample(i * NS // 10, 5.0) for i in range(600))

    assert lag_s(still, still) is None
    assert lag_s(still, power_rail([])) is None
    assert lag_s(sampled(truth_w, 0.1, 1.0), sampled(lambda _: 5.0, 0.1, 1.0, 3)) is None


def test_what_cannot_be_compared_is_refused_with_its_reason():
    a = trace(sampled(truth_w, 0.1), "tegrastats")
    short = trace(power_rail([PowerSample(0, 1.0), PowerSample(14 * NS, 1.0)]), "command")

    with pytest.raises(MeasurementError, match="no rail 'OUT'"):
        compare_sources(a, "OUT", a, "IN", LOAD)
    with pytest.raises(MeasurementError, match="0 windows in common"):
        compare_sources(a, "IN", short, "IN", LOAD)
    dead = trace(sampled(lambda _: 0.0, 0.1))
    with pytest.raises(MeasurementError, match="above zero"):
        compare_sources(a, "IN", dead, "IN", LOAD)
