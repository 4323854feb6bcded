"""One engine on one board: run it, keep the evidence, name the figures."""

from __future__ import annotations

from hil.core.evidence import Evidence, RunPlan
from hil.device.session import EngineInfo, Session
from hil.measure.numbers import measurement
from hil.measure.plan import check_plan
from hil.measure.result import Measurement


def measure(
    session: Session, info: EngineInfo, plan: RunPlan, *, power: str, rail: str | None
) -> tuple[Measurement, Evidence]:
    """Run an engine as planned and score what came home.

    Args:
        session: a leased board, already in the state that is to be measured.
        info: the engine, built on that board.
        plan: refused before anything runs where it cannot give a figure.
        power: the power source's name, or "none" for latency alone.
        rail: what energy is read on; may be None only without power.

    Raises:
        ConfigError: the plan is too short or has too few blocks.
        MeasurementError: power was asked for and none came.
    """
    check_plan(plan, power)
    evidence = session.run(info, plan, power)
    return measurement(evidence, rail), evidence
