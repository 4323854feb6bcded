"""The mean over blocks of one steady load, with an interval that knows what boards are like.

`hil.core.sequential.block_interval` is told three things here that hold for the power of a small
computer: bursts of background work of about a joule, seldom enough that a run may hold none; a
sensor whose lag, and a background whose own memory, reach over from one block into the next; and
a load that warms the board, which is no error of the mean over that very stretch.

Rule of this file: pure; every figure that is assumed is a named constant with its source.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hil.core.evidence import RunPlan
from hil.core.sequential import NoisePrior, block_interval, look_schedule
from hil.core.stats import CONFIDENCE, Estimate, autocorrelation_time
from hil.measure.plan import SENSOR_TAU_S

if TYPE_CHECKING:
    from hil.measure.calibration import Calibration
    from hil.measure.scene import Scene

# assumes: bursts
EVENT_J = 1.0
"""Energy of one large burst of background work: the peaks of a TX2's log, 1.4 W for 0.7 s."""
EVENT_S = 0.1
"""The same for boards that draw more than a Jetson: so many seconds of the load's own power."""
EVENT_CORRELATION_S = 0.3
"""How long bursts and murmur remember themselves, beside the sensor."""
MOST_MEMORY = 0.45
ROUNDING_LEFT = 0.25
"""Of the rounding's spread: over a run a level wanders through part of a step, not all of it."""
LARGEST_STEP = 0.05
"""Of the power: levels of a load that lie further apart are no register steps."""
IN_STEP = 2.0
"""Samples' worth of correlation from which instants are taken to keep step with the load."""
ALIASED = 0.1
"""Of the spread of instants at even distances: how far their mean may be off by meeting a rhythm
of the load always alike. A load without rhythm has little spread, and pays little."""
FEWEST_SAMPLES = 10


@dataclass(frozen=True)
class Steady:
    """A stretch of steady load, or of idle, as far as its interval depends on it.

    Attributes:
        power_w: mean power.
        window_s: length of a block.
        tau_s: time constant of the sensor.
        floor_w: standard error of the mean power that does not show between blocks.
    """

    power_w: float
    window_s: float
    tau_s: float = SENSOR_TAU_S
    floor_w: float = 0.0


def steady_interval(
    values: Sequence[float],
    stretch: Steady,
    *,
    looks: int = 1,
    first_look: int | None = None,
    prior: NoisePrior | None = None,
    confidence: float = CONFIDENCE,
    each_side: bool = False,
) -> Estimate:
    """Return the mean over adjacent blocks of one stretch, as `block_interval` does.

    What bursts that have not been seen may add, and what sensor and background leave of
    correlation between blocks, is put in for the caller.

    Args:
        values: one for each block, in any unit that is proportional to the block's energy.
        stretch: where they are from.
        looks: how often the run has been looked at, as in `block_interval`.
        first_look: blocks at the first of these.
        prior: `noise_prior` of a calibration.
        confidence: two-sided.
        each_side: whether each end is used as a bound by itself, as in `block_interval`.
    """
    mean, power_w, window_s = float(np.mean(values)), stretch.power_w, stretch.window_s
    known = prior or NoisePrior()
    # Of the mean, in its own unit, for each watt.
    unit = abs(mean) / power_w if power_w > 0 else 0.0
    return block_interval(
        values,
        looks=looks,
        first_look=first_look,
        prior=NoisePrior(
            event=unit * max(EVENT_J, EVENT_S * power_w) / window_s,
            events=known.events,
            variance=None if known.variance is None else known.variance * mean**2 / window_s,
            df=known.df,
            floor=unit * stretch.floor_w,
        ),
        confidence=confidence,
        memory=min(MOST_MEMORY, (stretch.tau_s + EVENT_CORRELATION_S) / 2 / window_s),
        trend=True,
        each_side=each_side,
    )


def look_blocks(plan: RunPlan) -> tuple[int, ...]:
    """Return after how many blocks a run of that plan is looked at; once if its length is fixed."""
    if plan.max_blocks is None or plan.max_blocks <= plan.blocks:
        return (plan.blocks,)
    return look_schedule(plan.blocks, plan.max_blocks)


def scene_interval(
    scene: Scene,
    values: Sequence[float],
    prior: NoisePrior | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Return the mean of values of a scene's blocks with the interval that its plan calls for."""
    plan = scene.evidence.plan
    stretch = Steady(
        float(np.mean(scene.block_powers_w())),
        float(np.mean([window.duration_s for window in scene.blocks])),
        scene.tau_s,
        sampling_floor_w(scene, len(scene.blocks)),
    )
    return steady_interval(
        values,
        stretch,
        looks=max(1, sum(look <= len(values) for look in look_blocks(plan))),
        first_look=plan.blocks,
        prior=prior,
        confidence=confidence,
    )


def sampling_floor_w(scene: Scene, blocks: int) -> float:
    """Return what sampling leaves open of mean power and blocks do not show: a standard error.

    Register steps: readings that hardly move do not average the rounding out. What Gaussian noise
    of spread s leaves of it fades as exp(-2 pi^2 (s / step)^2) (Widrow and Kollar 2008, chapter 9).
    Instants: where they keep step with the load, neighbours resemble each other for long, and the
    samples themselves tell so sooner than the blocks.
    """
    start_ns, stop_ns = scene.blocks[0].start_ns, scene.blocks[blocks - 1].stop_ns
    read_w = np.array([s.power_w for s in scene.samples if start_ns <= s.t_ns <= stop_ns])
    if scene.power.kind != "power" or read_w.size < FEWEST_SAMPLES:
        return 0.0
    gaps_w = np.diff(np.unique(read_w))
    # Products of volts and amperes are cut to whole milliwatts: smaller gaps are no steps.
    step_w = min(float(gaps_w[gaps_w > 0.0015].min(initial=math.inf)), LARGEST_STEP * read_w.mean())
    step_w = step_w if gaps_w.size else 0.0
    fast_w = float(np.diff(read_w).std()) / math.sqrt(2)
    floor_w = 0.0
    if step_w > 0:
        faded = math.exp(-2 * (math.pi * fast_w / step_w) ** 2)
        floor_w = ROUNDING_LEFT * step_w / math.sqrt(12) * faded
    if scene.instant:
        rest_w = read_w - read_w.mean()
        variance = float(rest_w.var())
        time = autocorrelation_time([rest_w], variance) if variance > 0 else 1.0
        if time > IN_STEP:
            floor_w = math.hypot(floor_w, math.sqrt(variance * time / read_w.size))
        if not scene.trace.settings.get("jittered"):
            floor_w = math.hypot(floor_w, ALIASED * math.sqrt(variance))
    return floor_w


def idle_interval(pieces_w: Sequence[float], piece_s: float, tau_s: float) -> Estimate:
    """Return mean idle power over pieces of `piece_s` seconds, with its interval.

    Raises:
        ValueError: fewer than two pieces.
    """
    return steady_interval(pieces_w, Steady(float(np.mean(pieces_w)), piece_s, tau_s))


def noise_prior(calibration: Calibration | None) -> NoisePrior | None:
    """Return what a calibration tells of the noise: relative variance over one second of window."""
    if calibration is None or calibration.block_df <= 0:
        return None
    variance = calibration.block_variance_rel * calibration.block_window_s
    return NoisePrior(variance=variance, df=calibration.block_df)
