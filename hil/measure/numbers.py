"""Figures from evidence: pure, so that an old run can be scored again.

Blocks are the unit of replication. Energy is the trapezoid of the stamped samples over a block
(or the difference of a counter), over the inferences of that block; the settling before the first
block and the tail after the last keep the sensor's lag out of them. Net energy subtracts the mean
of idle before and after, taken once the sensor has forgotten the load, for the same time: at a
fixed rate the pauses between inferences are in both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hil.core import fallbacks
from hil.core.errors import MeasurementError
from hil.core.evidence import Evidence, Mark
from hil.core.fallbacks import Fallback
from hil.core.sequential import difference, inverse
from hil.core.stats import quantile
from hil.measure import validity
from hil.measure.budget import Readings, budget
from hil.measure.calibration import Calibration
from hil.measure.latency import percentiles, start_up
from hil.measure.others import other_sources
from hil.measure.plan import LAG_S, MIN_IDLE_S
from hil.measure.rate import paced
from hil.measure.result import TOTALS, Block, Measurement
from hil.measure.scene import (
    IDLE_PIECE_TAUS,
    NoSuchRailError,
    Scene,
    block_marks,
    powered_scene,
    running_mode,
)
from hil.measure.sensors import SensorErrors, board_of, sensor_of
from hil.measure.steady import idle_interval, noise_prior, scene_interval
from hil.measure.stopping import StopRule, decide

__all__ = ["Block", "Measurement", "measurement"]

NO_POWER = "the run had no power source"
POWERED = ("energy_mj", "energy_net_mj", "inferences_per_joule", "power_w", "idle_power_w")


def measurement(
    evidence: Evidence,
    rail: str | None,
    *,
    sensor: SensorErrors | None = None,
    stop: StopRule | None = None,
    calibration: Calibration | None = None,
) -> Measurement:
    """Score one run.

    Args:
        evidence: as it came home.
        rail: what energy is read on, usually the module's total input; may be None only
            where the run had no power source.
        sensor: limits of that rail's sensor; None looks them up by the board's model.
        stop: the rule the run was stopped by, to be told what became of it.
        calibration: of this board in this state.

    Where the board has no power source or prints another rail, latency is scored all the same
    and every figure of power is None, its reason naming the rails that are there.

    Raises:
        MeasurementError: windows are too few, too short or not covered by power. Never a zero
            instead.
    """
    fields = _of_load(evidence)
    if evidence.power and rail is None:
        raise MeasurementError(
            "no rail is named to read energy on",
            fix="set power.rail in the device file to the module's total input",
        )
    if evidence.power and rail is not None and sensor is None:
        board = board_of(evidence.board.get("model"))
        sensor = sensor_of(board or "", rail=rail, source=evidence.power_source)
    fields["stopping"] = _stopping(evidence, rail, stop, sensor, calibration)
    found = fallbacks_of(evidence)
    if not evidence.power or rail is None:
        return _latency_only(evidence, rail, fields, found)
    try:
        return _powered(evidence, rail, fields, found, sensor, calibration)
    except NoSuchRailError as error:
        return _latency_only(evidence, rail, fields, (*found, error.fallback))


def require_joules(scored: Measurement) -> Measurement:
    """Refuse a run whose joules were refused, where only joules are of use.

    Raises:
        MeasurementError: with the reason and the next step.
    """
    for each in scored.fallbacks:
        if each.name in fallbacks.WITHOUT_JOULES:
            raise MeasurementError("there are no joules", why=each.reason, fix=each.next_step)
    return scored


def fallbacks_of(evidence: Evidence) -> tuple[Fallback, ...]:
    """Return what was done otherwise than planned in a run, as its evidence tells."""
    power = evidence.power[0].settings if evidence.power else None
    return fallbacks.of_run(evidence.board, evidence.engine, power)


def _latency_only(
    evidence: Evidence, rail: str | None, fields: dict[str, Any], found: tuple[Fallback, ...]
) -> Measurement:
    marks = block_marks(evidence)
    unknown: dict[str, str] = dict(fields.pop("unknown"))
    refused = [each.line for each in found if each.name in fallbacks.WITHOUT_JOULES]
    verdict = validity.judge_latency(evidence, found)
    totals = [f"{name}_u95_total" for name in TOTALS]
    lacking = (*POWERED, *totals, "lag_s", "sampler_power_w", "resolution_w")
    return Measurement(
        **_nothing(POWERED),
        **fields,
        rails_mj=None,
        blocks=_blocks(evidence, marks, (None,) * len(marks), (None,) * len(marks)),
        sample_period_ms=None,
        validity=verdict.validity,
        reasons=verdict.reasons,
        rail=rail,
        unknown=unknown | dict.fromkeys(lacking, refused[0] if refused else NO_POWER),
        fallbacks=found,
    )


def _powered(
    evidence: Evidence,
    rail: str,
    fields: dict[str, Any],
    found: tuple[Fallback, ...],
    sensor: SensorErrors | None,
    calibration: Calibration | None,
) -> Measurement:
    marks = block_marks(evidence)
    scene = powered_scene(evidence, rail, None if sensor is None else sensor.tau_s)
    unknown: dict[str, str] = fields.pop("unknown")
    powered = _Powered.of(scene, marks, calibration)
    drawn = budget(scene, powered.readings, sensor, calibration)
    verdict = validity.judge(scene, found, sensor)
    return Measurement(
        **powered.figures,
        **fields,
        **drawn.totals,
        rails_mj=_rails_mj(scene, marks),
        blocks=_blocks(evidence, marks, powered.energies_mj, scene.block_powers_w()),
        sample_period_ms=scene.trace.period_ms,
        validity=verdict.validity,
        reasons=verdict.reasons,
        rail=rail,
        unknown=unknown | powered.unknown | drawn.unknown | _beside(scene, calibration),
        lag_s=None if scene.lag is None else scene.lag.tau_s,
        sampler_power_w=None if calibration is None else calibration.sampler_power_w,
        resolution_w=_resolution_w(scene, sensor),
        running_mode=running_mode(scene.trace),
        error_budget=drawn.terms,
        others=other_sources(scene, [_inferences(m) for m in marks], powered.interval),
        fallbacks=found,
    )


@dataclass(frozen=True)
class _Powered:
    """What a run's power comes to."""

    figures: dict[str, Any]
    unknown: dict[str, str]
    readings: Readings
    energies_mj: tuple[float, ...]
    interval: Any

    @classmethod
    def of(cls, scene: Scene, marks: tuple[Mark, ...], calibration: Calibration | None) -> _Powered:
        """Work out gross, net and idle, each with its repeatability."""
        energies_mj = tuple(
            1000.0 * joules / _inferences(mark)
            for joules, mark in zip(scene.block_energies_j(), marks, strict=True)
        )
        interval = partial(scene_interval, scene, prior=noise_prior(calibration))
        energy, power = interval(energies_mj), interval(scene.block_powers_w())
        per_joule, idle, net = inverse(energy, 1000.0), None, None
        unknown = {}
        if per_joule is None:
            unknown["inferences_per_joule"] = "the interval of the energy reaches zero"
        seconds = math.fsum(mark.stop_ns - mark.start_ns for mark in marks) / 1e9
        mj_per_w = 1000.0 * seconds / sum(_inferences(mark) for mark in marks)
        pieces_w = scene.idle_pieces_w()
        if pieces_w is None or len(pieces_w) < 2:
            reason = (
                f"idle before and after the load must last {LAG_S + MIN_IDLE_S:.1f} s or more: "
                f"{LAG_S:.1f} s for the sensor to forget the load, and {MIN_IDLE_S:g} s to be read"
            )
            unknown |= {"energy_net_mj": reason, "idle_power_w": reason}
        else:
            idle = idle_interval(pieces_w, IDLE_PIECE_TAUS * scene.tau_s, scene.tau_s)
            net = difference(energy, idle, mj_per_w)
        figures: dict[str, Any] = {
            "energy_mj": energy,
            "energy_net_mj": net,
            "inferences_per_joule": per_joule,
            "power_w": power,
            "idle_power_w": idle,
        }
        readings = Readings(energy, net, power, idle, mj_per_w)
        return cls(figures, unknown, readings, energies_mj, interval)


