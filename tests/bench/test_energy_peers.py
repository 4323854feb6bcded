"""Peers on boards without noise, where their errors have closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from hil.bench.energy_peers import answers
from hil.bench.energy_run import Run
from hil.bench.energy_scenario import Background, Load, Printer, Scenario, Sensor
from hil.core.evidence import RunPlan

QUIET = Background(0.0, 0.27, 0.0, 20.0, ())
PLAN = RunPlan(window_s=5.0, blocks=4, max_blocks=6)


@pytest.fixture
def answer():
    def ask(sensor: Sensor, load: Load, seed: int = 0) -> dict:
        run = Run(Scenario(seed, 0, "s", load, QUIET, sensor, Printer()), PLAN)
        return answers(run, 4)

    return ask


def test_without_settling_the_lag_is_missing_from_the_mean(answer):
    load = Load(idle_w=1.5, high_w=10.0, low_w=10.0, latency_s=0.02)
    for tau_s in (0.42, 2.0):
        errors = []
        for seed in range(6):
            one = answer(Sensor(tau_s=tau_s), load, seed)["polled_without_settling"]
            errors.append(one.value / one.truth - 1)
            expected = -(1 - 1.5 / 10.0) * tau_s / one.length_s

        assert np.mean(errors) == pytest.approx(expected, rel=0.15)


def test_the_rectangle_rule_loses_the_lag_and_the_poll_that_had_not_come(answer):
    load = Load(idle_w=1.5, high_w=10.0, low_w=10.0, latency_s=0.02)
    errors = []
    for seed in range(30):
        one = answer(Sensor(tau_s=0.42), load, seed)["rectangle_0_1s"]
        errors.append(one.value / one.truth - 1)

    # Half a poll at the end at full power, half a poll at the start at idle's, and the lag.
    expected = -((1 - 0.15) * 0.42 + 0.05 - 0.15 * 0.05) / one.length_s
    assert np.mean(errors) == pytest.approx(expected, rel=0.1)


def test_a_flat_load_on_an_instant_sensor_is_read_right_by_all(answer):
    load = Load(idle_w=5.0, high_w=5.6, low_w=5.6, latency_s=0.02)
    for name, one in answer(Sensor(tau_s=0.0), load).items():
        assert one.value == pytest.approx(one.truth, rel=6e-3), name
        assert one.realised == pytest.approx(one.truth, rel=1e-9)


def test_peers_count_the_inferences_of_their_own_stretch(answer):
    load = Load(idle_w=5.0, high_w=5.0, low_w=5.0, latency_s=0.02)
    for name, one in answer(Sensor(tau_s=0.0), load).items():
        # 5 W for 20 ms an inference; pauses between windows draw idle power without inferences.
        assert one.truth == pytest.approx(100.0, rel=5e-3), name
