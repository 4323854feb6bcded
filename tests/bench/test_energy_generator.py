"""The benchmark's boards: held against a real log, closed forms and their own long averages."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats

from hil.bench.energy_run import BOOT_S, NS, Run, block_energies_j
from hil.bench.energy_scenario import (
    STRATA,
    Background,
    BurstKind,
    Load,
    Printer,
    Scenario,
    Sensor,
    draw,
)
from hil.bench.energy_world import (
    World,
    bursts,
    expected_w,
    lagged,
    meter_w,
    murmur,
    registers_mw,
)
from hil.core.energy import PowerSample, Window, energy_j
from hil.core.evidence import Evidence, RunPlan
from hil.core.tegrastats import RunningMean, parse
from hil.measure.trace import read_power

DATA = Path(os.environ.get("HIL_DATA", Path(__file__).parents[3] / "shared" / "data"))
LOG = DATA / "tegrastats" / "tx2_1.log"
PLAN = RunPlan(window_s=5.0, blocks=4, max_blocks=8)
QUIET = Background(0.0, 0.27, 0.0, 20.0, ())


@pytest.fixture
def run():
    """One scenario of each stratum under a short plan, made once asked for."""

    def make(stratum: str, seed: int = 0, plan: RunPlan = PLAN) -> Run:
        index = list(STRATA).index(stratum)
        scenario = draw(seed, index)
        return Run(scenario, plan)

    return make


# -- against the log -----------------------------------------------------------------------------


def figures(mw: np.ndarray) -> dict[str, float]:
    """What a steady stretch of a log looks like: spread, memory, share near its middle."""
    centred, middle = mw - mw.mean(), np.median(mw)
    tame = np.minimum(mw, middle + 150)
    tame = tame - tame.mean()
    return {
        "spread_mw": mw.std(),
        "mean_over_median_mw": mw.mean() - middle,
        "memory_1s": centred[1:] @ centred[:-1] / (centred @ centred),
        "memory_1s_without_peaks": tame[1:] @ tame[:-1] / (tame @ tame),
        "memory_5s": centred[5:] @ centred[:-5] / (centred @ centred),
        "within_one_step": float(np.mean(np.abs(mw - middle) <= 39)),
        "over_150_mw": float(np.mean(mw > middle + 150)),
        "over_500_mw": float(np.mean(mw > middle + 500)),
        "spread_of_8_s_means": mw[: mw.size // 8 * 8].reshape(-1, 8).mean(axis=1).std(ddof=1),
        "spread_of_32_s_means": mw[: mw.size // 32 * 32].reshape(-1, 32).mean(axis=1).std(ddof=1),
    }


@pytest.mark.skipif(not LOG.is_file(), reason=f"no recorded log at {LOG}: set HIL_DATA")
def test_the_generator_makes_stretches_like_the_logged_one():
    readings = [one for line in LOG.read_text().splitlines() if (one := parse(line))]
    logged = figures(np.array([one.rails["VDD_IN"].now_mw for one in readings], float)[36:298])
    load = Load(idle_w=1.53, high_w=4.79, low_w=4.79, latency_s=0.05, warming=0.012)
    made = []
    for seed in range(60):
        world = World(Scenario(seed, 0, "log", load), 5.0, (31.0, 262.0), 1.0)
        at_s = 36.0 + np.arange(262)
        made.append(figures(registers_mw(Sensor(), world.sensed_w(at_s)).astype(float)))

    for name, value in logged.items():
        low, high = np.quantile([one[name] for one in made], [0.01, 0.99])
        assert low <= value <= high, name


# -- parts against closed forms ------------------------------------------------------------------


def test_murmur_has_the_spread_and_memory_of_its_two_parts():
    background = Background(0.05, 0.3, 0.02, 5.0)
    made = murmur(background, 400_000, np.random.default_rng(0))

    assert made.std() == pytest.approx(np.hypot(0.05, 0.02), rel=0.03)
    at_1s = np.mean(made[100:] * made[:-100])
    expected = 0.05**2 * np.exp(-1 / 0.3) + 0.02**2 * np.exp(-1 / 5.0)
    assert at_1s == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("regular", [True, False])
def test_bursts_add_their_stated_mean_power(regular):
    kind = BurstKind(5.0, 1.2, 0.3, 0.5, 1.0, regular)
    background = Background(bursts=(kind,))
    parts = [bursts(background, 2000.0, np.random.default_rng(seed)) for seed in range(10)]
    added = [float(np.diff(part.joules(np.array([0.0, 2000.0])))[0]) / 2000 for part in parts]

    assert background.burst_w == pytest.approx(1.2 * 0.75 / 5.0)
    assert np.mean(added) == pytest.approx(background.burst_w, rel=0.03)


def test_the_lag_follows_a_step_as_an_exponential():
    power = np.where(np.arange(1000) < 100, 1.0, 3.0)
    seen = lagged(power, 0.42)

    since_s = 0.01 * (np.arange(1000) - 100)
    expected = np.where(since_s < 0, 1.0, 3.0 - 2.0 * np.exp(-since_s / 0.42))
    assert np.allclose(seen, expected)


def test_a_stopped_load_decays_by_the_lag_and_changes_nothing_before():
    load = Load(idle_w=1.5, high_w=5.0, low_w=5.0)
    world = World(Scenario(0, 0, "s", load, QUIET), 5.0, (3.0, 20.0), 5.0)
    at_s = np.arange(1.0, 25.0, 0.037)
    going, stopped = world.sensed_w(at_s), world.sensed_w(at_s, 15.0)

    before = at_s <= 15.0
    assert np.array_equal(going[before], stopped[before])
    decay = 1.5 + 3.5 * np.exp(-(at_s[~before] - 15.0) / 0.42)
    # One pause of 1.5 ms has left a trace of 0.4 mW or less.
    assert np.allclose(stopped[~before], decay, atol=5e-4)


def test_registers_step_as_the_logged_ones_do():
    # 38.3 mW a step at 19.1 V, cut to whole milliwatts: levels of tx2_1.log's plateau.
    sensor = Sensor(bus_mv=19184.0)
    levels = set(registers_mw(sensor, np.linspace(4.70, 4.95, 5000)).tolist())

    assert {4711, 4749, 4788, 4826, 4864, 4902} <= levels


@pytest.mark.parametrize("spread_w", [0.0, 0.004, 0.02, 0.2])
@pytest.mark.parametrize("shunt_ohm", [0.010, 0.020])
def test_the_expected_reading_is_the_mean_of_many_readings(spread_w, shunt_ohm):
    sensor = Sensor(gain=0.004, offset_ma=1.3, shunt_ohm=shunt_ohm)
    draws = np.random.default_rng(0).standard_normal(200_000)
    for power_w in (1.503, 2.41, 4.8):
        said = expected_w(sensor, np.array([power_w]), spread_w)[0]
        read = registers_mw(sensor, power_w + spread_w * draws).mean() / 1000

        assert said == pytest.approx(read, abs=0.0008 + 4 * spread_w / np.sqrt(draws.size))


def test_the_expected_power_is_the_integral_of_the_levels():
    load = Load(1.0, 6.0, 3.0, duty=0.3, phase_s=0.7, latency_s=0.02, warming=0.05, warming_s=30.0)
    scenario = Scenario(4, 0, "s", load, QUIET)
    world = World(scenario, 2.0, (3.0, 10.0), 1.0)
    offset_s = scenario.rng(3).uniform(0, 0.7)

    def power_w(t_s: float) -> float:
        high = (t_s - 2.0 + offset_s) % 0.7 < 0.3 * 0.7
        return (6.0 if high else 3.0) * (1 + 0.05 * (1 - np.exp(-(t_s - 2.0) / 30.0)))

    grid = np.linspace(6.0, 13.0, 700_001)
    expected = integrate.trapezoid([power_w(t) for t in grid[::10]], grid[::10]) / 7.0
    assert world.true_w(6.0, 13.0) == pytest.approx(expected, rel=2e-4)


# -- whole scenarios -----------------------------------------------------------------------------


@pytest.mark.parametrize("stratum", ["clean", "quantisation", "steps_batches", "host_meter"])
def test_long_averages_of_readings_meet_the_stated_truth(stratum):
    errors = []
    for seed in range(40):
        scenario = draw(seed, list(STRATA).index(stratum))
        world = World(scenario, 5.0, (3.0, *(20.0,) * 4), 1.0)
        start_s, stop_s = world.starts_s[world.phases[1][0]], world.load_stop_s
        at_s = np.arange(start_s, stop_s, 0.0371)
        power_w = world.sensed_w(at_s)
        meter = scenario.printer.host_s is not None
        read = meter_w(scenario.sensor, power_w) if meter else None
        read = registers_mw(scenario.sensor, power_w) / 1000 if read is None else read
        errors.append(read.mean() / world.read_w(start_s, stop_s) - 1)

    assert abs(stats.ttest_1samp(errors, 0.0).statistic) < 3.5
    assert np.std(errors) < 0.02


def test_a_scenario_depends_on_its_seed_and_index_alone(run):
    first, again = run("mixed"), run("mixed")

    assert first.evidence(5, over=True) == again.evidence(5, over=True)
    assert first.evidence(5, over=True) != run("mixed", seed=1).evidence(5, over=True)


def test_strata_take_turns():
    names = list(STRATA)
    assert [draw(3, index).stratum for index in range(2 * len(names))] == names * 2


# -- the run -------------------------------------------------------------------------------------


def test_lines_read_as_tegrastats_and_keep_its_running_mean(run):
    means = RunningMean()
    for _, line in run("drift").evidence(4, over=True).power[0].lines:
        reading = parse(line)
        assert reading is not None
        assert means.add(reading) is None
        parts = sum(rail.now_mw for name, rail in reading.rails.items() if name != "VDD_IN")
        assert parts < reading.rails["VDD_IN"].now_mw


def test_lost_lines_are_missing_from_the_text_and_break_the_running_mean(run):
    whole = replace(draw(0, 0), printer=Printer())
    lossy = replace(whole, printer=replace(whole.printer, lost=0.05, cut=2))
    lines = Run(whole, PLAN).evidence(4, over=True).power[0].lines
    left = Run(lossy, PLAN).evidence(4, over=True).power[0].lines

    assert 0.90 * len(lines) < len(left) < 0.99 * len(lines)
    assert 1 <= sum(parse(line) is None for _, line in left) <= 2
    means = RunningMean()
    faults = [means.add(one) for _, line in left if (one := parse(line))]
    assert any(fault and fault.kind == "lost" for fault in faults)


def test_the_period_is_the_interval_and_work(run):
    made = run("clean")
    stamps = np.array([t_ns for t_ns, _ in made.evidence(4, over=True).power[0].lines])
    printer = made.scenario.printer

    mean_s = np.diff(stamps).mean() / NS
    assert mean_s == pytest.approx(printer.interval_s + printer.work_s, rel=0.02)


def test_windows_hold_whole_inferences_and_follow_each_other(run):
    evidence = run("bursts").evidence(6, over=True)
    blocks = evidence.named("block")

    assert [mark.index for mark in blocks] == list(range(6))
    for mark, latencies in zip(blocks, evidence.latency_ns, strict=True):
        assert len(latencies) == mark.inferences
        assert sum(latencies) == mark.stop_ns - mark.start_ns >= 5.0 * NS
    load = [mark for mark in evidence.marks if mark.name in ("settle", "block", "tail")]
    gaps = [b.start_ns - a.stop_ns for a, b in pairwise(load)]
    assert all(0 < gap < 3_000_000 for gap in gaps)
    assert Evidence.from_json(evidence.to_json()) == evidence


def test_what_a_look_sees_is_what_the_end_still_holds(run):
    made = run("lag_1s")
    early, late = made.evidence(4, over=False), made.evidence(6, over=True)

    assert late.power[0].lines[: len(early.power[0].lines)] == early.power[0].lines
    assert late.latency_ns[:4] == early.latency_ns
    assert early.power[0].lines[-1][0] > early.named("block")[-1].stop_ns


@pytest.mark.parametrize("stratum", ["steps_inference", "lost_lines", "triggered", "lag_0.14s"])
def test_arrays_and_text_give_the_same_energies(run, stratum):
    made = run(stratum)
    evidence = made.evidence(5, over=True)
    seen: dict[int, PowerSample] = {}
    for t_ns, line in evidence.power[0].lines:
        if reading := parse(line):
            seen[t_ns] = PowerSample(t_ns, reading.rails["VDD_IN"].now_mw / 1000)
    marks = evidence.named("block")
    from_text = [
        energy_j(tuple(seen.values()), Window(mark.start_ns, mark.stop_ns)) for mark in marks
    ]
    stamps, watts = made.samples(made.tail(5).stop_s)
    from_arrays = block_energies_j(stamps, watts, [(m.start_ns, m.stop_ns) for m in marks])

    assert np.allclose(from_text, from_arrays, rtol=1e-12)


def test_a_host_meter_stamps_by_a_clock_that_the_board_does_not_know(run):
    evidence = run("host_meter").evidence(4, over=True)
    record = evidence.power[0]

    assert (record.source, record.clock) == ("command", "host")
    assert all(len(line.split()) == 2 for _, line in record.lines)
    for before, board, after in record.settings["sync"]:
        offset = run("host_meter").scenario.printer.host_s + 5000.0
        assert before <= board + round(offset * NS) <= after
    assert evidence.marks[0].start_ns >= BOOT_S * NS


@pytest.mark.parametrize("stratum", ["lost_lines", "triggered", "quantisation", "host_meter"])
def test_brief_lines_hold_the_readings_and_stamps_of_the_long_ones(run, stratum):
    made = run(stratum)
    rail = "meter" if stratum == "host_meter" else "VDD_IN"
    brief, long = (
        read_power(made.evidence(5, over=False, brief=brief).power[0]) for brief in (True, False)
    )

    assert brief.rails[rail] == long.rails[rail]
    assert brief.stamps_ns == long.stamps_ns
    assert brief.unread == long.unread
