"""What the public data leave open: boards that fit them, and figures with their interval.

Two things are unknown about any figure of the emulated board. Its parameters: `plausible_boards`
draws them from the fit's posterior. And what the model lacks, however its parameters are set:
its discrepancy, a Gaussian process over a descriptor of the network, so that similar networks
err alike and their ratio is surer than either. Far from every network that was measured the
discrepancy grows to `far_sd`. Both are read from the data file beside the board's YAML
(`tx2.posterior.json`), written by `hil bench emulator --fit --write`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from hil.core.errors import ConfigError
from hil.emulator.batch import Array, Networks, gather, run_all
from hil.emulator.board import BOARDS, Board, Clocks, load_board
from hil.emulator.kernels import MATRIX_KINDS, Kernel
from hil.emulator.parameters import parameter, with_parameters

Figure = Literal["latency", "energy"]
SCHEMA = "hil/board-posterior@1"
BOARD_DRAWS = 200
DISCREPANCY_DRAWS = 20


@dataclass(frozen=True)
class Discrepancy:
    """What the model lacks, in logarithms of one figure.

    Attributes:
        row_sd: spread of rows whose engines are alike: measuring noise, for the most part. Part of
            the interval for a measured row, not of a figure of the emulated board.
        near_sd: spread among networks like those measured, over and above the parameters'.
        near_length: distance of descriptors over which such errors part company.
        far_sd: spread far from everything measured.
        far_length: distance over which the measured networks still vouch for others.
        references: descriptors of measured networks, [networks, features].
    """

    row_sd: float
    near_sd: float
    near_length: float
    far_sd: float
    far_length: float
    references: Array

    def covariance(self, descriptors: Array) -> Array:
        """Returns the covariance between networks, [networks, networks]."""
        far = _similarity(descriptors, descriptors, self.far_length)
        if len(self.references):
            known = _similarity(self.references, self.references, self.far_length)
            known[np.diag_indices_from(known)] += 1e-3
            cross = _similarity(descriptors, self.references, self.far_length)
            far = far - cross @ np.linalg.solve(known, cross.T)
        near = _similarity(descriptors, descriptors, self.near_length)
        return np.asarray(self.near_sd**2 * near + self.far_sd**2 * far)


@dataclass(frozen=True)
class Posterior:
    """A board's posterior as stored.

    Attributes:
        board: name of the board whose values are the centre.
        names: the parameters.
        paths: the numbers of the board that each scales (none: it belongs to a protocol).
        covariance: of the logarithms.
        release_log_sd: further spread by parameter, because the measured engines are of other
            releases of TensorRT than the one the board plays.
        discrepancy: by figure.
    """

    board: str
    names: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...]
    covariance: Array
    release_log_sd: Mapping[str, float]
    discrepancy: Mapping[str, Discrepancy]

    def factors(self, n: int, seed: int, *, other_release: bool = True) -> Array:
        """Draws factors on the parameters, [n, parameters]."""
        covariance = self.covariance.copy()
        if other_release:
            more = np.array([self.release_log_sd.get(name, 0.0) for name in self.names])
            covariance += np.diag(more**2)
        generator = np.random.default_rng(seed)
        logs = generator.multivariate_normal(
            np.zeros(len(self.names)), covariance, n, method="cholesky"
        )
        return np.asarray(np.exp(logs))

    def boards(self, factors: Array) -> list[Board]:
        """Makes a board of each row of factors."""
        base = load_board(self.board)
        flat = [(path, i) for i, paths in enumerate(self.paths) for path in paths]
        values = {path: parameter(base, path) for path, _ in flat}
        return [
            with_parameters(base, {path: values[path] * float(row[i]) for path, i in flat})
            for row in factors
        ]


def plausible_boards(
    n: int, seed: int = 0, name: str = "tx2", *, other_release: bool = True
) -> list[Board]:
    """Draws boards that are consistent with the public measurements.

    Args:
        n: how many.
        seed: the same seed draws the same boards.
        name: a shipped board with a posterior.
        other_release: whether engines are of the release that the board plays (wider), or of
            those that were measured.
    """
    posterior = load_posterior(name)
    return posterior.boards(posterior.factors(n, seed, other_release=other_release))


def predicted(
    kernels: Sequence[Kernel],
    clocks: Clocks | int = 0,
    figure: Figure = "energy",
    *,
    name: str = "tx2",
    seed: int = 0,
) -> tuple[float, float, float]:
    """Predicts a figure of one inference: median, 5th and 95th percentile (mJ or ms).

    Args:
        kernels: the network, lowered.
        clocks: what the board runs at, or a power mode with pinned clocks.
        figure: energy on the module's input, or latency.
        name: a shipped board with a posterior.
        seed: of the draws.
    """
    logs = draws([kernels], clocks, figure, name=name, seed=seed)[:, 0]
    return _percentiles(np.exp(logs))


def predicted_ratio(
    kernels_a: Sequence[Kernel],
    kernels_b: Sequence[Kernel],
    clocks: Clocks | int = 0,
    figure: Figure = "energy",
    *,
    name: str = "tx2",
    seed: int = 0,
) -> tuple[float, float, float]:
    """Predicts figure(a) / figure(b): median, 5th and 95th percentile.

    A claim that b needs a fourth of a's energy at this board means a 5th percentile of 4.
    The arguments are those of `predicted`.
    """
    logs = draws([kernels_a, kernels_b], clocks, figure, name=name, seed=seed)
    return _percentiles(np.exp(logs[:, 0] - logs[:, 1]))


def draws(
    networks: Sequence[Sequence[Kernel]],
    clocks: Clocks | int = 0,
    figure: Figure = "energy",
    *,
    name: str = "tx2",
    seed: int = 0,
) -> Array:
    """Draws logarithms of a figure for several networks jointly, [draws, networks]."""
    posterior = load_posterior(name)
    base = load_board(name)
    at = base.mode(clocks).clocks(pinned=True) if isinstance(clocks, int) else clocks
    gathered = gather(networks)
    logs = np.array(
        [
            _log_figure(board, gathered, at, figure)
            for board in posterior.boards(posterior.factors(BOARD_DRAWS, seed))
        ]
    )
    lacking = posterior.discrepancy[figure].covariance(describe(gathered))
    noise = correlated(lacking, BOARD_DRAWS * DISCREPANCY_DRAWS, seed + 1)
    return np.asarray(np.repeat(logs, DISCREPANCY_DRAWS, axis=0) + noise)


def correlated(covariance: Array, n: int, seed: int) -> Array:
    """Draws n vectors of a covariance that may be singular (equal networks err alike)."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    standard = np.random.default_rng(seed).standard_normal((n, len(covariance)))
    return np.asarray(standard @ root.T)


