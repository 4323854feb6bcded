"""Published measurements of real TX2 boards, with the networks behind them and how they were taken.

Rule of this file: reading tables, building networks, and what each measurer's protocol adds to
an inference. What the protocols add belongs to them and is no property of the emulated board.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from hil.core.errors import ConfigError
from hil.emulator.batch import Array, Networks, Runs, gather, run_all
from hil.emulator.board import Board
from hil.emulator.fusion import TENSORRT_3, TORCH2TRT_CELLS
from hil.emulator.kernels import Kernel, lower, lower_graph
from hil.emulator.nas_bench import CONV_1X1, CONV_3X3, edge_of, live_ops, nas_bench_201
from hil.emulator.parameters import with_parameters
from hil.emulator.reference_networks import PUBLISHED

CELLS_TABLE = Path("nb201_tx2") / "nb201_tx2_cifar10.npz"
# assumes: published-stack, depthwise-gain
NVIDIA_TABLE = Path("tx2_tables") / "nvidia_tf_to_trt_image_classification.csv"
HELD_FAMILIES = ("resnet_v2", "inception")
"""NVIDIA's rows of these families are never fitted."""
COPY_BYTES_PER_S = 6e9
"""Assumed: a synchronous copy between pageable host memory and the device of a TX2."""


@dataclass(frozen=True)
class Protocol:
    """What the measurers' ways of measuring add. Defaults are those fitted with the board.

    Attributes:
        python_s: torch2trt's Python call around an inference (cells).
        copy_s: each of the two synchronous copies, beyond its bytes (NVIDIA's table).
        depthwise_submissions: a depthwise convolution's submission under TensorRT 3, over that
            of a plain kernel.
    """

    python_s: float = 0.306e-3
    copy_s: float = 40e-6
    depthwise_submissions: float = 6.0


@dataclass(frozen=True)
class Cells:
    """Measured networks around NAS-Bench-201 cells: FP32, batch 1, MAXN, Python call inside.

    Attributes:
        index: row of the table.
        latency_ms: as measured.
        energy_mj: as measured, whole module, idle not subtracted.
        networks: as the engines were built.
    """

    index: Array
    latency_ms: Array
    energy_mj: Array
    networks: Networks = field(repr=False)

    def take(self, rows: Array) -> Cells:
        """Returns some of the rows."""
        return Cells(
            self.index[rows], self.latency_ms[rows], self.energy_mj[rows], self.networks.take(rows)
        )

    def predicted(self, board: Board, protocol: Protocol) -> Runs:
        """Predicts every row."""
        clocks = board.mode(0).clocks(pinned=True)
        return run_all(board, self.networks, clocks, host_s=protocol.python_s)


@dataclass(frozen=True)
class Published:
    """NVIDIA's rows: TensorRT 3, batch 1, nvpmodel mode 3, copies to and from the device inside."""

    names: tuple[str, ...]
    latency_ms: Array
    copied_bytes: Array
    networks: Networks = field(repr=False)

    @property
    def held(self) -> Array:
        """Marks the rows that are never fitted."""
        return np.array([name.startswith(HELD_FAMILIES) for name in self.names])

    def predicted(self, board: Board, protocol: Protocol) -> Runs:
        """Predicts every row."""
        older = with_parameters(
            board, {"timing.enqueue_weight.depthwise": protocol.depthwise_submissions}
        )
        copies_s = 2 * protocol.copy_s + self.copied_bytes / COPY_BYTES_PER_S
        return run_all(older, self.networks, board.mode(3).clocks(pinned=True), host_s=copies_s)


def data_folder(given: Path | None = None) -> Path:
    """Finds the folder of real data: as given, or `HIL_DATA`, or `../shared/data`."""
    return given if given is not None else Path(os.environ.get("HIL_DATA", "../shared/data"))


def is_held_out(index: int) -> bool:
    """Whether a row of the table of cells is kept out of every fit (about one in five)."""
    return int(hashlib.sha256(str(index).encode()).hexdigest(), 16) % 5 == 0


def held_out(count: int) -> Array:
    """Marks the rows, of a table of `count`, that are kept out of every fit."""
    return np.array([is_held_out(index) for index in range(count)], dtype=bool)


