"""Checks of a run on a GPU that NVML told of: clocks, what held them down, who else was at work.

Rule of this file: a check never changes a figure; see `hil.measure.validity`. What a line does not
tell is judged by nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean

from hil.core.energy import Window
from hil.core.errors import MeasurementError
from hil.measure.findings import Finding, invalid, suspect
from hil.measure.parttime import unseen
from hil.measure.scene import Scene
from hil.measure.sensors import SensorErrors
from hil.measure.sources import nvml
from hil.measure.sources.crosscheck import compare_sources
from hil.measure.states import CLOCK_TOLERANCE

# nvml.h, nvmlClocksEventReasons: bits that take clocks away from under a load.
SLOWED = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
POWER_CAP = 0x04
# A boost clock touches its power limit now and then; held down by it is another clock.
CAPPED_SUSPECT_FRACTION = 0.05
IDLE_BUSY_SUSPECT_PERCENT = 5.0
# Ours, which holds its engine all the time that lines are read.
OWN_PROCESSES = 1
# What NVML states for the GPUs that it states anything for (nvmlDeviceGetPowerUsage, 5 %).
COUNTER_TOLERANCE = 0.05
UNSEEN_SUSPECT_FRACTION = 0.05

Told = Mapping[str, int]


def _within(scene: Scene, windows: Iterable[Window | None], name: str) -> list[int]:
    spans = [window for window in windows if window is not None]
    return [
        said[name]
        for t_ns, said in scene.trace.told
        if name in said and any(w.start_ns <= t_ns <= w.stop_ns for w in spans)
    ]


def slowed(scene: Scene) -> Iterable[Finding]:
    """Clocks that something took away while the load ran."""
    bits = _within(scene, scene.blocks, "throttle")
    found = [name for bit, name in SLOWED.items() if any(each & bit for each in bits)]
    if found:
        yield invalid(f"the GPU slowed itself down under load: {', '.join(found)}")
    capped = fmean(bool(each & POWER_CAP) for each in bits) if bits else 0.0
    if capped > CAPPED_SUSPECT_FRACTION:
        limit_mw = scene.trace.settings.get("power_limit_mw")
        told = f" of {limit_mw / 1000:.0f} W" if limit_mw else ""
        yield suspect(
            f"the power limit{told} held the clocks down in {capped:.0%} of the readings: figures "
            "hold at this limit and temperature alone"
        )


def clocks(scene: Scene) -> Iterable[Finding]:
    """Clocks that moved under load."""
    for name, what in (("sm_clock", "GPU"), ("memory_clock", "memory")):
        mhz = _within(scene, scene.blocks, name)
        if mhz and max(mhz) > CLOCK_TOLERANCE * min(mhz):
            yield suspect(
                f"the {what} clock moved between {min(mhz)} and {max(mhz)} MHz under load: lock it "
                "(sudo nvidia-smi -lgc MHz)"
            )


def others(scene: Scene) -> Iterable[Finding]:
    """Other processes on the same GPU: their energy is in the reading."""
    span = Window(scene.trace.stamps_ns[0], scene.trace.stamps_ns[-1])
    held = max(_within(scene, [span], "processes"), default=0) - OWN_PROCESSES
    drawing = max(_within(scene, [span], "displays"), default=0)
    if held > 0:
        yield suspect(f"{held} other process{'es' * (held > 1)} held the GPU during the run")
    if drawing > 0:
        yield suspect(f"{drawing} program{'s' * (drawing > 1)} drew with the GPU during the run")
    for name, window in (("before", scene.idle_before), ("after", scene.idle_after)):
        busy = _within(scene, [window], "gpu_busy")
        if busy and fmean(busy) > IDLE_BUSY_SUSPECT_PERCENT:
            yield suspect(f"the GPU was {fmean(busy):.0f} % busy at idle {name} the load")


def counter_agrees(scene: Scene) -> Iterable[Finding]:
    """The energy counter against the sampled power, integrated: two views of one board."""
    trace = scene.trace
    if scene.power.kind != "counter" or scene.rail != nvml.RAIL or nvml.POWER not in trace.rails:
        return
    try:
        ratio = compare_sources(trace, nvml.RAIL, trace, nvml.POWER, scene.blocks).ratio
    except MeasurementError as error:
        yield suspect(f"the energy counter cannot be held against sampled power: {error.what}")
        return
    if ratio.low > 1 + COUNTER_TOLERANCE or ratio.high < 1 / (1 + COUNTER_TOLERANCE):
        yield suspect(
            f"sampled power integrates to {ratio.value:.3f} of the energy counter "
            f"({ratio.low:.3f} to {ratio.high:.3f}): one of them does not see all of the load"
        )


CHECKS: Sequence[Callable[[Scene], Iterable[Finding]]] = (
    slowed,
    clocks,
    others,
    counter_agrees,
)


def judge(scene: Scene, sensor: SensorErrors | None) -> list[Finding]:
    """Return what is wrong with a run that NVML told of; nothing for other sources."""
    if scene.trace.source != "nvml":
        return []
    found = [finding for check in CHECKS for finding in check(scene)]
    return [*found, *_in_step(scene, sensor)]


def _in_step(scene: Scene, sensor: SensorErrors | None) -> Iterable[Finding]:
    """A load whose rhythm hides from a sensor that looks a part of the time."""
    bound = None if sensor is None else unseen(scene, sensor)
    if bound is None or bound.watts is None:
        return
    fraction = bound.watts / fmean(scene.block_powers_w())
    if fraction > UNSEEN_SUSPECT_FRACTION:
        yield suspect(
            f"the rhythm of inferences may hide up to {fraction:.0%} of their power "
            f"({bound.source}): measure at another rate or batch as well"
        )