def describe(networks: Networks) -> Array:
    """Describes networks for the discrepancy, [networks, features].

    Features: logarithms of the numbers of matrix kernels, depthwise, pointwise, elementwise and
    other kernels; logarithms of multiply-adds and bytes per kernel; share of FP16 kernels.
    """
    total = networks.total
    kernels = networks.kernels
    count = np.maximum(1.0, total([1.0] * len(kernels)))
    groups: list[Any] = [
        [k.kind in MATRIX_KINDS for k in kernels],
        [k.kind == "depthwise" for k in kernels],
        [k.kind == "pointwise" for k in kernels],
        [k.kind == "elementwise" for k in kernels],
        [k.kind in {"pool", "reduce", "copy", "softmax", "resize"} for k in kernels],
    ]
    columns = [np.log1p(total(group)) for group in groups]
    macs = total([k.macs for k in kernels])
    moved = total([k.bytes_in + k.bytes_out + k.bytes_weights for k in kernels])
    columns += [0.3 * np.log1p(macs / count), 0.3 * np.log1p(moved / count)]
    columns.append(total([k.precision == "fp16" for k in kernels]) / count)
    return np.stack(columns, axis=1)


@lru_cache(maxsize=4)
def load_posterior(name: str = "tx2") -> Posterior:
    """Reads a shipped board's posterior.

    Raises:
        ConfigError: the board has none.
    """
    path = BOARDS / f"{name}.posterior.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"no posterior is stored for the board {name}",
            why=str(error),
            fix="run hil bench emulator --fit --write",
        ) from error
    if data.get("schema") != SCHEMA:
        raise ConfigError(f"{path.name} is not of schema {SCHEMA}")
    return from_json(data)


def from_json(data: Mapping[str, Any]) -> Posterior:
    """Takes a posterior out of its stored form."""
    return Posterior(
        board=data["board"],
        names=tuple(each["name"] for each in data["parameters"]),
        paths=tuple(tuple(each["paths"]) for each in data["parameters"]),
        covariance=np.array(data["covariance"]),
        release_log_sd=data["release_log_sd"],
        discrepancy={
            figure: Discrepancy(**{**each, "references": np.array(each["references"])})
            for figure, each in data["discrepancy"].items()
        },
    )


def _log_figure(board: Board, networks: Networks, clocks: Clocks, figure: Figure) -> Array:
    runs = run_all(board, networks, clocks)
    return np.log(runs.energy_mj if figure == "energy" else 1e3 * runs.latency_s)


def _similarity(a: Array, b: Array, length: float) -> Array:
    squares = ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2)
    return np.asarray(np.exp(-0.5 * squares / length**2))


def _percentiles(values: Array) -> tuple[float, float, float]:
    low, median, high = np.quantile(values, [0.05, 0.5, 0.95]).tolist()
    return median, low, high
