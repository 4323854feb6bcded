"""Best feasible U after a fixed number of device measurements: ours, random, local evolution.

    python bench/search_synthetic.py [--seeds 10] [--budget 24] [--json]

Every method pays one measurement for every network it puts on the device and trains only what
the device accepts. Measurements carry 1 % noise; what counts is feasible by measurement and by
truth. Ours alone has task stimuli and the prototype's accuracy; evolution alone ranks by true U.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from search_spaces import TABLE, CellTable, Problem, ResidualNet, netscore

from hil.synth.inquisitor import Inquisitor, Setup
from hil.synth.records import Arch, Limit, Observation
from hil.synth.screen import excess
from hil.synth.searchspace import random_archs, uniform_level

NOISE = 0.01
ACCURACY_SD = 0.002
INITIAL, BATCH = 8, 4


class Bench:
    """A noisy device and trainer over a problem of known truth."""

    def __init__(self, problem: Problem, seed: int) -> None:
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


def ours(bench: Bench, budget: int, seed: int) -> Inquisitor:
    setup = Setup(bench.problem.limits, netscore, bench.problem.stimuli, seed=seed, initial=INITIAL)
    inquisitor = Inquisitor(bench.problem, setup)
    base = tuple(v.identity for v in bench.problem.variables)
    accuracy = bench.problem.truth(base)["accuracy"]
    round_, size = 0, INITIAL
    while len(bench.seen) < budget:
        rng = np.random.Generator(np.random.Philox(key=[seed, 1000 + round_]))
        proposals = inquisitor.ask(min(size, budget - len(bench.seen)), rng)
        told = [bench.measure(p.arch, round_) for p in proposals]
        if round_ == 0:  # the prototype is trained before any search
            told.append(Observation(base, {}, accuracy, "infeasible", 0, ACCURACY_SD))
        inquisitor.tell(told)
        round_, size = round_ + 1, BATCH
    return inquisitor


def random_search(bench: Bench, budget: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    while len(bench.seen) < budget:
        bench.measure(random_archs(bench.problem, 1, rng)[0])


def evolution(bench: Bench, budget: int, seed: int) -> None:
    """Regularised evolution, feasible first, seeded with uniform widths and random networks."""
    rng = np.random.default_rng(seed)
    start = [uniform_level(bench.problem, level) for level in (0.5, 0.25)]
    for arch in dict.fromkeys(start + random_archs(bench.problem, INITIAL - len(start), rng)):
        bench.measure(arch)
    while len(bench.seen) < budget:
        recent = list(bench.seen)[-12:]
        picks = [
            recent[i] for i in rng.choice(len(recent), size=min(5, len(recent)), replace=False)
        ]
        parent = max(picks, key=lambda a: _fitness(bench, a))
        children = [a for a in bench.problem.neighbours(parent) if a not in bench.seen]
        if children:
            bench.measure(children[int(rng.integers(len(children)))])


def _fitness(bench: Bench, arch: Arch) -> tuple[int, float]:
    seen = bench.seen[arch]
    if seen.verdict == "feasible":
        return 1, bench.utility(arch)
    values = {m: v for m, (v, _) in seen.costs.items()}
    if seen.accuracy is not None:
        values["accuracy"] = seen.accuracy
    limits = [limit for limit in bench.problem.limits if limit.metric in values]
    return 0, -sum(float(excess(m, np.array([values[m.metric]]))[0]) for m in limits)


def run(
    problem: Problem, method: Callable[..., object], seeds: range, budget: int
) -> dict[str, float]:
    scores, loose, seconds, shares = [], [], [], []
    for seed in seeds:
        bench = Bench(problem, seed)
        start = time.process_time()
        method(bench, budget, seed)
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


def problems() -> dict[str, Problem]:
    found: dict[str, Problem] = {f"residual net {s}": ResidualNet(s) for s in range(2)}
    found["residual net 2, brittle"] = ResidualNet(2, harm=0.11)
    if TABLE.exists():
        found["NB201 on TX2, 30 %"] = CellTable()
        found["NB201 on TX2, 30 %, accuracy >= 88 %"] = CellTable(0.88)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--budget", type=int, default=24)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    methods = {"ours": ours, "random": random_search, "evolution": evolution}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    results = {}
    for name, problem in problems().items():
        results[name] = {m: run(problem, f, seeds, options.budget) for m, f in methods.items()}
        if not options.json:
            print(name)
            for method, row in results[name].items():
                print("  " + method.ljust(10), {k: round(float(v), 3) for k, v in row.items()})
    if options.json:
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
