"""Spaces of known truth for search benchmarks: a semi-synthetic residual net, a real table."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from hil.synth.records import Arch, FloatArray, Limit
from hil.synth.searchspace import VariableSpec

DATA = Path(os.environ.get("HIL_DATA", "../shared/data"))
TABLE = DATA / "nb201_tx2" / "nb201_tx2_cifar10.npz"


class Problem(Protocol):
    """A search space whose true figures are known."""

    variables: tuple[VariableSpec, ...]
    limits: tuple[Limit, ...]
    stimuli: tuple[FloatArray, ...] | None

    def key(self, arch: Arch) -> str: ...
    def neighbours(self, arch: Arch) -> list[Arch]: ...
    def features(self, arch: Arch) -> FloatArray: ...
    def cost(self, arch: Arch) -> tuple[float, float]: ...
    def truth(self, arch: Arch) -> dict[str, float]: ...


def netscore(accuracy: FloatArray, macs: FloatArray, params: FloatArray) -> FloatArray:
    """NetScore of arrays: accuracy a fraction, MACs and parameters counts."""
    percent = np.maximum(100.0 * accuracy, 1e-3)
    sizes = np.maximum(params / 1e6, 1e-9) * np.maximum(macs / 1e9, 1e-9)
    return np.asarray(20.0 * np.log10(percent**2 / np.sqrt(sizes)), dtype=np.float64)


class _Product:
    variables: tuple[VariableSpec, ...]

    def key(self, arch: Arch) -> str:
        return ",".join(map(str, arch))

    def neighbours(self, arch: Arch) -> list[Arch]:
        return [
            (*arch[:j], c, *arch[j + 1 :])
            for j, v in enumerate(self.variables)
            for c in range(v.size)
            if c != arch[j]
        ]


class CellTable(_Product):
    """NAS-Bench-201 cells as measured on a TX2: six edges, five operations each.

    Args:
        accuracy_limit: accuracy floor as a fraction, or None.
        quantile: share of cells below each of the energy and the latency limit.
    """

    stimuli = None

    def __init__(self, accuracy_limit: float | None = None, quantile: float = 0.3) -> None:
        with np.load(TABLE, allow_pickle=False) as table:
            self._ops = table["ops"].astype(int)
            self._energy = table["c10_tx2_energy_mJ"]
            self._latency = table["c10_tx2_latency_ms"]
            self._accuracy = table["c10_valid_acc_200ep"] / 100.0
            self._macs, self._params = table["macs_c10"], table["params_c10"]
        self._row = {tuple(ops): i for i, ops in enumerate(self._ops.tolist())}
        self.variables = tuple(VariableSpec(f"edge{j}", "op", 5, 3) for j in range(6))
        limits = [
            Limit("energy_mj", float(np.quantile(self._energy, quantile))),
            Limit("latency_p99_ms", float(np.quantile(self._latency, quantile))),
        ]
        if accuracy_limit is not None:
            limits.append(Limit("accuracy", accuracy_limit, "min", 0.25))
        self.limits = tuple(limits)

    def features(self, arch: Arch) -> FloatArray:
        return np.bincount(arch, minlength=5).astype(float)

    def cost(self, arch: Arch) -> tuple[float, float]:
        row = self._row[arch]
        return float(self._macs[row]), float(self._params[row])

    def truth(self, arch: Arch) -> dict[str, float]:
        row = self._row[arch]
        return {
            "energy_mj": float(self._energy[row]),
            "latency_p99_ms": float(self._latency[row]),
            "accuracy": float(self._accuracy[row]),
        }


@dataclass(frozen=True)
class _Layer:
    c_in: int
    c_out: int
    side: int
    macs: float
    params: float
    traffic: float


@cache
def _layer(c_in: int, c_out: int, kernel: int, side: int) -> _Layer:
    params = float(c_in * c_out * kernel**2)
    traffic = 2.0 * (params + (c_in + c_out) * side**2)
    return _Layer(c_in, c_out, side, params * side**2, params, traffic)


class ResidualNet(_Product):
    """A 20-layer residual net: 3 stage widths, 9 inner widths, 9 blocks to keep or drop.

    Device: every kernel pays launch, arithmetic on channels padded to the warp, and traffic;
    idle power times latency couples energy to latency. Task: errors compound over variables, with
    random pairwise interactions. Task stimuli are the true sensitivities, badly scaled.

    Args:
        seed: of sensitivities and interactions.
        harm: median log-error of taking one variable away altogether.
    """

    def __init__(self, seed: int = 0, harm: float = 0.08) -> None:
        rng = np.random.default_rng(seed)
        bases, granules = (16, 32, 64), (2, 8, 8)
        self._levels = [list(range(g * 2, b + 1, g)) for b, g in zip(bases, granules, strict=True)]
        names = [(f"stage{s}", s) for s in range(3)]
        names += [(f"block{s}{b}.inner", s) for s in range(3) for b in range(3)]
        widths = [
            VariableSpec(n, "width", len(self._levels[s]), len(self._levels[s]) - 1)
            for n, s in names
        ]
        drops = [VariableSpec(f"block{s}{b}", "depth", 2, 0) for s in range(3) for b in range(3)]
        self.variables = tuple(widths + drops)
        count = len(self.variables)
        self._harm = np.exp(rng.normal(np.log(harm), 0.7, count))
        self._mixed = np.triu(rng.normal(0.0, 0.05, (count, count)), 1)
        base = self.truth(tuple(v.identity for v in self.variables))
        self.limits = (
            Limit("energy_mj", 0.4 * base["energy_mj"]),
            Limit("latency_p99_ms", 0.5 * base["latency_p99_ms"]),
            Limit("accuracy", base["accuracy"] - 0.01, "min", 0.25),
        )
        scale = np.exp(rng.normal(0.0, 0.6, count))
        self.stimuli = tuple(
            scale[j] * self._harm[j] * np.array([self._removed(j, c) for c in range(v.size)])
            for j, v in enumerate(self.variables)
        )

    def layers(self, arch: Arch) -> list[_Layer]:
        stages = [self._levels[s][arch[s]] for s in range(3)]
        layers, width = [_layer(1, stages[0], 3, 32)], stages[0]
        for block in range(9):
            stage, side = block // 3, 32 >> (block // 3)
            inner = self._levels[stage][arch[3 + block]]
            kept = arch[12 + block] == 0
            if kept:
                layers.append(_layer(width, inner, 3, side))
                layers.append(_layer(inner, stages[stage], 3, side))
            if block % 3 == 0 and block > 0:
                layers.append(_layer(width, stages[stage], 1, side))
            width = stages[stage]
        return [*layers, _layer(width, 10, 1, 1)]

    def features(self, arch: Arch) -> FloatArray:
        layers = self.layers(arch)
        traffic = sum(layer.traffic for layer in layers)
        slabs = sum(layer.macs / layer.side for layer in layers)
        return np.array([float(len(layers)), traffic, slabs])

    def cost(self, arch: Arch) -> tuple[float, float]:
        layers = self.layers(arch)
        return sum(layer.macs for layer in layers), sum(layer.params for layer in layers)

    def truth(self, arch: Arch) -> dict[str, float]:
        latency, dynamic = 0.05, 0.0
        for layer in self.layers(arch):
            pad = (-(-layer.c_out // 8) * 8 / layer.c_out) * (-(-layer.c_in // 4) * 4 / layer.c_in)
            compute, memory = layer.macs * pad / 1.2e8, layer.traffic / 2.0e7
            latency += 0.02 + max(compute, memory)
            dynamic += 0.05 + 6.0 * compute + 3.0 * memory
        removed = np.array([self._removed(j, c) for j, c in enumerate(arch)])
        damage = float(self._harm @ removed + removed @ self._mixed @ removed)
        error = 0.02 * float(np.exp(max(0.0, damage)))
        accuracy = 1.0 - error / (1.0 + error / 0.9)
        return {
            "energy_mj": 2.0 * latency + dynamic,
            "latency_p99_ms": 1.1 * latency,
            "accuracy": accuracy,
        }

    def _removed(self, j: int, choice: int) -> float:
        variable = self.variables[j]
        if variable.kind == "depth":
            return float(choice)
        return float((1.0 - (choice + 2) / (variable.size + 1)) ** 1.5)
