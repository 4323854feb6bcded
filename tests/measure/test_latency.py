"""Percentiles, warm-up, builds and the cross-check, each against a closed form or by drawing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.core.stats import Estimate
from hil.measure.latency import (
    PERCENTILES,
    agreement,
    find_warmup,
    percentiles,
    start_up,
)
from hil.measure.numbers import measurement


def test_percentiles_are_values_that_were_seen_with_rising_order():
    rng = np.random.default_rng(1)
    blocks = [rng.lognormal(2, 0.1, 2000) * 1e6 for _ in range(4)]
    seen = np.concatenate(blocks) / 1e6

    figures, unknown, effective = percentiles(blocks)

    assert not unknown
    values = [figures[name].value for name in PERCENTILES]
    assert values == sorted(values)
    assert all(value in seen for value in values)
    for name, q in PERCENTILES.items():
        truth = float(np.exp(2 + 0.1 * {0.5: 0.0, 0.9: 1.2816, 0.95: 1.6449, 0.99: 2.3263}[q]))
        assert figures[name].low <= truth <= figures[name].high
    assert 0 < effective <= seen.size


def test_correlated_inferences_count_for_less():
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 1, (4, 2000))
    slow = np.array([np.convolve(row, np.ones(50) / 50, "same") for row in noise])

    _, _, free = percentiles([10e6 + 1e5 * row for row in noise])
    _, _, bound = percentiles([10e6 + 1e5 * row for row in slow])

    assert bound < free / 10


def test_too_few_say_how_many_it_takes():
    figures, unknown, _ = percentiles([[1e6] * 20 + [2e6]] * 3)

    assert figures["latency_p99_ms"] is None
    assert "63 inferences" in unknown["latency_p99_ms"]


def series(n, extra, decay, seed=0):
    noise = np.random.default_rng(seed).normal(0, 0.05, n)
    return 1e6 * (10 + extra * np.exp(-np.arange(n) / decay) + noise)


def test_a_steady_series_is_steady_from_the_start():
    found = [find_warmup(series(400, 0.0, 1.0, seed)) for seed in range(200)]

    assert np.mean([start == 0 for start in found]) > 0.95


@pytest.mark.parametrize("decay", [3, 10, 30])
def test_a_decay_is_cut_where_it_has_gone_into_the_noise(decay):
    found = find_warmup(series(400, 2.0, decay))

    assert found is not None
    assert found >= decay
    assert 2.0 * np.exp(-found / decay) < 4 * 0.05


def test_a_jump_is_cut_where_it_happens():
    data = np.concatenate([series(60, 0.0, 1.0) * 1.1, series(400, 0.0, 1.0, 1)])

    assert find_warmup(data) == 60


@pytest.mark.parametrize("decay", [300, 1000])
def test_what_is_still_falling_at_the_end_is_not_steady(decay):
    assert find_warmup(series(400, 2.0, decay)) is None


def test_a_short_series_tells_nothing():
    assert find_warmup(series(59, 0.0, 1.0)) is None
    assert find_warmup([]) is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(1.0, 100.0), min_size=60, max_size=200),
    st.sampled_from([0.5, 2.0, 1024.0]),
)
def test_the_unit_does_not_matter_and_the_answer_is_a_multiple_of_five_in_the_first_half(
    data, unit
):
    found = find_warmup(data)

    assert found == find_warmup([unit * value for value in data])
    assert found is None or (found % 5 == 0 and 0 <= found <= len(data) // 2)


def test_the_first_inference_and_loading_stand_apart(script):
    start = {
        "load_ns": 250_000_000,
        "first_ns": 90_000_000,
        "warmup_ns": [11_000_000] * 9,
        "settle_ns": [int(t) for t in series(300, 0.0, 1.0)],
    }
    got = measurement(script.evidence(start=start), "VDD_IN")

    assert got.engine_load_ms == 250.0
    assert got.first_inference_ms == 90.0
    assert got.warmup_inferences == 11  # nine of 11 ms, in batches of five, and the first one
    assert got.latency_p50_ms.value == pytest.approx(10.0, rel=0.01)


def test_what_is_not_told_is_unknown_with_a_reason(script):
    got = start_up(script.evidence())

    assert (got.engine_load_ms, got.first_inference_ms, got.warmup_inferences) == (None,) * 3
    assert set(got.unknown) == {"engine_load_ms", "first_inference_ms", "warmup_inferences"}


@pytest.mark.parametrize(
    ("theirs", "verdict"), [(10.2, "agrees"), (7.0, "differs"), (9.09, "undecided")]
)
def test_the_boards_own_tool_agrees_differs_or_leaves_it_open(theirs, verdict):
    rng = np.random.default_rng(0)
    got = agreement(Estimate(10.0, 9.95, 10.05), rng.normal(theirs, 0.05, 500))

    assert got is not None
    assert got.verdict == verdict
    assert got.ratio.low < got.ratio.value < got.ratio.high
    assert got.ratio.value == pytest.approx(10.0 / theirs, rel=0.01)


def test_a_handful_of_queries_is_no_cross_check():
    assert agreement(Estimate(10.0, 9.99, 10.01), [10.0, 10.1]) is None
    assert agreement(None, [10.0] * 500) is None