def _nothing(names: Sequence[str]) -> dict[str, Any]:
    return dict.fromkeys(names)


def _of_load(evidence: Evidence) -> dict[str, Any]:
    """Return the fields that need no power."""
    block_marks(evidence)
    figures, unknown, effective = percentiles(evidence.latency_ns)
    start, pace = start_up(evidence), paced(evidence)
    rate = None
    if pace is not None:
        rate = {
            "asked_hz": pace.asked_hz,
            "achieved_hz": pace.achieved_hz,
            "missed": pace.missed,
        }
    return {
        **figures,
        "first_inference_ms": start.first_inference_ms,
        "engine_load_ms": start.engine_load_ms,
        "warmup_inferences": start.warmup_inferences,
        "latency_effective_samples": effective,
        "rate": rate,
        "provenance": evidence.provenance,
        "copies": evidence.copies,
        "unknown": {**unknown, **start.unknown},
    }


def _stopping(
    evidence: Evidence,
    rail: str | None,
    stop: StopRule | None,
    sensor: SensorErrors | None,
    calibration: Calibration | None,
) -> dict[str, Any] | None:
    if stop is None:
        return None
    decision = decide(evidence, rail, stop, noise_prior(calibration), sensor=sensor)
    return {
        # At the cap there is nothing left to go on with.
        "outcome": "undecided" if decision.outcome == "going" else decision.outcome,
        "looks": decision.looks,
        "blocks": decision.blocks,
        "why": decision.why,
        "verdicts": dict(decision.verdicts),
    }


