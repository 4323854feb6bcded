from __future__ import annotations

from math import exp

import pytest

from hil.emulator.board import Clocks, load_board
from hil.emulator.thermal import ThermalState, cool, steady_c

BOARD = load_board("tx2")
THERMAL = BOARD.thermal


def test_temperature_follows_the_closed_form_whatever_the_steps():
    start, target = 30.0, steady_c(THERMAL, 8.0)
    state = ThermalState(start)
    for seconds in (0.1, 13.0, 50.0, 36.9):
        state = state.step(THERMAL, 8.0, seconds)

    assert state.temp_c == pytest.approx(target + (start - target) * exp(-100.0 / THERMAL.tau_s))


def test_a_pinned_idle_board_settles_where_a_real_one_does():
    # A pinned board at 3.1 W read GPU@29C, one at 7.4 W GPU@35.5C; their rooms are unknown.
    assert cool(BOARD, 3.1).temp_c == pytest.approx(29.0, abs=3.0)
    assert cool(BOARD, 7.4).temp_c == pytest.approx(35.5, abs=4.0)


def test_a_hot_board_slows_down_and_recovers_lower_than_it_tripped():
    asked = Clocks(1300.5, 1866.0, 2035.2, 6)
    hot = ThermalState(THERMAL.throttle_c - 0.1).step(THERMAL, 60.0, 10.0)
    between = ThermalState(THERMAL.throttle_c - 1.0, throttled=True).step(THERMAL, 40.0, 0.0)
    cold = ThermalState(THERMAL.release_c - 0.1, throttled=True).step(THERMAL, 3.0, 1.0)

    assert hot.throttled
    assert hot.clocks(THERMAL, asked).gpu_mhz < asked.gpu_mhz
    assert between.throttled
    assert not cold.throttled
    assert cold.clocks(THERMAL, asked) == asked


def test_zones_read_half_degrees_around_the_gpu_and_the_dummy_is_constant():
    zones = ThermalState(33.13).zones_c(THERMAL)

    assert zones["GPU"] == 33.0
    assert zones["PMIC"] == 100.0
    assert all(value * 2 == int(value * 2) for value in zones.values())
    assert zones["MCPU"] > zones["GPU"] > zones["Tboard"]
