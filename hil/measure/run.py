"""One engine on one board: run it, keep the evidence, name the figures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from hil.core.evidence import Evidence, RunPlan
from hil.device.power_choice import STEPS, PowerLostError
from hil.device.session import EngineInfo, Session
from hil.measure.calibration import Calibration
from hil.measure.numbers import measurement
from hil.measure.plan import check_plan, settled_plan
from hil.measure.result import Measurement
from hil.measure.sensors import SensorErrors
from hil.measure.steady import noise_prior
from hil.measure.stopping import Decision, Stopper, StopRule

Look = Callable[[Evidence, Decision], None]


def measure(  # noqa: PLR0913 - what is known of a board, each by its name
    session: Session,
    info: EngineInfo,
    plan: RunPlan,
    *,
    power: str,
    rail: str | None,
    stop: StopRule | None = None,
    sensor: SensorErrors | None = None,
    calibration: Calibration | None = None,
    on_look: Look = lambda _evidence, _decision: None,
) -> tuple[Measurement, Evidence]:
    """Run an engine as planned and score what came home.

    Args:
        session: a leased board, already in the state that is to be measured.
        info: the engine, built on that board.
        plan: refused before anything runs where it cannot give a figure; settled for longer
            where the sensor is known to be slow.
        power: the power source's name, or "none" for latency alone.
        rail: what energy is read on; may be None only without power.
        stop: when to stop, for a plan with `max_blocks`; without it, or for a plan of fixed
            length, exactly `blocks` are run. Its limits are judged either way.
        sensor: limits of the rail's sensor; None looks them up by the board's model.
        calibration: of this board in this state.
        on_look: told the evidence so far and what was decided, each time the run is looked at.

    Raises:
        ConfigError: the plan is too short or has too few blocks.
        MeasurementError: power was asked for and none came.
    """
    check_plan(plan, power)
    if power != "none":
        plan = settled_plan(plan, _tau_s(sensor, calibration))

    def run() -> Evidence:
        if stop is None or plan.max_blocks is None:
            return session.run(info, plan, power)
        stopper = Stopper(rail, stop, noise_prior(calibration), sensor=sensor)

        def go_on(partial: Evidence) -> bool:
            decision = stopper.decide(partial)
            on_look(partial, decision)
            return decision.go_on

        return session.run(info, plan, power, go_on)

    evidence = _with_another_source(run)
    scored = measurement(evidence, rail, sensor=sensor, stop=stop, calibration=calibration)
    return scored, evidence


def _with_another_source(run: Callable[[], Evidence]) -> Evidence:
    """Run, and where the power source failed on the way, again with what the session falls to."""
    for _ in STEPS:
        with suppress(PowerLostError):
            return run()
    return run()


def _tau_s(sensor: SensorErrors | None, calibration: Calibration | None) -> float | None:
    """Return the sensor's time constant: as measured, else as stated."""
    if calibration is not None and calibration.lag_s is not None:
        return calibration.lag_s.value
    return None if sensor is None else sensor.tau_s
