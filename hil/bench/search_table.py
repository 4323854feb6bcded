"""A table of measured and trained cells as a replayed device and trainer with known answers.

What a method pays for and what it is judged by are kept apart: `World.measure` and `World.train`
answer from the table as one noisy device and one noisy training would; `World.merit` is what the
choice was worth, and no method sees it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hil.core.errors import ConfigError
from hil.synth.cells import Cells
from hil.synth.records import Arch, FloatArray, Limit

ENERGY, LATENCY = "energy_mj", "latency_ms"
DEVICE_NOISE = 0.017
"""Relative standard deviation a method is told for one measurement (the tables' own repeats)."""

# Mean power of operators on a TX2, and the correlations of log energy with log latency over
# operators in two of the published tables (Harmonic-NAS, arXiv 2309.06612).
_POWER_W = (1.24, 11.7)
_SEMI_SYNTHETIC = {"semi-synthetic A": (1, 0.51), "semi-synthetic B": (2, 0.62)}


@dataclass(frozen=True)
class Table:
    """Every cell of the space, measured and trained.

    Attributes:
        label: "measured", or which semi-synthetic variant.
        sha256: of the file.
        ops: (N, 6) operations by edge.
        params: (N,) parameters.
        macs: (N,) MACs.
        energy_mj: (N,) energy of an inference.
        latency_ms: (N,) latency of an inference.
        accuracy: (N,) percent right after one training.
        graph: (N,) cells of one number are one network, trained several times.
    """

    label: str
    sha256: str
    ops: NDArray[np.int64]
    params: FloatArray
    macs: FloatArray
    energy_mj: FloatArray
    latency_ms: FloatArray
    accuracy: FloatArray
    graph: NDArray[np.int64]


@dataclass(frozen=True)
class Merit:
    """What every cell is worth, in points of accuracy.

    Attributes:
        points: (N,) see `merit_of`.
        single: (N,) whether the cell's graph was trained once only.
        noise_sd: standard deviation of one training about its graph's mean; None where no graph
            was trained twice, and single cells then stand at their own accuracy.
    """

    points: FloatArray
    single: NDArray[np.bool_]
    noise_sd: float | None


@dataclass(frozen=True)
class World:
    """A table under limits.

    Attributes:
        limits: on energy and latency.
        quantile: of both columns, at which the limits lie.
        feasible: (N,) whether the table's figures meet both limits.
        best: merit of the best feasible cell, in points.
    """

    table: Table
    space: Cells
    merit: Merit
    limits: tuple[Limit, ...]
    quantile: float
    feasible: NDArray[np.bool_]
    best: float

    def measure(self, arch: Arch) -> dict[str, tuple[float, float]]:
        """What the device reads, with the standard deviation a method is told."""
        row = self.space.row(arch)
        values = {
            ENERGY: float(self.table.energy_mj[row]),
            LATENCY: float(self.table.latency_ms[row]),
        }
        return {metric: (value, DEVICE_NOISE * value) for metric, value in values.items()}

    def train(self, arch: Arch) -> float:
        """Accuracy of one training, a fraction."""
        return float(self.table.accuracy[self.space.row(arch)]) / 100.0

    def regret(self, arch: Arch) -> float:
        """Points of merit that the best feasible cell is ahead."""
        return self.best - float(self.merit.points[self.space.row(arch)])


def read_table(path: Path, dataset: str, accuracy: str) -> Table:
    """Read a table of cells.

    Args:
        path: an .npz of arrays.
        dataset: prefix of the device's columns and suffix of the counts': c10, c100, ...
        accuracy: name of the column that training answers from.

    Raises:
        ConfigError: no such file or column, or not every cell exactly once with finite figures.
    """
    names = (
        "ops",
        f"params_{dataset}",
        f"macs_{dataset}",
        f"{dataset}_tx2_energy_mJ",
        f"{dataset}_tx2_latency_ms",
        accuracy,
        "graph_id",
    )
    try:
        content = path.read_bytes()
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in names if name not in file]
            if missing:
                raise ConfigError(
                    f"{path} has no column {', '.join(missing)}",
                    why=f"it has {', '.join(sorted(file))}",
                    fix="name the table's own with --dataset and --accuracy",
                )
            ops, *columns = (np.asarray(file[name]) for name in names)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no table of cells", why=str(error)) from error
    ops = ops.astype(np.int64)
    if ops.ndim != 2 or len({tuple(o) for o in ops.tolist()}) != 5**6 or len(ops) != 5**6:
        raise ConfigError(
            f"{path} is no table of cells",
            why="its column ops does not hold each of the 15,625 cells once",
        )
    figures = [c.astype(np.float64) for c in columns[:-1]]
    for name, figure in zip(names[1:-1], figures, strict=True):
        if figure.shape != (len(ops),) or not np.isfinite(figure).all() or (figure < 0).any():
            raise ConfigError(f"column {name} of {path} is not one finite figure a cell")
    sha256 = hashlib.sha256(content).hexdigest()
    params, macs, energy, latency, trained = figures
    graph = columns[-1].astype(np.int64)
    return Table("measured", sha256, ops, params, macs, energy, latency, trained, graph)


