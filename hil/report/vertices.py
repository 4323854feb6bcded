"""The picture of vertices: what each costs against what hangs on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from hil.report.style import ACCENT, layout

SHOWN = 15
"""Rows of the table; the plot shows every vertex."""


def figure(vertices: Mapping[str, Any]) -> go.Figure:
    """Each vertex: what its cheapest choice saves, against what that does to accuracy."""
    rows = [row for row in vertices["rows"] if row["accuracy_points"] is not None]
    plot = go.Figure()
    plot.add_scatter(
        x=[row["saves"] for row in rows],
        y=[row["accuracy_points"] for row in rows],
        text=[f"{row['vertex']}<br>{row['change']}" for row in rows],
        mode="markers",
        marker={"color": ACCENT, "size": 9, "symbol": "circle-open", "line": {"width": 2}},
        hovertemplate="%{text}<br>saves %{x:.4g}<br>%{y:+.2f} points<extra></extra>",
    )
    unit = "mJ" if vertices["metric"] == "energy_mj" else "ms"
    layout(plot, f"saved, {unit} (predicted)", "accuracy, points")
    return plot
