"""Run and score, through a session that hands out recorded evidence."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from hil.core.errors import ConfigError, MeasurementError
from hil.core.evidence import Evidence, RunPlan
from hil.device.power_choice import PowerLostError
from hil.device.session import EngineInfo, EngineSpec
from hil.measure.run import measure
from hil.measure.sensors import SensorErrors
from hil.measure.stopping import Limit, Stopper, StopRule

INFO = EngineInfo(
    spec=EngineSpec(onnx_sha256="1" * 64),
    engine_sha256="2" * 64,
    key="3" * 64,
    cached=False,
    build_s=1.0,
    runtime_version="8.2.1.8",
    plan_bytes=1000,
    device_memory_bytes=None,
    inputs=(),
    outputs=(),
)


@dataclass
class Recorded:
    """A session that answers `run` with one recording."""

    recording: Evidence
    asked: list[tuple[EngineInfo, RunPlan, str]] = field(default_factory=list)

    def run(self, info, plan, power):
        self.asked.append((info, plan, power))
        return self.recording


def test_the_run_is_asked_as_planned_and_its_evidence_kept(script):
    session = Recorded(script.evidence())

    got, evidence = measure(session, INFO, script.plan, power="tegrastats", rail="VDD_IN")

    assert session.asked == [(INFO, script.plan, "tegrastats")]
    assert evidence is session.recording
    assert got.energy_mj is not None


@pytest.mark.parametrize(
    ("plan", "power", "told"),
    [
        (RunPlan(blocks=2), "none", "blocks is 2"),
        (RunPlan(window_s=0.0), "none", "window_s is 0"),
        (RunPlan(window_s=1.5), "tegrastats", "window_s is 1.5"),
        (RunPlan(interval_ms=5000), "tegrastats", "interval_ms is 5000"),
    ],
)
def test_a_plan_that_cannot_give_a_figure_never_reaches_the_board(script, plan, power, told):
    session = Recorded(script.evidence())

    with pytest.raises(ConfigError, match=told):
        measure(session, INFO, plan, power=power, rail="VDD_IN")

    assert session.asked == []


def test_lines_that_do_not_reach_the_end_are_an_error_of_the_measurement(script, relined):
    evidence = script.evidence()
    session = Recorded(relined(evidence, evidence.power_lines[:200]))

    with pytest.raises(MeasurementError) as caught:
        measure(session, INFO, script.plan, power="tegrastats", rail="VDD_IN")

    assert caught.value.exit_code == 5


@dataclass
class Losing:
    """A session whose power source fails in the first runs, each time while it is judged."""

    recording: Evidence
    losses: int
    looks: list[int] = field(default_factory=list)

    def run(self, info, plan, power, decide=None):
        if decide is not None:
            decide(self.recording)
        self.looks.append(len(self.looks))
        if len(self.looks) <= self.losses:
            raise PowerLostError("tegrastats ended by itself")
        return self.recording


def test_a_source_that_fails_on_the_way_costs_another_run_and_no_result(script):
    plan = replace(script.plan, max_blocks=6)
    session = Losing(script.evidence(), 2)

    got, _ = measure(
        session, INFO, plan, power="tegrastats", rail="VDD_IN", stop=StopRule(target_rel=0.01)
    )

    assert len(session.looks) == 3
    assert got.stopping["looks"] == 1  # what the lost runs had shown is forgotten


def test_a_run_that_is_to_stop_by_joules_stops_by_latency_where_there_are_none(script):
    plan = replace(script.plan, max_blocks=40)
    stop = StopRule(target_rel=0.01)
    for evidence, rail in ((script.evidence(power=()), "VDD_IN"), (script.evidence(), "VDD_X")):
        assert Stopper(rail, stop).decide(replace(evidence, plan=plan)).outcome == "target"


@dataclass
class Growing:
    """A session that asks after each block, as a board does, and keeps one block of look-ahead."""

    recording: Evidence
    asked: list[int] = field(default_factory=list)
    plan: RunPlan | None = None

    def run(self, info, plan, power, decide=None):
        self.plan = plan
        if decide is None:
            return self.upto(plan.blocks)
        blocks = plan.blocks
        while blocks < plan.max_blocks:
            self.asked.append(blocks)
            if not decide(self.upto(blocks, over=False)):
                break
            blocks += 1
        return self.upto(blocks)

    def upto(self, blocks, over=True):
        recording = self.recording
        names = ("tail", "idle_after")
        kept = [
            mark
            for mark in recording.marks
            if not (mark.name == "block" and mark.index >= blocks)
            and (over or mark.name not in names)
        ]
        return replace(
            recording, plan=self.plan, marks=tuple(kept), latency_ns=recording.latency_ns[:blocks]
        )


def growing(script, **plan):
    """Return a session with twelve recorded windows of 5 s."""
    full = RunPlan(window_s=5.0, blocks=12)
    recorded = script.but(plan=full, latency_ms=lambda b, rng: rng.normal(10, 0.05, 500))
    return Growing(recorded.evidence()), RunPlan(window_s=5.0, blocks=4, max_blocks=12, **plan)


def test_a_run_that_may_go_on_is_looked_at_and_told_what_became_of_it(script):
    session, plan = growing(script)
    seen = []

    got, evidence = measure(
        session,
        INFO,
        plan,
        power="tegrastats",
        rail="VDD_IN",
        stop=StopRule(target_rel=0.2),
        on_look=lambda partial, decision: seen.append((len(partial.latency_ns), decision.outcome)),
    )

    assert session.asked == [4]
    assert seen == [(4, "target")]
    assert len(evidence.latency_ns) == 4
    assert got.stopping["outcome"] == "target"
    assert (got.stopping["looks"], got.stopping["blocks"]) == (1, 4)


def test_a_target_out_of_reach_goes_to_the_cap_and_says_undecided(script):
    session, plan = growing(script)

    got, evidence = measure(
        session, INFO, plan, power="tegrastats", rail="VDD_IN", stop=StopRule(target_rel=1e-6)
    )

    assert session.asked == list(range(4, 12))
    assert len(evidence.latency_ns) == 12
    assert got.stopping["outcome"] == "undecided"


def test_a_limit_far_off_is_decided_at_the_first_look(script):
    session, plan = growing(script)
    rule = StopRule(limits=(Limit("energy_mj", at_most=80.0),))

    got, _ = measure(session, INFO, plan, power="tegrastats", rail="VDD_IN", stop=rule)

    assert got.stopping["verdicts"] == {"energy_mj": "feasible"}
    assert got.stopping["outcome"] == "decided"


def test_a_limit_on_a_run_of_fixed_length_is_judged_too(script):
    session = Recorded(script.evidence())
    rule = StopRule(limits=(Limit("energy_mj", at_most=30.0),))

    got, _ = measure(session, INFO, script.plan, power="tegrastats", rail="VDD_IN", stop=rule)

    assert got.stopping["verdicts"] == {"energy_mj": "infeasible"}


def test_a_sensor_known_to_be_slow_is_settled_for_longer(script):
    session = Recorded(script.evidence())
    slow = SensorErrors(tau_s=1.5)

    measure(session, INFO, script.plan, power="tegrastats", rail="VDD_IN", sensor=slow)
    measure(session, INFO, script.plan, power="none", rail="VDD_IN", sensor=slow)

    assert session.asked[0][1].settle_s == 7.5
    assert session.asked[0][1].idle_s >= 7.5
    assert session.asked[1][1] == script.plan
