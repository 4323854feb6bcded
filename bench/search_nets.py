"""Best feasible U on semi-synthetic residual nets after a fixed number of device measurements.

    python bench/search_nets.py [--seeds 10] [--budget 24] [--methods ours,random,...] [--json]

Nets as a trace gives them (widths and droppable blocks) with a device and a task of known truth:
what `hil bench search --table` shows on cells, shown where variables are ordered. Every method
pays one measurement for every network it puts on the device and trains only what the device
accepts. Measurements carry 1 % noise; what counts is feasible by measurement and by truth. All
methods are told the prototype's accuracy and, where they can use them, the task stimuli.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from functools import cache

import numpy as np

from hil.synth import peers
from hil.synth.inquisitor import Inquisitor, Setup
from hil.synth.records import Arch, FloatArray, Limit, Observation
from hil.synth.screen import excess
from hil.synth.searchspace import VariableSpec

NOISE = 0.01
ACCURACY_SD = 0.002
INITIAL, BATCH = 8, 4
METHODS = ("ours", "random", "evolution", "tpe", "nsga2", "uniform", "netadapt", "knapsack")


def netscore(accuracy: FloatArray, macs: FloatArray, params: FloatArray) -> FloatArray:
    """NetScore of arrays: accuracy a fraction, MACs and parameters counts."""
    percent = np.maximum(100.0 * accuracy, 1e-3)
    sizes = np.maximum(params / 1e6, 1e-9) * np.maximum(macs / 1e9, 1e-9)
    return np.asarray(20.0 * np.log10(percent**2 / np.sqrt(sizes)), dtype=np.float64)


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


class ResidualNet:
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

    def key(self, arch: Arch) -> str:
        return ",".join(map(str, arch))

    def neighbours(self, arch: Arch) -> list[Arch]:
        return [
            (*arch[:j], c, *arch[j + 1 :])
            for j, v in enumerate(self.variables)
            for c in range(v.size)
            if c != arch[j]
        ]

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


class Bench:
    """A noisy device and trainer over a problem of known truth."""

    def __init__(self, problem: ResidualNet, seed: int) -> None:
        self.problem, self._seed = problem, seed
        self.seen: dict[Arch, Observation] = {}

    def measure(self, arch: Arch, round_: int = 0) -> Observation:
        """One device measurement and, if the device accepts, one training."""
        noise = np.random.default_rng([self._seed, *arch])
        truth = self.problem.truth(arch)
        costs = {}
        for metric in ("energy_mj", "latency_p99_ms"):
            value = truth[metric] * float(np.exp(NOISE * noise.standard_normal()))
            costs[metric] = (value, NOISE * value)
        accuracy = None
        if not self._broken({m: v for m, (v, _) in costs.items()}):
            accuracy = min(1.0, truth["accuracy"] + ACCURACY_SD * float(noise.standard_normal()))
        values = {m: v for m, (v, _) in costs.items()}
        if accuracy is not None:
            values["accuracy"] = accuracy
        good = accuracy is not None and not self._broken(values)
        verdict = "feasible" if good else "infeasible"
        sd = None if accuracy is None else ACCURACY_SD
        self.seen[arch] = Observation(arch, costs, accuracy, verdict, round_, sd)
        return self.seen[arch]

    def best(self, slack: bool = False) -> float:
        """True U of the best network measured feasible, minus infinity without one.

        Only networks whose true figures meet every limit count; with `slack`, also those within
        2 % of a cost's limit and half a point of accuracy's, which the noise cannot tell apart.
        """
        scores = [
            self.utility(arch)
            for arch, o in self.seen.items()
            if o.verdict == "feasible" and not self._broken(self.problem.truth(arch), slack)
        ]
        return max(scores, default=-np.inf)

    def utility(self, arch: Arch) -> float:
        macs, params = self.problem.cost(arch)
        accuracy = np.array([self.problem.truth(arch)["accuracy"]])
        return float(netscore(accuracy, np.array([macs]), np.array([params]))[0])

    def _broken(self, values: dict[str, float], slack: bool = False) -> bool:
        limits = [limit for limit in self.problem.limits if limit.metric in values]
        return any(_over(limit, values[limit.metric], slack) for limit in limits)


def _over(limit: Limit, value: float, slack: bool) -> bool:
    if slack:
        value = value + 0.005 if limit.metric == "accuracy" else value / 1.02
    return bool(excess(limit, np.array([value]))[0] > 0.0)


def search(bench: Bench, method: str, budget: int, seed: int) -> None:
    """Spend the budget in rounds that are alike for every method."""
    problem = bench.problem
    setup = Setup(problem.limits, netscore, problem.stimuli, seed=seed, initial=INITIAL)
    ours = method == "ours"
    searcher = Inquisitor(problem, setup) if ours else peers.make(method, problem, setup, seed)
    base = tuple(v.identity for v in problem.variables)
    accuracy = problem.truth(base)["accuracy"]
    round_, size = 0, INITIAL
    while len(bench.seen) < budget:
        rng = np.random.Generator(np.random.Philox(key=[seed, 1000 + round_]))
        proposals = searcher.ask(min(size, budget - len(bench.seen)), rng)
        if not proposals:
            break
        told = [bench.measure(p.arch, round_) for p in proposals]
        if round_ == 0:  # the prototype is trained before any search
            told.append(Observation(base, {}, accuracy, "infeasible", 0, ACCURACY_SD))
        searcher.tell(told)
        round_, size = round_ + 1, BATCH


def run(problem: ResidualNet, method: str, seeds: range, budget: int) -> dict[str, float]:
    scores, loose, seconds, shares = [], [], [], []
    for seed in seeds:
        bench = Bench(problem, seed)
        start = time.process_time()
        search(bench, method, budget, seed)
        seconds.append(time.process_time() - start)
        scores.append(bench.best())
        loose.append(bench.best(slack=True))
        shares.append(np.mean([o.verdict == "feasible" for o in bench.seen.values()]))
    return {
        "median_u": float(np.median(scores)),
        "worst_u": float(np.min(scores)),
        "best_u": float(np.max(scores)),
        "found": float(np.mean(np.isfinite(scores))),
        "median_u_slack": float(np.median(loose)),
        "feasible_share": float(np.mean(shares)),
        "cpu_s": float(np.mean(seconds)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--budget", type=int, default=24)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    problems = {f"residual net {s}": ResidualNet(s) for s in range(2)}
    problems["residual net 2, brittle"] = ResidualNet(2, harm=0.11)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name, problem in problems.items():
        results[name] = {}
        for method in options.methods.split(","):
            results[name][method] = row = run(problem, method, seeds, options.budget)
            if not options.json:
                print(name, method.ljust(10), {k: round(float(v), 3) for k, v in row.items()})
    if options.json:
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
