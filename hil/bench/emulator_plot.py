"""Plots of predicted against measured, as SVG written by hand: no plotting library is needed."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor, log10
from pathlib import Path

import numpy as np

from hil.emulator.batch import Array

SIZE, MARGIN = 360, 46
MOST_POINTS = 1500
TITLES = {
    "latency": ("NAS-Bench-201 cells, latency", "ms"),
    "energy": ("NAS-Bench-201 cells, energy", "mJ"),
    "nvidia": ("NVIDIA's TensorRT table, latency", "ms"),
}


def write_plots(
    folder: Path, points: Mapping[str, tuple[Array, Array]], dataset: str
) -> list[Path]:
    """Writes one plot for each figure and returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, (measured, predicted) in points.items():
        title, unit = TITLES[name]
        stem = "emulator-nvidia" if name == "nvidia" else f"emulator-{dataset}-{name}"
        file = folder / f"{stem}.svg"
        file.write_text(scatter(measured, predicted, title, unit), encoding="utf-8")
        files.append(file)
    return files


def scatter(measured: Array, predicted: Array, title: str, unit: str) -> str:
    """Draws predicted against measured on logarithmic axes, with lines at +-10 %.

    At most 1,500 points are drawn, evenly spaced over the rows.
    """
    step = max(1, ceil(len(measured) / MOST_POINTS))
    both = np.concatenate([measured, predicted])
    low, high = float(both.min()) / 1.1, float(both.max()) * 1.1
    span = log10(high / low)

    def place(value: float) -> float:
        return MARGIN + (SIZE - MARGIN - 12) * log10(value / low) / span

    def line(factor: float, style: str) -> str:
        start, end = max(low, low / factor), min(high, high / factor)
        x1, y1, x2, y2 = place(start), place(start * factor), place(end), place(end * factor)
        return (
            f'<line x1="{x1:.1f}" y1="{SIZE - y1:.1f}" x2="{x2:.1f}" y2="{SIZE - y2:.1f}" {style}/>'
        )

    dots = "".join(
        f'<circle cx="{place(m):.1f}" cy="{SIZE - place(p):.1f}" r="1.6"/>'
        for m, p in zip(measured[::step].tolist(), predicted[::step].tolist(), strict=True)
    )
    ticks = "".join(
        f'<text x="{place(t):.0f}" y="{SIZE - MARGIN + 14}" text-anchor="middle">{t:g}</text>'
        f'<text x="{MARGIN - 5}" y="{SIZE - place(t) + 4:.0f}" text-anchor="end">{t:g}</text>'
        for t in _ticks(low, high)
    )
    frame = SIZE - MARGIN - 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE} {SIZE}" width="{SIZE}" '
        f'height="{SIZE}" font-family="sans-serif" font-size="11">'
        f'<rect width="{SIZE}" height="{SIZE}" fill="white"/>'
        f'<rect x="{MARGIN}" y="12" width="{frame}" height="{frame}" fill="none" stroke="#999"/>'
        f"{line(1.0, _style('#333'))}{line(1.1, _style('#bbb'))}{line(1 / 1.1, _style('#bbb'))}"
        f'<g fill="#1f6fb2" fill-opacity="0.45">{dots}</g>{ticks}'
        f'<text x="{SIZE / 2}" y="{SIZE - 6}" text-anchor="middle">measured, {unit}</text>'
        f'<text transform="translate(12 {SIZE / 2}) rotate(-90)" text-anchor="middle">'
        f"predicted, {unit}</text>"
        f'<text x="{MARGIN + 8}" y="28">{title}</text></svg>\n'
    )


def _style(colour: str) -> str:
    return f'stroke="{colour}" stroke-width="1"'


def _ticks(low: float, high: float) -> list[float]:
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    return [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= m * 10.0**d <= high]
