"""Holds the emulated TX2 to published measurements of real ones: predicted against measured.

Rule of this file: pure scoring, and the run that `hil bench emulator` makes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from hil.bench.emulator_fit import Fit, fit
from hil.bench.emulator_posterior import coverage, posterior_json
from hil.bench.emulator_rows import (
    CELLS_TABLE,
    NVIDIA_TABLE,
    Cells,
    Protocol,
    Published,
    held_out,
    read_cells,
    read_published,
)
from hil.core.errors import ConfigError
from hil.emulator.batch import Array, Runs
from hil.emulator.board import load_board
from hil.emulator.posterior import from_json, load_posterior

FIT_ROWS = 2000
CALIBRATION_ROWS = 4000


@dataclass(frozen=True)
class Plan:
    """What to compare.

    Attributes:
        data: folder of the real data.
        table: measured cells to evaluate, all rows; None for the held-out rows of the table of
            CIFAR-10 in `data`.
        dataset: prefix of the table's columns.
        shape: channels, height and width of the input.
        classes: outputs.
        fit: fit the parameters anew first, to rows that are never evaluated.
        limit: evaluate at most so many rows, spread over the table.
        coverage: check the posterior's intervals too (takes half a minute more).
    """

    data: Path
    table: Path | None = None
    dataset: str = "c10"
    shape: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10
    fit: bool = False
    limit: int | None = None
    coverage: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a comparison found; `points` holds the figures behind `summary`."""

    summary: dict[str, Any]
    points: dict[str, tuple[Array, Array]]
    posterior: dict[str, Any] | None


def compare(plan: Plan, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """Runs a comparison.

    Args:
        plan: what to compare.
        say: told what goes on.

    Raises:
        ConfigError: data are missing or do not fit the plan.
    """
    board, protocol = load_board("tx2"), Protocol()
    published = read_published(plan.data / NVIDIA_TABLE)
    source = plan.data / CELLS_TABLE
    found, stored = None, None
    if plan.fit:
        say(f"fitting to {FIT_ROWS} cells and {int((~published.held).sum())} rows of NVIDIA's")
        found = fit(board, training_cells(source, FIT_ROWS), published)
        board, protocol = found.board, found.protocol
        stored = posterior_json(
            found, training_cells(source, CALIBRATION_ROWS), published, _provenance()
        )
    say("building the networks to evaluate")
    cells = _evaluated(plan, source)
    runs = cells.predicted(board, protocol)
    rows = published.predicted(board, protocol)
    points = {
        "latency": (cells.latency_ms, 1e3 * runs.latency_s),
        "energy": (cells.energy_mj, runs.energy_mj),
        "nvidia": (published.latency_ms, 1e3 * rows.latency_s),
    }
    summary: dict[str, Any] = {
        "schema": "hil/bench-emulator@1",
        "provenance": "emulated",
        "dataset": plan.dataset,
        "input": list(plan.shape),
        "classes": plan.classes,
        "latency": scores(*points["latency"]),
        "energy": scores(*points["energy"]),
        "trivial": _trivial(cells, runs),
        "nvidia": _nvidia(published, points["nvidia"][1]),
    }
    if found is not None:
        summary["fit"] = _fitted(found)
    if plan.coverage:
        say("drawing boards from the posterior")
        posterior = from_json(stored) if stored is not None else load_posterior()
        summary["coverage"] = coverage(posterior, protocol, cells)
    return Outcome(summary, points, stored)


def training_cells(table: Path, count: int) -> Cells:
    """Reads rows of the table of CIFAR-10 that are not held out, always the same ones."""
    with_index = np.flatnonzero(~held_out(_rows_of(table)))
    order = np.random.default_rng(0).permutation(with_index)
    return read_cells(table, rows=np.sort(order[:count]))


def scores(measured: Array, predicted: Array) -> dict[str, float | int]:
    """Returns median and 90th percentile of the absolute relative error, bias, rank correlation."""
    errors = predicted / measured - 1.0
    rank = spearmanr(measured, predicted).statistic if len(measured) > 1 else float("nan")
    return {
        "median_ape": float(np.median(np.abs(errors))),
        "p90_ape": float(np.quantile(np.abs(errors), 0.9)),
        "bias": float(np.median(errors)),
        "spearman": float(rank),
        "rows": len(measured),
    }


def _evaluated(plan: Plan, source: Path) -> Cells:
    if plan.table is None:
        if (plan.dataset, plan.shape, plan.classes) != ("c10", (3, 32, 32), 10):
            raise ConfigError(
                "another data set, input or number of classes needs a table of its own",
                fix="give it with --table",
            )
        rows = np.flatnonzero(held_out(_rows_of(source)))
    else:
        rows = np.arange(_rows_of(plan.table))
    if plan.limit is not None and plan.limit < len(rows):
        rows = np.sort(np.random.default_rng(0).choice(rows, plan.limit, replace=False))
    cells = read_cells(plan.table or source, plan.dataset, plan.shape, plan.classes, rows)
    if not len(cells.networks):
        raise ConfigError(f"{plan.table or source} holds no measured row")
    return cells


def _rows_of(table: Path) -> int:
    try:
        with np.load(table, allow_pickle=False) as data:
            return len(data["ops"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"cannot read {table}",
            why=str(error),
            fix="set HIL_DATA to the folder of the real data, or give --data",
        ) from error


def _trivial(cells: Cells, runs: Runs) -> dict[str, float | int]:
    """Scores what any model of power must beat: predicted latency times one constant."""
    constant = float(np.median(cells.energy_mj / cells.latency_ms))
    return {
        "power_w": constant,
        **scores(cells.energy_mj, constant * 1e3 * runs.latency_s),
    }


def _nvidia(published: Published, predicted_ms: Array) -> dict[str, Any]:
    held = published.held
    errors = (predicted_ms / published.latency_ms - 1.0).tolist()
    rows = zip(
        published.names, published.latency_ms.tolist(), predicted_ms.tolist(), errors,
        held.tolist(), strict=True,
    )  # fmt: skip
    return {
        "fitted": scores(published.latency_ms[~held], predicted_ms[~held]),
        "held_out": scores(published.latency_ms[held], predicted_ms[held]),
        "of": [
            {"name": n, "published_ms": p, "predicted_ms": q, "error": e, "held_out": h}
            for n, p, q, e, h in rows
        ],
    }


def _fitted(found: Fit) -> dict[str, Any]:
    spreads = found.log_sd()
    return {name: {"value": value, "log_sd": spreads[name]} for name, value in found.values.items()}


def _provenance() -> str:
    return (
        "hil bench emulator --fit --write: NAS-Bench-201 cells measured on a TX2 (HW-NAS-Bench), "
        "rows not held out, and NVIDIA's TF-to-TensorRT table (ResNet v1, VGG-16, MobileNet v1); "
        "centres are the values in the board's YAML"
    )
