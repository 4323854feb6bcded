"""Figures from evidence: pure, so that an old run can be scored again.

Blocks are the unit of replication. Energy is the trapezoid of the stamped samples over a block,
over the inferences of that block; the settling before the first block and the tail after the last
keep the sensor's lag out of them. Net energy subtracts the mean of idle before and after, taken
once the sensor has forgotten the load.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hil.core.errors import MeasurementError
from hil.core.evidence import Evidence, Mark
from hil.core.stats import (
    Estimate,
    Spread,
    block_quantile,
    combine,
    quantile,
    smallest_sample,
    spread,
)
from hil.measure import validity
from hil.measure.plan import LAG_S, MIN_IDLE_S
from hil.measure.result import Block, Measurement
from hil.measure.scene import Scene, block_marks, powered_scene

__all__ = ["Block", "Measurement", "measurement"]

NO_POWER = "the run had no power source"


def measurement(evidence: Evidence, rail: str | None) -> Measurement:
    """Score one run.

    Args:
        evidence: as it came home.
        rail: what energy is read on, usually the module's total input; may be None only
            where the run had no power source.

    Raises:
        MeasurementError: the run was to have power and has none on that rail, or its windows
            are too few, too short or not covered. Never a zero instead.
    """
    if evidence.power_source == "none":
        return _latency_only(evidence, rail)
    if rail is None:
        raise MeasurementError(
            "no rail is named to read energy on",
            fix="set power.rail in the device file to the module's total input",
        )
    scene = powered_scene(evidence, rail)
    marks = block_marks(evidence)
    energies_mj = _per_inference_mj(scene.block_energies_j(), marks)
    figures, unknown = _energy_figures(scene, marks, energies_mj)
    latencies, unknown_latencies = _latency_figures(evidence)
    verdict = validity.judge(scene)
    return Measurement(
        energy_mj=figures["energy_mj"],
        energy_net_mj=figures["energy_net_mj"],
        inferences_per_joule=figures["inferences_per_joule"],
        latency_p50_ms=latencies["latency_p50_ms"],
        latency_p99_ms=latencies["latency_p99_ms"],
        power_w=figures["power_w"],
        idle_power_w=figures["idle_power_w"],
        rails_mj=_rails_mj(scene, marks),
        blocks=_blocks(evidence, marks, energies_mj, scene.block_powers_w()),
        sample_period_ms=scene.trace.period_ms,
        validity=verdict.validity,
        reasons=verdict.reasons,
        provenance=evidence.provenance,
        rail=rail,
        copies=evidence.copies,
        unknown=unknown | unknown_latencies,
    )


def _latency_only(evidence: Evidence, rail: str | None) -> Measurement:
    marks = block_marks(evidence)
    latencies, unknown = _latency_figures(evidence)
    verdict = validity.judge_latency(evidence)
    powered = ("energy_mj", "energy_net_mj", "inferences_per_joule", "power_w", "idle_power_w")
    return Measurement(
        energy_mj=None,
        energy_net_mj=None,
        inferences_per_joule=None,
        latency_p50_ms=latencies["latency_p50_ms"],
        latency_p99_ms=latencies["latency_p99_ms"],
        power_w=None,
        idle_power_w=None,
        rails_mj=None,
        blocks=_blocks(evidence, marks, (None,) * len(marks), (None,) * len(marks)),
        sample_period_ms=None,
        validity=verdict.validity,
        reasons=verdict.reasons,
        provenance=evidence.provenance,
        rail=rail,
        copies=evidence.copies,
        unknown=unknown | dict.fromkeys(powered, NO_POWER),
    )


def _per_inference_mj(energies_j: tuple[float, ...], marks: tuple[Mark, ...]) -> tuple[float, ...]:
    return tuple(
        1000.0 * joules / _inferences(mark) for joules, mark in zip(energies_j, marks, strict=True)
    )


def _inferences(mark: Mark) -> int:
    if not mark.inferences:
        raise MeasurementError(f"block {mark.index} holds no inference")
    return mark.inferences


def _energy_figures(
    scene: Scene, marks: tuple[Mark, ...], energies_mj: tuple[float, ...]
) -> tuple[dict[str, Estimate | None], dict[str, str]]:
    gross = spread(energies_mj)
    figures: dict[str, Estimate | None] = dict.fromkeys(("energy_net_mj", "idle_power_w"))
    figures["energy_mj"] = gross.interval()
    figures["power_w"] = spread(scene.block_powers_w()).interval()
    figures["inferences_per_joule"] = _inverse(gross.interval())
    unknown = {}
    if figures["inferences_per_joule"] is None:
        unknown["inferences_per_joule"] = "the interval of the energy reaches zero"
    pieces_w = scene.idle_pieces_w()
    if pieces_w is None:
        reason = (
            f"idle before and after the load must last {LAG_S + MIN_IDLE_S:.1f} s or more: "
            f"{LAG_S:.1f} s for the sensor to forget the load, and {MIN_IDLE_S:g} s to be read"
        )
        return figures, unknown | {"energy_net_mj": reason, "idle_power_w": reason}
    idle = spread(pieces_w)
    figures["idle_power_w"] = idle.interval()
    figures["energy_net_mj"] = _net(gross, idle, marks)
    return figures, unknown


def _inverse(energy_mj: Estimate) -> Estimate | None:
    """Turn millijoules per inference into inferences per joule, ends swapped."""
    if energy_mj.low <= 0:
        return None
    return Estimate(1000.0 / energy_mj.value, 1000.0 / energy_mj.high, 1000.0 / energy_mj.low)


def _net(gross: Spread, idle: Spread, marks: tuple[Mark, ...]) -> Estimate:
    """Subtract idle for the time an inference takes; both errors count, by Welch."""
    seconds = sum(mark.stop_ns - mark.start_ns for mark in marks) / 1e9
    per_inference_ms = 1000.0 * seconds / sum(_inferences(mark) for mark in marks)
    return combine((1.0, gross), (-per_inference_ms, idle)).interval()


def _latency_figures(evidence: Evidence) -> tuple[dict[str, Estimate | None], dict[str, str]]:
    blocks_ms = [np.asarray(block, dtype=float) / 1e6 for block in evidence.latency_ns]
    figures: dict[str, Estimate | None] = {}
    unknown = {}
    for name, q in (("latency_p50_ms", 0.5), ("latency_p99_ms", 0.99)):
        figures[name] = block_quantile(blocks_ms, q)
        if figures[name] is None:
            total = sum(block.size for block in blocks_ms)
            unknown[name] = (
                f"{total} inferences are too few for an interval of this percentile: "
                f"{smallest_sample(q)} independent ones are needed"
            )
    return figures, unknown


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
