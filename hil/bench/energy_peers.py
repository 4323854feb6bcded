"""How others would have measured the same scenario: same board, same noise, same time under load.

None of the peers states an uncertainty or a verdict. Beside each figure stands the interval that
its user would form from the scatter of its samples (mean +- t s / sqrt(n)), so that coverage can be
told; for the rectangle rule, too. Peers run on the board and read the sensor itself: they are not
given lost lines, damaged lines or a foreign clock.

* `polled_without_settling` (the protocol of HW-NAS-Bench's public script, at our length): the load
  starts, the sensor is polled each 0.1 s until it stops, mean of the samples x time / inferences.
* `polled_50_inferences` (the script as it is): 3 s of warm-up, then 50 inferences, polled each
  10 ms.
* `rectangle_0_1s` (Zeus on a Jetson): a process polls each 0.1 s and adds p * dt to a total; the
  window is opened when the load starts and closed when it stops, by reading that total.

Each is judged against the expected reading over its own stretch of load.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from hil.bench.energy_run import Run
from hil.bench.energy_world import Floats, meter_w, registers_mw

POLL_S = 0.1
QUICK_POLL_S = 0.01
SCRIPT_WARMUP_S = 3.0
SCRIPT_INFERENCES = 50
PEERS = ("polled_without_settling", "rectangle_0_1s", "polled_50_inferences")


@dataclass(frozen=True)
class Answer:
    """A figure with its interval, and the truths of the stretch it is about; mJ an inference.

    Attributes:
        truth: expected reading; `realised` is what the stretch really held, as read.
    """

    value: float
    low: float
    high: float
    truth: float
    realised: float
    length_s: float


def answers(run: Run, blocks: int) -> dict[str, Answer]:
    """Return every peer's figure over the time that a run of so many blocks loads the board."""
    start, stop = run.settle, run.blocks[blocks - 1]
    begin_s, end_s = start.start_s, stop.stop_s
    count = stop.past - start.first - blocks
    return {
        "polled_without_settling": _polled(run, begin_s, end_s, count, POLL_S),
        "rectangle_0_1s": _rectangles(run, begin_s, end_s, count),
        "polled_50_inferences": _script(run),
    }


def _polled(run: Run, begin_s: float, end_s: float, count: int, each_s: float) -> Answer:
    at_s = _polls(run, begin_s, end_s, each_s)
    return _answer(run, _readings_w(run, at_s), (begin_s, end_s), count)


def _rectangles(run: Run, begin_s: float, end_s: float, count: int) -> Answer:
    at_s = _polls(run, begin_s - 1.0, end_s, POLL_S)
    joules = np.diff(at_s) * _readings_w(run, at_s)[1:]
    inside = at_s[1:] > begin_s
    # What was added while the window was open, over its length: as a power, with its scatter.
    answer = _answer(run, joules[inside] / np.diff(at_s)[inside], (begin_s, end_s), count)
    value = 1000.0 * float(joules[inside].sum()) / count
    half = answer.high - answer.value
    return replace(answer, value=value, low=value - half, high=value + half)


def _script(run: Run) -> Answer:
    starts_s = run.world.starts_s
    pauses = [past for _, past in run.world.phases[:-1]]
    first = int(np.searchsorted(starts_s, run.settle.start_s + SCRIPT_WARMUP_S))
    first += first in pauses
    past = first + SCRIPT_INFERENCES
    past += sum(first <= pause < past for pause in pauses)
    begin_s, end_s = float(starts_s[first]), float(starts_s[past])
    return _polled(run, begin_s, end_s, SCRIPT_INFERENCES, QUICK_POLL_S)


def _polls(run: Run, begin_s: float, end_s: float, each_s: float) -> Floats:
    """Return moments of a loop that sleeps and reads: the period and a millisecond or so."""
    rng = run.scenario.rng(9)
    count = int((end_s - begin_s) / each_s) + 2
    first_s = begin_s + each_s * rng.random()
    steps_s = each_s + rng.exponential(0.001, count)
    at_s = first_s + np.concatenate(([0.0], np.cumsum(steps_s)))
    return np.asarray(at_s[at_s < end_s])


def _readings_w(run: Run, at_s: Floats) -> Floats:
    power_w = run.world.sensed_w(at_s)
    if run.scenario.printer.host_s is not None:
        return meter_w(run.scenario.sensor, power_w)
    return registers_mw(run.scenario.sensor, power_w) / 1000.0


def _answer(run: Run, watts: Floats, stretch_s: tuple[float, float], count: int) -> Answer:
    begin_s, end_s = stretch_s
    mj_per_w = 1000.0 * (end_s - begin_s) / count
    mean_w = float(watts.mean())
    error_w = float(watts.std(ddof=1)) / np.sqrt(len(watts))
    half_w = float(special.stdtrit(len(watts) - 1, 0.975)) * error_w
    steps_w = run.world.steps_w(begin_s, end_s)
    return Answer(
        value=mj_per_w * mean_w,
        low=mj_per_w * (mean_w - half_w),
        high=mj_per_w * (mean_w + half_w),
        truth=mj_per_w * run.world.as_read_w(run.world.true_w(begin_s, end_s), steps_w),
        realised=mj_per_w * run.world.as_read_w(run.world.realised_w(begin_s, end_s), steps_w),
        length_s=end_s - begin_s,
    )
