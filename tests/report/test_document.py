"""Reports as tables: what people read is rounded, what programs read is whole, all say of what."""

from __future__ import annotations

import csv
import io
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.report.document import Document, Section, to_csv, to_html, to_markdown
from hil.report.recorded import BINS, Recorded, Series, histogram, latency, power

from .browser import see


def made(rows, provenance="emulated", **changes):
    columns = ("what", "value", "95 %")
    sections = [Section("Figures", "A note.", columns, rows), *changes.pop("more", [])]
    return Document(
        "hil profile", "net on board", provenance, "valid", sections=sections, **changes
    )


def lines_of(document):
    return list(csv.DictReader(io.StringIO(to_csv(document))))


def test_csv_keeps_numbers_whole_and_says_on_each_line_where_they_come_from():
    lines = lines_of(
        made([("energy, mJ", 30.411079159482526, (30.03, 31.0869329742)), ("x", None, None)])
    )

    assert {line["provenance"] for line in lines} == {"emulated"}
    told = {(line["row"], line["column"]): line["value"] for line in lines}
    assert float(told["energy, mJ", "value"]) == 30.411079159482526
    assert float(told["energy, mJ", "95 % (high)"]) == 31.0869329742
    assert told["x", "value"] == ""


@pytest.mark.parametrize("evil", ["=cmd()", "+1", "-1", "@x", "\tx"])
def test_csv_hands_no_formula_to_a_spreadsheet(evil):
    line = lines_of(made([(evil, evil, None)]))[0]

    assert line["row"] == line["value"] == f"'{evil}"


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=30))
def test_no_name_breaks_a_markdown_table(name):
    text = to_markdown(made([(name, 1.0, None)]))

    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 3
    bars = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in rows}
    assert bars == {4}


@pytest.mark.parametrize("provenance", ["emulated", "replayed", "measured"])
def test_every_markdown_heading_says_where_its_figures_come_from(provenance):
    text = to_markdown(made([("a", 1.0, None)], provenance))

    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [f"## Figures ({provenance.upper()})"]
    assert f"**{provenance.upper()}**, valid" in text


def test_an_unknown_figure_is_a_dash_for_people():
    assert "| a | - | - |" in to_markdown(made([("a", None, None)]))


def test_no_name_becomes_markup_on_the_page():
    evil = '<img src=x onerror="alert(1)">'

    page = to_html(made([(evil, 1.0, None)], facts=[evil], reasons=[evil], cards=[(evil, evil)]))

    assert evil not in page
    assert "&lt;img src=x" in page


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=300))
def test_every_inference_is_counted_once(values):
    edges, counts, beyond = histogram(values)

    assert len(edges) == len(counts) + 1 == BINS + 1
    assert sum(counts) + beyond == len(values)
    assert beyond <= max(1, len(values) // 1000)
    assert all(a < b for a, b in pairwise(edges))


@pytest.mark.slow
def test_pictures_of_a_run_are_drawn_without_a_complaint(tmp_path):
    run = Recorded(
        rails=[Series("VDD_IN", [0.0, 1.0, 2.0], [3.0, 5.0, 3.0])],
        windows_s=[("idle_before", 0.0, 0.5), ("settle", 0.5, 0.8), ("block", 0.8, 1.8)],
        latencies_ms=[5.0, 5.1, 5.2, 9.0],
    )
    more = [
        Section("Power", picture=power(run)),
        Section("Latency", picture=latency(run, {"p50": 5.1, "p99": 9.0})),
    ]

    seen = see(to_html(made([("a", 1.0, None)], more=more)), tmp_path)

    assert len(re.findall(r'svg-container"', seen.dom)) == 2
    assert ">windows<" in seen.dom
    assert ">settle<" in seen.dom
    assert ">p50<" in seen.dom
    assert seen.complaints == []


@pytest.mark.slow
def test_on_a_phone_no_picture_lies_over_the_text_below_it(tmp_path):
    rails = [Series(f"RAIL_{i}", [0.0, 1.0], [1.0, 2.0]) for i in range(8)]
    page = to_html(made([], more=[Section("Power", "Below.", picture=power(Recorded(rails)))]))
    told = (
        "document.body.style.width = '390px'; window.dispatchEvent(new Event('resize'));"
        "setTimeout(function () {"
        "var all = Array.from(document.querySelectorAll('.main-svg'));"
        "var low = Math.max.apply(null, all.map(s => s.getBoundingClientRect().bottom));"
        "var notes = Array.from(document.querySelectorAll('p')).pop().getBoundingClientRect();"
        "document.title = 'picture ' + low + ' text ' + notes.top; }, 1000);"
    )

    seen = see(page, tmp_path, told)

    low, top = re.search(r"<title>picture (\S+) text (\S+)</title>", seen.dom).groups()
    assert float(low) <= float(top)
    assert 'height="560"' in seen.dom