def read_cells(
    table: Path,
    dataset: str = "c10",
    shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    rows: Sequence[int] | Array | None = None,
) -> Cells:
    """Reads measured cells and builds their networks (15,625 take about a minute).

    Args:
        table: an .npz file with `ops`, `<dataset>_tx2_latency_ms` and `<dataset>_tx2_energy_mJ`.
        dataset: prefix of the columns.
        shape: channels, height and width of the input; height and width must agree.
        classes: outputs of the network.
        rows: which rows; all by default. Rows without a positive measurement are left out.

    Raises:
        ConfigError: the file cannot be read or lacks a column.
        ConfigError: the input is not square.
    """
    if shape[1] != shape[2]:
        raise ConfigError(f"the input {shape[1]}x{shape[2]} is not square")
    latency, energy = f"{dataset}_tx2_latency_ms", f"{dataset}_tx2_energy_mJ"
    try:
        with np.load(table, allow_pickle=False) as data:
            columns = {name: data[name] for name in ("ops", latency, energy)}
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {table}", why=str(error)) from error
    except KeyError as error:
        raise ConfigError(f"{table} has no such column", why=str(error)) from error
    chosen = np.arange(len(columns["ops"])) if rows is None else np.asarray(rows)
    good = np.isfinite(columns[latency]) & (columns[latency] > 0) & (columns[energy] > 0)
    chosen = chosen[good[chosen]]
    networks = gather(
        cell_kernels(ops, shape[0], shape[1], classes) for ops in columns["ops"][chosen].tolist()
    )
    return Cells(chosen, columns[latency][chosen], columns[energy][chosen], networks)


def cell_kernels(
    ops: Sequence[int], channels: int = 3, size: int = 32, classes: int = 10
) -> tuple[Kernel, ...]:
    """Returns the kernels of the engine that was measured for a cell.

    Which kernels there are does not depend on the sizes of the edges' convolutions, so that
    cells which differ in those alone are lowered once.
    """
    live = live_ops(ops)
    pattern = tuple(CONV_1X1 if op == CONV_3X3 else op for op in live)
    return tuple(
        _as_3x3(kernel) if edge is not None and live[edge] == CONV_3X3 else kernel
        for kernel, edge in _pattern(pattern, channels, size, classes)
    )


@lru_cache(maxsize=10_000)
def _pattern(
    ops: tuple[int, ...], channels: int, size: int, classes: int
) -> tuple[tuple[Kernel, int | None], ...]:
    network, output = nas_bench_201(ops, size, classes, channels=channels)
    graph = network.graph(output, fold_constants=TORCH2TRT_CELLS.fold_constants)
    kernels = lower_graph(graph, "fp32", TORCH2TRT_CELLS)
    return tuple(
        (kernel, next((edge for node in kernel.nodes if (edge := edge_of(node)) is not None), None))
        for kernel in kernels
    )


@lru_cache(maxsize=100_000)
def _as_3x3(kernel: Kernel) -> Kernel:
    """Returns the kernel of a 3x3 convolution in place of one of 1x1."""
    return replace(
        kernel,
        kind="conv3x3",
        macs=9 * kernel.macs,
        bytes_weights=9 * kernel.bytes_weights,
        k=9 * kernel.k,
    )


def read_published(table: Path) -> Published:
    """Reads the rows of NVIDIA's table whose networks are built here.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        with table.open(newline="", encoding="utf-8") as file:
            lines = [
                line
                for line in csv.DictReader(file)
                if line["model"] in PUBLISHED and line["engine"].startswith("TensorRT")
            ]
    except OSError as error:
        raise ConfigError(f"cannot read {table}", why=str(error)) from error
    kernels = [
        lower(PUBLISHED[line["model"]](), line["precision"].lower(), rules=TENSORRT_3)
        for line in lines
    ]
    pixels = np.array([int(line["input"].split("x")[0]) ** 2 for line in lines])
    return Published(
        tuple(f"{line['model']} {line['precision']}" for line in lines),
        np.array([float(line["latency_ms"]) for line in lines]),
        4 * (3 * pixels + 1000),
        gather(kernels),
    )
