"""Many networks on one board at once: the physics of `hil.emulator.physics`, over arrays.

Kernels that are alike are timed once, so that thousands of networks of the same parts cost
little more than one; the play of host and GPU is the same function that one network uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hil.emulator.board import Board, Clocks
from hil.emulator.kernels import Kernel
from hil.emulator.physics import Work, dram_bytes, ends_seconds, kernel_seconds, pipeline
from hil.emulator.physics import submit_seconds as submit_seconds_of
from hil.emulator.power import INPUT, rail_power_w

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Networks:
    """Networks as sequences of distinct kernels.

    Attributes:
        kernels: the distinct kernels, names left out.
        sequence: integers [networks, longest]; -1 pads the end.
    """

    kernels: tuple[Kernel, ...]
    sequence: Array

    def __len__(self) -> int:
        return len(self.sequence)

    def take(self, rows: Array) -> Networks:
        """Returns some of the networks."""
        sequence = self.sequence[rows]
        longest = int((sequence >= 0).sum(axis=1).max(initial=0))
        return Networks(self.kernels, sequence[:, :longest])

    def total(self, values: Sequence[float] | Array) -> Array:
        """Sums a figure of each distinct kernel over every network."""
        padded = np.append(np.asarray(values, dtype=float), 0.0)
        return np.asarray(padded[self.sequence].sum(axis=1))

    def counts(self, kinds: Sequence[str]) -> Array:
        """Counts kernels by kind: [networks, kinds]."""
        columns = [self.total([kernel.kind == kind for kernel in self.kernels]) for kind in kinds]
        return np.stack(columns, axis=1)


def gather(networks: Iterable[Sequence[Kernel]]) -> Networks:
    """Collects networks' kernels."""
    known: dict[Any, int] = {}
    distinct: list[Kernel] = []
    rows: list[list[int]] = []
    for network in networks:
        row = []
        for kernel in network:
            key = _key(kernel)
            index = known.get(key)
            if index is None:
                index = known[key] = len(distinct)
                distinct.append(replace(kernel, name="", nodes=()))
            row.append(index)
        rows.append(row)
    longest = max((len(row) for row in rows), default=0)
    sequence = np.full((len(rows), longest), -1, dtype=np.int32)
    for index, row in enumerate(rows):
        sequence[index, : len(row)] = row
    return Networks(tuple(distinct), sequence)


def _key(k: Kernel) -> tuple[Any, ...]:
    sizes = (k.macs, k.ops, k.bytes_in, k.bytes_out, k.bytes_weights, k.m, k.n, k.k, k.groups)
    return (k.kind, k.precision, *sizes)


@dataclass(frozen=True)
class Runs:
    """One inference of each network. `latency_s` holds the host's extra time, if any."""

    latency_s: Array
    power_w: Array

    @property
    def energy_mj(self) -> Array:
        """Energy of one inference on the module's input, in millijoules."""
        return np.asarray(1e3 * self.latency_s * self.power_w)


def run_all(
    board: Board,
    networks: Networks,
    clocks: Clocks,
    temp_c: float = 35.0,
    *,
    host_s: Array | float = 0.0,
) -> Runs:
    """Runs every network.

    Args:
        board: the board.
        networks: what to run.
        clocks: what the board runs at.
        temp_c: die temperature.
        host_s: time of the host in each inference outside the engine (one core busy, GPU idle).
    """
    kernels, sequence = networks.kernels, networks.sequence
    time_of = np.append([kernel_seconds(board, kernel, clocks) for kernel in kernels], 0.0)
    submit_of = np.append([submit_seconds_of(board, k.kind, clocks) for k in kernels], 0.0)
    times, submits = time_of[sequence], submit_of[sequence]
    duration_s, busy_s = pipeline(times, submits, *ends_seconds(board, clocks))
    half = np.array([kernel.precision == "fp16" for kernel in kernels])
    macs = np.array([kernel.macs for kernel in kernels], dtype=float)
    work = Work(
        macs=networks.total(macs * ~half),
        macs_fp16=networks.total(macs * half),
        ops=networks.total([kernel.ops for kernel in kernels]),
        dram_bytes=networks.total([dram_bytes(board, kernel) for kernel in kernels]),
    )
    latency_s = duration_s + host_s
    activity = work.activity(times.sum(axis=-1), latency_s, busy_s + host_s)
    power_w = rail_power_w(board, clocks, temp_c, activity)[INPUT]
    return Runs(latency_s, np.broadcast_to(power_w, latency_s.shape))
