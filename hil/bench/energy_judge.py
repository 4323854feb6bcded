"""One scenario judged: our own code scores its text, and the truth stands beside every figure.

Rule of this file: the estimator sees `Evidence` alone, as it would come home from a board, and is
told what a user would tell it: the rail, the sensor's tolerances, the rule for stopping. Truth and
answers meet only in the `Record`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import special

from hil.bench.energy_peers import answers
from hil.bench.energy_record import Fixed, Record
from hil.bench.energy_run import Run, block_energies_j
from hil.bench.energy_scenario import GAIN, SHUNT, Scenario, draw
from hil.bench.energy_world import Floats
from hil.core.errors import HilError
from hil.core.evidence import RunPlan
from hil.measure.numbers import Measurement, measurement
from hil.measure.plan import settled_plan
from hil.measure.sensors import SensorErrors
from hil.measure.steady import look_blocks
from hil.measure.stopping import (
    ADAPTIVE_WINDOW_S,
    CAP_S,
    FIRST_LOOK_BLOCKS,
    Limit,
    Stopper,
    StopRule,
)

PLAN = RunPlan(
    idle_s=10.0,
    window_s=ADAPTIVE_WINDOW_S,
    blocks=FIRST_LOOK_BLOCKS,
    max_blocks=round(CAP_S / ADAPTIVE_WINDOW_S),
)
"""A run that decides for itself when to stop, as the product lays it out."""
FIGURE = "energy_mj"
WHOLE = 10
"""One scenario in so many goes through whole lines of tegrastats, look by look, and through brief
lines, looks in groups, as well. The others go through brief lines alone."""
SHORTEST = 3
"""Fewest blocks of the fixed-length peer: two give no interval to speak of."""


@dataclass(frozen=True)
class Truth:
    """Truths of one run by number of blocks."""

    run: Run

    def after(self, blocks: int) -> dict[str, float]:
        """Return the truths over the first so many windows, in mJ an inference."""
        world, seconds = self.run.world, self._seconds[:blocks]
        mj_per_w = 1000.0 * float(seconds.sum()) / float(self._inferences[:blocks].sum())
        windows = self.run.blocks[:blocks]
        true_w = [world.true_w(w.start_s, w.stop_s) for w in windows]
        more_w = [world.realised_w(w.start_s, w.stop_s) for w in windows]
        expected_w = float(np.average(true_w, weights=seconds))
        realised_w = float(np.average(more_w, weights=seconds))
        read_w = float(np.average(self._read_w[:blocks], weights=seconds))
        steps_w = read_w - world.as_read_w(expected_w, 0.0)
        return {
            "truth": mj_per_w * read_w,
            "realised": mj_per_w * world.as_read_w(realised_w, steps_w),
            "absolute": mj_per_w * expected_w,
            "truth_net": mj_per_w * (read_w - world.idle_read_w()),
        }

    def each(self) -> Floats:
        """Return the expected reading over the first 1, 2, ... windows, in mJ an inference."""
        joules = np.cumsum(self._seconds * self._read_w)
        return np.asarray(1000 * joules / np.cumsum(self._inferences))

    @cached_property
    def _read_w(self) -> Floats:
        """The expected reading of every window."""
        return np.array([self.run.world.read_w(w.start_s, w.stop_s) for w in self.run.blocks])

    @cached_property
    def _seconds(self) -> Floats:
        return np.array([window.stop_s - window.start_s for window in self.run.blocks])

    @cached_property
    def _inferences(self) -> Floats:
        return np.array([float(window.past - window.first) for window in self.run.blocks])


def judge(seed: int, index: int, plan: RunPlan = PLAN) -> Record:
    """Run, stop, score and compare one scenario."""
    scenario = draw(seed, index)
    run = Run(scenario, settled_plan(plan, scenario.sensor.told_tau_s))
    truths = Truth(run)
    limit = _limit(scenario, truths)
    rule = StopRule(target_rel=scenario.rule.target, limits=() if limit is None else (limit,))
    whole = index % WHOLE == 0
    blocks, looks = _stopped(run, rule, one_by_one=whole, brief=not whole)
    found: dict[str, Any] = {**truths.after(blocks)}
    found |= {"limit": _bound(limit), **_decided(limit, found["truth"])}
    found |= _scored(run, rule, blocks, brief=not whole)
    if whole:
        briefly = _stopped(run, rule, one_by_one=False, brief=True)
        again = _scored(run, rule, blocks, brief=True)
        told = ("interval", "u95", "net", "outcome", "verdict")
        found["same"] = briefly == (blocks, looks) and all(
            again.get(name) == found.get(name) for name in told
        )
    last = run.blocks[blocks - 1]
    windows_s = sum(window.stop_s - window.start_s for window in run.blocks[:blocks])
    return Record(
        index=index,
        stratum=scenario.stratum,
        strata=_strata(scenario),
        blocks=blocks,
        looks=looks,
        window_s=windows_s,
        load_s=last.stop_s - run.settle.start_s,
        board_s=run.over_s(blocks),
        peers=_peers(run, blocks),
        fixed=_fixed(run, truths) if limit is not None else (),
        **found,
    )


def rail(scenario: Scenario) -> str:
    """Return the rail that energy is read on."""
    return "VDD_IN" if scenario.printer.host_s is None else "meter"


def sensor(scenario: Scenario) -> SensorErrors:
    """Return the stated tolerances of the scenario's sensor, and the lag that is told of it."""
    one = scenario.sensor
    return SensorErrors(
        offset_ma=one.offset_limit_ma,
        gain=GAIN,
        shunt=SHUNT,
        bus_mv=19184.0,
        lsb_ma=one.lsb_ma,
        tau_s=one.told_tau_s,
        bus_gain=GAIN,
        source="tolerances that the benchmark drew the sensor from",
    )


