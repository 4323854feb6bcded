"""The JSON form: names as the command line promises, the first format still read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hil.core.stats import Estimate
from hil.measure.numbers import measurement
from hil.measure.result import FIGURES, MORE_FIGURES, TOTALS, Measurement, OtherSource
from hil.measure.sensors import sensor_of

FIRST = {
    "schema": "hil/result@1",
    "provenance": "measured",
    **dict.fromkeys(FIGURES, 2.0),
    **{f"{name}_ci95": [1.0, 3.0] for name in FIGURES},
    "energy_net_mj": None,
    "energy_net_mj_ci95": None,
    "energy_net_mj_reason": "idle too short",
    "rail": "VDD_IN",
    "rails_mj": {"VDD_IN": 2.0},
    "latency_copies": "excluded",
    "sample_period_ms": 105.0,
    "validity": "valid",
    "reasons": [],
    "blocks": [
        {
            "energy_mj": 2.0,
            "power_w": 5.0,
            "latency_p50_ms": 2.0,
            "latency_p99_ms": 2.5,
            "inferences": 100,
            "duration_s": 8.0,
        }
    ],
}


@pytest.fixture
def full(script):
    """A measurement with everything there is in it."""
    evidence = script.evidence(
        start={"load_ns": 10**8, "first_ns": 10**7, "settle_ns": [10**7] * 300}
    )
    got = measurement(evidence, "VDD_IN", sensor=sensor_of("jetson-tx2"))
    return replace(
        got,
        unknown={name: why for name, why in got.unknown.items() if name != "sampler_power_w"},
        others=(OtherSource("command", "meter", Estimate(2, 1, 3), None, "no ratio"),),
        stopping={"outcome": "target", "looks": 2, "blocks": 5, "why": "", "verdicts": {}},
        rate={"asked_hz": 30.0, "achieved_hz": 30.0, "missed": 0},
        running_mode={"0-0041": 1},
        sampler_power_w=Estimate(0.02, 0.01, 0.03),
    )


def test_everything_comes_back_as_it_was(full):
    assert Measurement.from_json(full.to_json()) == full


def test_each_total_stands_beside_its_figure_and_holds_its_interval(full):
    data = full.to_json()

    for name in TOTALS:
        low, high = data[f"{name}_u95_total"]
        assert low < data[f"{name}_ci95"][0] <= data[name] <= data[f"{name}_ci95"][1] < high
    assert {name for name in MORE_FIGURES if f"{name}_ci95" not in data} == set()
    assert data["error_budget"][0]["name"]


def test_whatever_is_null_says_why(script):
    data = measurement(script.evidence(), "VDD_IN").to_json()

    names = (*FIGURES, *MORE_FIGURES, *(f"{name}_u95_total" for name in TOTALS))
    names += ("first_inference_ms", "engine_load_ms", "warmup_inferences", "resolution_w")
    for name in names:
        assert data[name] is not None or data[f"{name}_reason"], name


def test_the_first_format_is_read():
    got = Measurement.from_json(FIRST)

    assert got.energy_mj == Estimate(2.0, 1.0, 3.0)
    assert got.why("energy_net_mj") == "idle too short"
    assert got.energy_mj_u95_total is None
    assert got.figure("latency_p90_ms") is None
    again = got.to_json()
    assert again["schema"] == "hil/result@2"
    assert again["energy_mj_u95_total_reason"] == "not computed"
    assert Measurement.from_json(again) == got


def test_a_name_that_is_no_figure_is_a_key_error(full):
    with pytest.raises(KeyError):
        full.figure("energy")
    with pytest.raises(KeyError):
        full.total("latency_p50_ms")
