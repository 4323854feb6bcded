"""A small space of known truth, and a search on it, shared by the synthesis tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from hil.synth.acquisition import PoolRules
from hil.synth.fitting import FitRules
from hil.synth.inquisitor import Inquisitor, Setup
from hil.synth.records import Arch, FloatArray, Limit, Observation
from hil.synth.searchspace import VariableSpec


@dataclass(frozen=True)
class Toy:
    """Eight variables; costs are additive with one interaction, accuracy falls with removal."""

    name: str = "toy"
    variables: tuple[VariableSpec, ...] = (
        *(VariableSpec(f"width{j}", "width", 4, 3) for j in range(5)),
        VariableSpec("block0", "depth", 2, 0),
        VariableSpec("block1", "depth", 2, 0),
        VariableSpec("op", "op", 3, 1),
    )

    def key(self, arch: Arch) -> str:
        return f"{self.name}:{arch}"

    def neighbours(self, arch: Arch) -> list[Arch]:
        return [
            (*arch[:j], c, *arch[j + 1 :])
            for j, v in enumerate(self.variables)
            for c in range(v.size)
            if c != arch[j]
        ]

    def _sizes(self, arch: Arch) -> FloatArray:
        widths = 1.0 + np.array(arch[:5])
        widths[3] *= arch[5] == 0
        widths[4] *= arch[6] == 0
        return widths

    def features(self, arch: Arch) -> FloatArray:
        return np.array([float(np.sum(self._sizes(arch) > 0))])

    def cost(self, arch: Arch) -> tuple[float, float]:
        widths = self._sizes(arch)
        return 1e6 * float(widths @ widths + 1.0), 1e3 * float(widths.sum() + 1.0)

    def truth(self, arch: Arch) -> dict[str, float]:
        widths = self._sizes(arch)
        energy = 2.0 + 0.8 * float(widths.sum()) + 0.1 * float(widths @ widths)
        energy += (0.0, 1.0, 4.0)[arch[7]] + 0.4 * float(widths[0] * (arch[7] == 2))
        removed = 1.0 - np.array(arch[:5]) / 3.0
        damage = (
            float(removed @ np.array([0.6, 0.1, 0.3, 0.1, 0.5])) + 0.2 * arch[5] + 0.4 * arch[6]
        )
        accuracy = 1.0 - 0.02 * float(np.exp(damage + 0.3 * removed[0] * removed[2]))
        return {"energy_mj": energy, "latency_p99_ms": 0.5 * energy, "accuracy": accuracy}


def netscore(accuracy: FloatArray, macs: FloatArray, params: FloatArray) -> FloatArray:
    return 20.0 * np.log10((100.0 * accuracy) ** 2 / np.sqrt(params / 1e6 * macs / 1e9))


def limits_of(toy: Toy) -> tuple[Limit, ...]:
    base = toy.truth(tuple(v.identity for v in toy.variables))
    return (
        Limit("energy_mj", 0.75 * base["energy_mj"]),
        Limit("latency_p99_ms", 0.75 * base["latency_p99_ms"]),
        Limit("accuracy", base["accuracy"] - 0.02, "min", 0.25),
    )


def observe(toy: Toy, arch: Arch, round_: int = 0) -> Observation:
    """A 1 % noisy measurement; trained only where the device accepts; noise depends on `arch`."""
    noise = np.random.default_rng([7, *arch]).standard_normal(3)
    truth, limits = toy.truth(arch), limits_of(toy)
    costs = {
        m: (truth[m] * float(np.exp(0.01 * z)), 0.01 * truth[m])
        for m, z in zip(("energy_mj", "latency_p99_ms"), noise, strict=False)
    }
    if any(costs[limit.metric][0] > limit.bound for limit in limits[:2]):
        return Observation(arch, costs, None, "infeasible", round_)
    accuracy = truth["accuracy"] + 0.002 * float(noise[2])
    verdict = "feasible" if accuracy >= limits[2].bound else "infeasible"
    return Observation(arch, costs, accuracy, verdict, round_, 0.002)


def search(toy: Toy, setup: Setup, rounds: int) -> tuple[Inquisitor, list[Observation]]:
    """An inquisitor after some rounds of eight, and what it was told."""
    inquisitor, told = Inquisitor(toy, setup), []
    base = tuple(v.identity for v in toy.variables)
    for k in range(rounds):
        proposals = inquisitor.ask(8, np.random.Generator(np.random.Philox(key=[setup.seed, k])))
        batch = [observe(toy, p.arch, k) for p in proposals]
        if k == 0:
            batch = [
                replace(o, accuracy=0.98, accuracy_sd=0.002) if o.arch == base else o for o in batch
            ]
        inquisitor.tell(batch)
        told += batch
    return inquisitor, told


@pytest.fixture(scope="session")
def lab() -> SimpleNamespace:
    """The functions above, for tests that search on their own."""
    return SimpleNamespace(search=search, observe=observe, limits_of=limits_of, netscore=netscore)


@pytest.fixture(scope="session")
def toy() -> Toy:
    return Toy()


@pytest.fixture(scope="session")
def setup(toy: Toy) -> Setup:
    return Setup(
        limits_of(toy),
        netscore,
        seed=3,
        fit=FitRules(distinct=60, diversity_seeds=300),
        pool=PoolRules(generated=96, edited=96, samples=16, passes=3),
        gate_seeds=48,
    )


@pytest.fixture(scope="session")
def searched(toy: Toy, setup: Setup) -> tuple[Inquisitor, list[Observation]]:
    return search(toy, setup, 3)
