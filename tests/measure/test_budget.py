"""The error budget against closed forms, and totals against the truth they are to hold."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from hil.core.evidence import PowerRecord, RunPlan
from hil.core.stats import Estimate
from hil.measure.budget import rounding_w
from hil.measure.calibration import Calibration, Setup
from hil.measure.numbers import measurement
from hil.measure.sensors import SensorErrors
from hil.measure.uncertainty import half_width

SENSOR = SensorErrors(
    offset_ma=4.0, gain=0.0025, shunt=0.01, bus_mv=19144.0, lsb_ma=2.0, tau_s=0.42, source="table"
)


def terms(got, figure):
    return {term.name: term for term in got.error_budget if term.figure == figure}


def test_gross_energy_has_offset_gain_and_shunt_in_their_sizes(script):
    got = measurement(script.evidence(), "VDD_IN", sensor=SENSOR)
    found = terms(got, "energy_mj")

    # 5 W over 100 inferences a second: 10 mJ for each watt; a rectangle's interval is 95 % of it
    assert found["sensor offset"].half_width == pytest.approx(0.95 * 0.076576 * 10, rel=1e-3)
    assert found["sensor gain"].half_width == pytest.approx(0.95 * 0.0025 * 50, rel=0.01)
    assert found["shunt"].half_width == pytest.approx(0.95 * 0.01 * 50, rel=0.01)
    assert sum(term.share or 0 for term in found.values()) == pytest.approx(1.0)
    assert all(term.source for term in found.values())
    assert found["sample rate and edges"].part_of == "repeatability"
    assert found["sample rate and edges"].share is None


def test_the_total_is_the_convolution_of_its_terms_around_the_reading(script):
    got = measurement(script.evidence(), "VDD_IN", sensor=SENSOR)
    total, read = got.energy_mj_u95_total, got.energy_mj
    assert total is not None
    assert read is not None

    expected = half_width(
        read.high - read.value, 3, [0.76576, 0.0025 * read.value, 0.01 * read.value]
    )

    assert total.value == read.value
    assert total.high - total.value == pytest.approx(expected, rel=0.02)
    assert total.low < read.low
    power = got.power_w_u95_total
    assert power is not None
    assert power.high / got.power_w.value == pytest.approx(total.high / read.value, rel=0.01)


def test_the_offset_drops_out_of_net_energy_and_gain_does_not(script):
    net = terms(measurement(script.evidence(), "VDD_IN", sensor=SENSOR), "energy_net_mj")

    assert net["sensor offset"].half_width == 0.0
    assert net["sensor gain"].half_width == pytest.approx(0.95 * 0.0025 * 20, rel=0.02)
    huge = replace(SENSOR, offset_ma=100.0)
    same = measurement(script.evidence(), "VDD_IN", sensor=huge)
    here = measurement(script.evidence(), "VDD_IN", sensor=SENSOR)
    assert same.energy_net_mj_u95_total == here.energy_net_mj_u95_total
    assert same.energy_mj_u95_total != here.energy_mj_u95_total


def test_inferences_per_joule_are_the_reciprocal_ends_swapped(script):
    got = measurement(script.evidence(), "VDD_IN", sensor=SENSOR)
    energy, per_joule = got.energy_mj_u95_total, got.inferences_per_joule_u95_total

    assert energy is not None
    assert per_joule is not None
    assert (per_joule.low, per_joule.high) == (1000 / energy.high, 1000 / energy.low)


def test_an_unknown_limit_leaves_totals_unknown_with_the_reason_and_shares_too(script):
    lacking = SensorErrors(gain=0.0025, shunt=None, why_unknown="shunts are not known")
    got = measurement(script.evidence(), "VDD_IN", sensor=lacking)

    assert got.energy_mj_u95_total is None
    assert "shunt" in (got.why("energy_mj_u95_total") or "")
    assert "offset" not in (got.why("energy_net_mj_u95_total") or "")
    assert terms(got, "energy_mj")["shunt"].half_width is None
    assert all(term.share is None for term in got.error_budget)
    data = got.to_json()
    assert data["energy_mj_u95_total"] is None
    assert "power.sensor" in data["energy_mj_u95_total_reason"]


def test_net_energy_has_a_total_where_only_the_offset_is_unknown(script):
    got = measurement(script.evidence(), "VDD_IN", sensor=SensorErrors(gain=0.01, shunt=0.0))

    assert got.energy_mj_u95_total is None
    assert got.energy_net_mj_u95_total is not None


def test_a_tx2s_limits_are_found_by_the_boards_model(script):
    evidence = script.evidence(board={"model": "NVIDIA Jetson TX2"})
    got = measurement(evidence, "VDD_IN")

    assert got.energy_mj_u95_total is not None
    assert got.resolution_w == pytest.approx(0.0383, abs=1e-4)
    assert "unverified" in terms(got, "energy_mj")["sensor offset"].source


@pytest.mark.parametrize(("noise_steps", "most"), [(0.0, 0.5), (0.25, 0.16), (0.5, 0.01)])
def test_the_bound_on_rounding_holds_for_every_level_between_two_steps(noise_steps, most):
    rng = np.random.default_rng(3)
    noise = noise_steps * rng.standard_normal(200_000)
    worst = max(
        abs(float(np.mean(np.round(level + noise) - level))) for level in np.linspace(0, 1, 21)
    )

    bound = rounding_w(1.0, noise_steps)

    assert worst <= bound + 4 * noise_steps / math.sqrt(noise.size) + 2e-3
    assert bound <= most


def test_a_meter_on_another_clock_is_charged_for_what_a_shift_would_do(script):
    rising = script.but(noise_w=0.0, load_w=lambda t: 4.0 + 0.05 * t)
    rows = [
        (t, int(line.split("VDD_IN ")[1].split("/")[0]))
        for t, line in rising.lines(np.random.default_rng(0))
    ]
    lines = tuple((t + 7 * 10**9, f"{t / 1e9:.6f} {mw / 1000}") for t, mw in rows)
    sync = [[7 * 10**9 - 20_000_000, 0, 7 * 10**9 + 20_000_000]]
    meter = PowerRecord("command", lines, settings={"sync": sync}, clock="host")
    free = replace(SENSOR, offset_ma=0.0)

    got = measurement(rising.evidence(power=(meter,)), "meter", sensor=free)

    # 50 mW a second, off by 20 ms (the round trip) and what lines came late by
    shift = terms(got, "energy_mj")["clock alignment"]
    assert shift.half_width == pytest.approx(0.95 * 0.05 * 0.020 * 10, rel=0.2)


def test_a_counters_edges_are_bounded_and_it_has_no_samples_to_thin(script):
    plan = RunPlan()
    start, stop = script.load_s
    at = np.arange(0.0, stop + 10.0, 0.1)
    power_w = np.where((at >= start) & (at < stop), 50.0, 20.0)
    counted_mj = np.cumsum(power_w * 0.1) * 1000
    lines = [
        (round(t * 1e9), f"gpu_energy={round(mj)}mJ") for t, mj in zip(at, counted_mj, strict=True)
    ]
    record = PowerRecord("nvml", tuple(lines))

    got = measurement(script.evidence(power=(record,)), "gpu", sensor=SENSOR)

    assert got.power_w is not None
    assert got.power_w.value == pytest.approx(50.0, rel=1e-3)
    edges = terms(got, "energy_mj")["edges"]
    # at most one update of 5 J at either end of 32 s
    assert edges.half_width is not None
    assert edges.half_width <= 0.95 * 2 * 5.0 / (plan.blocks * plan.window_s) * 10
    assert edges.part_of is None


def test_the_samplers_own_power_is_told_and_not_added(script):
    found = Calibration(
        setup=Setup("b", None, None, "measured", 0, True, "tegrastats", "VDD_IN", 100),
        log_ratio_sd=0.005,
        log_ratio_df=10,
        latency_log_ratio_sd=0.001,
        round_s=60.0,
        block_variance_rel=1e-5,
        block_window_s=8.0,
        block_df=0,
        sampler_power_w=Estimate(0.03, 0.01, 0.05),
        sampler_latency_ratio=None,
        lag_s=None,
        minutes=10.0,
        onnx_sha256="",
        engine_sha256="",
        evidence=(),
        created="2024-01-01T00:00:00Z",
        unknown={},
    )
    plain = measurement(script.evidence(), "VDD_IN", sensor=SENSOR)
    got = measurement(script.evidence(), "VDD_IN", sensor=SENSOR, calibration=found)

    sampler = terms(got, "energy_mj")["sampler"]
    assert sampler.half_width == pytest.approx(0.3)
    assert sampler.share is None
    assert got.energy_mj_u95_total == plain.energy_mj_u95_total
    assert got.sampler_power_w == found.sampler_power_w
