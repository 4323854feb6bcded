"""What the idle board tells: bursts by their energy, register steps beneath a wandering voltage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.measure.bringup_idle import _bursts, _register_step_mw


def test_a_burst_is_its_energy_over_the_level():
    times = [0.1 * k for k in range(200)]
    watts = [1.5] * 200
    for k in range(50, 57):  # 1.4 W more for 0.7 s, as in tx2_1.log
        watts[k] = 2.9
    watts[120] = 2.5  # 1 W for one reading

    assert _bursts(times, watts) == pytest.approx([0.98, 0.1])


def test_a_steady_board_has_none():
    assert _bursts([0.0, 0.1, 0.2, 0.3], [1.5, 1.54, 1.5, 1.46]) == []


@settings(deadline=None)
@given(st.floats(15_000, 23_000), st.integers(0, 2**32 - 1))
def test_the_register_step_is_found_beneath_a_wandering_voltage(bus_mv, seed):
    rng = np.random.default_rng(seed)
    current_ma = 2 * rng.integers(38, 60, 300)  # 2 mA: 40 uV over 20 mOhm
    voltage_mv = bus_mv + 8 * rng.integers(-1, 2, 300)
    power_w = np.floor(current_ma * voltage_mv / 1000) / 1000

    step_mw = _register_step_mw(power_w.tolist())

    assert step_mw == pytest.approx(2 * bus_mv / 1000, abs=4.0)


def test_too_few_levels_tell_no_step():
    assert _register_step_mw([1.5, 1.5, 1.538]) is None
