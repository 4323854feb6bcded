"""A table of networks that were measured once, read as a device that measures them again.

A measurement is the recorded figure times two factors: one of the build, one of the measurement,
both log-normal with the sizes that the device file states. They depend on the seed, the network,
the build and the figure alone. What the record itself got wrong stays in: it is the truth here.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hil.core.errors import ConfigError
from hil.device.replay_config import DATA, RecordedTable, ReplayNoise

_DEFAULT_DATA = "../shared/data"
_Z = 1.959964  # two-sided 95 % of a normal

Columns = Mapping[str, NDArray[Any]]


def data_path(file: str) -> Path:
    """The path of a file named in YAML; one under HIL_DATA/ lies in the folder of real data."""
    head, _, rest = file.partition("/")
    if head == DATA and rest:
        return Path(os.environ.get(DATA, _DEFAULT_DATA)) / rest
    return Path(file).expanduser()


def read_columns(file: str, wanted: Sequence[str]) -> Columns:
    """Columns of a table, all of one length.

    Raises:
        ConfigError: no such file, it is no table, or it lacks a column.
    """
    path = data_path(file)
    try:
        with np.load(path, allow_pickle=False) as table:
            missing = [name for name in wanted if name not in table.files]
            if missing:
                raise ConfigError(
                    f"the table {path} has no column {', '.join(missing)}",
                    why=f"its columns are {', '.join(sorted(table.files))}",
                    fix="name one of those",
                )
            columns = {name: table[name] for name in wanted}
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the table {path} cannot be read",
            why=str(error),
            fix=f"name an .npz file; {DATA} is the folder of real data, {_DEFAULT_DATA} by default",
        ) from error
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ConfigError(f"the columns of {path} differ in length: {lengths}")
    return columns


@dataclass(frozen=True)
class Reading:
    """One figure as measured again: its value and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Recording:
    """A table as a device.

    Attributes:
        figures: metric to recorded figure, by row.
        rows: row of each network, by its choices.
    """

    figures: Mapping[str, NDArray[np.float64]]
    rows: Mapping[tuple[int, ...], int]
    noise: ReplayNoise

    @classmethod
    def open(cls, table: RecordedTable) -> Self:
        """Read a table.

        Raises:
            ConfigError: it cannot be read, names a network twice, or holds a figure that is none.
        """
        names = {str(metric): column for metric, column in table.figures.items()}
        columns = read_columns(table.file, [table.choices, *names.values()])
        figures = {m: np.asarray(columns[c], dtype=np.float64) for m, c in names.items()}
        choices = np.asarray(columns[table.choices])
        rows = {tuple(int(c) for c in row): i for i, row in enumerate(choices.tolist())}
        if len(rows) != len(choices):
            raise ConfigError(f"column {table.choices} of {table.file} names a network twice")
        for metric, values in figures.items():
            wrong = int((~(np.isfinite(values) & (values > 0))).sum())
            if wrong:
                raise ConfigError(
                    f"column {names[metric]} of {table.file} holds {wrong} figures that are none",
                    why=f"every {metric} must be a finite number greater than 0",
                )
        return cls(figures, rows, table.noise)

    def measure(
        self, choices: tuple[int, ...], *, seed: int, stage: str, build: int
    ) -> dict[str, Reading]:
        """Measure a network again; every recorded metric.

        Args:
            choices: the network.
            seed: of the run.
            stage: of the run that asks: builds of one are none of the other's.
            build: which engine build; each has its own factor.

        Raises:
            ConfigError: the table does not hold the network.
        """
        row = self.rows.get(choices)
        if row is None:
            raise ConfigError(
                f"the table holds no network {choices}",
                why=f"it holds {len(self.rows)} others",
                fix="use a profile whose space was read from the same table",
            )
        name = f"{seed}:{self.noise.seed}:{choices}:{stage}:{build}"
        readings = {}
        for metric, values in self.figures.items():
            if metric == "memory_mib":  # counted, not measured
                readings[metric] = Reading(*3 * (float(values[row]),))
                continue
            rng = _stream(f"{name}:{metric}")
            built, measured = (float(draw) for draw in rng.normal(size=2))
            noise = self.noise.build * built + self.noise.measurement * measured
            value = float(values[row]) * math.exp(noise)
            half = math.exp(_Z * self.noise.measurement)
            readings[metric] = Reading(value, value / half, value * half)
        return readings


def _stream(name: str) -> np.random.Generator:
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")
    return np.random.Generator(np.random.Philox(key=key))
