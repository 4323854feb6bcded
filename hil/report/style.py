"""Colours and layout that all plots share."""

from __future__ import annotations

import plotly.graph_objects as go

INK, MUTED, GOOD, BAD, ACCENT = "#1f2933", "#7b8794", "#0f7b4f", "#c0392b", "#2457d6"


def layout(figure: go.Figure, x_title: str, y_title: str) -> None:
    """Titles, margins and fonts."""
    figure.update_layout(
        template="plotly_white",
        height=430,
        margin={"l": 60, "r": 20, "t": 30, "b": 50},
        xaxis_title=x_title,
        yaxis_title=y_title,
        legend={"orientation": "h", "y": 1.12},
        font={"family": "system-ui, sans-serif", "color": INK},
    )
