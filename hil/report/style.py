"""Colours and layout that all plots share."""

from __future__ import annotations

import plotly.graph_objects as go

INK, MUTED, GOOD, BAD, ACCENT = "#8a63d2", "#7b8794", "#16935f", "#d9534f", "#3f7ae0"
"""Middle tones: each is read on white and on near-black, so one picture serves both."""

LINES = (ACCENT, GOOD, "#c77d0a", "#c2519b", INK, "#2a9d9d", BAD, MUTED)
"""Colours of lines that lie in one plot."""

GRID = "rgba(128, 138, 150, 0.28)"
CLEAR = "rgba(0, 0, 0, 0)"


def layout(figure: go.Figure, x_title: str, y_title: str) -> None:
    """Titles, margins and fonts; the page's script sets the text's colour to the page's own."""
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": GRID, "automargin": True}
    figure.update_layout(
        template="plotly_white",
        height=430,
        margin={"l": 56, "r": 16, "t": 24, "b": 48},
        legend={"orientation": "h", "y": -0.22, "yanchor": "top", "x": 0},
        font={"family": "system-ui, sans-serif", "color": MUTED, "size": 12},
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
    )
    figure.update_xaxes(title=x_title, **axis)
    figure.update_yaxes(title=y_title, **axis)
