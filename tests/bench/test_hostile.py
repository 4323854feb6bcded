"""The judge of hostile boards, on endings made up here, and three boards from end to end."""

from __future__ import annotations

import json

import pytest

from hil.bench.hostile import run_bench, seeds, summary
from hil.bench.hostile_judge import Ending, Verdict, judge
from hil.bench.hostile_run import Outcome, run_verb

TRUTH = {"energy_mj": 18.2, "latency_ms": 2.0}
SAYS = (r"sudo", r"password")
THREE = (8, 21, 36)
"""Seeds of one board without rights, one that prints at login, and one that cannot build."""
REFUSED = (
    "error: clocks may not be set\n  why:  sudo: a password is required\n  next: add the line\n"
)


def figure(**changes: object) -> str:
    result = {
        "validity": "valid",
        "reasons": [],
        "provenance": "emulated",
        "energy_mj": 18.4,
        "energy_mj_u95_total": [18.1, 18.7],
        "latency_p50_ms": 2.003,
    }
    return json.dumps({**result, **changes})


def ended(status: int | None = 0, out: str = "", err: str = "", verb: str = "profile") -> Ending:
    return Ending(verb, status, out, err, 3.0)


def kind(*endings: Ending, says=SAYS, truth=TRUTH, left=()) -> str:
    return judge(endings, says, truth, left).kind


def test_a_right_figure_is_valid():
    assert kind(ended(out=figure())) == "valid"


def test_a_wrong_figure_that_is_called_valid_is_found_out():
    assert kind(ended(out=figure(energy_mj=24.0, energy_mj_u95_total=[23.5, 24.5]))) == "wrong"
    assert kind(ended(out=figure(latency_p50_ms=2.3))) == "wrong"
    assert kind(ended(out=figure(energy_mj=None))) == "wrong"
    assert kind(ended(out=figure()), truth=None) == "wrong"


def test_a_figure_is_judged_by_its_own_interval():
    wide = {"energy_mj": 19.4, "energy_mj_u95_total": [18.7, 20.1]}
    assert kind(ended(out=figure(**wide))) == "valid"
    narrow = {"energy_mj": 19.4, "energy_mj_u95_total": [19.3, 19.5]}
    assert kind(ended(out=figure(**narrow))) == "wrong"


def test_an_emulated_figure_must_say_so():
    assert kind(ended(out=figure(provenance="measured"))) == "wrong"


@pytest.mark.parametrize("validity", ["suspect", "invalid"])
def test_doubt_needs_a_reason(validity):
    wrong = {"validity": validity, "energy_mj": 99.0}
    assert kind(ended(5, figure(**wrong, reasons=["throttled"]))) == validity
    assert kind(ended(5, figure(**wrong))) == "unexplained"


def test_a_refusal_names_the_cause_and_the_next_step():
    assert kind(ended(3, err=REFUSED)) == "refused"
    assert kind(ended(3, err=REFUSED), says=("disk",)) == "unexplained"
    assert kind(ended(3, err=REFUSED), says=()) == "unexplained"
    assert kind(ended(3, err="error: sudo: a password is required\n")) == "unexplained"


def test_a_latency_without_joules_must_say_why():
    alone = figure(energy_mj=None, energy_mj_u95_total=None)
    why = "error: no energy\n  why:  sudo: a password is required\n  next: add the line\n"
    assert kind(ended(5, alone, why)) == "refused"
    assert kind(ended(5, alone, "error: no energy\n")) == "unexplained"


def test_a_right_figure_that_missed_its_target_says_what_to_do():
    assert kind(ended(5, figure(), "error: not tight enough\n  next: --max-time 300s\n")) == "valid"
    assert kind(ended(5, figure())) == "unexplained"


@pytest.mark.parametrize("status", [7, 8])
def test_a_refusal_that_blames_somebody_else_explains_nothing(status):
    assert kind(ended(status, err=REFUSED)) == "unexplained"


@pytest.mark.parametrize("status", [70, -9, 99, 1, 130])
def test_other_exits_are_crashes(status):
    assert kind(ended(status, err=REFUSED)) == "crash"


def test_a_traceback_is_a_crash_whatever_the_exit():
    said = "Traceback (most recent call last)\n  sudo password next:"
    assert kind(ended(3, err=said)) == "crash"


def test_what_does_not_end_hangs():
    assert kind(ended(None)) == "hang"


def test_a_board_left_changed_is_worse_than_a_right_figure():
    assert kind(ended(out=figure()), left=["power mode 0, found 3"]) == "changed"


def test_the_first_verb_that_fails_its_user_decides():
    doctor = ended(3, out="ok   agent: up\nfail disk: full\n", verb="doctor")
    verdict = judge([doctor, ended(3, err=REFUSED)], SAYS, TRUTH, [])
    assert (verdict.kind, verdict.verb) == ("unexplained", "doctor")
    named = ended(3, out="fail sudo rights: none -> add the line\n", verb="doctor")
    assert kind(named, ended(3, err=REFUSED)) == "refused"


def test_a_doctors_good_lines_name_no_cause():
    doctor = ended(
        3, out="ok   sudo rights: nvpmodel\nfail disk: full -> free some\n", verb="doctor"
    )
    assert kind(doctor, ended(3, err=REFUSED)) == "unexplained"


def test_the_summary_counts_by_kind_and_by_cause():
    def outcome(label: str, names: tuple[str, ...], verdict: Verdict) -> Outcome:
        return Outcome(label, names, verdict, (ended(),), 2.0)

    result = summary(
        [
            outcome("a", ("no-sftp",), Verdict("refused", "profile", "")),
            outcome("b", ("no-sftp", "disk-full"), Verdict("hang", "doctor", "90 s")),
            outcome("c", (), Verdict("valid", "profile", "")),
        ]
    )
    assert (result["boards"], result["good"]) == (3, 2)
    assert result["causes"]["no-sftp"] == {"refused": 1, "hang": 1}
    assert result["causes"]["nothing wrong"] == {"valid": 1}
    assert [failure["board"] for failure in result["failures"]] == ["b"]


def test_a_verb_that_does_not_end_is_ended(tmp_path):
    ending = run_verb(("emulate",), tmp_path, limit_s=0.5)
    assert ending.status is None
    assert ending.wall_s < 10


@pytest.mark.board
def test_a_board_is_met_briefly_before_it_is_profiled():
    result = run_bench(seeds(1, THREE[0]), ("bringup",), 1)

    assert result["good"] == 1, result["failures"]
    (outcome,) = result["outcomes"]
    assert list(outcome["verbs"]) == ["bringup", "profile"]
    assert "skipped against-itself: it takes about" in outcome["said"]["bringup"][1]


@pytest.mark.board
@pytest.mark.parametrize("seed", THREE)
def test_a_board_of_a_seed_ends_well(seed):
    result = run_bench(seeds(1, seed), (), 1)
    assert result["good"] == 1, result["failures"]
