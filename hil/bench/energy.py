"""Whether our joules can be trusted: measurements of boards whose truth is known.

At least 5,000 scenarios in virtual time. Each is a true power over continuous time, a sensor with
errors of its own, a program that prints lines, a run as the agent lays it out. Our own code reads
the text, stops by its own rule and scores the result; what it says is set against the truth.

Definitions
* Truth of `ci95`: the *expected reading* over the windows measured, that is, what endless runs of
  these windows on this sensor would read on average. Expected over bursts, murmur, the steps of the
  registers and the phase of sampling; given the load's levels and the board's warming in those
  windows, and this sensor's gain and offset. A run that met no burst must still cover the mean
  with bursts.
* Truth of `u95_total`: expected true energy, with neither gain, offset nor steps.
* *Realised* truth: what the windows measured really held. `error_ratio` is given against both.
* Coverage is taken of the final result, at the length at which the rule stopped.
* A result counts for `coverage` unless our tool refuses it or calls it invalid; `coverage_valid`
  counts those it calls valid, `coverage_all` every figure. `bias_fraction` is the mean of
  reading / truth - 1 over valid results.
* A limit lies 3 to 30 % from the truth, on either side (one limit in ten nearer; those are told
  apart as `near_limit`). A decision is wrong where it says the opposite of the truth; a limit that
  is not decided at the cap, or whose result is refused or invalid, is undecided.
* `decision_time_ratio`: mean time our runs load the board, from the load's start to the end of the
  last window, over that of the shortest fixed length whose wrong and undecided shares together are
  no larger on the same scenarios. It has the same settling and blocks, and decides by Student's t.
  `decision_window_ratio` is the same over the windows alone, `decision_board_ratio` over the whole
  run with both idles, which cost the same either way.
* `by_value_alone` is the fixed length that decides by the bare value and is wrong as rarely as ours
  is wrong or undecided. It can tell nobody how sure it is, but far from the limit it is cheaper.

The generator was fixed before any estimator was scored (`energy_scenario`), shares no code with the
emulated board, and is held against a real log by test. Everything goes through text and the
product's readers: one scenario in ten through tegrastats' whole lines, look by look as in a run,
and all of them through the brief lines of the product's sysfs sampler; `brief_lines_differ` counts
where the two did not give the same stop, verdict and intervals. Checks of what tegrastats alone
prints (running mean, temperatures, loads) concern one in ten: `valid_fraction_tegrastats`.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from hil.bench.energy_judge import PLAN, judge_many, quiet_worker
from hil.bench.energy_logs import check_logs
from hil.bench.energy_record import Record
from hil.bench.energy_tables import summary

SCHEMA = "hil/bench-energy@1"
SHARE = 20
"""Scenarios a worker takes at a time."""


def run_bench(
    scenarios: int, seed: int, jobs: int, progress: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """Judge scenarios 0 .. n - 1 of a seed and return the benchmark's result.

    The result depends on the number and the seed, not on the number of processes.

    Args:
        scenarios: how many; strata take turns.
        seed: of everything random.
        jobs: processes.
        progress: told how many scenarios are done.
    """
    records: list[Record] = []
    for share in _judged(scenarios, seed, jobs):
        records += share
        if progress is not None:
            progress(len(records))
    records.sort(key=lambda record: record.index)
    return {
        "schema": SCHEMA,
        "provenance": "virtual time, known truth",
        "scenarios": len(records),
        "seed": seed,
        "through_tegrastats": sum(record.same is not None for record in records),
        "through_brief_lines": len(records),
        "brief_lines_differ": sum(record.same is False for record in records),
        "plan": asdict(PLAN),
        **summary(records, PLAN.window_s),
        "real_logs": check_logs(),
    }


def _judged(scenarios: int, seed: int, jobs: int) -> Iterator[list[Record]]:
    shares = [
        (seed, range(first, min(first + SHARE, scenarios))) for first in range(0, scenarios, SHARE)
    ]
    if jobs <= 1:
        yield from map(judge_many, shares)
        return
    # Spawned, not forked: a worker must not inherit threads or state that change a figure.
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, initializer=quiet_worker) as pool:
        yield from pool.imap_unordered(judge_many, shares)
