"""Decisions about a growing run, on plain numbers and on evidence written from known powers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.core.errors import ConfigError, MeasurementError
from hil.core.evidence import RunPlan
from hil.core.sequential import NoisePrior
from hil.core.stats import Estimate, block_quantile
from hil.measure.scene import powered_scene
from hil.measure.steady import (
    EVENT_J,
    Steady,
    look_blocks,
    noise_prior,
    sampling_floor_w,
    scene_interval,
    steady_interval,
)
from hil.measure.stopping import Limit, Series, Stopper, StopRule, decide, figure_of

PLAN = RunPlan(idle_s=4.0, settle_s=3.0, window_s=2.5, blocks=4, max_blocks=24, tail_s=0.5)


@pytest.fixture
def growing(script):
    """Return evidence of a run under way after so many blocks, from one long run."""

    def make(blocks, plan=PLAN, over=False, **changes):
        whole = script.but(plan=replace(plan, blocks=plan.max_blocks), **changes).evidence()
        kept = [m for m in whole.marks if m.name != "block" or m.index < blocks]
        if not over:
            kept = [m for m in kept if m.name not in ("tail", "idle_after")]
            last_ns = max(m.stop_ns for m in kept)
            record = whole.power[0]
            lines = tuple(line for line in record.lines if line[0] <= last_ns + 300_000_000)
            whole = replace(whole, power=(replace(record, lines=lines),))
        latency_ns = whole.latency_ns[:blocks]
        return replace(whole, plan=plan, marks=tuple(kept), latency_ns=latency_ns)

    return make


# -- limits and rules ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "interval", "verdict"),
    [
        (Limit("energy_mj", at_most=40.0), (38.0, 39.9), "feasible"),
        (Limit("energy_mj", at_most=40.0), (40.1, 41.0), "infeasible"),
        (Limit("energy_mj", at_most=40.0), (39.0, 41.0), "undecided"),
        (Limit("inferences_per_joule", at_least=30.0), (30.0, 31.0), "feasible"),
        (Limit("inferences_per_joule", at_least=30.0), (28.0, 29.9), "infeasible"),
        (Limit("inferences_per_joule", at_least=30.0), (29.0, 31.0), "undecided"),
    ],
)
def test_a_limit_is_decided_once_the_interval_lies_on_one_side(limit, interval, verdict):
    low, high = interval

    assert limit.verdict(Estimate((low + high) / 2, low, high)) == verdict
    assert limit.verdict(None) == "undecided"


@pytest.mark.parametrize("bounds", [{}, {"at_most": 1.0, "at_least": 2.0}])
def test_a_limit_has_one_bound(bounds):
    with pytest.raises(ConfigError, match="one only"):
        Limit("energy_mj", **bounds)


def test_a_limit_on_an_unknown_figure_is_refused():
    with pytest.raises(ConfigError, match="energy_mj"):
        Limit("joules", at_most=1.0)


@pytest.mark.parametrize("wrong", [{"target_rel": 0.0}, {"target_rel": 2.0}, {"figure": "joules"}])
def test_a_rule_that_means_nothing_is_refused(wrong):
    with pytest.raises(ConfigError):
        StopRule(**wrong)


def test_a_run_of_fixed_length_is_looked_at_once():
    assert look_blocks(RunPlan(blocks=4)) == (4,)
    assert look_blocks(RunPlan(blocks=4, max_blocks=4)) == (4,)
    assert look_blocks(PLAN)[:4] == (4, 5, 6, 7)
    assert look_blocks(PLAN)[-1] == 24


# -- figures -------------------------------------------------------------------------------------


def numbers(seed=1, blocks=20, power_w=4.8, spread_w=0.03):
    power = power_w + np.random.default_rng(seed).normal(0, spread_w, blocks)
    idle = 1.5 + np.random.default_rng(seed + 1).normal(0, 0.05, 12)
    latency = np.random.default_rng(seed + 2).normal(10, 0.05, size=(blocks, 250))
    return Series(
        energy_mj=(10 * power).tolist(),
        power_w=power.tolist(),
        idle_w=idle.tolist(),
        latency_ms=latency.tolist(),
    )


def test_energy_and_power_differ_by_the_time_an_inference_takes():
    series = numbers()
    energy, power = figure_of(series, "energy_mj", 8), figure_of(series, "power_w", 8)

    assert (energy.value, energy.low, energy.high) == pytest.approx(
        (10 * power.value, 10 * power.low, 10 * power.high)
    )


def test_inferences_per_joule_are_the_inverse_of_energy():
    energy, rate = (figure_of(numbers(), n, 8) for n in ("energy_mj", "inferences_per_joule"))

    assert (rate.low, rate.value, rate.high) == pytest.approx(
        (1000 / energy.high, 1000 / energy.value, 1000 / energy.low)
    )


def test_net_energy_takes_idle_off_and_its_error_in():
    series = numbers()
    gross, net = figure_of(series, "energy_mj", 8), figure_of(series, "energy_net_mj", 8)

    # Idle for the ten milliseconds that one inference takes.
    assert net.value == pytest.approx(gross.value - 10 * np.mean(series.idle_w))
    assert net.high - net.low > gross.high - gross.low
    assert figure_of(replace(series, idle_w=()), "energy_net_mj", 8) is None


def test_latency_is_told_by_the_block_quantile():
    series = numbers()

    got = figure_of(series, "latency_p50_ms", 6, confidence=0.99)
    assert got == block_quantile(series.latency_ms[:6], 0.5, confidence=0.99)
    assert got.high - got.low > width(figure_of(series, "latency_p50_ms", 6))


def width(interval):
    return interval.high - interval.low


def test_without_power_there_is_no_energy():
    assert figure_of(Series(latency_ms=[[1.0] * 10] * 4), "energy_mj", 4) is None


def test_a_short_quiet_run_leaves_room_for_a_burst_above_and_none_below():
    got = steady_interval([4.8] * 4, Steady(4.8, 2.5))

    assert got.low == got.value
    # A quarter of an event of a joule in ten seconds: its spread is 0.5 J, moved by Johnson's shift
    # (skewness cut to 1) and out by the normal quantile, 3.41 of them.
    assert got.high - got.value == pytest.approx(EVENT_J / 10 * 0.5 * 3.41, rel=0.01)


def test_a_board_that_draws_much_has_bursts_to_match():
    small, large = (steady_interval([w] * 4, Steady(w, 2.5)) for w in (10.0, 300.0))

    assert (large.high - 300) / 300 == pytest.approx((small.high - 10) / 10)


@given(scale=st.floats(0.1, 1000))
def test_the_unit_of_the_values_does_not_matter(scale):
    values = np.array([4.8, 4.9, 4.7, 4.85, 5.2])
    base = steady_interval(values, Steady(4.9, 2.5))
    got = steady_interval(scale * values, Steady(4.9, 2.5))

    assert (got.low, got.high) == pytest.approx((scale * base.low, scale * base.high))


def test_a_calibration_tells_the_variance_of_a_second_of_window():
    assert noise_prior(None) is None
    prior = NoisePrior(variance=1e-4, df=30.0)
    quiet = [4.8, 4.801, 4.802, 4.799]

    # One per cent in a second is 0.63 % in 2.5 s.
    with_prior = steady_interval(quiet, Steady(4.8, 2.5), prior=prior)
    assert with_prior.low < steady_interval(quiet, Steady(4.8, 2.5)).low


# -- decisions -----------------------------------------------------------------------------------


def test_a_quiet_run_goes_on_until_its_interval_is_as_tight_as_asked(growing):
    rule = StopRule(target_rel=0.015)
    answers = [decide(growing(n), "VDD_IN", rule) for n in range(4, 24)]
    stopped = next(n for n, answer in enumerate(answers, start=4) if not answer.go_on)

    assert 4 < stopped < 24
    assert all(a.go_on and a.outcome == "going" for a in answers[: stopped - 4])
    assert all(a.outcome == "target" and a.blocks == stopped for a in answers[stopped - 4 :])
    assert "1.5 % asked" in answers[-1].why
    scene = powered_scene(growing(stopped), "VDD_IN")
    interval = scene_interval(scene, [1000 * j / 800 for j in scene.block_energies_j()])
    assert width(interval) / 2 <= 0.015 * interval.value


def test_a_tighter_target_takes_longer(growing):
    stops = []
    for target in (0.05, 0.015, 0.01):
        stopper = Stopper("VDD_IN", StopRule(target_rel=target))
        stops.append(next(n for n in range(4, 25) if not stopper.decide(growing(n)).go_on))

    assert stops[0] < stops[1] < stops[2]


@pytest.mark.parametrize(("share", "verdict"), [(1.1, "feasible"), (0.9, "infeasible")])
def test_a_limit_far_from_the_truth_is_decided_early(growing, share, verdict):
    # 5 W over 2.5 s, 800 inferences.
    bound = share * 5.0 * 2.5 / 800 * 1000
    answer = decide(growing(8), "VDD_IN", StopRule(limits=(Limit("energy_mj", at_most=bound),)))

    assert (answer.go_on, answer.outcome) == (False, "decided")
    assert answer.verdicts == {"energy_mj": verdict}
    assert answer.blocks < 8


def test_a_limit_at_the_truth_stays_open_to_the_end(growing):
    rule = StopRule(limits=(Limit("power_w", at_most=5.0),))

    assert decide(growing(20), "VDD_IN", rule).outcome == "going"
    last = decide(growing(24, over=True), "VDD_IN", rule)
    assert (last.go_on, last.outcome) == (False, "undecided")
    assert last.verdicts == {"power_w": "undecided"}


def test_all_limits_must_be_decided(growing):
    far, near = Limit("power_w", at_most=6.0), Limit("inferences_per_joule", at_least=64.0)
    answer = decide(growing(12), "VDD_IN", StopRule(limits=(far, near)))

    assert answer.go_on
    assert answer.verdicts == {"power_w": "feasible", "inferences_per_joule": "undecided"}


def test_asking_again_and_again_gives_the_same_as_asking_once(growing):
    rule = StopRule(target_rel=0.015, limits=(Limit("energy_mj", at_most=15.7),))
    stopper = Stopper("VDD_IN", rule)

    for n in range(4, 16):
        evidence = growing(n)
        assert stopper.decide(evidence) == decide(evidence, "VDD_IN", rule)


def test_latency_limits_need_no_power(growing):
    evidence = replace(growing(6), power=())
    rule = StopRule(limits=(Limit("latency_p99_ms", at_most=12.0),), figure="latency_p50_ms")

    answer = decide(evidence, None, rule)
    assert answer.verdicts == {"latency_p99_ms": "feasible"}
    assert not answer.go_on


def test_a_run_too_short_for_joules_goes_on(growing):
    plan = replace(PLAN, window_s=2.4, max_blocks=20)

    answer = decide(growing(4, plan=plan), "VDD_IN", StopRule(target_rel=0.5))
    assert answer.go_on
    assert answer.why == "no interval yet"


def test_energy_without_a_rail_is_refused(growing):
    with pytest.raises(MeasurementError, match="no rail"):
        decide(growing(6), None, StopRule(target_rel=0.02))


# -- what sampling leaves open -------------------------------------------------------------------


def scene_of(growing, load_w, **changes):
    evidence = growing(8, load_w=load_w, noise_w=0.0, **changes)
    return powered_scene(evidence, "VDD_IN")


def test_readings_between_two_register_steps_leave_their_rounding_open(growing):
    step_w = 0.0766
    still = scene_of(growing, lambda t: step_w * (65 if t < 14.0 else 66))
    shaken = scene_of(growing, lambda t: step_w * (65 + round(3 * np.sin(97.0 * t))))

    # A quarter of the spread of one step, next to nothing once noise moves it over several.
    assert sampling_floor_w(still, 8) == pytest.approx(0.25 * step_w / np.sqrt(12), rel=0.1)
    assert sampling_floor_w(shaken, 8) < 0.01 * sampling_floor_w(still, 8)


def test_instants_that_keep_step_with_the_load_are_not_believed(growing):
    # A load of two levels, 0.1 s long, of which lines each 0.1 s see one phase for seconds.
    def beating(t):
        return 6.0 if (t / 0.1003) % 1 < 0.5 else 4.0

    mode = (("running_mode", {"0-0041": 0}),)
    instants, averages = (scene_of(growing, beating, settings=s) for s in (mode, ()))

    assert sampling_floor_w(instants, 8) > 0.2
    assert sampling_floor_w(averages, 8) < 0.02
    assert width(scene_interval(instants, instants.block_powers_w())) > width(
        scene_interval(averages, averages.block_powers_w())
    )
