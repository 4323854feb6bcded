"""What further power sources said of the same windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from hil.core.errors import MeasurementError
from hil.core.evidence import PowerRecord
from hil.core.stats import Estimate
from hil.measure.result import OtherSource
from hil.measure.scene import Scene
from hil.measure.sources import nvml
from hil.measure.trace import DEFAULT_RAILS, PowerTrace, read_power

Interval = Callable[[Sequence[float]], Estimate]


def other_sources(
    scene: Scene, inferences: Sequence[int], interval: Interval
) -> tuple[OtherSource, ...]:
    """Return each further source's energy and its ratio to the first one's, block by block.

    Args:
        scene: the run, on its first source.
        inferences: of each block.
        interval: of a mean over blocks.
    """
    further = [_other(scene, record, inferences, interval) for record in scene.evidence.power[1:]]
    return (*_own_samples(scene, inferences, interval), *further)


def _own_samples(
    scene: Scene, inferences: Sequence[int], interval: Interval
) -> tuple[OtherSource, ...]:
    """Return the sampled power of a GPU that counts its energy, too: a check of the counter."""
    trace = scene.trace
    counted = scene.power.kind == "counter" and nvml.POWER in trace.rails
    if trace.source != "nvml" or not counted:
        return ()
    return (_beside(scene, trace, nvml.POWER, inferences, interval),)


def _other(
    scene: Scene, record: PowerRecord, inferences: Sequence[int], interval: Interval
) -> OtherSource:
    try:
        trace = read_power(record)
    except MeasurementError as error:
        return OtherSource(record.source, "", None, None, str(error))
    rail = rail_of(record, trace, scene.rail)
    return _beside(scene, trace, rail, inferences, interval)


def _beside(
    scene: Scene, trace: PowerTrace, rail: str, inferences: Sequence[int], interval: Interval
) -> OtherSource:
    """Return what a rail of some trace says of the run's windows."""
    if rail not in trace.rails:
        told = ", ".join(trace.rails) or "no power at all"
        return OtherSource(trace.source, rail, None, None, f"it gives {told}")
    try:
        joules = [trace.rails[rail].energy_j(window) for window in scene.blocks]
    except ValueError as error:
        return OtherSource(trace.source, rail, None, None, str(error))
    energy = interval([1000 * j / n for j, n in zip(joules, inferences, strict=True)])
    first = scene.block_energies_j()
    if min(*joules, *first) <= 0:
        reason = "a window without energy has no ratio"
        return OtherSource(trace.source, rail, energy, None, reason)
    log = interval([math.log(a / b) for a, b in zip(joules, first, strict=True)])
    ratio = Estimate(math.exp(log.value), math.exp(log.low), math.exp(log.high))
    return OtherSource(trace.source, rail, energy, ratio)


def rail_of(record: PowerRecord, trace: PowerTrace, first: str) -> str:
    """Return the rail that is meant: as told, the source's own, or the first source's."""
    told = record.settings.get("rail")
    if told:
        return str(told)
    return DEFAULT_RAILS.get(trace.source, first)
