"""The report of a synthesis run: one HTML file that opens offline.

Data in, text out: no file is read but the template, nothing is measured or judged here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from hil.report import explore, plausible
from hil.report import vertices as by_vertex
from hil.report.figures import NETWORK_COLUMNS, figure_text
from hil.report.page import page
from hil.report.style import ACCENT, BAD, GOOD, INK, MUTED, layout


@dataclass(frozen=True)
class SearchPoint:
    """One network the search looked at: what the plot of energy against accuracy shows.

    Attributes:
        accuracy: percent on the search split, None where the network was refused before training.
        status: one of refused, passed, trained, certified, prototype, uniform.
    """

    name: str
    energy_mj: float
    accuracy: float | None
    status: str


@dataclass(frozen=True)
class PowerTrace:
    """The winner's power while measured: seconds since the first sample, watts, and windows."""

    rail: str
    t_s: Sequence[float]
    power_w: Sequence[float]
    windows_s: Sequence[tuple[str, float, float]]


def render(
    result: Mapping[str, Any],
    points: Sequence[SearchPoint],
    trace: PowerTrace | None,
    rows: Sequence[Mapping[str, Any]] = (),
    told: Mapping[int, int] | None = None,
) -> str:
    """Return the page.

    Args:
        result: the final object of `hil synthesize --json` (schema hil/synthesis@1).
        points: every network measured, in the order measured.
        trace: power of the best network, or of the prototype where nothing was certified.
        rows: what the run kept of every network of the search; none, and limits do not move.
        told: round to the generator's generation after it, as the journal has it.
    """
    networks = [result["prototype"], *result["baselines"], *result["certified"]]
    networks += result["not_certified"]
    if result["least_violating"]:
        networks.append(result["least_violating"])
    vertices = result.get("vertices")  # runs of earlier versions have none
    explored = explore.explore(result, rows)
    made = explore.generations(rows, told or {})
    figures = {"search": scatter(result, points)}
    if explored:
        explore.overlay(figures["search"], rows)
    figures |= {"power": power(trace)} if trace else {}
    figures |= {"vertices": by_vertex.figure(vertices)} if vertices else {}
    figures |= {"generations": explore.generations_figure(made)} if made else {}
    return page(
        "synthesis.html.j2",
        figures,
        explore=explored,
        generations=made,
        refusals=explore.refusals(rows),
        result=result,
        networks=networks,
        columns=NETWORK_COLUMNS,
        figure_text=figure_text,
        best=result["certified"][0] if result["certified"] else None,
        plausible=plausible,
        vertices=vertices,
        vertices_shown=by_vertex.SHOWN,
    )


_STYLES: Mapping[str, tuple[str, str, str, int]] = {
    "refused": ("refused by the board, never trained", "x-thin-open", MUTED, 8),
    "passed": ("met the cost limits, not trained", "circle-x-open", MUTED, 8),
    "trained": ("met the cost limits, trained", "circle-open", ACCENT, 9),
    "uniform": ("uniform width scaling", "square", "#b7791f", 10),
    "prototype": ("prototype", "star", INK, 15),
    "certified": ("certified", "diamond", GOOD, 13),
}


def scatter(result: Mapping[str, Any], points: Sequence[SearchPoint]) -> go.Figure:
    """Energy against accuracy of every network measured, with the limits as lines."""
    figure = go.Figure()
    scored = [point.accuracy for point in points if point.accuracy is not None]
    floor = min(scored, default=0.0) - 1.0
    for status, (label, symbol, colour, size) in _STYLES.items():
        chosen = [point for point in points if point.status == status]
        if not chosen:
            continue
        figure.add_scatter(
            x=[point.energy_mj for point in chosen],
            y=[floor if point.accuracy is None else point.accuracy for point in chosen],
            text=[point.name for point in chosen],
            mode="markers",
            name=label,
            marker={"symbol": symbol, "color": colour, "size": size, "line": {"width": 2}},
            hovertemplate="%{text}<br>%{x:.4g} mJ<br>%{y:.2f} %<extra></extra>",
        )
    for limit in result["requirements"]:
        if limit["metric"] == "energy_mj" and limit["limit"] is not None:
            figure.add_vline(
                x=limit["limit"], line={"color": BAD, "dash": "dash"}, annotation_text="limit"
            )
        if limit["metric"] == "accuracy" and limit["search_limit"] is not None:
            figure.add_hline(y=limit["search_limit"], line={"color": BAD, "dash": "dash"})
    layout(figure, f"energy per inference, mJ ({result['provenance']})", "accuracy, %")
    return figure


def power(trace: PowerTrace) -> go.Figure:
    """Power over time with the idle and measuring windows shaded."""
    figure = go.Figure()
    figure.add_scatter(
        x=list(trace.t_s),
        y=list(trace.power_w),
        mode="lines",
        line={"color": ACCENT, "shape": "hv", "width": 1.5},
        name=trace.rail,
        hovertemplate="%{x:.2f} s<br>%{y:.3f} W<extra></extra>",
    )
    for name, start_s, stop_s in trace.windows_s:
        colour = GOOD if name == "block" else MUTED
        figure.add_vrect(
            x0=start_s, x1=stop_s, fillcolor=colour, opacity=0.12, line_width=0,
            annotation_text=name.replace("_", " "), annotation_position="top left",
            annotation_font={"size": 10, "color": colour},
        )  # fmt: skip
    layout(figure, "board time, s", f"power on {trace.rail}, W")
    return figure
