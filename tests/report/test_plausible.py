"""Claims of an emulated board carry their 5th percentile, on pages and on the terminal alike."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from hil.cli.synthesize import closing_lines
from hil.cli.tables import networks_table
from hil.report.plausible import headline, over_boards, rows, titles
from hil.report.synthesis import render

RATIO = {"inferences_per_joule": {"p5": 2.8, "p50": 3.12, "p95": 3.4}, "latency_p99_ms": None}
RECEIPT = "refused: it keeps the limits on 71 % of the plausible TX2s, at least 90 % are demanded"


def network(name, **changes):
    entry = {
        "name": name,
        "changes": ["stage1.1 dropped"],
        "accuracy": 98.5,
        "accuracy_pictures": 898,
        "accuracy_loss_points": 0.3,
        "accuracy_loss_points_ci95": [-0.4, 1.0],
        "energy_mj": 1.28,
        "inferences_per_joule": 781.0,
        "inferences_per_joule_ratio": 3.1,
        "inferences_per_joule_ratio_ci95": [3.0, 3.2],
        "predicted_ratio": RATIO,
        "predicted_ratio_to_baseline": {"inferences_per_joule": {"p5": 2.7, "p50": 3, "p95": 3.3}},
        "predicted_reason": None,
        "plausible_share": 0.934,
        "macs": 250_000,
        "onnx_sha256": None,
        "verdict": "feasible_emulated",
        "scope": "build",
        "validity": "valid",
        "provenance": "emulated",
        "proofs": [],
        "receipts": [],
    }
    return {**entry, **changes}


def result(**changes):
    prototype = network("prototype", predicted_ratio=None, plausible_share=None, verdict="")
    made = {
        "run": "runs/x",
        "seed": 0,
        "profile": "digits",
        "device": "tx2-emulated",
        "board": "quill",
        "rail": "VDD_IN",
        "provenance": "emulated",
        "requirements": [],
        "plausible": {"board": "tx2", "boards": 200, "draws": 4000, "reason": None},
        "prototype": {**prototype, "inferences_per_joule_ratio": None},
        "baselines": [],
        "certified": [network("net-a")],
        "not_certified": [],
        "least_violating": None,
        "generator": {"distinct": 9, "seeds": 16, "never_proposed": 8, "refused": 4},
        "cost": {
            "measurements": 24,
            "trainings": 14,
            "device_seconds": 900.0,
            "wall_seconds": 250.0,
            "refused_before_training": 10,
        },
    }
    return {**made, **changes}


def text_of(page):
    without = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", without))


def test_the_headline_says_the_interval_what_may_be_claimed_and_emulated():
    assert headline(result()) == (
        "EMULATED: 3.10x the inferences per joule of the prototype (2.80 to 3.40 over plausible "
        "TX2s, 5th to 95th percentile; to be claimed: 2.80x)"
    )


def test_every_ratio_of_the_closing_lines_has_its_own_interval():
    lines = closing_lines(result(baselines=[network("uniform width", inferences_per_joule=260.0)]))

    ratios = [line for line in lines if re.search(r"\d\.\d\dx the inferences", line)]
    assert len(ratios) == 2
    assert "2.80 to 3.40" in ratios[0]
    assert "uniform width" in ratios[1]
    assert "2.70 to 3.30" in ratios[1]
    assert all(line.startswith("EMULATED") for line in ratios)


def test_the_page_s_first_card_has_the_fifth_percentile():
    text = text_of(render(result(), [], None))

    assert "EMULATED: 2.80 to 3.40 over plausible TX2s" in text
    assert "to be claimed: 2.80x" in text
    assert "93.4 %" in text


def test_the_terminal_table_has_the_interval_and_the_share():
    console = Console(width=160, file=io.StringIO())
    console.print(networks_table(result()))
    text = console.file.getvalue()

    assert "inf/J ratio, plausible TX2s" in text
    assert "[2.80, 3.40]" in text
    assert "93.4 %" in text


def test_a_measured_board_s_claim_has_no_interval_over_models():
    measured = result(
        provenance="measured",
        plausible={"board": None, "boards": None, "draws": None, "reason": "measured"},
        certified=[network("net-a", predicted_ratio=None, plausible_share=None)],
    )

    assert headline(measured) == "3.10x the inferences per joule of the prototype"
    assert titles(measured) is None
    assert "plausible" not in text_of(render(measured, [], None))


@pytest.mark.parametrize("reason", [None, "the draws are of VDD_IN"])
def test_an_unknown_interval_is_said_to_be_unknown(reason):
    bare = network("net-a", predicted_ratio=None, plausible_share=None, predicted_reason=reason)

    assert over_boards(result(), bare) == (reason or "how sure the model is of it is unknown")
    assert rows(bare) == (("-", ""), ("-", ""))


def test_a_result_from_before_the_intervals_is_still_shown():
    old = result()
    del old["plausible"]
    for entry in (old["prototype"], *old["certified"]):
        for field in [k for k in entry if k.startswith(("predicted", "plausible", "receipts"))]:
            del entry[field]

    assert "is unknown" in text_of(render(old, [], None))
    assert "is unknown" in closing_lines(old)[0]


def test_a_refused_finalist_says_why_wherever_it_stands():
    receipt = {"metric": "plausible_share", "text": RECEIPT}
    refused = network("net-b", verdict="infeasible", receipts=[receipt])
    shown = result(certified=[], not_certified=[refused])

    assert RECEIPT in text_of(render(shown, [], None))
    assert f"net-b {RECEIPT}" in closing_lines(shown)
