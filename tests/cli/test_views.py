"""What people see: every figure with its interval, EMULATED unmistakable, doubts never hidden."""

from __future__ import annotations

import copy

import pytest

from hil.cli import compare_view
from hil.cli.profile_run import conclude
from hil.cli.profile_view import interval, show, show_kept
from hil.core.errors import HilError

FIGURES = {
    "energy_mj": (35.95, [35.6, 36.3]),
    "energy_net_mj": (12.65, [12.2, 13.1]),
    "inferences_per_joule": (27.81, [27.5, 28.1]),
    "power_w": (4.981, [4.93, 5.03]),
    "idle_power_w": (3.229, [3.19, 3.27]),
    "latency_p50_ms": (7.217, [7.215, 7.218]),
    "latency_p99_ms": (7.271, [7.267, 7.278]),
}


@pytest.fixture
def result():
    """A profile as `hil profile --json` prints it."""
    made = {name: value for name, (value, _) in FIGURES.items()}
    made |= {f"{name}_ci95": ends for name, (_, ends) in FIGURES.items()}
    return made | {
        "schema": "hil/result@2",
        "provenance": "emulated",
        "validity": "suspect",
        "reasons": ["the GPU was busy with [something] else for 3 %"],
        "model": "net[v1].onnx",
        "device": "tx2-emulated",
        "board": {"model": "quill", "l4t": "32.7.4", "nvpmodel": {"id": 0, "name": "MAXN"}},
        "runtime": "tensorrt 8.2.1.8",
        "precision": "fp16",
        "engine_sha256": "4" * 64,
        "engine_cached": False,
        "inputs": [{"name": "input", "dtype": "float32", "shape": [1, 3, 240, 320]}],
        "latency_copies": "excluded",
        "rail": "VDD_IN",
        "rails_mj": {"VDD_IN": 35.95, "VDD_SYS_GPU": 9.1},
        "blocks": [{"duration_s": 5.0}] * 8,
        "energy_mj_u95_total": [34.1, 37.8],
        "first_inference_ms": 812.0,
        "stopping": {"outcome": "target", "why": "within 0.97 % after 8 windows", "looks": 5},
        "limits": [],
        "folder": "runs/profile/net-1",
        "error_budget": [
            {
                "name": "sensor gain",
                "figure": "energy_mj",
                "half_width": 1.6,
                "share": 0.7,
                "source": "data sheet",
                "reducible_by": "an external meter",
                "part_of": None,
            },
            {
                "name": "lag",
                "figure": "energy_mj",
                "half_width": None,
                "share": None,
                "source": "not known",
                "reducible_by": "hil device calibrate",
                "part_of": None,
            },
        ],
    }


def limited(result, verdict):
    rows = [{"figure": "energy_mj", "at_most": 40.0, "at_least": None, "verdict": verdict}]
    return {**result, "limits": rows}


def test_a_profile_shows_figures_both_intervals_and_every_doubt(result, capsys):
    show(result)
    show_kept(result)

    said = capsys.readouterr()
    for text in (
        *("EMULATED", "SUSPECT", "net[v1].onnx", "35.95 mJ", "[35.60, 36.30]", "[34.10, 37.80]"),
        *("as read on VDD_IN", "7.271 ms", "812.0 ms", "target", "within 0.97 %", "1x3x240x320"),
        *("busy with [something] else", "VDD_SYS_GPU 9.10", "8 windows, 40 s"),
    ):
        assert text in said.out, text
    assert "runs/profile/net-1" in said.err


def test_what_is_unknown_is_a_dash_with_its_reason_and_never_zero(result, capsys):
    blind = {**result, "energy_mj": None, "energy_mj_ci95": None}
    blind["energy_mj_reason"] = "the run had no power source"

    show(blind)

    line = next(row for row in capsys.readouterr().out.splitlines() if "energy, gross" in row)
    assert "-" in line
    assert "no power source" in line
    assert "0" not in line


REFUSED = {
    "name": "unknown_rail",
    "reason": "the board has no rail VDD_X; tegrastats prints VDD_IN, VDD_SYS_GPU",
    "consequence": "latency is measured, joules are refused",
    "next_step": "put `power: {source: tegrastats, rail: VDD_IN}` into the device file",
    "severity": "note",
}


def without_joules(result):
    blind = {**result, "validity": "valid", "fallbacks": [REFUSED]}
    for name in ("energy_mj", "energy_net_mj", "inferences_per_joule", "power_w", "idle_power_w"):
        blind |= {name: None, f"{name}_ci95": None, f"{name}_u95_total": None}
        blind[f"{name}_reason"] = f"{REFUSED['reason']}: {REFUSED['consequence']}"
    return blind


