"""Watts by rail: idle at given clocks and temperature, and what activity adds.

Rule of this file: pure. The rails are the input sides of their regulators (regulator loss
included), and VDD_IN is what enters the module: the other rails, losses that grow with the
square of what flows, and a share that no other rail shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, pow

from hil.emulator.board import Board, Clocks

GPU, SOC, WIFI = "VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_4V0_WIFI"
CPU, DDR, INPUT = "VDD_SYS_CPU", "VDD_SYS_DDR", "VDD_IN"


@dataclass(frozen=True)
class Activity:
    """What the board does, as means over one inference.

    Attributes:
        gpu_busy: share of time with a kernel on the GPU, 0 to 1.
        macs_per_s: FP32 multiply-adds.
        macs_fp16_per_s: FP16 multiply-adds.
        ops_per_s: other arithmetic operations.
        dram_bytes_per_s: traffic to and from DRAM.
        submitting: cores busy with work (submitting kernels, or anything else).
        waiting: cores that spin in synchronisation.
    """

    gpu_busy: float = 0.0
    macs_per_s: float = 0.0
    macs_fp16_per_s: float = 0.0
    ops_per_s: float = 0.0
    dram_bytes_per_s: float = 0.0
    submitting: float = 0.0
    waiting: float = 0.0


IDLE = Activity()


def idle_power_w(board: Board, clocks: Clocks, temp_c: float) -> dict[str, float]:
    """Returns the power of every rail with nothing running but the system itself, in watts."""
    return rail_power_w(board, clocks, temp_c, IDLE)


def rail_power_w(
    board: Board, clocks: Clocks, temp_c: float, activity: Activity
) -> dict[str, float]:
    """Returns the power of every rail while the board does something, in watts.

    Args:
        board: the board.
        clocks: what it runs at.
        temp_c: die temperature.
        activity: what it does.
    """
    rails = {
        GPU: _gpu_w(board, clocks, activity),
        SOC: _soc_w(board, clocks, activity),
        WIFI: board.power.wifi_w,
        CPU: _cpu_w(board, clocks, activity),
        DDR: _ddr_w(board, clocks, activity),
    }
    for rail, leak in board.power.leak_w.items():
        rails[rail] += leakage_w(board, leak, temp_c)
    return with_input(board, rails)


def with_input(board: Board, rails: dict[str, float]) -> dict[str, float]:
    """Adds the module's total, given every other rail."""
    inside = sum(power for rail, power in rails.items() if rail != INPUT)
    power = board.power
    total = inside + power.input_base_w + power.input_loss_per_w * inside * inside
    return {**rails, INPUT: total}


def leakage_w(board: Board, at_reference_w: float, temp_c: float) -> float:
    """Returns a rail's leakage at a temperature, from its leakage at the reference."""
    power = board.power
    return at_reference_w * exp((temp_c - power.leak_reference_c) / power.leak_e_fold_c)


def interpolate(points: Sequence[tuple[float, float]], x: float) -> float:
    """Reads a curve of straight pieces, level beyond its ends."""
    if x <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return points[-1][1]


def _volts_squared(points: Sequence[tuple[float, float]], mhz: float) -> float:
    """Returns the square of the voltage over its square at the highest clock."""
    return (interpolate(points, mhz) / points[-1][1]) ** 2


def _gpu_w(board: Board, clocks: Clocks, activity: Activity) -> float:
    power = board.power
    charge = _volts_squared(board.gpu.volts, clocks.gpu_mhz)
    clock = charge * clocks.gpu_mhz / board.gpu.clock_steps_mhz[-1]
    arithmetic_w = 1e-12 * (
        power.gpu_pj_per_mac * activity.macs_per_s
        + power.gpu_pj_per_mac_fp16 * activity.macs_fp16_per_s
        + power.gpu_pj_per_op * activity.ops_per_s
    )
    busy_w = power.gpu_busy_w * activity.gpu_busy * clock
    return power.gpu_base_w + power.gpu_clock_w * clock + busy_w + charge * arithmetic_w


def _cpu_w(board: Board, clocks: Clocks, activity: Activity) -> float:
    power, volts = board.power, board.cpu.volts
    clock = _volts_squared(volts, clocks.cpu_mhz) * clocks.cpu_mhz / volts[-1][0]
    busy_cores = activity.submitting + power.cpu_wait_share * activity.waiting
    idle_w = power.cpu_base_w + power.cpu_core_idle_w * clocks.cpu_cores
    return idle_w + (power.cpu_clock_w + power.cpu_core_w * busy_cores) * clock


def _emc_share(board: Board, clocks: Clocks) -> float:
    return clocks.emc_mhz / max(mode.emc_mhz for mode in board.modes)


def _soc_w(board: Board, clocks: Clocks, activity: Activity) -> float:
    power = board.power
    traffic_w = 1e-12 * power.soc_pj_per_byte * activity.dram_bytes_per_s
    return power.soc_base_w + power.soc_emc_w * _emc_share(board, clocks) + traffic_w


def _ddr_w(board: Board, clocks: Clocks, activity: Activity) -> float:
    power = board.power
    clocked_w = power.ddr_emc_w * pow(_emc_share(board, clocks), power.ddr_emc_power)
    traffic_w = 1e-12 * power.ddr_pj_per_byte * activity.dram_bytes_per_s
    return power.ddr_base_w + clocked_w + traffic_w
