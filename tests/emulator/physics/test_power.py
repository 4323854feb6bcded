from __future__ import annotations

from dataclasses import replace

import pytest

from hil.bench.emulator_rows import Protocol, cell_kernels
from hil.emulator.batch import gather, run_all
from hil.emulator.board import load_board
from hil.emulator.kernels import lower
from hil.emulator.physics import execution
from hil.emulator.power import Activity, idle_power_w, interpolate, rail_power_w
from hil.emulator.reference_networks import vgg16

BOARD = load_board("tx2")
PINNED = BOARD.mode(0).clocks(pinned=True)
RAILS = {"VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_4V0_WIFI", "VDD_IN", "VDD_SYS_CPU", "VDD_SYS_DDR"}


def beyond_rails_w(rails: dict[str, float]) -> float:
    return 2 * rails["VDD_IN"] - sum(rails.values())


def test_idle_with_dynamic_clocks_is_what_real_logs_show():
    rails = idle_power_w(BOARD, BOARD.mode(0).clocks(pinned=False), 31.0)

    # tegrastats of real boards at idle: 1457-1610, 153, 306-384, 153-230 and 96-230 mW.
    assert set(rails) == RAILS
    assert 1.457 <= rails["VDD_IN"] <= 1.610
    assert rails["VDD_SYS_GPU"] == pytest.approx(0.153, abs=0.02)
    assert 0.29 <= rails["VDD_SYS_SOC"] <= 0.39
    assert 0.15 <= rails["VDD_SYS_CPU"] <= 0.24
    assert 0.09 <= rails["VDD_SYS_DDR"] <= 0.23


def test_idle_with_pinned_clocks_is_what_a_real_line_shows():
    rails = idle_power_w(BOARD, PINNED, 29.0)

    # One line of a pinned board: 3104, 145, 727, 291 and 1248 mW.
    assert rails["VDD_IN"] == pytest.approx(3.104, rel=0.05)
    assert rails["VDD_SYS_SOC"] == pytest.approx(0.727, rel=0.05)
    assert rails["VDD_SYS_CPU"] == pytest.approx(0.291, rel=0.08)
    assert rails["VDD_SYS_DDR"] == pytest.approx(1.248, rel=0.05)


def test_six_busy_cores_draw_what_a_real_board_draws():
    load = Activity(submitting=6 * 0.76)

    rails = rail_power_w(BOARD, PINNED, 36.0, load)

    # Three lines at 76 % mean load: VDD_IN 7244-7549, CPU 3201-3506, GPU 228 mW.
    assert 3.2 <= rails["VDD_SYS_CPU"] <= 3.51
    assert rails["VDD_IN"] == pytest.approx(7.38, rel=0.1)


@pytest.mark.parametrize(
    "load",
    [
        Activity(),
        Activity(submitting=1.0, gpu_busy=0.3, macs_per_s=3e10),
        Activity(submitting=4.6),
        Activity(gpu_busy=1.0, macs_per_s=1.5e11, dram_bytes_per_s=2e10, waiting=1.0),
    ],
)
@pytest.mark.parametrize("pinned", [True, False])
def test_the_total_exceeds_the_other_rails_as_in_real_lines(load, pinned):
    clocks = BOARD.mode(0).clocks(pinned=pinned, busy=load != Activity())

    rails = rail_power_w(BOARD, clocks, 35.0, load)

    assert 0.5 <= beyond_rails_w(rails) <= 2.3


def test_small_networks_draw_what_was_published():
    # HW-NAS-Bench, cells of one operation: 4.29 W (skip), 4.40 (1x1), 4.81 (3x3), 4.40 (pooling).
    published = {1: 4.2935, 2: 4.39, 3: 4.8135, 4: 4.403}

    for op, watts in published.items():
        cell = gather([cell_kernels((op,) * 6)])
        run = run_all(BOARD, cell, PINNED, host_s=Protocol().python_s)
        assert run.power_w[0] == pytest.approx(watts, rel=0.04), op


def test_a_warm_board_leaks_more():
    # Real idle lines at 31 C and 52 C: GPU 153 to 194, SOC 306 to 389 mW.
    clocks = BOARD.mode(0).clocks(pinned=False)
    cool, warm = (idle_power_w(BOARD, clocks, temp) for temp in (31.0, 52.0))

    assert warm["VDD_SYS_GPU"] - cool["VDD_SYS_GPU"] == pytest.approx(0.041, abs=0.02)
    assert warm["VDD_SYS_SOC"] - cool["VDD_SYS_SOC"] == pytest.approx(0.083, abs=0.03)
    assert warm["VDD_IN"] > cool["VDD_IN"]


def test_lower_clocks_draw_less_for_the_same_network():
    kernels = lower(vgg16(), "fp16")

    watts = [
        execution(BOARD, kernels, BOARD.mode(i).clocks(pinned=True), 40.0).rail_power_w["VDD_IN"]
        for i in (0, 3, 1)
    ]

    assert watts[0] > watts[1] > watts[2]


def test_more_arithmetic_draws_more_on_the_gpu_only():
    before = rail_power_w(BOARD, PINNED, 35.0, Activity(gpu_busy=0.5))
    after = rail_power_w(BOARD, PINNED, 35.0, replace(Activity(gpu_busy=0.5), macs_per_s=1e11))

    changed = {rail for rail in before if before[rail] != after[rail]}
    assert changed == {"VDD_SYS_GPU", "VDD_IN"}
    # 0.1 W for each picojoule a multiply-add at the highest clock.
    per_pj = (after["VDD_SYS_GPU"] - before["VDD_SYS_GPU"]) / 0.1
    assert per_pj == pytest.approx(BOARD.power.gpu_pj_per_mac)


def test_curves_are_straight_between_points_and_level_beyond():
    points = ((1.0, 10.0), (3.0, 30.0))

    assert [interpolate(points, x) for x in (0.0, 1.0, 2.5, 3.0, 9.0)] == [10, 10, 25, 30, 30]
