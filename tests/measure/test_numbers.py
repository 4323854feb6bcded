"""Figures against the powers and latencies the evidence was written from."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from hil.core.errors import MeasurementError
from hil.core.evidence import RunPlan
from hil.measure.numbers import Measurement, measurement, require_joules
from hil.measure.result import FIGURES
from hil.measure.scene import powered_scene
from hil.measure.steady import Steady, sampling_floor_w, steady_interval


def relined(evidence, lines):
    return replace(evidence, power=(replace(evidence.power[0], lines=tuple(lines)),))


def test_a_good_run_is_valid_and_its_figures_are_what_went_in(script):
    got = measurement(script.evidence(), "VDD_IN")

    assert (got.validity, got.reasons) == ("valid", ())
    # 5 W for 8 s over 800 inferences, and 2 W above idle
    truth = {
        "energy_mj": 50.0,
        "energy_net_mj": 20.0,
        "inferences_per_joule": 20.0,
        "latency_p50_ms": 10.0,
        "latency_p99_ms": 10.0 + 0.05 * 2.3263,
        "power_w": 5.0,
        "idle_power_w": 3.0,
    }
    for name, value in truth.items():
        estimate = got.figure(name)
        assert estimate is not None
        assert estimate.value == pytest.approx(value, rel=0.01), name
        assert estimate.low < estimate.value < estimate.high
        assert estimate.low <= value * 1.001, name
        assert estimate.high >= value * 0.999, name
    assert got.sample_period_ms == pytest.approx(100)
    assert got.provenance == "replayed"


def test_constant_power_gives_exact_joules(script):
    got = measurement(script.but(noise_w=0.0).evidence(), "VDD_IN")

    assert [block.energy_mj for block in got.blocks] == pytest.approx([50.0] * 4)
    assert [block.power_w for block in got.blocks] == pytest.approx([5.0] * 4)
    assert [(block.inferences, block.duration_s) for block in got.blocks] == [(800, 8.0)] * 4
    assert got.rails_mj == pytest.approx(
        {"VDD_IN": 50.0, "VDD_SYS_GPU": 20.0, "VDD_SYS_CPU": 10.0}, rel=1e-6
    )


def test_idle_that_warms_up_is_the_mean_of_before_and_after(script):
    _, stop = script.load_s
    warming = script.but(noise_w=0.0, idle_w=lambda t: 2.95 if t < stop else 3.05)

    got = measurement(warming.evidence(), "VDD_IN")

    assert got.idle_power_w is not None
    assert got.idle_power_w.value == pytest.approx(3.0)
    assert got.energy_net_mj is not None
    assert got.energy_net_mj.value == pytest.approx(20.0)


@pytest.mark.parametrize("quiet_s", [0.0, 2.5])
def test_the_sensors_lag_stays_out_of_the_figures(script, quiet_s):
    script = script.but(quiet_s=quiet_s, plan=RunPlan(idle_s=6.0))
    # The reading follows a step as 1 - exp(-t / 0.42 s), the longest lag known of this sensor.
    start, stop = script.load_s
    at_stop = 3.0 + 2.0 * (1 - math.exp(-(stop - start) / 0.42))
    lagging = script.but(
        noise_w=0.0,
        load_w=lambda t: 5.0 - 2.0 * math.exp(-(t - start) / 0.42),
        idle_w=lambda t: 3.0 if t < start else 3.0 + (at_stop - 3.0) * math.exp((stop - t) / 0.42),
    )

    got = measurement(lagging.evidence(), "VDD_IN")

    assert got.energy_net_mj is not None
    assert got.energy_net_mj.value == pytest.approx(20.0, rel=1e-3)
    assert got.idle_power_w is not None
    assert got.idle_power_w.value == pytest.approx(3.0, abs=0.003)
    assert got.validity == "valid"


def test_the_interval_is_that_of_steady_load_and_an_inverse_swaps_its_ends(script):
    stepped = script.but(noise_w=0.0, load_w=lambda t: 5.0 + 0.01 * (int(t / 8) % 3))
    got = measurement(stepped.evidence(), "VDD_IN")
    energies = [block.energy_mj for block in got.blocks]

    scene = powered_scene(stepped.evidence(), "VDD_IN")
    assert got.energy_mj == steady_interval(
        energies,
        Steady(got.power_w.value, 8.0, floor_w=sampling_floor_w(scene, 4)),
        first_look=4,
    )
    assert got.inferences_per_joule is not None
    assert got.inferences_per_joule.low == pytest.approx(1000 / got.energy_mj.high)


def test_short_idle_leaves_the_net_figure_unknown_with_a_reason(script):
    short = script.but(plan=RunPlan(idle_s=0.4))

    got = measurement(short.evidence(), "VDD_IN")

    assert got.energy_net_mj is None
    assert "3.1 s" in (got.why("energy_net_mj") or "")
    assert got.energy_mj is not None


def test_few_inferences_leave_the_99th_percentile_unknown(script):
    slow = script.but(latency_ms=lambda block, rng: rng.normal(400, 2, size=20))

    got = measurement(slow.evidence(), "VDD_IN")

    assert got.latency_p99_ms is None
    assert "80 inferences" in (got.why("latency_p99_ms") or "")
    assert got.latency_p50_ms is not None


def test_a_run_without_power_source_has_latencies_and_no_joules(script):
    evidence = script.evidence(power=())

    got = measurement(evidence, None)

    assert got.latency_p50_ms is not None
    assert got.validity == "valid"
    for name in ("energy_mj", "energy_net_mj", "inferences_per_joule", "power_w", "idle_power_w"):
        assert got.figure(name) is None
        assert got.why(name)
    assert got.rails_mj is None
    assert got.blocks[0].energy_mj is None


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda e: relined(e, e.power_lines[:200]), "do not cover"),
        (lambda e: replace(e, power=(replace(e.power[0], source="abacus"),)), "abacus"),
        (lambda e: replace(e, latency_ns=e.latency_ns[:3]), "latencies of every block"),
        (lambda e: replace(e, latency_ns=((), *e.latency_ns[1:])), "no inference"),
        (
            lambda e: replace(e, marks=tuple(m for m in e.marks if m.name != "block")),
            "0 blocks",
        ),
    ],
)
def test_what_cannot_be_a_figure_raises_and_is_never_zero(script, spoil, told):
    with pytest.raises(MeasurementError, match=told):
        measurement(spoil(script.evidence()), "VDD_IN")


def without_rails(evidence):
    return relined(evidence, ((t, x.partition(" VDD_IN")[0]) for t, x in evidence.power_lines))


@pytest.mark.parametrize(
    ("spoil", "rail", "reason", "step"),
    [
        (lambda e: relined(e, ()), "VDD_IN", "no line of tegrastats held any rail", "by hand"),
        (without_rails, "VDD_IN", "no line of tegrastats held any rail", "by hand"),
        (
            lambda e: e,
            "VDD_TOTAL",
            "prints VDD_IN, VDD_SYS_GPU, VDD_SYS_CPU",
            "power: {source: tegrastats, rail: VDD_IN}",
        ),
    ],
)
def test_without_the_rail_there_is_latency_and_no_joule_and_never_zero(
    script, spoil, rail, reason, step
):
    got = measurement(spoil(script.evidence()), rail)

    assert got.latency_p50_ms.value == pytest.approx(10.0, rel=0.01)
    for name in ("energy_mj", "energy_net_mj", "inferences_per_joule", "power_w", "idle_power_w"):
        assert got.figure(name) is None
        assert reason in got.why(name)
    (told,) = got.fallbacks
    assert step in told.next_step
    assert (got.validity, got.reasons) == ("suspect", (told.line,))
    with pytest.raises(MeasurementError, match="no joules"):
        require_joules(got)


def test_fallbacks_of_a_run_are_told_and_make_it_suspect(script):
    denied = {"what": "sudo does not let this user run jetson_clocks", "why": None, "fix": "x"}
    board = {"model": "test", "session": {"denied": [denied]}}

    got = measurement(script.evidence(board=board), "VDD_IN")

    assert got.validity == "suspect"
    assert [each.name for each in got.fallbacks] == ["unpinned"]
    assert got.fallbacks[0].line in got.reasons
    assert Measurement.from_json(got.to_json()) == got
    assert got.to_json()["fallbacks"][0]["next_step"] == "x"


def test_a_note_changes_no_verdict(script):
    record = script.evidence().power[0]
    lost = {"source": "tegrastats", "why": "it died", "instead": "ina3221"}
    settings = {**record.settings, "instead_of": lost}

    got = measurement(script.evidence(power=(replace(record, settings=settings),)), "VDD_IN")

    assert (got.validity, got.reasons) == ("valid", ())
    (told,) = got.fallbacks
    assert "it died" in told.reason
    assert "ina3221" in told.consequence


def test_power_without_a_rail_to_read_it_on_is_refused(script):
    with pytest.raises(MeasurementError, match="no rail"):
        measurement(script.evidence(), None)


def test_windows_shorter_than_the_sensors_lag_are_refused(script):
    short = script.but(
        plan=RunPlan(window_s=1.0), latency_ms=lambda block, rng: rng.normal(10, 0.05, size=100)
    )

    with pytest.raises(MeasurementError, match="too short"):
        measurement(short.evidence(), "VDD_IN")


def test_json_names_each_figure_with_its_interval(script):
    data = measurement(script.evidence(), "VDD_IN").to_json()

    assert data["schema"] == "hil/result@2"
    for name in FIGURES:
        low, high = data[f"{name}_ci95"]
        assert low <= data[name] <= high
    assert data["validity"] == "valid"
    assert data["reasons"] == []


def test_json_says_null_with_a_reason(script):
    evidence = script.evidence(power=())
    data = measurement(evidence, "VDD_IN").to_json()

    assert data["energy_mj"] is None
    assert data["energy_mj_ci95"] is None
    assert data["energy_mj_reason"] == "the run had no power source"
    assert "latency_p50_ms_reason" not in data


@pytest.mark.parametrize("powered", [True, False])
def test_json_gives_back_the_measurement(script, powered):
    evidence = script.evidence() if powered else script.evidence(power=())
    got = measurement(evidence, "VDD_IN")

    assert Measurement.from_json(got.to_json()) == got


def test_json_of_another_schema_is_refused():
    with pytest.raises(ValueError, match="hil/result@9"):
        Measurement.from_json({"schema": "hil/result@9"})


def test_an_unknown_figure_without_a_reason_is_refused(script):
    got = measurement(script.evidence(), "VDD_IN")

    with pytest.raises(ValueError, match="energy_mj"):
        replace(got, energy_mj=None)


def test_scoring_the_same_evidence_again_gives_the_same(script):
    evidence = script.evidence()

    assert measurement(evidence, "VDD_IN") == measurement(evidence, "VDD_IN")
