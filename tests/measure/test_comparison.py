"""Ratios from rounds: simulated boards with known ratios, and power against counted decisions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from hil.cli.rounds import comparison_json
from hil.core.fallbacks import Fallback
from hil.core.stats import Estimate
from hil.measure.comparison import (
    Scored,
    compared,
    detectable,
    detectable_interval,
    over_builds,
    paired_ratio,
    repeatability,
)
from hil.measure.numbers import measurement


@pytest.fixture
def run(script):
    """A measurement whose energy and latency can be set."""
    good = measurement(script.evidence(), "VDD_IN")

    def made(energy_mj: float, p50_ms: float = 10.0, **changes):
        figures = {
            "energy_mj": Estimate(energy_mj, energy_mj, energy_mj),
            "latency_p50_ms": Estimate(p50_ms, p50_ms, p50_ms),
        }
        return replace(good, **(figures | changes))

    return made


def rounds_of(run, energies, builds=None):
    firsts = ["a", "b"] * len(energies)
    builds = builds or [0] * len(energies)
    return [
        Scored(build, first, 60.0 * index, run(a), run(b))
        for index, ((a, b), first, build) in enumerate(zip(energies, firsts, builds, strict=False))
    ]


def test_the_ratio_is_the_geometric_mean_of_the_rounds_ratios(run):
    done = compared(rounds_of(run, [(10.0, 20.0), (10.0, 5.0), (40.0, 40.0)]))

    assert done.ratios["energy_mj"].ratio.value == pytest.approx(1.0)
    assert done.ratios["energy_mj"].log_ratios == pytest.approx((math.log(2), -math.log(2), 0.0))
    assert done.means["a"]["energy_mj"].value == pytest.approx(20.0)
    assert (done.scope, done.rounds, done.dropped) == ("engine", 3, 0)


def test_what_multiplies_both_runs_of_a_round_cancels(run):
    even = [(10.0, 12.0), (10.1, 12.1), (9.9, 12.0), (10.0, 11.9)]
    warm = [(a * f, b * f) for (a, b), f in zip(even, (1.0, 1.3, 0.7, 2.0), strict=True)]

    one, other = (compared(rounds_of(run, e)).ratios["energy_mj"].ratio for e in (even, warm))

    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


def test_every_fallback_of_any_run_is_told_once(run):
    engine, clock = (
        Fallback(name, "it was so", "it costs that", "do this")
        for name in ("trtexec-engine", "board-clock-off")
    )
    rounds = [
        Scored(0, "a", 0.0, run(10.0, fallbacks=(engine,)), run(9.0)),
        Scored(0, "b", 60.0, run(10.0, fallbacks=(engine,)), run(9.0, fallbacks=(clock, engine))),
        Scored(0, "a", 120.0, run(10.0, validity="invalid"), run(9.0)),
    ]

    done = compared(rounds)

    assert done.fallbacks == (engine, clock)
    assert comparison_json(done)["fallbacks"] == [engine.to_json(), clock.to_json()]
    assert compared(rounds_of(run, [(10.0, 9.0)] * 2)).fallbacks == ()


def simulated(rng, *, rounds, ratio, run_sd, build_sd=0.0, builds=1, drift=0.0):
    """Log ratios, bases, orders and builds of a board with known truth."""
    own = rng.normal(0, build_sd, (2, builds))
    log_ratios, bases, firsts, used = [], [], [], []
    for index in range(rounds):
        build = index // 2 % builds
        first = "ab"[index % 2]
        at = {"a": 2 * index + (first == "b"), "b": 2 * index + (first == "a")}
        a = drift * at["a"] + own[0, build] + rng.normal(0, run_sd)
        b = math.log(ratio) + drift * at["b"] + own[1, build] + rng.normal(0, run_sd)
        log_ratios.append(b - a)
        bases.append(a)
        firsts.append(first)
        used.append(build)
    return log_ratios, bases, firsts, used


@pytest.mark.parametrize(
    ("setting", "covered"),
    [
        ({"rounds": 6, "run_sd": 0.01}, 0.94),
        ({"rounds": 6, "run_sd": 0.01, "drift": 0.02}, 0.94),
        ({"rounds": 16, "run_sd": 0.01}, 0.94),
        ({"rounds": 12, "run_sd": 0.005, "build_sd": 0.02, "builds": 3}, 0.94),
    ],
)
def test_the_interval_holds_the_true_ratio(setting, covered):
    rng = np.random.Generator(np.random.Philox(5))
    held, wrong = 0, 0
    for _ in range(1500):
        got = paired_ratio(*simulated(rng, ratio=0.9, **setting)).ratio
        held += got.low <= 0.9 <= got.high
        wrong += got.value / 0.9 - 1

    assert held / 1500 >= covered
    assert abs(wrong / 1500) < 0.003  # a linear drift leaves no bias


def test_builds_are_the_unit_where_there_are_several():
    rng = np.random.Generator(np.random.Philox(6))
    data = simulated(rng, rounds=12, ratio=1.0, run_sd=1e-6, build_sd=0.02, builds=3)

    by_build = paired_ratio(*data)
    as_if_one = paired_ratio(*data[:3], [0] * 12)

    means = [np.mean(data[0][k : k + 2] + data[0][k + 6 : k + 8]) for k in (0, 2, 4)]
    assert by_build.builds_log_sd == pytest.approx(np.std(means, ddof=1))
    assert as_if_one.builds_log_sd is None
    widths = [math.log(p.ratio.high / p.ratio.low) for p in (by_build, as_if_one)]
    assert widths[0] > 1.5 * widths[1]


def test_the_drift_between_neighbouring_runs_is_told():
    rng = np.random.Generator(np.random.Philox(7))
    data = simulated(rng, rounds=8, ratio=0.5, run_sd=1e-9, drift=0.01)

    assert paired_ratio(*data).drift_per_run == pytest.approx(math.expm1(0.01), rel=1e-5)
    assert paired_ratio([0.1, 0.1], [0, 0], ["a", "a"], [0, 0]).drift_per_run is None


def test_looking_often_widens_the_interval():
    rng = np.random.Generator(np.random.Philox(8))
    data = simulated(rng, rounds=8, ratio=1.0, run_sd=0.01)

    once, often = (paired_ratio(*data, looks=looks).ratio for looks in (None, 3))

    assert often.high - often.low > once.high - once.low


@pytest.mark.parametrize(("builds", "target"), [(1, 0.012), (3, 0.025)])
def test_the_interval_holds_at_the_moment_that_a_comparison_stops_itself(builds, target):
    rng = np.random.Generator(np.random.Philox(11))
    held = stopped = 0
    for _ in range(1500):
        build_sd = 0.01 if builds > 1 else 0.0
        data = simulated(
            rng, rounds=24, ratio=0.9, run_sd=0.01, build_sd=build_sd, builds=builds, drift=0.001
        )
        step = 2 * builds
        for looks, count in enumerate(range(max(4, step), 25, step), 1):
            got = paired_ratio(*(part[:count] for part in data), looks=looks).ratio
            if (got.high - got.low) / 2 / got.value <= target:
                stopped += 1
                break
        held += got.low <= 0.9 <= got.high

    assert held / 1500 >= 0.94
    assert stopped > 150  # else nothing was selected


def test_swapping_the_sides_turns_the_interval_over():
    rng = np.random.Generator(np.random.Philox(12))
    bursts = [0.001, 0.0, 0.02, 0.001, -0.001, 0.0, 0.03, 0.0]
    logs = list(rng.normal(0.1, 0.002, 8) + bursts)
    firsts, builds = list("abababab"), [0] * 8

    one = paired_ratio(logs, [0.0] * 8, firsts, builds).ratio
    other = paired_ratio([-x for x in logs], [0.0] * 8, firsts, builds).ratio

    assert (1 / one.high, 1 / one.low) == pytest.approx((other.low, other.high))


def test_rounds_with_an_invalid_run_are_left_out_and_counted(run):
    good = rounds_of(run, [(10.0, 11.0), (10.0, 11.1), (10.0, 11.0)])
    bad = replace(good[1], b=run(99.0, validity="invalid", reasons=("it was hot",)))

    done = compared([good[0], bad, good[2]])

    assert (done.rounds, done.dropped) == (2, 1)
    assert done.ratios["energy_mj"].ratio.value == pytest.approx(1.1)
    assert "B: it was hot" in done.reasons
    assert compared([bad, bad]).validity == "invalid"


def test_the_worst_of_the_rounds_is_the_comparisons_validity(run):
    rounds = rounds_of(run, [(10.0, 11.0), (10.0, 11.1)])
    told = ("12 C hot",), ("13 C hot",)
    hot = [
        replace(one, a=run(10.0, validity="suspect", reasons=why))
        for one, why in zip(rounds, told, strict=True)
    ]

    done = compared(hot)

    assert done.validity == "suspect"
    assert done.reasons == ("A: 12 C hot (and 1 more runs like it)",)


def test_a_figure_that_a_run_does_not_know_has_no_ratio_but_a_reason(run):
    rounds = rounds_of(run, [(10.0, 11.0), (10.0, 11.1)])
    blind = run(10.0, energy_net_mj=None, unknown={"energy_net_mj": "no idle"})

    done = compared([rounds[0], replace(rounds[1], b=blind)])

    assert done.unknown["energy_net_mj"] == "no idle"
    assert "energy_net_mj" not in done.ratios


def test_repeatability_is_around_the_ratio_that_is_known_to_be_one():
    sd, df = repeatability([0.01, 0.01, 0.01, 0.01])

    assert (sd, df) == (pytest.approx(0.01), 4.0)
    with pytest.raises(ValueError, match="round"):
        repeatability([])


@pytest.mark.parametrize("rounds", [4, 10, 30])
def test_a_difference_of_the_stated_size_is_found_four_times_in_five(rounds):
    rng = np.random.Generator(np.random.Philox(9))
    difference = detectable(0.01, rounds)
    logs = rng.normal(math.log1p(difference), 0.01, (20_000, rounds))
    none = rng.normal(0.0, 0.01, (20_000, rounds))

    assert np.mean(stats.ttest_1samp(logs, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.01)
    assert np.mean(stats.ttest_1samp(none, 0, axis=1).pvalue < 0.05) == pytest.approx(
        0.05, abs=0.006
    )


def test_more_rounds_and_less_noise_resolve_smaller_differences():
    by_rounds = [detectable(0.01, rounds) for rounds in (2, 3, 4, 8, 16, 100)]

    assert by_rounds == sorted(by_rounds, reverse=True)
    assert detectable(0.001, 8) < detectable(0.01, 8)
    assert detectable(0.01, 1) is None


def test_the_interval_of_what_is_detectable_holds_it_19_times_in_20():
    rng = np.random.Generator(np.random.Philox(10))
    truth, held = detectable(0.01, 12), 0
    for _ in range(1000):
        sd, df = repeatability(list(rng.normal(0, 0.01, 10)))
        got = detectable_interval(sd, df, 12)
        held += got.low <= truth <= got.high

    assert held / 1000 == pytest.approx(0.95, abs=0.02)
    assert detectable_interval(0.01, 10, 1) is None


def test_the_spread_of_builds_is_split_into_the_runs_own_error_and_the_rest():
    half = 1.96
    same = [Estimate(v, v - half, v + half) for v in (10.0, 11.0, 9.0)]
    apart = [Estimate(v, v - 0.01, v + 0.01) for v in (10.0, 12.0, 8.0)]

    assert over_builds(same).sd_between == pytest.approx(0.0, abs=1e-4)
    assert over_builds(same).sd_within == pytest.approx(1.0, rel=1e-4)
    assert over_builds(apart).sd_between == pytest.approx(2.0, rel=1e-4)
    assert over_builds(apart).mean.low == pytest.approx(
        stats.t.interval(0.95, 2, 10, 2 / 3**0.5)[0]
    )
    assert over_builds(apart[:1]) is None


def test_a_further_build_lies_in_its_interval_as_often_as_said():
    rng = np.random.default_rng(8)
    hits = 0
    for _ in range(1500):
        *known, further = rng.normal(10, 0.3, 5)
        got = over_builds([Estimate(v, v - 0.01, v + 0.01) for v in known]).one_build
        hits += got.low <= further <= got.high

    assert hits / 1500 == pytest.approx(0.95, abs=0.02)


def test_builds_that_agree_by_chance_are_no_better_known_than_their_runs():
    figures = [Estimate(10.0, 9.0, 12.0), Estimate(10.001, 9.001, 12.001)]

    mean = over_builds(figures).mean

    assert mean.value - mean.low == pytest.approx(1 / math.sqrt(2), rel=1e-3)
    assert mean.high - mean.value == pytest.approx(2 / math.sqrt(2), rel=1e-3)
