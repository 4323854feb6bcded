from __future__ import annotations

import random
import re
from itertools import islice, pairwise
from math import exp
from pathlib import Path

import numpy as np
import pytest

from hil.emulator.board import Rail, load_board
from hil.emulator.sensor import NS, LagFilter, RailSensors, bus_mv, os_bursts, quantise_mw

BOARD = load_board("tx2")
RAILS = {rail.name: rail for rail in BOARD.sensor.rails}
LOG = Path(__file__).parents[2] / "data" / "tegrastats" / "tx2_1.log"


def readings(rail: str) -> list[int]:
    return [int(mw) for mw in re.findall(rf"{rail} (\d+)/", LOG.read_text(encoding="utf-8"))]


def test_a_step_is_followed_exponentially_however_it_is_cut():
    coarse, fine = LagFilter(0.42, 1.5), LagFilter(0.42, 1.5)
    coarse.advance(5.0, 1.0)
    for _ in range(1000):
        fine.advance(5.0, 0.001)

    closed_form = 5.0 + (1.5 - 5.0) * exp(-1.0 / 0.42)
    assert coarse.value == pytest.approx(closed_form)
    assert fine.value == pytest.approx(closed_form)


def test_triggered_mode_has_no_memory():
    assert LagFilter(0.0, 1.5).advance(5.0, 1e-6) == 5.0


def test_a_spike_leaves_in_the_next_sample_what_real_logs_show():
    # After isolated one-sample spikes a second apart, 10 to 25 % of the excess remained.
    lag = LagFilter(BOARD.sensor.tau_s, 1.5)
    lag.advance(3.0, 1.0)
    peak = lag.value - 1.5
    lag.advance(1.5, 1.0)

    assert 0.05 < (lag.value - 1.5) / peak < 0.25


def on_grid(rail: Rail, mw: int, input_w: float) -> bool:
    """Whether the driver can print that reading, the bus voltage known to one register step."""
    middle = bus_mv(rail, input_w)
    near = 1000 * mw // (middle * rail.lsb_ma)
    return any(
        volts * count * rail.lsb_ma // 1000 == mw
        for volts in (middle - 8, middle, middle + 8)
        for count in range(near - 1, near + 3)
    )


@pytest.mark.parametrize("name", sorted(RAILS))
def test_every_reading_of_a_real_log_lies_on_the_grid(name):
    pairs = list(zip(readings(name), readings("VDD_IN"), strict=True))

    assert len(pairs) >= 100
    assert all(on_grid(RAILS[name], mw, total / 1000) for mw, total in pairs)
    beside = [on_grid(RAILS[name], mw + 10, total / 1000) for mw, total in pairs]
    assert np.mean(beside) < 0.05  # the grid is sparse enough for the test to mean something


@pytest.mark.parametrize(
    ("rail", "step_mw"), [("VDD_IN", 38.3), ("VDD_SYS_GPU", 76.6), ("VDD_SYS_DDR", 19.1)]
)
def test_steps_are_those_seen_in_real_logs(rail, step_mw):
    read = sorted({quantise_mw(RAILS[rail], mw / 1000) for mw in range(1000, 2000)})

    assert np.diff(read).mean() == pytest.approx(step_mw, abs=0.3)


def test_an_idle_gpu_reads_exactly_what_real_boards_print():
    # "VDD_SYS_GPU 153/153" stands in every idle line of L4T r32.
    assert quantise_mw(RAILS["VDD_SYS_GPU"], 0.151) == 153


def test_quantising_is_floor_of_bus_voltage_times_rounded_current():
    rail = Rail(name="R", bus_mv=19144, lsb_ma=2)

    # 1.5 W is 78.35 mA; the register holds 78 mA.
    assert quantise_mw(rail, 1.5) == 19144 * 78 // 1000
    assert quantise_mw(rail, -0.5) == 0


def test_offset_and_gain_shift_the_register():
    rail = Rail(name="R", bus_mv=20000, lsb_ma=2, offset_ma=4.0, gain=1.01)

    assert quantise_mw(rail, 2.0) == 20000 * 104 // 1000  # 100 mA becomes 105, read as 104


def test_sensors_read_every_rail_in_the_boards_order():
    sensors = RailSensors(BOARD.sensor, {"VDD_IN": 1.5})
    sensors.advance({"VDD_IN": 5.0}, 100.0)

    read = sensors.read_mw()

    assert list(read) == [rail.name for rail in BOARD.sensor.rails]
    assert read["VDD_IN"] == 5015  # 262 mA at 19144 mV: 19184 less 36 mV, in steps of 8
    assert read["VDD_4V0_WIFI"] == 0


def test_bursts_come_about_every_twenty_seconds_and_never_overlap():
    bursts = list(islice(os_bursts(BOARD.noise, random.Random(5), 7 * NS), 2000))

    starts = np.array([burst.start_ns for burst in bursts]) / NS
    assert np.diff(starts).mean() == pytest.approx(21.0, rel=0.1)
    assert starts[0] >= 7.0
    assert all(a.stop_ns <= b.start_ns for a, b in pairwise(bursts))
    assert all(0.5 <= burst.power_w <= 1.4 for burst in bursts)


def test_bursts_repeat_by_seed():
    first, again, other = (
        list(islice(os_bursts(BOARD.noise, random.Random(seed), 0), 20)) for seed in (1, 1, 2)
    )

    assert first == again
    assert first != other
