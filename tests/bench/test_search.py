"""The search benchmark: its account of a budget, its limits, its merit and what it reports."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hil.bench.search import Plan, run_bench
from hil.bench.search_entrants import DEFAULT, entrants
from hil.bench.search_run import Account, RepeatedNetworkError, Trace, run_search, violations
from hil.bench.search_summary import level_summary, regrets
from hil.bench.search_table import (
    Table,
    merit_of,
    read_table,
    semi_synthetic,
    world_of,
)
from hil.cli.app import app
from hil.core.errors import ConfigError
from hil.synth.records import Arch, Observation, Proposal

OPS = np.array(list(itertools.product(range(5), repeat=6)))


def made_up(seed: int = 0) -> Table:
    """Every cell, with figures of our own: the last column of `graph` pairs most cells up."""
    rng = np.random.default_rng(seed)
    launches = (OPS > 1).sum(axis=1)
    latency = 3.0 + launches + rng.uniform(0.0, 0.2, len(OPS))
    accuracy = 80.0 + 1.5 * (OPS == 3).sum(axis=1) + rng.normal(0.0, 0.3, len(OPS))
    return Table(
        label="measured",
        sha256="0" * 64,
        ops=OPS,
        params=1e5 + 1e4 * (OPS == 3).sum(axis=1),
        macs=1e7 + 1e6 * (OPS == 3).sum(axis=1),
        energy_mj=4.5 * latency * rng.uniform(0.97, 1.03, len(OPS)),
        latency_ms=latency,
        accuracy=accuracy,
        graph=np.minimum(np.arange(len(OPS)) // 2, 7000),
    )


def saved(table: Table, path: Path, dataset: str = "c100") -> Path:
    np.savez(
        path,
        ops=table.ops.astype(np.int8),
        graph_id=table.graph,
        **{
            f"params_{dataset}": table.params,
            f"macs_{dataset}": table.macs,
            f"{dataset}_tx2_energy_mJ": table.energy_mj,
            f"{dataset}_tx2_latency_ms": table.latency_ms,
            f"{dataset}_valid_acc_200ep": table.accuracy,
        },
    )
    return path


@pytest.fixture(scope="module")
def table() -> Table:
    return made_up()


class Script:
    """Asks for given cells in order, whatever it is told; keeps what it was asked and told."""

    def __init__(self, archs: Iterable[Arch]) -> None:
        self._left = list(archs)
        self.wanted: list[int] = []
        self.told: list[Observation] = []

    def ask(self, n: int, rng: np.random.Generator) -> list[Proposal]:
        self.wanted.append(n)
        now, self._left = self._left[:n], self._left[n:]
        return [Proposal(arch, "script") for arch in now]

    def tell(self, observations: Iterable[Observation]) -> None:
        self.told += observations


def cells(table: Table, rows: Iterable[int]) -> list[Arch]:
    return [tuple(int(c) for c in table.ops[row]) for row in rows]


def test_the_account_of_a_search_worked_by_hand(table):
    """Five refused, one accepted, ... : four measurements a training, saved or forfeited.

    Measured one at a time: refused x4 uses up the first training's four (forfeited, spent 1);
    one more refused (5 of 8), accepted (6 of 8, spent 2, so 6 of 12), accepted (7, spent 3, 7 of
    16), then nine refused reach 16 of 16: forfeited, spent 4, the budget.
    """
    world = world_of(table, merit_of(table.accuracy, table.graph), 0.3)
    good, bad = np.flatnonzero(world.feasible), np.flatnonzero(~world.feasible)
    order = [*bad[:5], good[0], good[1], *bad[5:40]]

    trace = run_search(world, Script(cells(table, order)), 4, 0, batch=1)

    best = max(good[0], good[1], key=lambda row: table.accuracy[row])
    assert trace.best == (None, good[0], best, best)
    assert trace.trained == (good[0], good[1])
    assert trace.measurements == 16
    assert trace.forfeited == 2
    assert violations(world, trace) == 0


@pytest.mark.parametrize("batch", [1, 3, 7])
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_measurements_never_exceed_four_for_each_training_and_the_one_to_come(table, batch, share):
    world = world_of(table, merit_of(table.accuracy, table.graph), share)
    order = np.random.default_rng(batch).permutation(len(table.ops))
    account = Account(world, 25)
    for steps, arch in enumerate(cells(table, order), start=1):
        if account.allowance == 0:
            if account.spent == 25:
                break
            account.forfeit()
        account.observe(Proposal(arch, "test"), 0)
        assert len(account.measured) == steps <= 4 * (account.spent + 1)

    script = Script(cells(table, order))
    trace = run_search(world, script, 25, 0, batch)
    assert trace.measurements <= 100
    assert len(trace.best) == 25
    assert len(trace.trained) + trace.forfeited == 25
    assert max(script.wanted) <= batch


def test_only_what_the_device_accepts_is_trained_and_nobody_is_told_more(table):
    world = world_of(table, merit_of(table.accuracy, table.graph), 0.3)
    script = Script(cells(table, np.random.default_rng(1).permutation(len(table.ops))))

    run_search(world, script, 20, 0, batch=4)

    for o in script.told:
        row = world.space.row(o.arch)
        assert (o.accuracy is not None) == bool(world.feasible[row])
        assert o.verdict == ("feasible" if world.feasible[row] else "infeasible")
        assert o.costs["energy_mj"][0] == table.energy_mj[row]
        if o.accuracy is not None:
            assert o.accuracy == pytest.approx(table.accuracy[row] / 100)
    assert {key for o in script.told for key in o.costs} == {"energy_mj", "latency_ms"}


def test_a_repeated_cell_is_refused(table):
    world = world_of(table, merit_of(table.accuracy, table.graph), 0.5)
    twice = cells(table, [7, 7])

    with pytest.raises(RepeatedNetworkError):
        run_search(world, Script(twice), 3, 0, batch=1)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_limits_leave_the_share_that_was_asked_at_one_quantile(table, share):
    world = world_of(table, merit_of(table.accuracy, table.graph), share)
    energy, latency = (limit.bound for limit in world.limits)

    within = (table.energy_mj <= energy) & (table.latency_ms <= latency)

    assert within.mean() == pytest.approx(share, abs=2e-4)
    assert np.array_equal(within, world.feasible)
    assert (table.energy_mj <= energy).mean() == pytest.approx(
        (table.latency_ms <= latency).mean(), abs=1e-3
    )


def test_merit_agrees_with_a_second_implementation():
    rng = np.random.default_rng(3)
    graph = np.concatenate([rng.integers(0, 40, 200), np.arange(1000, 1060)])
    accuracy = rng.normal(88.0, 2.0, 260)

    merit = merit_of(accuracy, graph)

    rows = {g: [i for i in range(260) if graph[i] == g] for g in graph}
    several = {g: r for g, r in rows.items() if len(r) > 1}
    means = {g: float(np.mean(accuracy[r])) for g, r in several.items()}
    good = [g for g in several if means[g] >= np.median(list(means.values()))]
    squares = sum((accuracy[i] - means[g]) ** 2 for g in good for i in several[g])
    noise = (squares / sum(len(several[g]) - 1 for g in good)) ** 0.5
    assert merit.noise_sd == pytest.approx(noise)
    alone = [accuracy[r[0]] for r in rows.values() if len(r) == 1]
    for i in range(260):
        others = [accuracy[k] for k in rows[graph[i]] if k != i]
        if others:
            expected = np.mean(others)
        else:
            near = [np.exp(-((accuracy[i] - a) ** 2) / (2 * noise**2)) for a in alone]
            expected = np.dot(near, alone) / np.sum(near)
        assert merit.points[i] == pytest.approx(expected)


def test_merit_of_cells_trained_once_undoes_luck_at_the_top():
    """True merits known: near the top the shrunk value is nearer the truth than the cell's own."""
    rng = np.random.default_rng(0)
    truth = 91.0 - rng.exponential(1.0, 4000)
    single = truth + rng.normal(0.0, 0.3, 4000)
    pairs = np.repeat(91.0 - rng.exponential(1.0, 500), 2) + rng.normal(0.0, 0.3, 1000)
    graph = np.concatenate([np.arange(4000), 5000 + np.arange(1000) // 2])

    merit = merit_of(np.concatenate([single, pairs]), graph).points[:4000]

    top = np.argsort(-single)[:100]
    assert np.mean(single[top] - truth[top]) > 0.2
    assert abs(np.mean(merit[top] - truth[top])) < 0.5 * np.mean(single[top] - truth[top])


def test_nothing_trained_twice_leaves_every_cell_at_its_own_accuracy():
    accuracy = np.array([80.0, 85.0, 90.0])
    merit = merit_of(accuracy, np.arange(3))

    assert merit.noise_sd is None
    assert merit.points.tolist() == accuracy.tolist()


def test_semi_synthetic_energy_correlates_as_published_and_keeps_latency(table):
    for variant, wanted in zip(semi_synthetic(table), (0.51, 0.62), strict=True):
        logs = np.log(variant.energy_mj), np.log(table.latency_ms)
        assert np.corrcoef(*logs)[0, 1] == pytest.approx(wanted, abs=1e-3)
        assert np.array_equal(variant.latency_ms, table.latency_ms)
        assert variant.label.startswith("semi-synthetic")
    again = semi_synthetic(made_up())[0]
    assert np.array_equal(again.energy_mj, semi_synthetic(table)[0].energy_mj)


def test_figures_of_a_level_worked_by_hand(table):
    """Two seeds, three trainings: medians, pairs and trainings to a target."""
    world = world_of(table, merit_of(table.accuracy, table.graph), 0.6)
    rows = np.flatnonzero(world.feasible)
    order = rows[np.argsort(world.merit.points[rows])[::-1]]
    regret = world.best - world.merit.points[order]
    near, far = order[np.argmax(regret > 0.05)], order[np.argmax(regret > 1.0)]

    def trace(*best):
        return Trace((*best, *[best[-1]] * 17), (), 5, 0, 0.1)

    ours = {0: trace(far, near, near), 1: trace(near, near, near)}
    theirs = {0: trace(None, far, far), 1: trace(far, far, near)}
    done = {"ours": ours, "random": theirs}

    found = level_summary(world, done, 20)["methods"]

    gap = float(world.merit.points[near] - world.merit.points[far])
    assert regrets(theirs, world.merit.points, world.best)[0][0] == np.inf
    assert found["ours"]["trainings_to"]["0.2"] == {"median": 1.5, "reached": 2}
    assert found["random"]["trainings_to"]["0.2"] == {"median": None, "reached": 1}
    assert gap > 0.5
    at = found["random"]["regret_at"]["20"]
    assert at["minus_ours"] == pytest.approx(gap / 2)
    assert at["minus_ours_ci95"] == pytest.approx([0.0, gap])
    assert at["pairs"] == 2
    assert found["ours"]["regret_at"]["20"]["median"] == pytest.approx(
        world.best - world.merit.points[near]
    )


def test_the_report_has_the_keys_of_the_contract(tmp_path):
    path = saved(made_up(), tmp_path / "cells.npz")
    arguments = (
        f"bench search --table {path} --dataset c100 --accuracy c100_valid_acc_200ep "
        "--feasible 0.3,0.6 --seeds 2 --budget 30 --methods random,evolution,evolution+signals "
        "--semi-seeds 1 --jobs 1 --json"
    )

    done = CliRunner().invoke(app, arguments.split())

    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["provenance"] == "replayed"
    assert set(result["levels"]) == {"0.3", "0.6"}
    assert set(result["semi_synthetic"]) == {"semi-synthetic A", "semi-synthetic B"}
    for level in (*result["levels"].values(), result["semi_synthetic"]["semi-synthetic A"]["0.3"]):
        assert set(level["methods"]) == {"random", "evolution", "evolution+signals"}
        for row in level["methods"].values():
            assert {"seeds", "measurements", "violations", "seconds"} <= set(row)
            assert set(row["regret_at"]) == {"20", "30"}
            assert set(row["trainings_to"]) == {"0.5", "0.2"}
            assert row["violations"] == 0
            assert row["measurements"] <= 4 * 30
    assert result["levels"]["0.3"]["methods"]["random"]["seeds"] == 2


def test_two_processes_find_what_one_finds(tmp_path):
    path = saved(made_up(), tmp_path / "cells.npz")

    def found(jobs: int) -> dict:
        plan = Plan(
            path, "c100", "c100_valid_acc_200ep", (0.3,), entrants(["evolution"]), 3, 0, 15, jobs
        )
        result = run_bench(plan, lambda *_: None)
        row = result["levels"]["0.3"]["methods"]["evolution"]
        return {k: v for k, v in row.items() if k != "seconds"}

    assert found(1) == found(2)


def test_a_benchmark_that_was_cut_off_runs_only_what_is_missing(tmp_path):
    path = saved(made_up(), tmp_path / "cells.npz")

    def found(seeds: int) -> tuple[dict, list[int]]:
        ran = []
        shares, who = (0.3,), entrants(["random"])
        plan = Plan(
            path, "c100", "c100_valid_acc_200ep", shares, who, seeds, 0, 15, 1, tmp_path / "run"
        )
        result = run_bench(plan, lambda _done, _of, last: ran.append(last.seed))
        return result["levels"]["0.3"]["methods"]["random"], ran

    assert found(2)[1] == [0, 1]
    row, ran = found(3)
    assert ran == [2]
    assert row["seeds"] == 3
    assert found(3) == (row, [])


def test_a_table_that_lacks_a_column_or_a_cell_says_so(tmp_path):
    table = made_up()
    path = saved(table, tmp_path / "cells.npz")
    with pytest.raises(ConfigError, match="no column c10_valid"):
        read_table(path, "c100", "c10_valid_acc_200ep")
    np.savez(tmp_path / "few.npz", **{k: v[:100] for k, v in np.load(path).items()})
    with pytest.raises(ConfigError, match="no table of cells"):
        read_table(tmp_path / "few.npz", "c100", "c100_valid_acc_200ep")
    with pytest.raises(ConfigError, match="no search method"):
        entrants(["annealing"])


def test_every_default_method_exists_and_ours_is_among_them():
    assert [e.name for e in entrants([])] == list(DEFAULT)
    assert "ours" in DEFAULT


def test_random_search_on_the_real_table_is_as_good_as_it_was_known_to_be():
    """Median regret of uniform draws among feasible cells, by an independent simulation."""
    root = Path(__file__).parents[2]
    path = Path(os.environ.get("HIL_DATA", root / "../shared/data"))
    path = path / "nb201_tx2" / "nb201_tx2_cifar10.npz"
    if not path.exists():
        pytest.skip(f"no measured table at {path}; set HIL_DATA")
    table = read_table(path, "c10", "c10_valid_acc_200ep")
    merit = merit_of(table.accuracy, table.graph)
    world = world_of(table, merit, 0.6)
    (entrant,) = entrants(["random"])
    traces = {s: run_search(world, entrant.searcher(world, s), 60, s, 1) for s in range(120)}
    theirs = [r[59] for r in regrets(traces, merit.points, world.best).values()]

    rows, rng = np.flatnonzero(world.feasible), np.random.default_rng(0)
    draws = [rng.choice(rows, 60, replace=False) for _ in range(2000)]
    expected = [world.best - merit.points[d[np.argmax(table.accuracy[d])]] for d in draws]

    assert np.median(theirs) == pytest.approx(np.median(expected), abs=0.15)
