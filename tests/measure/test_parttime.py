"""A GPU's sensor that looks a quarter of the time, every 100 ms: the truth stays in the interval.

The truth is simulated: a square load with a rhythm, of which the sensor means 25 ms of each 100 ms;
its counter adds those means up, as far as anybody has published, and NVML is read every 100 ms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.core.evidence import Evidence, Mark, PowerRecord, RunPlan
from hil.measure.numbers import measurement
from hil.measure.parttime import coverage, deviation
from hil.measure.sensors import SensorErrors, sensor_of

PLAN = RunPlan(idle_s=4.0, settle_s=3.0, window_s=8.0, blocks=4, tail_s=0.5, interval_ms=100)
UPDATE_S, SEEN_S = 0.1, 0.025
# An exact meter but for what it does not see.
EXACT = SensorErrors(
    offset_ma=0.0, gain=1e-6, shunt=0.0, bus_mv=12_000.0, seen_part=0.25, update_ms=100.0
)
BLIND = replace(EXACT, seen_part=1.0)


@dataclass(frozen=True)
class Load:
    """Inferences of one length, at `high_w` for the first `duty` of each and `low_w` after it."""

    latency_s: float
    duty: float
    high_w: float = 450.0
    low_w: float = 110.0
    idle_w: float = 70.0
    jitter: float = 0.0
    phase_s: float = 0.0
    told: tuple[tuple[str, object], ...] = (("power_limit_mw", 700_000),)

    def evidence(self, *, counter: bool = False, also: str = "") -> tuple[Evidence, float]:
        """The run as it comes home, and the true energy of an inference in mJ."""
        rng = np.random.default_rng(7)
        start = 2.5 + PLAN.idle_s
        work = PLAN.settle_s + PLAN.blocks * PLAN.window_s + PLAN.tail_s
        count = int(work / self.latency_s) + 1
        lengths = self.latency_s * (1 + self.jitter * rng.standard_normal(count))
        starts = start + np.concatenate(([0.0], np.cumsum(lengths)))
        stop = starts[-1]
        # Power is constant between these moments.
        turns = starts[:-1] + self.duty * lengths
        edges = np.sort(np.concatenate(([0.0], starts, turns, [stop + 10.0])))
        inside = (edges[:-1] >= start) & (edges[:-1] < stop)
        place = np.searchsorted(starts, edges[:-1], side="right") - 1
        busy = edges[:-1] < turns[np.clip(place, 0, count - 1)]
        power = np.where(inside, np.where(busy, self.high_w, self.low_w), self.idle_w)
        energy = np.concatenate(([0.0], np.cumsum(power * np.diff(edges))))

        def joules(t):
            return np.interp(t, edges, energy)

        updates = np.arange(UPDATE_S, edges[-1] - UPDATE_S, UPDATE_S) + self.phase_s
        seen_w = (joules(updates) - joules(updates - SEEN_S)) / SEEN_S
        counted_j = np.cumsum(seen_w * UPDATE_S)
        lines = []
        for t in np.arange(0.25, updates[-1], UPDATE_S):
            last = np.searchsorted(updates, t, side="right") - 1
            text = f"gpu_power={round(1000 * seen_w[last])}mW{also}"
            if counter:
                text = f"gpu_energy={round(1000 * counted_j[last])}mJ {text}"
            lines.append((round(t * 1e9), text))
        at, marks, latencies, truths = start + PLAN.settle_s, [], [], []
        marks.append(_mark("idle_before", 0, 2.5, start))
        marks.append(_mark("settle", 0, start, at))
        for index in range(PLAN.blocks):
            first = np.searchsorted(starts, at)
            last = np.searchsorted(starts, at + PLAN.window_s)
            marks.append(_mark("block", index, starts[first], starts[last], int(last - first)))
            latencies.append(tuple(np.round(lengths[first:last] * 1e9).astype(int).tolist()))
            truths.append((joules(starts[last]) - joules(starts[first])) / (last - first))
            at = starts[last]
        marks.append(_mark("tail", 0, at, stop))
        marks.append(_mark("idle_after", 0, stop + 2.5, stop + 2.5 + PLAN.idle_s))
        record = PowerRecord("nvml", tuple(lines), settings=dict(self.told))
        made = Evidence(
            board={"model": None},
            engine={"engine_sha256": "0" * 64},
            plan=PLAN,
            power=(record,),
            marks=tuple(marks),
            latency_ns=tuple(latencies),
            states=(),
            provenance="replayed",
        )
        return made, 1000 * float(np.mean(truths))


def _mark(name, index, start_s, stop_s, inferences=None):
    return Mark(name, index, round(start_s * 1e9), round(stop_s * 1e9), inferences)


def scored(load, sensor=EXACT, **how):
    evidence, truth_mj = load.evidence(**how)
    return measurement(evidence, "gpu", sensor=sensor), truth_mj


def holds(interval, truth):
    return interval.low <= truth <= interval.high


# Lengths far below a look, of about one, in step with the sensor, and close to that.
LATENCIES_MS = (0.7, 3.3, 10.0, 12.5, 24.0, 37.0, 50.0, 99.0, 100.0, 133.0, 200.0)


@pytest.mark.parametrize("counter", [False, True])
def test_the_truth_of_a_square_load_is_in_the_stated_interval(counter):
    missed, without = [], []
    for number, latency_ms in enumerate(LATENCIES_MS):
        load = Load(latency_ms / 1000, (0.3, 0.6)[number % 2], phase_s=0.013 * (number % 7))
        got, truth = scored(load, counter=counter)
        assert got.energy_mj_u95_total is not None
        if not holds(got.energy_mj_u95_total, truth):
            missed.append((latency_ms, got.energy_mj_u95_total, truth))
        blind = scored(load, BLIND, counter=counter)[0]
        if not holds(blind.energy_mj_u95_total, truth):
            without.append(latency_ms)

    assert missed == []
    # A sensor taken to see everything would have stated a wrong interval for some of them.
    assert 100.0 in without


@pytest.mark.parametrize("phase_s", [0.0, 0.02, 0.04, 0.06, 0.08])
def test_a_load_in_step_with_the_sensor_is_covered_wherever_it_looks_and_called_suspect(phase_s):
    got, truth = scored(Load(0.1, 0.3, phase_s=phase_s))

    assert holds(got.energy_mj_u95_total, truth)
    assert any("may hide up to" in reason for reason in got.reasons)


def test_short_inferences_are_seen_whole_and_the_interval_stays_narrow():
    got, truth = scored(Load(0.0007, 0.3, jitter=0.01))

    assert holds(got.energy_mj_u95_total, truth)
    width = got.energy_mj_u95_total.high - got.energy_mj_u95_total.low
    assert width < 0.01 * truth
    assert not any("may hide" in reason for reason in got.reasons)


def test_jitter_spreads_the_looks_and_the_bound_shrinks():
    def unseen(jitter):
        got = scored(Load(0.1, 0.3, jitter=jitter))[0]
        return next(
            t.half_width
            for t in got.error_budget
            if (t.name, t.figure) == ("unseen time", "energy_mj")
        )

    assert unseen(0.1) < 0.6 * unseen(0.0)


def test_without_a_power_limit_nothing_bounds_it_and_the_total_is_unknown():
    got, _ = scored(replace(Load(0.01, 0.3), told=()))

    assert got.energy_mj_u95_total is None
    assert "does not tell the power" in got.unknown["energy_mj_u95_total"]
    assert "does not tell the power" in got.unknown["energy_net_mj_u95_total"]
    assert got.energy_mj is not None


def test_a_sensor_that_sees_everything_has_no_such_term():
    assert "unseen time" not in {t.name for t in scored(Load(0.01, 0.3), BLIND)[0].error_budget}


def test_nvml_is_taken_to_see_a_quarter_until_the_device_file_says_otherwise():
    assert sensor_of("nvidia-gpu", source="nvml").seen_part == 0.25
    told = sensor_of("nvidia-gpu", {"seen_part": 1.0, "update_ms": 20.0}, source="nvml")
    assert (told.seen_part, told.update_ms) == (1.0, 20.0)
    assert sensor_of("jetson-tx2").seen_part is None


# -- the two views of one board --------------------------------------------------------------------


def test_the_counter_and_sampled_power_stand_beside_each_other():
    got, _ = scored(Load(0.0033, 0.3), counter=True)

    (other,) = got.others
    assert (other.source, other.rail) == ("nvml", "gpu_power")
    assert holds(other.ratio, 1.0)
    assert other.ratio.value == pytest.approx(1.0, rel=2e-3)


def test_a_counter_that_sampled_power_contradicts_is_suspect():
    evidence, _ = Load(0.0033, 0.3).evidence(counter=True)
    lines = []
    for t_ns, line in evidence.power[0].lines:
        energy, power = line.split()
        mj = int(energy.removeprefix("gpu_energy=").removesuffix("mJ"))
        lines.append((t_ns, f"gpu_energy={round(0.8 * mj)}mJ {power}"))
    broken = replace(evidence, power=(replace(evidence.power[0], lines=tuple(lines)),))

    got = measurement(broken, "gpu", sensor=EXACT)

    assert got.validity == "suspect"
    assert any("integrates to 1.250 of the energy counter" in reason for reason in got.reasons)
    assert got.others[0].ratio.value == pytest.approx(1.25, rel=5e-3)


# -- what judges a run -----------------------------------------------------------------------------

GOOD = " sm_clock=1980MHz memory_clock=2619MHz gpu_temp=41C throttle=0bits gpu_busy=0%"
GOOD += " processes=1held displays=0held"


def reasons(**change):
    line = GOOD
    for name, value in change.items():
        before = next(word for word in GOOD.split() if word.startswith(name + "="))
        line = line.replace(before, f"{name}={value}")
    got = scored(Load(0.0033, 0.3), counter=True, also=line)[0]
    return got.validity, [r for r in got.reasons if "pinned" not in r]


def test_a_quiet_gpu_is_valid():
    assert reasons() == ("valid", [])


@pytest.mark.parametrize(
    ("change", "validity", "words"),
    [
        ({"throttle": "64bits"}, "invalid", "hardware thermal slowdown"),
        ({"throttle": "40bits"}, "invalid", "hardware slowdown, software thermal slowdown"),
        ({"throttle": "4bits"}, "suspect", "the power limit of 700 W held the clocks down"),
        ({"processes": "3held"}, "suspect", "2 other processes held the GPU"),
        ({"displays": "1held"}, "suspect", "1 program drew with the GPU"),
        ({"gpu_busy": "37%"}, "suspect", "37 % busy at idle before"),
    ],
)
def test_what_else_happened_on_the_gpu_is_judged(change, validity, words):
    got, told = reasons(**change)

    assert got == validity
    assert any(words in reason for reason in told), told


def test_a_clock_that_moves_under_load_is_suspect():
    evidence, _ = Load(0.0033, 0.3).evidence(also=GOOD)
    lines = [
        (t, line.replace("1980", "1755") if i % 40 == 0 else line)
        for i, (t, line) in enumerate(evidence.power[0].lines)
    ]
    moved = replace(evidence, power=(replace(evidence.power[0], lines=tuple(lines)),))

    told = measurement(moved, "gpu", sensor=EXACT).reasons

    assert any("GPU clock moved between 1755 and 1980 MHz" in reason for reason in told)


def test_a_driver_that_tells_no_state_is_judged_by_nothing():
    assert scored(Load(0.0033, 0.3))[0].reasons == ()


# -- the bound itself ------------------------------------------------------------------------------


def test_looks_in_step_see_one_quarter_and_the_rest_may_be_anything():
    lengths, density = coverage(np.arange(50.0), np.arange(50.0) + 0.25)

    assert lengths == pytest.approx([0.25, 0.75])
    assert density == pytest.approx([4.0, 0.0])
    # A reading that says idle may hide three quarters; one that says busy may be a quarter.
    assert deviation(lengths, density, 0.0) == pytest.approx(0.75)
    assert deviation(lengths, density, 1.0) == pytest.approx(0.75)


def test_looks_of_whole_inferences_leave_nothing_open():
    lengths, density = coverage(np.arange(10.0) + 0.3, np.arange(10.0) + 3.3)

    assert lengths @ np.abs(density - 1.0) == pytest.approx(0.0, abs=1e-12)
    assert deviation(lengths, density, 0.4) == pytest.approx(0.0, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    looks=st.lists(
        st.tuples(st.floats(0, 40), st.floats(0.01, 3)), min_size=1, max_size=12, unique=True
    ),
    seed=st.integers(0, 2**16),
    steps=st.integers(2, 12),
)
def test_no_pattern_of_an_inference_is_beyond_the_bound(looks, seed, steps):
    first = np.array([a for a, _ in looks])
    last = np.array([a + b for a, b in looks])
    lengths, density = coverage(first, last)
    assert lengths.sum() == pytest.approx(1.0)
    assert lengths @ density == pytest.approx(1.0)

    # Any pattern of busy and idle over an inference: what it is, and what the looks saw of it.
    busy = np.random.default_rng(seed).random(steps)
    cells = np.linspace(0, 1, steps + 1)

    def until(turns):
        whole, part = np.divmod(turns, 1.0)
        filled = np.concatenate(([0.0], np.cumsum(busy / steps)))
        return whole * busy.mean() + np.interp(part, cells, filled)

    seen = float((until(last) - until(first)).sum() / (last - first).sum())
    assert abs(busy.mean() - seen) <= deviation(lengths, density, seen) + 1e-9