def merit_of(accuracy: FloatArray, graph: NDArray[np.int64]) -> Merit:
    """Merit of every cell: the mean accuracy of the OTHER trainings of its graph.

    So a cell whose own training was lucky gains nothing by it. Where a graph was trained once
    only, there is no other: such a cell's merit is the expectation of its graph's accuracy given
    its own, under noise as large as within other graphs and with all single cells' accuracies as
    the prior. Near the top, where high values are rare and luck is likely, that lies below the
    cell's own; elsewhere it hardly differs. It looks at accuracies alone, so it favours no model.
    """
    _, index, count = np.unique(graph, return_inverse=True, return_counts=True)
    total = np.bincount(index, accuracy)
    others = count[index] - 1
    points = np.where(others > 0, (total[index] - accuracy) / np.maximum(others, 1), accuracy)
    mean = total / count
    # Bad networks vary far more from training to training; only good ones are competed for.
    several = count > 1
    good = several & (mean >= np.median(mean[several])) if several.any() else several
    freedom = int((count[good] - 1).sum())
    if freedom == 0:
        return Merit(points, others == 0, None)
    rows = good[index]
    noise = float(np.sqrt(((accuracy[rows] - mean[index[rows]]) ** 2).sum() / freedom))
    single = others == 0
    if noise > 0.0:
        points[single] = _expected(accuracy[single], noise)
    return Merit(points, single, noise)


def _expected(values: FloatArray, noise: float) -> FloatArray:
    """Posterior mean of each under Gaussian noise, the values themselves as the prior."""
    if len(values) == 0:
        return values
    weights = np.exp(-0.5 * ((values[:, None] - values[None, :]) / noise) ** 2)
    result: FloatArray = weights @ values / weights.sum(axis=1)
    return result


def world_of(table: Table, merit: Merit, share: float) -> World:
    """Limit energy and latency at one common quantile such that `share` of cells meet both.

    Raises:
        ConfigError: no cell is feasible at that share.
    """
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        if _within(table, middle).mean() < share:
            low = middle
        else:
            high = middle
    feasible = _within(table, high)
    if not feasible.any():
        raise ConfigError(f"no cell is feasible at a share of {share}", fix="ask for more")
    limits = (
        Limit(ENERGY, float(np.quantile(table.energy_mj, high))),
        Limit(LATENCY, float(np.quantile(table.latency_ms, high))),
    )
    space = Cells(table.ops, table.params, table.macs)
    best = float(merit.points[feasible].max())
    return World(table, space, merit, limits, high, feasible, best)


def _within(table: Table, quantile: float) -> NDArray[np.bool_]:
    energy, latency = table.energy_mj, table.latency_ms
    meets = (energy <= np.quantile(energy, quantile)) & (latency <= np.quantile(latency, quantile))
    return np.asarray(meets, dtype=np.bool_)


def semi_synthetic(table: Table) -> tuple[Table, ...]:
    """Two variants in which operators differ in power, so that energy binds apart from latency.

    In the measured table energy is nearly latency times one power. Here each operation on each
    edge draws a power of its own (log-uniform over the span published for a TX2's operators), a
    cell's is their mean, and its spread is stretched until log energy correlates with log latency
    as published. Latency, accuracy and the noise of the measured energy stay.
    """
    return tuple(
        replace(table, label=label, energy_mj=table.energy_mj * _power(table, seed, correlation))
        for label, (seed, correlation) in _SEMI_SYNTHETIC.items()
    )


def _power(table: Table, seed: int, correlation: float) -> FloatArray:
    """Relative power of each cell, median one."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    low, high = np.log(_POWER_W)
    factors = np.exp(rng.uniform(low, high, (table.ops.shape[1], 5)))
    own = factors[np.arange(table.ops.shape[1]), table.ops]
    # "none" (0) launches nothing and draws nothing.
    active = table.ops != 0
    mean = np.where(active, own, 0.0).sum(axis=1) / np.maximum(active.sum(axis=1), 1)
    logs = np.log(np.where(active.any(axis=1), mean, _POWER_W[0]))
    logs -= np.median(logs)
    least, most = 0.0, 10.0
    for _ in range(50):
        stretch = 0.5 * (least + most)
        energy = np.log(table.energy_mj) + stretch * logs
        if np.corrcoef(energy, np.log(table.latency_ms))[0, 1] > correlation:
            least = stretch
        else:
            most = stretch
    result: FloatArray = np.exp(most * logs)
    return result
