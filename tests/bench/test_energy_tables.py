"""The benchmark's arithmetic on records written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hil.bench.energy_record import Fixed, Record
from hil.bench.energy_tables import ENOUGH, by_stratum, coverage, error, fixed_lengths, summary

OURS = {
    "wrong": 0.0,
    "undecided": 0.0,
    "mean_window_s": 15.0,
    "mean_load_s": 18.0,
    "mean_board_s": 30.0,
}
PEER = (99.0, 98.0, 100.5, 100.0, 99.5, 23.0)
GOOD = Record(
    index=0,
    stratum="a",
    strata=("a", "rule target_1%"),
    blocks=5,
    looks=2,
    window_s=25.0,
    load_s=28.0,
    board_s=40.0,
    truth=100.0,
    realised=100.2,
    absolute=101.0,
    truth_net=60.0,
    outcome="target",
    validity="valid",
    interval=(100.5, 99.5, 101.5),
    u95=(100.5, 98.0, 103.0),
    net=(60.0, 59.0, 61.0),
    peers=dict.fromkeys(
        ("polled_without_settling", "rectangle_0_1s", "polled_50_inferences"), PEER
    ),
)


def limited(margin: float, right: str, verdict: str | None, **changes) -> Record:
    fixed = tuple(Fixed(n, 100.0 + (1.0 if n < 5 else 0.0), 12.0 / n, 100.0) for n in range(3, 9))
    one = replace(
        GOOD,
        limit=103.0,
        margin=margin,
        right=right,
        verdict=verdict,
        fixed=fixed,
        outcome="decided",
    )
    return replace(one, **changes)


def test_coverage_counts_what_is_not_invalid_or_refused():
    missed = replace(GOOD, interval=(103.0, 102.0, 104.0))
    invalid = replace(missed, validity="invalid", reasons=("9 lines lost", "7 lines lost"))
    refused = replace(GOOD, interval=None, u95=None, net=None, refusal="too short", validity="")
    found = summary([GOOD, GOOD, GOOD, missed, invalid, refused], 5.0)

    assert found["coverage"] == pytest.approx(3 / 4)
    assert found["coverage_all"] == pytest.approx(3 / 5)
    assert found["valid_fraction"] == pytest.approx(4 / 6)
    assert found["refused_fraction"] == pytest.approx(1 / 6)
    assert found["u95_coverage"] == 1.0
    assert found["bias_fraction"] == pytest.approx((3 * 0.005 + 0.03) / 4)
    assert found["reasons"] == {"# lines lost": 1, "too short": 1}


def test_u95_is_judged_against_the_absolute_truth_alone():
    off = replace(GOOD, u95=(100.5, 100.4, 100.9))

    assert summary([off], 5.0)["u95_coverage"] == 0.0
    assert summary([off], 5.0)["coverage"] == 1.0


def test_the_worst_stratum_needs_enough_results():
    missed = replace(GOOD, interval=(103.0, 102.0, 104.0), strata=("few",), stratum="few")
    many = [GOOD] * (ENOUGH - 1) + [replace(GOOD, interval=(103.0, 102.0, 104.0))]
    found = summary([*many, missed], 5.0)["coverage_worst_stratum"]

    assert found["stratum"] == "a"
    assert found["value"] == pytest.approx((ENOUGH - 1) / ENOUGH)
    assert by_stratum([missed])["few"]["coverage"] == 0.0


def test_a_wrong_and_an_undecided_limit_are_told_apart_and_near_ones_left_out():
    records = [
        *[limited(0.10, "feasible", "feasible")] * 7,
        limited(0.10, "feasible", "infeasible"),
        limited(0.10, "feasible", "undecided"),
        limited(0.10, "feasible", "infeasible", validity="invalid"),
        limited(0.01, "feasible", "infeasible"),
    ]
    found = summary(records, 5.0)

    assert found["decisions"]["limits"] == 10
    assert found["wrong_decisions"] == pytest.approx(0.1)
    assert found["undecided"] == pytest.approx(0.2)
    assert found["near_limit"]["wrong"] == 1.0


def test_the_fixed_length_is_the_shortest_that_errs_as_rarely():
    records = [limited(0.03, "feasible", "feasible")] * 4
    found = fixed_lengths(records, 5.0, OURS)

    # 100 + 12 / n stays under 103 from five blocks on (101 + 3 at four is over).
    # Settling takes 3 s, everything beside the windows 15.
    assert found["blocks"] == 5
    assert found["reached"]
    assert found["decision_window_ratio"] == pytest.approx(15.0 / 25.0)
    assert found["decision_time_ratio"] == pytest.approx(18.0 / 28.0)
    assert found["decision_board_ratio"] == pytest.approx(30.0 / 40.0)
    assert found["by_value_alone"]["blocks"] == 3


def test_a_fixed_length_that_never_errs_as_rarely_is_said_to_be_unreached():
    hopeless = limited(0.03, "feasible", "feasible", limit=100.5)
    found = fixed_lengths([hopeless], 5.0, OURS)

    assert (found["reached"], found["blocks"]) == (False, 8)


def test_errors_of_peers_are_set_against_ours_on_both_truths():
    found = summary([GOOD], 5.0)
    ratios = found["error_ratio"]["rectangle_0_1s"]

    assert error(GOOD) == pytest.approx(0.005)
    assert ratios["expected_median"] == pytest.approx(0.01 / 0.005)
    assert ratios["realised_mean"] == pytest.approx((0.5 / 99.5) / (0.3 / 100.2))
    assert found["peers"]["rectangle_0_1s"]["coverage"] == 1.0
    assert coverage([]) is None