def _beside(scene: Scene, calibration: Calibration | None) -> dict[str, str]:
    unknown = {}
    if scene.lag is None:
        unknown["lag_s"] = "the run's own load steps do not tell it"
    if calibration is None:
        unknown["sampler_power_w"] = "the board is not calibrated (hil device calibrate)"
    elif calibration.sampler_power_w is None:
        why = calibration.unknown.get("sampler_power_w")
        unknown["sampler_power_w"] = why or "the calibration did not measure it"
    if scene.step_seen_w is None:
        unknown["resolution_w"] = "the rail never changed"
    return unknown


def _resolution_w(scene: Scene, sensor: SensorErrors | None) -> float | None:
    if sensor is not None and sensor.lsb_w is not None:
        return sensor.lsb_w
    return scene.step_seen_w


def _inferences(mark: Mark) -> int:
    if not mark.inferences:
        raise MeasurementError(f"block {mark.index} holds no inference")
    return mark.inferences


def _rails_mj(scene: Scene, marks: tuple[Mark, ...]) -> Mapping[str, float]:
    total = sum(_inferences(mark) for mark in marks)
    return {
        rail: 1000.0 * sum(scene.block_energies_j(rail)) / total
        for rail in scene.trace.rails
        if scene.covers_blocks(rail)
    }


def _blocks(
    evidence: Evidence,
    marks: tuple[Mark, ...],
    energies_mj: tuple[float | None, ...],
    powers_w: tuple[float | None, ...],
) -> tuple[Block, ...]:
    return tuple(
        Block(
            energy_mj=energy_mj,
            power_w=power_w,
            latency_p50_ms=quantile(latencies, 0.5) / 1e6,
            latency_p99_ms=quantile(latencies, 0.99) / 1e6,
            inferences=_inferences(mark),
            duration_s=(mark.stop_ns - mark.start_ns) / 1e9,
        )
        for mark, latencies, energy_mj, power_w in zip(
            marks, evidence.latency_ns, energies_mj, powers_w, strict=True
        )
    )
