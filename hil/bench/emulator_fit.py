"""Fits the board's parameters to published measurements, and says how sure each then is.

Rule of this file: pure; rows come in, parameters with their covariance come out, no file is
written. Every parameter has a prior (its centre and spread say what is known without these
rows), errors are logarithms, and their cost grows linearly beyond about one standard deviation,
so that outliers do not steer. Cells count together as much as `CELLS_WORTH` independent rows:
what the model lacks, it lacks in thousands of similar cells alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from hil.bench.emulator_rows import Cells, Protocol, Published
from hil.emulator.batch import Array
from hil.emulator.board import Board
from hil.emulator.parameters import parameter, with_parameters

CELLS_WORTH = 300
CELL_SD = 0.03
PUBLISHED_SD = 0.06


@dataclass(frozen=True)
class Parameter:
    """One fitted quantity, in logarithms.

    Attributes:
        name: what it is called in the results.
        paths: the numbers of the board that it scales together, the first one being `centre`;
            none for a quantity of `Protocol` (its name then is the field's).
        centre: the prior's median.
        log_sd: the prior's standard deviation of the logarithm.
    """

    name: str
    paths: tuple[str, ...]
    centre: float
    log_sd: float


def _weights(*kinds: str) -> tuple[str, ...]:
    return tuple(f"timing.enqueue_weight.{kind}" for kind in kinds)


PARAMETERS = (
    Parameter("submission", ("timing.enqueue_cycles",), 40_000, 0.5),
    Parameter(
        "submission_matrix", _weights("conv3x3", "conv1x1", "conv", "gemm", "depthwise"), 1.0, 0.4
    ),
    Parameter("submission_elementwise", _weights("elementwise"), 1.0, 0.4),
    Parameter("submission_pointwise", _weights("pointwise"), 1.0, 0.6),
    Parameter("inference_cycles", ("timing.inference_cycles",), 200_000, 0.4),
    Parameter("python_s", (), 0.4e-3, 0.5),
    Parameter("copy_s", (), 40e-6, 0.4),
    Parameter("depthwise_submissions", (), 1.0, 2.0),
    Parameter("conv3x3_fp32", ("timing.efficiency.conv3x3",), 1.0, 0.3),
    Parameter("conv1x1_fp32", ("timing.efficiency.conv1x1", "timing.efficiency.gemm"), 0.6, 0.3),
    Parameter("conv_fp32", ("timing.efficiency.conv",), 0.4, 0.3),
    Parameter("conv3x3_fp16", ("timing.efficiency_fp16.conv3x3",), 1.0, 0.3),
    Parameter(
        "conv1x1_fp16", ("timing.efficiency_fp16.conv1x1", "timing.efficiency_fp16.gemm"), 0.6, 0.3
    ),
    Parameter("conv_fp16", ("timing.efficiency_fp16.conv",), 0.4, 0.3),
    Parameter("depthwise", ("timing.efficiency.depthwise",), 0.02, 1.5),
    Parameter("depthwise_channel", ("timing.depthwise_channel_cycles",), 1_000, 1.5),
    Parameter("kernel_cycles", ("timing.kernel_cycles",), 4_000, 0.4),
    Parameter("lanes", ("timing.lane_efficiency",), 0.25, 0.4),
    Parameter("dram_rate", ("memory.achievable",), 0.62, 0.12),
    Parameter("l2_rate", ("gpu.l2_bytes_per_clock",), 64.0, 0.4),
    Parameter("gpu_busy_w", ("power.gpu_busy_w",), 0.9, 0.5),
    Parameter("mac_pj", ("power.gpu_pj_per_mac",), 15.0, 0.4),
    Parameter("mac_fp16_pj", ("power.gpu_pj_per_mac_fp16",), 6.0, 0.4),
    Parameter("op_pj", ("power.gpu_pj_per_op",), 20.0, 0.5),
    Parameter("dram_pj", ("power.ddr_pj_per_byte",), 40.0, 0.4),
    Parameter("soc_pj", ("power.soc_pj_per_byte",), 15.0, 0.4),
    Parameter("cpu_core_w", ("power.cpu_core_w",), 0.67, 0.10),
    Parameter("cpu_wait_share", ("power.cpu_wait_share",), 0.6, 0.25),
    Parameter("ddr_clocked_w", ("power.ddr_emc_w",), 1.14, 0.05),
    Parameter("input_base_w", ("power.input_base_w",), 0.66, 0.08),
)


@dataclass(frozen=True)
class Fit:
    """What a fit found.

    Attributes:
        board: the board with the fitted values.
        protocol: the protocols with theirs.
        values: fitted value by parameter (of its first path).
        covariance: of the logarithms, in the order of `PARAMETERS`.
    """

    board: Board
    protocol: Protocol
    values: dict[str, float]
    covariance: Array

    def log_sd(self) -> dict[str, float]:
        """Returns each parameter's standard deviation of the logarithm."""
        spreads = np.sqrt(np.diag(self.covariance)).tolist()
        return {each.name: sd for each, sd in zip(PARAMETERS, spreads, strict=True)}


def apply(board: Board, logs: Array) -> tuple[Board, Protocol]:
    """Puts parameters, as logarithms of their ratio to the prior's centre, onto a board."""
    on_board: dict[str, float] = {}
    protocol: dict[str, float] = {}
    for each, log in zip(PARAMETERS, logs.tolist(), strict=True):
        value = each.centre * float(np.exp(log))
        if not each.paths:
            protocol[each.name] = value
            continue
        first = parameter(board, each.paths[0])
        on_board |= {path: parameter(board, path) * value / first for path in each.paths}
    return with_parameters(board, on_board), replace(Protocol(), **protocol)


def fit(board: Board, cells: Cells, published: Published) -> Fit:
    """Fits all parameters at once.

    Args:
        board: where parameters that are not fitted, and ratios within a parameter, come from.
        cells: measured cells; rows that are to be held out must not be among them.
        published: NVIDIA's rows; those marked `held` are not looked at.
    """
    spread = np.array([each.log_sd for each in PARAMETERS])
    weight = np.sqrt(CELLS_WORTH / max(CELLS_WORTH, len(cells.networks)))
    rows = np.flatnonzero(~published.held)
    used = Published(
        tuple(published.names[row] for row in rows),
        published.latency_ms[rows],
        published.copied_bytes[rows],
        published.networks.take(rows),
    )

    def residuals(logs: Array) -> Array:
        candidate, protocol = apply(board, logs)
        runs = cells.predicted(candidate, protocol)
        latency = np.log(1e3 * runs.latency_s / cells.latency_ms)
        power = np.log(runs.energy_mj / cells.energy_mj) - latency
        table = np.log(1e3 * used.predicted(candidate, protocol).latency_s / used.latency_ms)
        return np.concatenate(
            [
                weight * _softened(latency / CELL_SD),
                weight * _softened(power / CELL_SD),
                _softened(table / PUBLISHED_SD),
                logs / spread,
            ]
        )

    start = _start(board)
    found = least_squares(residuals, start, x_scale=spread, diff_step=1e-3, max_nfev=40)
    fitted, protocol = apply(board, found.x)
    values = [
        each.centre * float(np.exp(log))
        for each, log in zip(PARAMETERS, found.x.tolist(), strict=True)
    ]
    names = (each.name for each in PARAMETERS)
    covariance = np.linalg.inv(found.jac.T @ found.jac)
    return Fit(fitted, protocol, dict(zip(names, values, strict=True)), covariance)


def _start(board: Board) -> Array:
    """Starts from the board as it is: the fit has local optima (depthwise kernels)."""
    protocol = Protocol()
    values = [
        parameter(board, each.paths[0]) if each.paths else getattr(protocol, each.name)
        for each in PARAMETERS
    ]
    centres = np.array([each.centre for each in PARAMETERS])
    return np.asarray(np.log(np.array(values) / centres))


def _softened(z: Any) -> Array:
    """Returns residuals whose squares grow like |z| beyond about 1 (soft L1)."""
    return np.asarray(np.sign(z) * np.sqrt(2.0 * (np.sqrt(1.0 + z * z) - 1.0)))
