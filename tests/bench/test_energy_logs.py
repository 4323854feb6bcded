"""Halves of real logs against each other, and of made ones that should and should not agree."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from hil.bench.energy_logs import agree, check_logs, halves, neighbours
from hil.core.stats import Estimate

DATA = Path(os.environ.get("HIL_DATA", Path(__file__).parents[3] / "shared" / "data"))
LOGS = DATA / "tegrastats"


@pytest.mark.skipif(not LOGS.is_dir(), reason=f"no recorded logs at {LOGS}: set HIL_DATA")
def test_halves_of_steady_stretches_of_real_logs_agree():
    found = check_logs(LOGS)

    assert found["steady_halves"] == 11
    # Eleven intervals of 95 %: two misses or more would come once in ten times, three once in 65.
    assert found["steady_halves_agree"] >= 9 / 11
    assert found["steady_neighbours_agree"] >= 0.85


@pytest.mark.skipif(not LOGS.is_dir(), reason=f"no recorded logs at {LOGS}: set HIL_DATA")
def test_halves_of_a_log_in_which_work_starts_and_stops_do_not_agree():
    whole = [row for row in check_logs(LOGS)["stretches"] if not row["steady"]]

    assert not all(row["halves_agree"] for row in whole)


def test_halves_of_independent_noise_agree_nineteen_times_in_twenty():
    rng = np.random.default_rng(0)
    pairs = [
        ok
        for _ in range(20)
        for ok in neighbours((5000 + 100 * rng.standard_normal(1200)).tolist(), 10, 60)
    ]

    assert len(pairs) == 380
    assert 0.91 <= np.mean(pairs) <= 0.99


def test_halves_that_differ_by_five_standard_errors_do_not_agree():
    rng = np.random.default_rng(1)
    values = 5000 + 100 * rng.standard_normal(400)
    values[200:] += 5 * 100 * np.sqrt(2 / 200)

    assert not agree(*halves(values.tolist(), 10))


def test_agreement_adds_half_widths_in_squares():
    left = Estimate(10.0, 7.0, 13.0)

    assert agree(left, Estimate(15.0, 11.0, 19.0))
    assert not agree(left, Estimate(15.1, 11.1, 19.1))


def test_missing_logs_are_named(tmp_path):
    assert "tx2_1.log" in check_logs(tmp_path)["reason"]
