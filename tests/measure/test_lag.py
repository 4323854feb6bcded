"""The sensor's lag from load steps, against exponentials written down exactly."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from hil.core.energy import NS_PER_S, PowerSample, Window, energy_j
from hil.core.evidence import Mark
from hil.measure.lag import lag_corrected_energy, lag_of, load_steps, step_lag
from hil.measure.sources.series import counter_rail, power_rail

IDLE_W, LOAD_W = 1.5, 4.8
ON_S, OFF_S, END_S = 4.0, 24.0, 32.0


def answer_w(t_s, tau_s, dead_s=0.0):
    """Return the exact reading of a first-order lag: load on at 4 s, off at 24 s."""

    def rise(since_s):
        late_s = np.maximum(since_s - dead_s, 0.0)
        return -np.expm1(-late_s / tau_s) if tau_s > 0 else (since_s > dead_s).astype(float)

    return IDLE_W + (LOAD_W - IDLE_W) * (rise(t_s - ON_S) - rise(t_s - OFF_S))


def trace(t_s, power_w):
    return power_rail(
        PowerSample(round(t * NS_PER_S), float(p)) for t, p in zip(t_s, power_w, strict=True)
    )


STEPS = [(round(ON_S * NS_PER_S), 1.0), (round(OFF_S * NS_PER_S), -1.0)]
TIMES_S = np.arange(0.03, END_S, 0.108)


@settings(max_examples=15, deadline=None)
@given(tau_s=st.floats(0.15, 2.0), dead_s=st.floats(0.0, 0.1), start_s=st.floats(0.0, 0.1))
def test_an_exact_exponential_gives_its_time_constant_back(tau_s, dead_s, start_s):
    times_s = TIMES_S + start_s
    found = step_lag(trace(times_s, answer_w(times_s, tau_s, dead_s)), STEPS)

    assert found is not None
    assert found.tau_s.value == pytest.approx(tau_s, rel=0.03, abs=0.005)
    assert found.dead_s == pytest.approx(dead_s, abs=0.02)
    assert found.steps == 2


def noisy(seed, tau_s, steps=STEPS):
    """Lag, murmur behind it, one burst each 20 s on average, 38 mW steps."""
    rng = np.random.default_rng(seed)
    cell_s = 0.02
    cells = round(END_S / cell_s)
    power_w = 0.1 * np.repeat(rng.standard_normal(cells // 12 + 1), 12)[:cells]
    for at in rng.uniform(0, END_S, rng.poisson(END_S / 20)):
        first, last = round(at / cell_s), round((at + rng.uniform(0.3, 1.5)) / cell_s)
        power_w[first:last] += rng.uniform(0.5, 1.4)
    if tau_s > 0:
        kept = math.exp(-cell_s / tau_s)
        power_w = signal.lfilter([1 - kept], [1, -kept], power_w)
    at_s = TIMES_S[TIMES_S < END_S - 0.1]
    read_w = answer_w(at_s, tau_s) + np.interp(at_s, cell_s * np.arange(cells), power_w)
    return step_lag(trace(at_s, 0.0383 * np.round(read_w / 0.0383)), steps)


@pytest.mark.parametrize("tau_s", [0.0, 0.42, 1.0, 2.0])
def test_noise_bursts_and_register_steps_leave_it_unbiased_and_covered(tau_s):
    found = [noisy(seed, tau_s) for seed in range(60)]

    assert all(lag is not None for lag in found)
    values = [lag.tau_s.value for lag in found]
    assert np.median(values) == pytest.approx(tau_s, rel=0.05, abs=0.02)
    covered = np.mean([lag.tau_s.low <= tau_s <= lag.tau_s.high for lag in found])
    assert covered >= 0.90


def test_one_step_tells_it_less_well_than_two():
    both = [noisy(seed, 0.42) for seed in range(20)]
    one = [noisy(seed, 0.42, STEPS[:1]) for seed in range(20)]

    assert all(lag.steps == 1 for lag in one)
    assert np.mean([width(lag) for lag in one]) > np.mean([width(lag) for lag in both])


def width(lag):
    return lag.tau_s.high - lag.tau_s.low


def test_a_load_that_does_not_stand_out_tells_nothing():
    rng = np.random.default_rng(1)
    flat = trace(TIMES_S, 3.0 + 0.1 * rng.standard_normal(TIMES_S.size))

    assert step_lag(flat, STEPS) is None


def test_a_step_against_the_load_tells_nothing():
    swapped = [(t_ns, -sign) for t_ns, sign in STEPS]

    assert step_lag(trace(TIMES_S, answer_w(TIMES_S, 0.42)), swapped) is None


@pytest.mark.parametrize("times_s", [[], [0.1, 0.2], list(np.arange(0.0, 4.3, 0.1))])
def test_too_few_samples_around_a_step_tell_nothing(times_s):
    at_s = np.array(times_s)

    assert step_lag(trace(at_s, answer_w(at_s, 0.42)), STEPS) is None


def test_a_counter_has_no_lag_to_tell():
    rail = counter_rail([(i * 100_000_000, 0.5 * i) for i in range(200)])

    assert step_lag(rail, [(2 * NS_PER_S, 1.0)]) is None


# -- what it does to a window --------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    tau_s=st.floats(0.1, 2.0),
    start_s=st.floats(4.0, 20.0),
    long_s=st.floats(0.5, 10.0),
)
def test_the_correction_gives_a_window_its_true_energy_whatever_the_lag(tau_s, start_s, long_s):
    times_s = np.arange(0.0, END_S, 0.002)
    samples = trace(times_s, answer_w(times_s, tau_s)).samples
    window = Window(round(start_s * NS_PER_S), round((start_s + long_s) * NS_PER_S))
    on_s = min(start_s + long_s, OFF_S) - start_s
    true_j = LOAD_W * on_s + IDLE_W * (long_s - on_s)

    assert lag_corrected_energy(samples, window, tau_s) == pytest.approx(true_j, rel=1e-4)


def test_no_lag_needs_no_correction():
    samples = trace(TIMES_S, answer_w(TIMES_S, 0.42)).samples
    window = Window(5 * NS_PER_S, 9 * NS_PER_S)

    assert lag_corrected_energy(samples, window, 0.0) == energy_j(samples, window)


def test_corrections_of_adjacent_windows_cancel_but_for_the_outer_edges():
    samples = trace(TIMES_S, answer_w(TIMES_S, 0.42)).samples
    edges = [5, 6, 8, 12]
    parts = [Window(a * NS_PER_S, b * NS_PER_S) for a, b in pairwise(edges)]
    whole = Window(5 * NS_PER_S, 12 * NS_PER_S)

    total = sum(lag_corrected_energy(samples, part, 0.42) for part in parts)
    assert total == pytest.approx(lag_corrected_energy(samples, whole, 0.42))


# -- evidence ------------------------------------------------------------------------------------


def test_an_ordinary_run_holds_two_steps_and_a_run_under_way_one(script):
    evidence = script.evidence()
    under_way = replace(
        evidence, marks=tuple(m for m in evidence.marks if m.name not in ("tail", "idle_after"))
    )
    start_s, stop_s = script.load_s

    assert load_steps(evidence) == [(start_s * NS_PER_S, 1.0), (stop_s * NS_PER_S, -1.0)]
    assert load_steps(under_way) == [(start_s * NS_PER_S, 1.0)]


def test_a_step_response_holds_two_steps_for_each_time_it_is_on(script):
    marks = (
        Mark("on", 0, 10, 20),
        Mark("off", 0, 20, 30),
        Mark("on", 1, 30, 40),
        Mark("off", 1, 40, 50),
    )
    evidence = replace(script.evidence(), marks=marks)

    assert load_steps(evidence) == [(10, 1.0), (20, -1.0), (30, 1.0), (40, -1.0)]


def test_the_lag_of_a_run_is_read_off_its_lines(script):
    start_s, stop_s = script.load_s

    def load(t_s):
        return 5.0 - 2.0 * math.exp(-(t_s - start_s) / 0.5)

    def idle(t_s):
        return 3.0 + (2.0 * math.exp(-(t_s - stop_s) / 0.5) if t_s >= stop_s else 0.0)

    found = lag_of(script.but(load_w=load, idle_w=idle).evidence(), "VDD_IN")

    assert found is not None
    assert found.tau_s.value == pytest.approx(0.5, rel=0.1)
    assert lag_of(script.evidence(power=()), "VDD_IN") is None
    assert lag_of(script.evidence(), "VDD_NONE") is None