def test_a_fallback_is_shown_once_with_its_next_step(result, capsys):
    show(without_joules(result))

    said = capsys.readouterr().out
    assert said.count("the board has no rail VDD_X") == 1
    assert "next: put `power: {source: tegrastats, rail: VDD_IN}`" in said
    assert "7.217 ms" in said


def test_latency_without_the_joules_that_were_asked_for_is_no_success(result):
    with pytest.raises(HilError, match="there are no joules") as caught:
        conclude(without_joules(result), target_asked=False)

    assert caught.value.exit_code == 5
    assert "VDD_SYS_GPU" in caught.value.why


def test_a_limit_on_latency_that_is_broken_is_told_all_the_same(result):
    rows = [{"figure": "latency_p50_ms", "at_most": 1.0, "at_least": None, "verdict": "infeasible"}]

    with pytest.raises(HilError) as caught:
        conclude({**without_joules(result), "limits": rows}, target_asked=False)

    assert caught.value.exit_code == 1


def test_a_verdict_of_an_emulated_board_bears_that_name(result, capsys):
    show(limited(result, "feasible_emulated"))

    line = next(row for row in capsys.readouterr().out.splitlines() if "energy, gross" in row)
    assert "≤ 40 mJ" in line
    assert "feasible (EMULATED)" in line


def test_the_budget_shows_each_term_and_what_is_not_known(result, capsys):
    show(result, explain=True)

    said = capsys.readouterr().out
    assert "sensor gain" in said
    assert "70%" in said
    assert "an external meter" in said
    assert "unknown" in next(row for row in said.splitlines() if row.strip().startswith("lag"))
    assert "[34.10, 37.80] in all" in said


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"validity": "valid"}, None),
        ({"validity": "invalid"}, 5),
        ({"verdict": "feasible_emulated"}, None),
        ({"verdict": "infeasible_emulated"}, 1),
        ({"verdict": "infeasible"}, 1),
        ({"verdict": "undecided"}, 5),
        ({"validity": "invalid", "verdict": "infeasible"}, 5),
        ({"outcome": "undecided", "asked": True}, 5),
        ({"outcome": "undecided", "asked": False}, None),
    ],
)
def test_the_exit_code_says_what_came_of_it(result, change, code):
    made = copy.deepcopy(result) | {"validity": change.get("validity", "valid")}
    if "verdict" in change:
        made = limited(made, change["verdict"])
    made["stopping"]["outcome"] = change.get("outcome", "target")
    got = None
    try:
        conclude(made, target_asked=change.get("asked", False))
    except HilError as error:
        got = error.exit_code

    assert got == code


def point(result, error=None, **changes):
    made = None if error else {**result, **changes}
    return {"point": "nvpmodel 0", "result": made, "error": error}


def test_a_sweep_with_a_failed_point_shows_the_others_and_exits_as_that_one(result, capsys):
    failure = {"what": "mode 9 is unknown", "why": "no such", "fix": "list them", "exit_code": 3}
    rows = [point(result, validity="valid"), point(result, error=failure)]
    swept = {"schema": "hil/sweep@1", "provenance": "emulated", "model": "n", "device": "d"}
    swept |= {"board": result["board"], "points": rows}

    show(swept)
    with pytest.raises(HilError) as caught:
        conclude(swept, target_asked=False)

    said = capsys.readouterr().out
    assert "EMULATED" in said
    assert "35.95" in said
    assert "mode 9 is unknown" in said
    assert caught.value.exit_code == 3
    conclude({**swept, "points": rows[:1]}, target_asked=False)


@pytest.mark.parametrize(
    ("ratio", "ends", "said"),
    [
        (0.9, [0.88, 0.92], "B needs 10 % less than A, [8, 12] % at 95 %"),
        (1.5, [1.4, 1.6], "B needs 50 % more than A, [40, 60] % at 95 %"),
        (1.01, [0.98, 1.04], "no difference shown; one beyond 4 % is ruled out"),
    ],
)
def test_a_comparison_says_no_more_than_its_interval_does(ratio, ends, said):
    result = {"energy_mj_ratio": ratio, "energy_mj_ratio_ci95": ends}

    assert said in compare_view.verdict(result, "energy_mj", "energy")


@pytest.mark.parametrize("brief", [True, False])
def test_an_interval_as_wide_as_its_figure_is_shown_by_its_ends_alone(brief):
    assert interval(1e-16, [-0.02, 0.02], brief=brief) == "[-0.02, 0.02]"
    assert "%" in interval(10.0, [9.9, 10.1], brief=brief)
