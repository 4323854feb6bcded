"""A board's calibration: closed forms, its file, and what it holds for."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from hil.core.stats import Estimate
from hil.measure.calibration import (
    Calibration,
    Setup,
    block_noise,
    latency_ratio,
    sampler_power,
)

SETUP = Setup(
    device="lab",
    model="quill",
    l4t="32.7.4",
    provenance="measured",
    nvpmodel=0,
    clocks=True,
    source="tegrastats",
    rail="VDD_IN",
    interval_ms=100,
)
KEPT = Calibration(
    setup=SETUP,
    log_ratio_sd=0.006,
    log_ratio_df=10.0,
    latency_log_ratio_sd=0.001,
    round_s=63.0,
    block_variance_rel=2e-5,
    block_window_s=5.0,
    block_df=40.0,
    sampler_power_w=Estimate(0.04, 0.01, 0.07),
    sampler_latency_ratio=None,
    lag_s=Estimate(0.42, 0.4, 0.45),
    minutes=21.5,
    onnx_sha256="1" * 64,
    engine_sha256="2" * 64,
    evidence=("3" * 64, "4" * 64),
    created="2026-11-23T12:00:00+00:00",
    unknown={"sampler_latency_ratio": "no time"},
)


def test_a_calibration_survives_its_file():
    text = json.dumps(KEPT.to_json())

    assert Calibration.from_json(json.loads(text)) == KEPT
    assert json.loads(text)["schema"] == "hil/calibration@1"
    assert json.loads(text)["sampler_power_w_ci95"] == [0.01, 0.07]


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data.update(schema="hil/calibration@9"),
        lambda data: data.pop("log_ratio_sd"),
        lambda data: data.update(log_ratio_sd="wide"),
        lambda data: data.update(log_ratio_sd=None),
        lambda data: data["setup"].update(colour="blue"),
        lambda data: data.update(lag_s_ci95=None),
    ],
)
def test_a_damaged_calibration_is_a_value_error(harm):
    data = KEPT.to_json()
    harm(data)

    with pytest.raises(ValueError):  # noqa: PT011 - the kind is what callers rely on
        Calibration.from_json(data)


def test_a_calibration_says_where_a_setup_differs_from_its_own():
    assert SETUP.differences(SETUP) == ()
    other = replace(SETUP, nvpmodel=2, interval_ms=50)

    told = SETUP.differences(other)

    assert told == ("nvpmodel 0 there, 2 here", "interval_ms 100 there, 50 here")


def test_the_samplers_power_is_found_where_each_reading_costs_the_same_energy():
    joules, base_w = 0.005, 4.0  # per reading; without any
    fast = [base_w + joules / 0.1 + wiggle for wiggle in (-0.01, 0.01, 0.0)]
    slow = [base_w + joules / 1.0 + wiggle for wiggle in (-0.01, 0.01, 0.0)]

    got = sampler_power(fast, slow, fast_ms=100, slow_ms=1000, at_ms=100)
    twice = sampler_power(fast, slow, fast_ms=100, slow_ms=1000, at_ms=50)

    assert got.value == pytest.approx(joules / 0.1)
    assert twice.value == pytest.approx(2 * got.value)
    assert got.low <= got.value <= got.high


def test_periods_that_do_not_differ_tell_nothing_of_the_sampler():
    with pytest.raises(ValueError, match="no slope"):
        sampler_power([5.0, 5.0], [5.0, 5.0], fast_ms=100, slow_ms=100, at_ms=100)


def test_the_samplers_interval_holds_its_cost_19_times_in_20():
    rng = np.random.Generator(np.random.Philox(1))
    held = 0
    for _ in range(2000):
        drift = np.cumsum(rng.normal(0, 0.05, 5))  # shared by both runs of a pair
        fast = 5.05 + drift + rng.normal(0, 0.02, 5)
        slow = 5.005 + drift + rng.normal(0, 0.02, 5)
        got = sampler_power(list(fast), list(slow), fast_ms=100, slow_ms=1000, at_ms=100)
        held += got.low <= 0.05 <= got.high

    assert held / 2000 == pytest.approx(0.95, abs=0.015)


def test_the_latency_ratio_is_geometric_over_pairs():
    got = latency_ratio([2.0, 8.0], [1.0, 1.0])

    assert got.value == pytest.approx(4.0)
    assert math.log(got.high / got.value) == pytest.approx(math.log(got.value / got.low))


def test_the_noise_of_blocks_is_pooled_around_each_runs_own_mean():
    runs = [[0.9, 1.0, 1.1], [4.5, 5.0, 5.5], [7.0]]

    variance, df = block_noise(runs)

    assert df == 4.0
    assert variance == pytest.approx((2 * 0.1**2 + 2 * 0.1**2) / 4)
    with pytest.raises(ValueError, match="two blocks"):
        block_noise([[1.0]])
