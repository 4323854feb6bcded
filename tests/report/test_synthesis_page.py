"""The page as people see it: complete, offline, drawn by a real browser, safe with odd names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.report.explore import front, generations
from hil.report.figures import NETWORK_COLUMNS, figure_text, number
from hil.report.synthesis import PowerTrace, SearchPoint, render

from .browser import see


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


def row(name, energy, latency, accuracy, utility, verdict="feasible", round_=1, receipts=()):
    return {
        "name": name,
        "energy_mj": energy,
        "latency_p50_ms": latency,
        "latency_p99_ms": None,
        "accuracy": accuracy,
        "utility": utility,
        "verdict": verdict,
        "round": round_,
        "finalist": False,
        "receipts": list(receipts),
    }


RECEIPT = {
    "metric": "energy_mj",
    "limit": 3.5,
    "value": 3.8,
    "measured": True,
    "excess": 0.3,
    "contributions": [
        {"variable": "stage2.1", "choice": 1, "better": 0, "delta": 1.25, "share": 4.2}
    ],
}
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


ROWS = [
    row("cheap (safe)", 1.0, 0.30, 97.0, 110.0),
    row("middle (safe)", 2.0, 0.50, 98.2, 105.0),
    row("fine (improve)", 3.0, 0.60, 99.0, 101.0),
    row("worse (improve)", 3.2, 0.60, 98.5, 100.0),
    row("slow (thompson)", 2.5, 0.90, 98.6, 107.0),
    row("heavy (design)", 3.8, 1.20, None, None, verdict="infeasible", receipts=[RECEIPT]),
]
LIMITS = [
    {"metric": "energy_mj", "limit": 3.5, "search_limit": None, "text": "energy"},
    {"metric": "latency_p50_ms", "limit": 0.7, "search_limit": None, "text": "latency"},
    {"metric": "accuracy", "limit": 98.0, "search_limit": 98.0, "text": "accuracy"},
]


def winner_of(rows, energy=3.5, latency=0.7, accuracy=98.0):
    """The winner by a second implementation."""
    fit = [
        r
        for r in rows
        if r["accuracy"] is not None
        and r["energy_mj"] <= energy
        and r["latency_p50_ms"] <= latency
        and r["accuracy"] >= accuracy
    ]
    return max(fit, key=lambda r: r["utility"])["name"].split(" ")[0] if fit else None


def move(metric, value):
    return (
        f"var s = document.getElementById('limit-{metric}'); s.value = '{value}';"
        "s.dispatchEvent(new Event('input', {bubbles: true}));"
    )


def told(dom):
    return re.search(r'<p id="winner"[^>]*>(.*?)</p>', dom, flags=re.S).group(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "moved"),
    [
        ("", {}),
        (move("accuracy", 96.9), {"accuracy": 96.9}),
        (move("accuracy", 98.8), {"accuracy": 98.8}),
        (move("latency_p50_ms", 0.95), {"latency": 0.95}),
        (move("energy_mj", 1.5) + move("accuracy", 98), {"energy": 1.5}),
        (move("accuracy", 98.8) + "document.getElementById('reset').click();", {}),
    ],
    ids=["the run's own", "less accuracy", "more accuracy", "slower", "nobody fits", "reset"],
)
def test_moved_limits_move_the_winner_without_a_complaint(tmp_path, script, moved):
    page = render(result(requirements=LIMITS), POINTS, TRACE, ROWS, {1: 1})

    seen = see(page, tmp_path, script)

    expected = winner_of(ROWS, **moved)
    if expected is None:
        assert told(seen.dom) == "No trained network of the search keeps these limits."
    else:
        assert f"Winner under these limits: {expected}," in told(seen.dom)
        assert re.search(rf'<tr class="fits winner"><td>{expected}</td>', seen.dom)
    assert "Search figures, not a certificate." in seen.dom
    assert seen.complaints == []


@pytest.mark.slow
def test_the_browser_itself_stops_a_request_that_leaves_the_page(tmp_path):
    page = render(result(), POINTS, TRACE)

    seen = see(page, tmp_path, "fetch('http://board.example/').catch(function () {});")

    assert any("Content Security Policy" in line for line in seen.complaints)


def test_every_slider_is_labelled_has_its_unit_and_holds_every_candidate():
    page = render(result(requirements=LIMITS), POINTS, TRACE, ROWS, {1: 1})

    for metric, unit in (("energy_mj", "mJ"), ("latency_p50_ms", "ms"), ("accuracy", "%")):
        assert f'<label for="limit-{metric}">' in page
        slider = re.search(
            rf'<input type="range" id="limit-{metric}" min="(\S+)" max="(\S+)"', page
        )
        known = [r[metric] for r in ROWS if r[metric] is not None]
        assert float(slider.group(1)) <= min(known) <= max(known) <= float(slider.group(2))
        assert f'"unit": "{unit}"' in page


@given(
    st.lists(
        st.tuples(st.integers(1, 12), st.one_of(st.none(), st.integers(1, 12))),
        min_size=1,
        max_size=25,
    )
)
def test_the_front_is_what_nobody_betters(pairs):
    rows = [row(f"n{i}", float(e), 1.0, a, 1.0) for i, (e, a) in enumerate(pairs)]

    edge = {(r["energy_mj"], r["accuracy"]) for r in front(rows)}

    trained = {(float(e), a) for e, a in pairs if a is not None}
    assert edge == {
        (e, a)
        for e, a in trained
        if not any((x <= e and y >= a) and (x, y) != (e, a) for x, y in trained)
    }


def test_generations_tell_satisfaction_and_u_of_what_satisfied():
    rows = [
        row("a", 1.0, 0.3, 98.0, 100.0),
        row("b", 1.0, 0.3, 98.0, 104.0),
        row("c", 1.0, 0.3, 90.0, 130.0, verdict="infeasible"),
        row("d", 9.0, 0.3, None, None, verdict="infeasible"),
        row("e", 9.0, 0.3, None, None, verdict="infeasible", round_=2),
    ]

    first, second = generations(rows, {1: 3})

    assert (first["generation"], first["measured"], first["satisfied"]) == (3, 4, 2)
    assert (first["trained"], first["best_u"], first["mean_u"]) == (3, 104.0, 102.0)
    assert (second["generation"], second["satisfied"], second["best_u"]) == (None, 0, None)


def test_a_refused_network_shows_its_receipt():
    page = render(result(requirements=LIMITS), POINTS, TRACE, ROWS, {1: 1})

    line = next(each for each in page.splitlines() if "<td>heavy (design)</td>" in each)
    assert "energy 3.800 mJ, limit 3.500" in line
    assert "stage2.1: 1.25 mJ" in line


def test_a_run_that_kept_no_p50_has_a_page_and_no_slider_for_it():
    old = [{k: v for k, v in r.items() if k != "latency_p50_ms"} for r in ROWS]

    page = render(result(requirements=LIMITS), POINTS, TRACE, old)

    assert 'id="limit-energy_mj"' in page
    assert "latency_p50_ms" not in page[page.index('id="limit-energy_mj"') :].split("</label>")[0]
    assert 'id="limit-latency_p50_ms"' not in page


def test_a_candidates_name_cannot_end_the_data_in_the_page():
    evil = "</script><script>alert(1)</script>"

    page = render(result(requirements=LIMITS), [], None, [row(evil, 1.0, 0.3, 98.0, 100.0)])

    assert evil not in page


@pytest.mark.parametrize("provenance", ["emulated", "replayed"])
def test_what_is_not_measured_is_said_in_the_title_and_on_every_printed_sheet(provenance):
    page = render(result(provenance=provenance), POINTS, TRACE)

    assert f"<title>{provenance.upper()}: hil synthesize" in page
    assert f'<div class="stamp"><span>{provenance.upper()}:' in page
    printed = page[page.index("@media print") :]
    assert ".stamp { display: table-header-group" in printed


def test_a_measured_page_wears_no_stamp():
    page = render(result(provenance="measured"), POINTS, TRACE)

    assert "<title>hil synthesize" in page
    assert '<div class="stamp">' not in page


@pytest.mark.slow
def test_a_real_browser_draws_all_plots(tmp_path):
    seen = see(render(result(vertices=VERTICES), POINTS, TRACE), tmp_path)

    assert len(re.findall(r'<svg[^>]*class="main-svg"', seen.dom)) >= 3
    assert "board time, s" in seen.dom
    assert seen.complaints == []
