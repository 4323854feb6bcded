"""Traps beside those of power lines: lag, pace, warm-up, instants in step, others at work."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from hil.core.errors import ConfigError, MeasurementError
from hil.core.evidence import PowerRecord, RunPlan
from hil.measure.findings import outlier
from hil.measure.numbers import measurement
from hil.measure.plan import check_plan
from hil.measure.sensors import SensorErrors


def reasons(got):
    return "; ".join(got.reasons)


def lagging(script, tau_s, settle_s):
    """5 W after 3 W, as a sensor of that lag shows it, idle long enough to forget."""
    script = script.but(noise_w=0.01, plan=RunPlan(idle_s=20.0, settle_s=settle_s, tail_s=1.0))
    start, stop = script.load_s
    left = 1 - math.exp(-(stop - start) / tau_s)
    return script.but(
        load_w=lambda t: 5.0 - 2.0 * math.exp(-(t - start) / tau_s),
        idle_w=lambda t: 3.0 if t < start else 3.0 + 2.0 * left * math.exp((stop - t) / tau_s),
    )


@pytest.mark.parametrize("tau_s", [1.0, 2.0])
def test_a_slow_sensor_is_noticed_and_what_it_had_not_shown_is_put_back(script, tau_s):
    got = measurement(lagging(script, tau_s, 3.0).evidence(), "VDD_IN")

    assert got.lag_s is not None
    assert got.lag_s.value == pytest.approx(tau_s, rel=0.1)
    assert got.validity == "suspect"
    assert f"set settle_s to {5 * got.lag_s.value:.1f}" in reasons(got)
    # Without the correction 2 s of lag would read 0.55 % too little.
    assert got.power_w.value == pytest.approx(5.0, rel=5e-4)
    assert got.energy_net_mj.value == pytest.approx(20.0, rel=5e-3)


def test_a_slow_sensor_that_was_waited_for_is_valid(script):
    got = measurement(lagging(script, 1.0, 6.0).evidence(), "VDD_IN")

    assert (got.validity, got.reasons) == ("valid", ())


def test_one_window_unlike_the_others_is_suspect(script):
    start, _ = script.load_s
    odd = script.but(load_w=lambda t: 6.5 if start + 11 <= t < start + 19 else 5.0)

    got = measurement(odd.evidence(), "VDD_IN")

    assert got.validity == "suspect"
    assert "block 1 drew +29.9% against the others" in reasons(got)


def test_grubbs_limit_is_met_as_often_as_said():
    rng = np.random.default_rng(3)
    found = [outlier(10 + 3 * rng.standard_normal(6)) is not None for _ in range(4000)]

    # the size condition is met by nearly all of these; chance alone gives one in a hundred
    assert np.mean(found) == pytest.approx(0.01, abs=0.006)


def test_others_at_work_beside_the_load_are_suspect(script):
    def busy(evidence):
        lines = [
            (t, line.replace("CPU [4%@2035,off]", "CPU [99%@2035,80%@2035,90%@2035]"))
            for t, line in evidence.power_lines
        ]
        return replace(evidence, power=(replace(evidence.power[0], lines=tuple(lines)),))

    got = measurement(busy(script.evidence()), "VDD_IN")

    assert "2.7 cores were busy under load" in reasons(got)


def test_warming_up_into_the_first_window_is_suspect_and_done_before_it_is_not(script):
    rng = np.random.default_rng(1)

    def started(decay):
        settle = 10 + 3 * np.exp(-np.arange(300) / decay) + rng.normal(0, 0.02, 300)
        return script.evidence(start={"settle_ns": [int(ms * 1e6) for ms in settle]})

    late = measurement(started(200.0), "VDD_IN")
    early = measurement(started(10.0), "VDD_IN")

    assert late.warmup_inferences is None
    assert "when the first block began" in reasons(late)
    assert early.warmup_inferences is not None
    assert early.validity == "valid"


def paced(script, missed_each):
    plan = RunPlan(rate_hz=50.0)
    marked = script.but(
        plan=plan, latency_ms=lambda b, rng: rng.normal(10, 0.05, 400 - missed_each)
    )
    evidence = marked.evidence()
    marks = [replace(m, missed=missed_each) if m.name == "block" else m for m in evidence.marks]
    return replace(evidence, marks=tuple(marks))


@pytest.mark.parametrize(
    ("missed", "validity"), [(0, "valid"), (2, "valid"), (20, "suspect"), (80, "invalid")]
)
def test_slots_that_were_missed_count_against_a_paced_run(script, missed, validity):
    got = measurement(paced(script, missed), "VDD_IN")

    assert got.validity == validity
    assert got.rate == {
        "asked_hz": 50.0,
        "achieved_hz": pytest.approx(50.0 * (400 - missed) / 400),
        "missed": 4 * missed,
    }


def test_at_a_fixed_rate_the_pauses_are_in_the_energy_and_in_idle(script):
    got = measurement(paced(script, 0), "VDD_IN")

    # 5 W, and 3 W idle, for 20 ms an inference
    assert got.energy_mj.value == pytest.approx(100.0, rel=0.01)
    assert got.energy_net_mj.value == pytest.approx(40.0, rel=0.02)


INSTANT = SensorErrors(tau_s=0.0)


@pytest.mark.parametrize(
    ("latency_ms", "sensor", "modes", "told"),
    [
        (10.0, INSTANT, {}, True),  # 100 ms between lines: every tenth inference, same moment
        (10.0, INSTANT, {"running_mode": {"0-0041": 1}}, False),
        (10.0, None, {"running_mode": {"0-0041": 0}}, True),
        (10.0, None, {}, False),
        (7.3, INSTANT, {}, False),
    ],
)
def test_instants_that_keep_step_with_the_inferences_are_suspect(
    script, latency_ms, sensor, modes, told
):
    count = int(8000 / latency_ms)
    steady = script.but(
        latency_ms=lambda b, rng: np.full(count, latency_ms), settings=tuple(modes.items())
    )

    got = measurement(steady.evidence(), "VDD_IN", sensor=sensor)

    assert ("keep step with the inferences" in reasons(got)) == told
    assert got.running_mode == modes.get("running_mode")


@pytest.mark.parametrize(("jittered", "validity"), [(False, "suspect"), (True, "valid")])
def test_instants_at_even_distances_are_never_vouched_for(script, jittered, validity):
    modes = {"running_mode": {"0-0041": 0}, "jittered": jittered}
    steady = script.but(latency_ms=lambda b, rng: np.full(1095, 7.3), settings=tuple(modes.items()))

    got = measurement(steady.evidence(), "VDD_IN")

    assert got.validity == validity
    assert ("which varies it" in reasons(got)) != jittered


def test_many_small_holes_add_up(script):
    evidence = script.evidence()
    kept = [item for i, item in enumerate(evidence.power_lines) if i % 20]
    plain = [(t, f"VDD_IN={line.split('VDD_IN ')[1].split('/')[0]}mW") for t, line in kept]
    record = PowerRecord("ina3221", tuple(plain))

    got = measurement(replace(evidence, power=(record,)), "VDD_IN")

    assert got.validity == "suspect"
    assert "power samples cover 95" in reasons(got)


def test_heating_is_seen_in_the_kernels_word_where_lines_have_no_temperature(script):
    evidence = script.evidence()
    plain = [
        (t, f"VDD_IN={line.split('VDD_IN ')[1].split('/')[0]}mW")
        for t, line in evidence.power_lines
    ]
    states = tuple(s | {"temps_c": {"GPU": 30 + 0.3 * s["t_ns"] / 1e9}} for s in evidence.states)
    hot = replace(evidence, power=(PowerRecord("ina3221", tuple(plain)),), states=states)

    assert "GPU rose by 9.0 C in 30 s" in reasons(measurement(hot, "VDD_IN"))


def test_a_second_source_is_set_beside_the_first(script):
    evidence = script.evidence()
    double = [
        (t, f"VDD_IN={round(1.02 * int(line.split('VDD_IN ')[1].split('/')[0]))}mW")
        for t, line in evidence.power_lines
    ]
    also = PowerRecord("ina3221", tuple(double), settings={"rail": "VDD_IN"})
    lost = PowerRecord("command", ())

    got = measurement(replace(evidence, power=(*evidence.power, also, lost)), "VDD_IN")

    other, empty = got.others
    assert (other.source, other.rail) == ("ina3221", "VDD_IN")
    assert other.ratio.value == pytest.approx(1.02, rel=1e-3)
    assert other.energy_mj.value == pytest.approx(1.02 * got.energy_mj.value, rel=1e-3)
    assert empty.ratio is None
    assert "no power at all" in (empty.reason or "")


def test_a_run_under_ten_seconds_is_refused(script):
    short = RunPlan(window_s=3.0, blocks=3)
    with pytest.raises(ConfigError, match="9 s of load"):
        check_plan(short, "tegrastats")
    check_plan(short, "none")
    hasty = script.but(plan=short, latency_ms=lambda b, rng: rng.normal(10, 0.05, 300))
    with pytest.raises(MeasurementError, match=r"9\.0 s of windows"):
        measurement(hasty.evidence(), "VDD_IN")