def _limit(scenario: Scenario, truths: Truth) -> Limit | None:
    """Return the limit, at its distance from the truth of a run of the shortest length."""
    rule = scenario.rule
    if rule.distance is None:
        return None
    bound = truths.after(truths.run.plan.blocks)["truth"] * (1 + rule.distance)
    if rule.kind == "at_most":
        return Limit(FIGURE, at_most=bound)
    return Limit(FIGURE, at_least=bound)


def _bound(limit: Limit | None) -> float | None:
    if limit is None:
        return None
    return limit.at_most if limit.at_most is not None else limit.at_least


def _decided(limit: Limit | None, truth: float) -> dict[str, Any]:
    bound = _bound(limit)
    if limit is None or bound is None:
        return {}
    holds = truth <= bound if limit.at_most is not None else truth >= bound
    right = "feasible" if holds else "infeasible"
    return {"right": right, "margin": abs(bound / truth - 1)}


def _stopped(run: Run, rule: StopRule, *, one_by_one: bool, brief: bool) -> tuple[int, int]:
    """Ask at every look that is due; return blocks measured and looks.

    The block after the one in question has been measured by the time of the answer. The product
    asks one look at a time. Looks may be asked for in groups instead, on the evidence after the
    last of a group, for a decision is settled at the first look that says so whatever follows.
    """
    stopper = Stopper(rail(run.scenario), rule, sensor=sensor(run.scenario))
    due = [n for n in look_blocks(run.plan) if n < run.most - 1]
    for group in [[n] for n in due] if one_by_one else _groups(due):
        decision = stopper.decide(run.evidence(group[-1], over=False, brief=brief))
        if not decision.go_on:
            return decision.blocks + 1, decision.looks
    return run.most, len(due)


def _groups(due: Sequence[int]) -> list[list[int]]:
    """Cut looks into groups that read little more than the run will turn out to need."""
    groups: list[list[int]] = []
    for n in due:
        if groups and n <= 1.6 * groups[-1][0]:
            groups[-1].append(n)
        else:
            groups.append([n])
    return groups


def _scored(run: Run, rule: StopRule, blocks: int, *, brief: bool) -> dict[str, Any]:
    """Return what the product says of the finished run, as fields of a record."""
    evidence = run.evidence(blocks, over=True, brief=brief)
    one = run.scenario
    try:
        return _said(measurement(evidence, rail(one), sensor=sensor(one), stop=rule))
    except HilError as error:
        return {"refusal": error.what}


def _said(scored: Measurement) -> dict[str, Any]:
    told: dict[str, Any] = {"validity": scored.validity, "reasons": scored.reasons}
    for name, figure in (
        ("interval", scored.energy_mj),
        ("u95", scored.energy_mj_u95_total),
        ("net", scored.energy_net_mj),
    ):
        if figure is not None:
            told[name] = (figure.value, figure.low, figure.high)
    stopping = scored.stopping or {}
    told["outcome"] = stopping.get("outcome", "")
    told["verdict"] = stopping.get("verdicts", {}).get(FIGURE)
    return told


def _strata(scenario: Scenario) -> tuple[str, ...]:
    mode = "meter" if scenario.printer.host_s is not None else "continuous"
    if mode == "continuous" and scenario.sensor.tau_s == 0.0:
        mode = "triggered"
    regular = any(kind.regular for kind in scenario.background.bursts)
    told = "told" if scenario.sensor.told_tau_s == scenario.sensor.tau_s else "untold"
    size = 3.0 if scenario.load.high_w < 3.0 else 6.0 if scenario.load.high_w < 6.0 else 9.0
    return (
        scenario.stratum,
        f"rule {scenario.rule.name}",
        f"sensor {mode}",
        f"lag {told}",
        "bursts regular" if regular else "bursts random or none",
        f"load {'under 3' if size == 3.0 else '3 to 6' if size == 6.0 else 'over 6'} W",
    )


def _peers(run: Run, blocks: int) -> dict[str, tuple[float, ...]]:
    return {
        name: (a.value, a.low, a.high, a.truth, a.realised, a.length_s)
        for name, a in answers(run, blocks).items()
    }


def _fixed(run: Run, truths: Truth) -> tuple[Fixed, ...]:
    """Return what every fixed length would have said, by Student's t over its blocks."""
    stamps, watts = run.samples()
    edges = [run.edges_ns(window) for window in run.blocks]
    joules = block_energies_j(stamps, watts, edges)
    values = 1000 * joules / np.array([window.past - window.first for window in run.blocks])
    truth = truths.each()
    return tuple(
        Fixed(n, float(values[:n].mean()), _half(values[:n]), float(truth[n - 1]))
        for n in range(SHORTEST, run.most + 1)
    )


def _half(values: Floats) -> float:
    error = float(values.std(ddof=1)) / float(np.sqrt(len(values)))
    return float(special.stdtrit(len(values) - 1, 0.975)) * error


def quiet_worker() -> None:
    """Keep numerical libraries of a worker process to one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"


def judge_many(work: tuple[int, Sequence[int]]) -> list[Record]:
    """Judge scenarios of one seed; a worker's share."""
    seed, indices = work
    return [judge(seed, index) for index in indices]
