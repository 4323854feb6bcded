"""Templates and plots made one self-contained page; equal data give equal bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined


def page(template: str, figures: Mapping[str, go.Figure], **values: Any) -> str:
    """Return a page; the template finds its figures in `plots`, in the order drawn."""
    environment = Environment(
        loader=PackageLoader("hil.report"), autoescape=True, undefined=StrictUndefined
    )
    plots = {name: _plot(figure, i) for i, (name, figure) in enumerate(figures.items())}
    return environment.get_template(template).render(plots=plots, **values)


def _plot(figure: go.Figure, index: int) -> str:
    # The library goes into the page once; fixed ids make equal data give equal pages.
    return str(
        figure.to_html(
            full_html=False,
            div_id=f"plot-{index}",
            default_height="430px",
            include_plotlyjs="inline" if index == 0 else False,
            config={"displayModeBar": False, "responsive": True},
        )
    )
