"""What the page of a synthesis run lets one ask: other limits, generations, refusals.

Data in, data out. Everything here is of the search's own figures; none of it is a certificate.
Runs of earlier versions kept fewer fields of a network; what is not there is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from hil.report.figures import number
from hil.report.style import ACCENT, GOOD, MUTED, layout

Row = Mapping[str, Any]
_METRICS = (
    ("energy_mj", "energy", "mJ"),
    ("latency_p50_ms", "p50 latency", "ms"),
    ("latency_p99_ms", "p99 latency", "ms"),
    ("accuracy", "accuracy", "%"),
)
_STEPS = 150
"""About so many steps has a slider from end to end."""


def explore(result: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any] | None:
    """Return the sliders and the candidates they judge; None where nothing was trained.

    A slider has ends on whole steps that hold every candidate; `limit` is the run's own, exact,
    None where the run set none.
    """
    chosen = [row for row in rows if row["energy_mj"] is not None]
    if not any(row["accuracy"] is not None for row in chosen):
        return None
    limits = {each["metric"]: _limit(each) for each in result["requirements"]}
    sliders = []
    for metric, title, unit in _latency_once(chosen, limits):
        values = [row[metric] for row in chosen if row.get(metric) is not None]
        sliders.append(_slider(metric, title, unit, values, limits.get(metric)))
    metrics = [slider["metric"] for slider in sliders]
    return {
        "sliders": sliders,
        "candidates": [
            {
                "name": row["name"].split(" (")[0],
                "label": row["name"],
                "round": row["round"],
                "utility": row["utility"],
                **{metric: row.get(metric) for metric in metrics},
            }
            for row in chosen
        ],
    }


def _limit(requirement: Row) -> float | None:
    own = requirement["search_limit"]
    bound: float | None = requirement["limit"] if own is None else own
    return bound


def _latency_once(rows: Sequence[Row], limits: Row) -> list[tuple[str, str, str]]:
    """Return the metrics with a slider: energy, accuracy, and each latency that is limited."""
    known = [m for m in _METRICS if any(row.get(m[0]) is not None for row in rows)]
    latencies = [m for m in known if m[0].startswith("latency")]
    limited = [m for m in latencies if limits.get(m[0]) is not None] or latencies[:1]
    return [m for m in known if not m[0].startswith("latency") or m in limited]


def _slider(
    metric: str, title: str, unit: str, values: Sequence[float], limit: float | None
) -> dict[str, Any]:
    least = metric == "accuracy"
    ends = [*values, *([] if limit is None else [limit])]
    low, high = min(ends), max(ends)
    span = (high - low) or abs(high) or 1.0
    exponent = math.floor(math.log10(span / _STEPS))
    step = min((10.0**exponent * k for k in (1, 2, 5, 10)), key=lambda s: abs(span / s - _STEPS))
    digits = max(0, -math.floor(math.log10(step)))
    low, high = (math.floor(low / step) * step, math.ceil(high / step) * step)
    loosest = low if least else high
    return {
        "metric": metric,
        "title": title,
        "unit": unit,
        "least": least,
        "low": round(low, digits),
        "high": round(high, digits),
        "step": round(step, digits),
        "start": round(loosest if limit is None else limit, digits),
        "limit": limit,
    }


def front(rows: Sequence[Row]) -> list[Row]:
    """Return the Pareto front of energy against accuracy: no other is better in both."""
    trained = [r for r in rows if r["accuracy"] is not None and r["energy_mj"] is not None]
    best: list[Row] = []
    for row in sorted(trained, key=lambda r: (r["energy_mj"], -r["accuracy"], r["name"])):
        if not best or row["accuracy"] > best[-1]["accuracy"]:
            best.append(row)
    return best


def overlay(figure: go.Figure, rows: Sequence[Row]) -> None:
    """Draw the front into the search's plot, and room for what fits moved limits."""
    edge = front(rows)
    figure.add_scatter(
        x=[row["energy_mj"] for row in edge],
        y=[row["accuracy"] for row in edge],
        mode="lines",
        name="Pareto front of the search",
        line={"color": MUTED, "shape": "hv", "width": 1.5},
        hoverinfo="skip",
    )
    rings = (
        ("fits", "fits the limits above", "circle-open", 16, 1.5),
        ("winner", "winner under them", "star-open", 24, 2.5),
    )
    for meta, name, symbol, size, width in rings:
        figure.add_scatter(
            x=[], y=[], text=[], mode="markers", name=name, meta=meta, showlegend=True,
            marker={"symbol": symbol, "size": size, "color": GOOD, "line": {"width": width}},
            hovertemplate="%{text}<br>%{x:.4g} mJ<br>%{y:.2f} %<extra></extra>",
        )  # fmt: skip


