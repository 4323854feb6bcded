"""Pictures of one run's raw evidence: power by rail, temperatures, latencies.

Data in, pictures out; nothing is judged here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import plotly.graph_objects as go

from hil.report.style import ACCENT, BAD, GOOD, LINES, MUTED, layout

_SHADES = {"block": GOOD, "settle": "#c77d0a"}
"""Colours of phases; all others are quiet ones."""
BINS = 60


@dataclass(frozen=True)
class Series:
    """One line over time: seconds since the run's zero, and values."""

    name: str
    t_s: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Recorded:
    """One run as it came home.

    Attributes:
        rails: power in watts, the rail that figures are read on first.
        windows_s: (phase, start, stop) in seconds.
        latencies_ms: of every inference in a window.
        temperatures_c: by sensor.
    """

    rails: Sequence[Series] = ()
    windows_s: Sequence[tuple[str, float, float]] = ()
    latencies_ms: Sequence[float] = ()
    temperatures_c: Sequence[Series] = field(default_factory=tuple)


def power(run: Recorded) -> go.Figure:
    """Power by rail over time; idle, settling and the windows that count are shaded."""
    figure = _lines(run.rails, "W", "hv")
    _shade(figure, run.windows_s)
    layout(figure, "board time, s", "power, W")
    return figure


def temperatures(run: Recorded) -> go.Figure:
    """Temperatures over time."""
    figure = _lines(run.temperatures_c, "degrees C", "linear")
    _shade(figure, run.windows_s)
    layout(figure, "board time, s", "temperature, degrees C")
    return figure


def _lines(series: Sequence[Series], unit: str, shape: str) -> go.Figure:
    figure = go.Figure()
    for index, one in enumerate(series):
        figure.add_scatter(
            x=list(one.t_s),
            y=list(one.values),
            mode="lines" if len(one.t_s) > 1 else "markers",
            name=one.name,
            line={
                "color": LINES[index % len(LINES)],
                "shape": shape,
                "width": 2 if index == 0 else 1.2,
            },
            hovertemplate="%{x:.2f} s<br>%{y:.3f} " + unit,
        )
    figure.update_layout(showlegend=True)
    return figure


def _shade(figure: go.Figure, windows_s: Sequence[tuple[str, float, float]]) -> None:
    named = set()
    for name, start_s, stop_s in windows_s:
        colour = _SHADES.get(name, MUTED)
        words = {"block": "windows", "idle_before": "idle", "idle_after": "idle"}
        label = "" if name in named else words.get(name, name.replace("_", " "))
        named.add(name)
        place = "bottom left" if name == "settle" else "top left"
        wide = stop_s - start_s > 0.02 * (windows_s[-1][2] - windows_s[0][1])
        figure.add_vrect(
            x0=start_s, x1=stop_s, fillcolor=colour, opacity=0.13, line_width=0,
            annotation_text=label if wide else "", annotation_position=place,
            annotation_font={"size": 11, "color": colour},
        )  # fmt: skip


def histogram(values: Sequence[float], bins: int = BINS) -> tuple[list[float], list[int], int]:
    """Count values in bins of one width from the least to the 99.9th percentile.

    Returns:
        the bins' edges (one more than counts), the counts, and how many lie beyond the last edge.
    """
    ordered = sorted(values)
    low = ordered[0]
    high = ordered[min(math.ceil(0.999 * len(ordered)), len(ordered)) - 1]
    width = (high - low) / bins or max(abs(low), 1.0) * 1e-6
    counts, beyond = [0] * bins, 0
    for value in ordered:
        if value > high:
            beyond += 1
        else:
            counts[min(int((value - low) / width), bins - 1)] += 1
    return [low + width * i for i in range(bins + 1)], counts, beyond


def latency(run: Recorded, quantiles: Mapping[str, float]) -> go.Figure:
    """How long inferences took, with the percentiles that the result states."""
    edges, counts, _ = histogram(run.latencies_ms)
    figure = go.Figure()
    figure.add_bar(
        x=[(a + b) / 2 for a, b in pairwise(edges)],
        y=counts,
        width=edges[1] - edges[0],
        marker={"color": ACCENT, "opacity": 0.6, "line": {"width": 0}},
        name="inferences",
        hovertemplate="%{x:.4g} ms: %{y}<extra></extra>",
    )
    for index, (name, value) in enumerate(quantiles.items()):
        if value > edges[-1]:
            continue
        figure.add_vline(x=value, line={"color": BAD, "dash": "dash", "width": 1.5})
        figure.add_annotation(
            x=value, y=1 - 0.07 * index, yref="paper", text=name, showarrow=False,
            xanchor="left", font={"size": 11, "color": BAD},
        )  # fmt: skip
    layout(figure, "latency of an inference, ms", "inferences")
    figure.update_layout(bargap=0, showlegend=False)
    return figure
