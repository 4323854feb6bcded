"""Gates on traces that end too early: raw evidence cut off, scored and decided as shipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hil.bench.energy_run import Run
from hil.bench.energy_scenario import STRATA, Scenario, draw
from hil.core.errors import HilError
from hil.core.evidence import Evidence, RunPlan
from hil.measure.comparison import FIRST_LOOK_ROUNDS, Scored
from hil.measure.gate import Check, Trial, turns_of
from hil.measure.gate_outcome import failed, findings_of, outcomes
from hil.measure.interleave import first_sides
from hil.measure.numbers import measurement, require_joules
from hil.measure.result import Measurement

PLAN = RunPlan(4.0, window_s=5.0, blocks=3, interval_ms=100)


def truncated(gates: int, seed: int, checks: Sequence[Check]) -> dict[str, Any]:
    """Gate networks whose candidate's traces all end within the windows; count the outcomes."""
    counts: Counter[str] = Counter()
    for index in range(gates):
        rng = np.random.default_rng([seed, index, 78])
        counts.update(_gate(seed, index, rng, tuple(checks)))
    return {"runs": gates, "outcomes": dict(counts)}


def _gate(seed: int, index: int, rng: np.random.Generator, checks: tuple[Check, ...]) -> set[str]:
    trial = Trial(checks, len(checks))
    starts = first_sides(int(rng.integers(2**31)))
    try:
        rounds = []
        for number in range(FIRST_LOOK_ROUNDS):
            a, b = (_evidence(seed, 1000 * index + 2 * number + k) for k in (0, 1))
            rounds.append(Scored(0, next(starts), 60.0 * number, _scored(a), _scored(cut(b, rng))))
        trial.look(turns_of(rounds))
        found = findings_of(trial)
    except HilError as error:
        found = failed(checks, error)
    return {outcome.status for outcome in outcomes(found)}


def cut(evidence: Evidence, rng: np.random.Generator) -> Evidence:
    """Return the evidence with its power lines ending somewhere within the windows."""
    blocks = evidence.named("block")
    end_ns = rng.integers(blocks[0].start_ns, blocks[-1].stop_ns)
    power = tuple(
        replace(record, lines=tuple(line for line in record.lines if line[0] <= end_ns))
        for record in evidence.power
    )
    return replace(evidence, power=power)


def _evidence(seed: int, index: int) -> Evidence:
    names = tuple(STRATA)
    scenario: Scenario = draw(seed, names.index("bursts") + len(names) * index)
    return Run(scenario, PLAN).evidence(PLAN.blocks, over=True, brief=True)


def _scored(evidence: Evidence) -> Measurement:
    return require_joules(measurement(evidence, "VDD_IN"))
