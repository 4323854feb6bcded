"""Holds the emulated TX2 to published measurements of the real one: predicted against published.

    python bench/emulator_check.py [--data FOLDER] [--cells 200] [--json | --fit]

Latency: NVIDIA's TensorRT table (mode 3, copies included) and NAS-Bench-201 cells (FP32, Python
call included). Energy: the same cells. `--fit` prints the arithmetic efficiencies that describe
NVIDIA's rows best; it changes no file.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import spearmanr

from hil.emulator.board import Board, load_board
from hil.emulator.fusion import TENSORRT_BEFORE_7
from hil.emulator.kernels import Kernel, lower
from hil.emulator.physics import execution
from hil.emulator.reference_networks import PUBLISHED, nas_bench_201

COPY_S = 40e-6
COPY_BYTES_PER_S = 6e9
"""Assumed: a synchronous copy between pageable host memory and the device on a TX2."""
PYTHON_S = 0.45e-3
"""What torch2trt's Python call adds: cells of nothing, whose engines do nothing, take 0.59 ms."""


@dataclass(frozen=True)
class Row:
    """One comparison."""

    name: str
    published: float
    predicted: float

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted / self.published - 1.0


@dataclass(frozen=True)
class Published:
    """A row of NVIDIA's table, its network lowered, and the time its copies take."""

    name: str
    latency_ms: float
    kernels: tuple[Kernel, ...]
    copies_s: float


def nvidia_table(table: Path) -> list[Published]:
    """Reads the rows of NVIDIA's table whose networks are built here."""
    rows = []
    with table.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            builder = PUBLISHED.get(line["model"])
            if builder is None or not line["engine"].startswith("TensorRT"):
                continue
            kernels = lower(builder(), line["precision"].lower(), rules=TENSORRT_BEFORE_7)
            pixels = int(line["input"].split("x")[0]) ** 2
            copies = 2 * COPY_S + (12 * pixels + 4000) / COPY_BYTES_PER_S
            name = f"{line['model']} {line['precision']}"
            rows.append(Published(name, float(line["latency_ms"]), kernels, copies))
    return rows


def nvidia_rows(board: Board, table: list[Published]) -> list[Row]:
    """Predicts NVIDIA's rows, in ms."""
    clocks = board.mode(3).clocks(pinned=False, busy=True)
    return [
        Row(
            row.name,
            row.latency_ms,
            1e3 * (execution(board, row.kernels, clocks, 40.0).duration_s + row.copies_s),
        )
        for row in table
    ]


def fit(board: Board, table: list[Published]) -> dict[str, float]:
    """Fits the efficiencies by least squares on relative errors, held near the first guesses."""
    names = [("efficiency", k) for k in ("conv3x3", "conv1x1", "conv", "depthwise")]
    names += [("efficiency_fp16", k) for k in ("conv3x3", "conv1x1", "conv")]
    start = np.log([getattr(board.timing, group)[kind] for group, kind in names])

    def board_at(logs: np.ndarray) -> Board:
        groups = {g: dict(getattr(board.timing, g)) for g in ("efficiency", "efficiency_fp16")}
        for (group, kind), log in zip(names, logs, strict=True):
            groups[group][kind] = float(np.exp(log))
        return board.model_copy(update={"timing": board.timing.model_copy(update=groups)})

    def residuals(logs: np.ndarray) -> np.ndarray:
        errors = [np.log1p(row.error) for row in nvidia_rows(board_at(logs), table)]
        return np.array([*errors, *(0.1 * (logs - start))])

    found = least_squares(residuals, start, loss="soft_l1", f_scale=0.05, diff_step=1e-3).x
    return {f"{g}.{k}": float(np.exp(log)) for (g, k), log in zip(names, found, strict=True)}


def cell_rows(board: Board, table: Path, count: int) -> tuple[list[Row], list[Row]]:
    """Predicts latency (ms) and energy (mJ) of cells drawn from NAS-Bench-201."""
    data = np.load(table, allow_pickle=False)
    chosen = np.random.default_rng(0).choice(len(data["ops"]), count, replace=False)
    clocks = board.mode(0).clocks(pinned=True)
    latency, energy = [], []
    for index in sorted(chosen):
        model = nas_bench_201([int(op) for op in data["ops"][index]])
        kernels = lower(model, "fp32", rules=TENSORRT_BEFORE_7) if model is not None else ()
        run = execution(board, kernels, clocks, 35.0)
        predicted_s = run.duration_s + PYTHON_S
        name = str(index)
        latency.append(Row(name, float(data["c10_tx2_latency_ms"][index]), 1e3 * predicted_s))
        predicted_mj = 1e3 * predicted_s * run.rail_power_w["VDD_IN"]
        energy.append(Row(name, float(data["c10_tx2_energy_mJ"][index]), predicted_mj))
    return latency, energy


def summary(rows: list[Row]) -> dict[str, float]:
    """Returns median and 90th percentile of the absolute relative error, and rank correlation."""
    errors = np.abs([row.error for row in rows])
    rank = spearmanr([row.published for row in rows], [row.predicted for row in rows]).statistic
    return {
        "median_ape": float(np.median(errors)),
        "p90_ape": float(np.quantile(errors, 0.9)),
        "bias": float(np.median([row.error for row in rows])),
        "spearman": float(rank),
        "rows": len(rows),
    }


def main() -> None:
    """Prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("HIL_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--fit", action="store_true")
    options = parser.parse_args()
    board = load_board("tx2")
    table = options.data / "tx2_tables" / "nvidia_tf_to_trt_image_classification.csv"
    published = nvidia_table(table)
    if options.fit:
        print(json.dumps(fit(board, published), indent=2))
        return
    nvidia = nvidia_rows(board, published)
    cells = options.data / "nb201_tx2" / "nb201_tx2_cifar10.npz"
    latency, energy = cell_rows(board, cells, options.cells)
    results = {"nvidia": nvidia, "cells_latency": latency, "cells_energy": energy}
    if options.json:
        print(
            json.dumps({k: summary(v) | {"of": list(map(asdict, v))} for k, v in results.items()})
        )
        return
    print(f"{'network':32s} {'published ms':>12s} {'predicted ms':>12s} {'error':>7s}")
    for row in nvidia:
        print(f"{row.name:32s} {row.published:12.2f} {row.predicted:12.2f} {row.error:+7.1%}")
    for name, rows in results.items():
        print(name, " ".join(f"{k} {v:.3g}" for k, v in summary(rows).items()))


if __name__ == "__main__":
    main()