def generations(rows: Sequence[Row], told: Mapping[int, int]) -> list[dict[str, Any]]:
    """Return a row for each round: how many satisfied the limits, and their U.

    Args:
        rows: every network measured.
        told: round to the generator's generation after it, from the journal.
    """
    made = []
    for number_ in sorted({row["round"] for row in rows if row["round"] is not None}):
        mine = [row for row in rows if row["round"] == number_]
        good = [row for row in mine if row["verdict"] == "feasible"]
        scores = [row["utility"] for row in good if row["utility"] is not None]
        made.append(
            {
                "round": number_,
                "generation": told.get(number_),
                "measured": len(mine),
                "trained": sum(row["accuracy"] is not None for row in mine),
                "satisfied": len(good),
                "best_u": max(scores, default=None),
                "mean_u": sum(scores) / len(scores) if scores else None,
            }
        )
    return made


def generations_figure(made: Sequence[Row]) -> go.Figure:
    """Share of satisfied networks as bars, best and mean U as lines, round by round."""
    figure = go.Figure()
    rounds = [row["round"] for row in made]
    figure.add_bar(
        x=rounds,
        y=[100 * row["satisfied"] / row["measured"] for row in made],
        name="satisfied, %",
        marker={"color": ACCENT, "opacity": 0.35},
        yaxis="y2",
        hovertemplate="round %{x}: %{y:.0f} % satisfied<extra></extra>",
    )
    for field, name, dash in (("best_u", "best U", "solid"), ("mean_u", "mean U", "dot")):
        figure.add_scatter(
            x=rounds,
            y=[row[field] for row in made],
            name=name,
            mode="lines+markers",
            connectgaps=True,
            line={"color": GOOD, "dash": dash},
            hovertemplate="round %{x}: %{y:.2f}<extra></extra>",
        )
    layout(figure, "round", "U")
    figure.update_layout(
        yaxis2={
            "title": "satisfied, %", "overlaying": "y", "side": "right", "range": [0, 100],
            "showgrid": False, "automargin": True, "dtick": 25,
        },
        xaxis={"dtick": 1 if len(made) <= 20 else None},
    )  # fmt: skip
    return figure


def refusals(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return what each refused network missed, and the choice that cost it most."""
    units = {metric: (title, unit) for metric, title, unit in _METRICS}
    made = []
    for row in rows:
        if row["verdict"] != "infeasible":
            continue
        missed, blame = [], []
        for receipt in row.get("receipts") or ():
            title, unit = units.get(receipt["metric"], (receipt["metric"], ""))
            how = "" if receipt["measured"] else " (predicted)"
            value, limit = number(receipt["value"], 4), number(receipt["limit"], 4)
            missed.append(f"{title} {value} {unit}{how}, limit {limit}")
            if receipt["contributions"]:
                worst = receipt["contributions"][0]
                blame.append(f"{worst['variable']}: {number(worst['delta'], 3)} {unit}")
        made.append(
            {
                "name": row["name"],
                "round": row["round"],
                "missed": "; ".join(missed) or "no receipt was kept",
                "blame": "; ".join(blame) or "-",
            }
        )
    return made
