"""The report of a comparison: two networks by turns, the ratio of each round, the interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import plotly.graph_objects as go

from hil.report.document import Cell, Document, Section, ends, shown
from hil.report.profile import fallbacks
from hil.report.style import ACCENT, GOOD, MUTED, layout

Result = Mapping[str, Any]
FIGURES = (
    ("energy, gross", "energy_mj", "mJ"),
    ("energy, net of idle", "energy_net_mj", "mJ"),
    ("power under load", "power_w", "W"),
    ("latency p50", "latency_p50_ms", "ms"),
    ("latency p99", "latency_p99_ms", "ms"),
)


def document(result: Result) -> Document:
    """Return the report of what `hil compare` keeps as result.json."""
    a, b = (PurePath(result[side]["model"]).name for side in ("a", "b"))
    sections = [_ratios(result), *_rounds(result), *fallbacks(result), _sides(result)]
    return Document(
        kind="hil compare",
        subject=f"{b} over {a} on {result['device']}",
        provenance=result["provenance"],
        validity=result["validity"],
        reasons=result["reasons"],
        facts=[_facts(result), *([str(result["calibration"])] if result["calibration"] else [])],
        cards=list(_cards(result)),
        sections=sections,
    )


def _facts(result: Result) -> str:
    unit = "fresh engine builds" if result["scope"] == "build" else "these two engines"
    return (
        f"Scope {result['scope']}: about {unit}. {result['rounds_used']} rounds by turns, "
        f"{result['rounds_dropped']} dropped. Stopped: {result['stopped']['outcome']}, "
        f"{result['stopped']['why']}. Ratios are B over A; B is {PurePath(result['b']['model'])}."
    )


def _cards(result: Result) -> Iterator[tuple[str, str]]:
    for title, name, _ in FIGURES:
        ratio = result.get(f"{name}_ratio")
        if ratio is not None and name in ("energy_mj", "latency_p50_ms"):
            low, high = result[f"{name}_ratio_ci95"]
            yield f"{ratio:.4f}", f"{title}, B / A, 95 % [{low:.4f}, {high:.4f}]"


def _ratios(result: Result) -> Section:
    rows: list[Sequence[Cell]] = []
    rail = result.get("rail")
    notes = [f"Energy and power as read on {rail}."] if rail else []
    for title, name, unit in FIGURES:
        ratio = result.get(f"{name}_ratio")
        sides = (result[side].get(name) for side in ("a", "b"))
        rows.append((f"{title}, {unit}", *sides, ratio, ends(result, f"{name}_ratio_ci95")))
        if ratio is None:
            notes.append(f"{title} is unknown: {result.get(f'{name}_ratio_reason')}.")
    columns = ("figure", "A", "B", "B / A", "95 % of the ratio")
    return Section("Ratios", " ".join(notes), columns, rows, digits=5)


def _rounds(result: Result) -> Iterator[Section]:
    for title, name, unit in FIGURES:
        rows: list[Sequence[Cell]] = []
        for index, each in enumerate(result["rounds"], 1):
            a, b = each["a"].get(name), each["b"].get(name)
            told = "; ".join(sorted({each[s]["validity"] for s in ("a", "b")}))
            ratio = b / a if a and b is not None else None
            rows.append((str(index), each["first"].upper(), a, b, ratio, told))
        if all(row[4] is None for row in rows) or name not in ("energy_mj", "latency_p50_ms"):
            continue
        yield Section(
            f"Ratio per round: {title}",
            "Each point is one round: B over A, measured one after the other. Shaded: the 95 %"
            " interval of the ratio over all rounds.",
            ("round", "first", f"A, {unit}", f"B, {unit}", "B / A", "validity"),
            rows,
            frozenset({0, 1, 5}),
            digits=5,
            picture=_picture(rows, result.get(f"{name}_ratio"), result.get(f"{name}_ratio_ci95")),
        )


def _picture(
    rows: Sequence[Sequence[Any]], ratio: float | None, interval: Sequence[float] | None
) -> go.Figure:
    figure = go.Figure()
    for valid, symbol, colour in ((True, "circle", ACCENT), (False, "x-thin-open", MUTED)):
        chosen = [r for r in rows if r[4] is not None and (r[5] != "invalid") is valid]
        if chosen:
            figure.add_scatter(
                x=[int(r[0]) for r in chosen],
                y=[r[4] for r in chosen],
                mode="markers",
                name="round" if valid else "round with an invalid run",
                marker={"symbol": symbol, "size": 10, "color": colour, "line": {"width": 2}},
                hovertemplate="round %{x}: %{y:.4f}<extra></extra>",
            )
    figure.add_hline(y=1, line={"color": MUTED, "width": 1})
    if ratio is not None and interval:
        figure.add_hrect(y0=interval[0], y1=interval[1], fillcolor=GOOD, opacity=0.15, line_width=0)
        figure.add_hline(
            y=ratio, line={"color": GOOD, "dash": "dash"},
            annotation_text=f"{ratio:.4f}", annotation_font={"color": GOOD},
        )  # fmt: skip
    layout(figure, "round", "B / A")
    figure.update_xaxes(dtick=1 if len(rows) <= 20 else None)
    return figure


def _sides(result: Result) -> Section:
    rows: list[Sequence[Cell]] = [("board", *[str(result["board"].get("model"))] * 2)]
    rows.append(("L4T", *[str(result["board"].get("l4t"))] * 2))
    for title, name in (("network", "model"), ("network sha256", "onnx_sha256"),
                        ("precision", "precision"), ("runtime", "runtime")):  # fmt: skip
        rows.append((title, *(shown(result[side].get(name)) for side in ("a", "b"))))
    engines = (" ".join(str(x)[:12] for x in result[s]["engines_sha256"]) for s in ("a", "b"))
    rows.append(("engines", *engines))
    return Section("Device and engines", "", ("what", "A", "B"), rows, frozenset({0, 1, 2}))
