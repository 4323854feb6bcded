"""The page as people see it: complete, offline, drawn by a real browser, safe with odd names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from hil.report.figures import NETWORK_COLUMNS, figure_text, number
from hil.report.synthesis import PowerTrace, SearchPoint, render


def network(name, **changes):
    entry = {
        "name": name,
        "changes": ["stage1.1 dropped"],
        "accuracy": 98.5,
        "accuracy_ci95": [97.4, 99.1],
        "accuracy_pictures": 898,
        "accuracy_loss_points": 0.3,
        "accuracy_loss_points_ci95": [-0.4, 1.0],
        "energy_mj": 1.28,
        "energy_mj_ci95": [1.26, 1.3],
        "inferences_per_joule": 781.0,
        "inferences_per_joule_ci95": [770.0, 791.0],
        "inferences_per_joule_ratio": 3.04,
        "inferences_per_joule_ratio_ci95": [3.0, 3.08],
        "latency_p50_ms": 0.315,
        "latency_p50_ms_ci95": [0.3149, 0.3151],
        "latency_p99_ms": None,
        "macs": 250_000,
        "parameters": 59_100,
        "netscore": 128.2,
        "onnx_sha256": "0" * 64,
        "engine_sha256": "1" * 64,
        "verdict": "feasible_emulated",
        "scope": "build",
        "validity": "valid",
        "provenance": "emulated",
        "proofs": [
            {
                "text": "energy at most 34 %",
                "estimate": 0.325,
                "bound": 0.33,
                "limit": 0.34,
                "binds": "bound",
                "verdict": "feasible_emulated",
            }
        ],
    }
    return {**entry, **changes}


def result(**changes):
    made = {
        "run": "runs/x",
        "seed": 0,
        "profile": "digits",
        "device": "tx2-emulated",
        "board": "quill",
        "rail": "VDD_IN",
        "provenance": "emulated",
        "requirements": [
            {"metric": "energy_mj", "limit": 1.33, "search_limit": None, "text": "energy <= 34 %"},
            {"metric": "accuracy", "limit": 98.0, "search_limit": 98.0, "text": "accuracy"},
        ],
        "prototype": network("prototype", changes=[], verdict="", proofs=[], macs=4_300_000),
        "baselines": [],
        "certified": [network("net-a")],
        "not_certified": [],
        "least_violating": None,
        "cost": {
            "measurements": 24,
            "trainings": 14,
            "device_seconds": 900.0,
            "wall_seconds": 250.0,
            "refused_before_training": 10,
        },
    }
    return {**made, **changes}


VERTICES = {
    "metric": "energy_mj",
    "provenance": "predicted",
    "measured_networks": 24,
    "trained_networks": 14,
    "rows": [
        {
            "vertex": f"stage{i}",
            "change": f"stage{i} dropped",
            "saves": 1.0 / (i + 1),
            "accuracy_points": None if i == 3 else -0.1 * i,
            "macs": -1000.0,
            "parameters": -10.0,
        }
        for i in range(20)
    ],
}
POINTS = [
    SearchPoint("refused", 3.8, None, "refused"),
    SearchPoint("net-a", 1.28, 98.5, "certified"),
    SearchPoint("prototype", 3.9, 99.1, "prototype"),
]
TRACE = PowerTrace("VDD_IN", [0.0, 0.1, 0.2, 0.3], [3.1, 4.0, 4.1, 3.2], [("block", 0.1, 0.2)])


def test_the_page_is_labelled_emulated_and_loads_nothing_from_outside():
    page = render(result(), POINTS, TRACE)

    body = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert "EMULATED" in body
    assert not re.findall(r"<link|<img|<iframe|https?:", body)
    assert not re.findall(r"<script[^>]*\ssrc=", page)


def test_a_figure_that_is_unknown_is_a_dash_and_never_zero():
    column = next(c for c in NETWORK_COLUMNS if c.field == "latency_p99_ms")

    assert figure_text(network("n"), column) == ("-", "")


def test_vertices_are_shown_by_cost_with_what_hangs_on_them():
    page = render(result(vertices=VERTICES), POINTS, TRACE)

    body = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert "PREDICTED by the inquisitor from 24 networks measured and 14 trained" in body
    row = next(line for line in body.splitlines() if "<td>stage1</td>" in line)
    assert "<td>0.5</td><td>-0.10</td>" in row
    unknown = next(line for line in body.splitlines() if "<td>stage3</td>" in line)
    assert "<td>unknown</td>" in unknown
    assert "The 15 costliest of 20" in body
    assert "<td>stage15</td>" not in body


def test_a_run_of_an_earlier_version_has_a_page_too():
    body = re.sub(r"<script.*?</script>", "", render(result(), POINTS, None), flags=re.S)

    assert "What each vertex costs" not in body
    assert "Power while measured" not in body


def test_names_cannot_smuggle_script_into_the_page():
    evil = '<img src=x onerror="alert(1)">'

    page = render(result(profile=evil, certified=[network(evil)]), [], None)

    assert evil not in page
    assert "&lt;img src=x" in page


def test_a_run_without_a_certificate_says_so_first():
    least = network("net-b", verdict="infeasible", proofs=[])

    page = render(result(certified=[], least_violating=least), POINTS, None)

    assert "No network met every requirement" in page


def test_equal_runs_give_equal_pages():
    assert render(result(), POINTS, TRACE) == render(result(), POINTS, TRACE)


@pytest.mark.parametrize(
    ("value", "digits", "fixed", "text"),
    [
        (3.8867, 4, False, "3.887"),
        (781.04, 4, False, "781.0"),
        (0.0314, 3, False, "0.0314"),
        (0.315, 4, False, "0.315"),
        (98.2182, 2, True, "98.22"),
        (0, 3, False, "0"),
    ],
)
def test_numbers_keep_so_many_digits(value, digits, fixed, text):
    assert number(value, digits, fixed=fixed) == text


@pytest.mark.slow
def test_a_real_browser_draws_all_plots(tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is missing in CI")
        pytest.skip("needs Chromium (Debian: apt install chromium)")
    page = tmp_path / "report.html"
    page.write_text(render(result(vertices=VERTICES), POINTS, TRACE), encoding="utf-8")
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000"]

    done = subprocess.run(
        [browser, *words, f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    drawn = re.findall(r'<svg[^>]*class="main-svg"', done.stdout)
    assert len(drawn) >= 3
    assert "board time, s" in re.sub(r"<script.*?</script>", "", done.stdout, flags=re.S)
