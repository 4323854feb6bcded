"""Search methods on a table of measured and trained cells, under one budget and one rule each.

Every method runs on every level with the same seeds; regrets are paired by seed. The result
depends on the seeds and not on the number of processes.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.bench.search_entrants import Entrant
from hil.bench.search_journal import Journal
from hil.bench.search_run import Trace, run_search
from hil.bench.search_summary import level_summary
from hil.bench.search_table import (
    Merit,
    Table,
    World,
    merit_of,
    read_table,
    semi_synthetic,
    world_of,
)

SCHEMA = "hil/bench-search-table@1"


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        table: file of the table.
        dataset: prefix of its columns.
        accuracy: column that training answers from.
        shares: of cells that shall be feasible, one a level.
        entrants: the methods.
        seeds: searches of each method on each level of the measured table.
        semi_seeds: the same on the semi-synthetic tables; 0 leaves them out.
        budget: trainings.
        jobs: processes.
        run: folder where searches that ended are kept and looked up; None keeps nothing.
    """

    table: Path
    dataset: str
    accuracy: str
    shares: tuple[float, ...]
    entrants: tuple[Entrant, ...]
    seeds: int
    semi_seeds: int
    budget: int
    jobs: int = 2
    run: Path | None = None


@dataclass(frozen=True)
class Work:
    """One search to run, by names that a worker process can look up."""

    label: str
    share: float
    entrant: Entrant
    seed: int

    @property
    def key(self) -> str:
        """Names the search in a journal."""
        return f"{self.label}|{self.share!r}|{self.entrant.name}|{self.entrant.batch}|{self.seed}"


def run_bench(plan: Plan, progress: Callable[[int, int, Work], None]) -> dict[str, Any]:
    """Run all searches and sum them up.

    Args:
        plan: what is run.
        progress: told how many of how many searches are done, and the last.

    Raises:
        ConfigError: the table, or a level, is none.
    """
    worlds = _worlds(plan)
    work = list(_work(plan, worlds))
    traces: dict[Work, Trace] = {}
    journal = _journal(plan, worlds)
    for one in work:
        if journal is not None and (known := journal.get(one.key)) is not None:
            traces[one] = known
    for one, trace in _run(plan, [w for w in work if w not in traces], worlds):
        traces[one] = trace
        if journal is not None:
            journal.put(one.key, trace)
        progress(len(traces), len(work), one)
    tables: dict[str, Any] = {}
    for (label, share), world in worlds.items():
        done = {
            entrant.name: {
                w.seed: traces[w]
                for w in work
                if (w.label, w.share, w.entrant) == (label, share, entrant)
            }
            for entrant in plan.entrants
        }
        tables.setdefault(label, {})[f"{share:g}"] = level_summary(world, done, plan.budget)
    measured = next(iter(worlds.values()))
    semi = {label: levels for label, levels in tables.items() if label != "measured"}
    return {
        "schema": SCHEMA,
        "provenance": "replayed",
        "table": plan.table.name,
        "table_sha256": measured.table.sha256,
        "dataset": plan.dataset,
        "accuracy": plan.accuracy,
        "budget_trainings": plan.budget,
        "measurements_a_training": 4,
        "merit": _merit_json(measured.merit),
        "levels": tables["measured"],
        "semi_synthetic": semi,
    }


def _journal(plan: Plan, worlds: dict[tuple[str, float], World]) -> Journal | None:
    if plan.run is None:
        return None
    table = next(iter(worlds.values())).table
    settings = {
        "table_sha256": table.sha256,
        "dataset": plan.dataset,
        "accuracy": plan.accuracy,
        "budget": plan.budget,
    }
    return Journal(plan.run / "searches.jsonl", settings)


def _merit_json(merit: Merit) -> dict[str, Any]:
    return {
        "rule": "mean of the other trainings of the same graph; of a graph trained once, "
        + (
            "its own accuracy"
            if merit.noise_sd is None
            else "its expectation given its own accuracy"
        ),
        "noise_sd_points": merit.noise_sd,
        "share_trained_once": float(merit.single.mean()),
    }


def _worlds(plan: Plan) -> dict[tuple[str, float], World]:
    table = read_table(plan.table, plan.dataset, plan.accuracy)
    merit = merit_of(table.accuracy, table.graph)
    tables: tuple[Table, ...] = (table,)
    if plan.semi_seeds:
        tables += semi_synthetic(table)
    return {(t.label, s): world_of(t, merit, s) for t in tables for s in plan.shares}


def _work(plan: Plan, worlds: dict[tuple[str, float], World]) -> Iterator[Work]:
    # Seed by seed, so that what an interrupted benchmark leaves is paired.
    for seed in range(max(plan.seeds, plan.semi_seeds)):
        for label, share in worlds:
            seeds = plan.seeds if label == "measured" else plan.semi_seeds
            for entrant in plan.entrants:
                most = seeds if entrant.seeds is None else min(seeds, entrant.seeds)
                if seed < most:
                    yield Work(label, share, entrant, seed)


def _run(
    plan: Plan, work: list[Work], worlds: dict[tuple[str, float], World]
) -> Iterator[tuple[Work, Trace]]:
    if plan.jobs <= 1:
        for one in work:
            yield one, _search(worlds[one.label, one.share], one, plan.budget)
        return
    # Spawned, not forked: a worker must not inherit threads or state that change a figure.
    context = multiprocessing.get_context("spawn")
    with context.Pool(plan.jobs, initializer=_start_worker, initargs=(plan,)) as pool:
        yield from pool.imap_unordered(_search_here, work)


_here: list[tuple[Plan, dict[tuple[str, float], World]]] = []


def _start_worker(plan: Plan) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    _here.append((plan, _worlds(plan)))


def _search_here(work: Work) -> tuple[Work, Trace]:
    plan, worlds = _here[0]
    return work, _search(worlds[work.label, work.share], work, plan.budget)


def _search(world: World, work: Work, budget: int) -> Trace:
    searcher = work.entrant.searcher(world, work.seed)
    return run_search(world, searcher, budget, work.seed, work.entrant.batch)
