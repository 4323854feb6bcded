"""How a calibration is shown: what the board resolves, and what measuring costs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from hil.cli.terminal import out


def show(result: Mapping[str, Any]) -> None:
    """Print a calibration."""
    setup = result["setup"]
    label = f" {result['provenance'].upper()} "
    style = "bold white on magenta" if result["provenance"] == "emulated" else "bold black on cyan"
    out.print(f"[{style}]{label}[/] [bold]{escape(setup['device'])}[/], rail {setup['rail']}, "
              f"{setup['source']} every {setup['interval_ms']} ms", soft_wrap=True)  # fmt: skip
    out.print(
        "smallest energy difference told apart by `hil compare` (5 % error, 80 % power):",
        highlight=False,
        soft_wrap=True,
    )
    out.print(_detects(result))
    for line in sentences(result):
        out.print(escape(line), soft_wrap=True, highlight=False)


def _detects(result: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("time on the board", "rounds", "difference", "95 %, few rounds calibrated it"):
        table.add_column(title, justify="right")
    for row in result["detects"]:
        low, high = row["energy_fraction_ci95"]
        table.add_row(
            f"{row['minutes']:g} min",
            str(row["rounds"]),
            f"[bold]{100 * row['energy_fraction']:.2g} %[/]",
            escape(f"[{100 * low:.2g}, {100 * high:.2g}] %"),
        )
    return table


def sentences(result: Mapping[str, Any]) -> list[str]:
    """Return what was found, in sentences."""
    name = result["setup"]["device"]
    lines = []
    if result["detects"]:
        row = next((r for r in result["detects"] if r["minutes"] >= 4), result["detects"][-1])
        lines.append(
            f"on {name} you can detect an energy change of {100 * row['energy_fraction']:.2g} % or "
            f"more in {row['minutes']:g} min (5 % error, 80 % power)"
        )
    lines.append(
        f"two runs of one engine differ by {100 * result['log_ratio_sd']:.2g} % in energy and "
        f"{100 * result['latency_log_ratio_sd']:.2g} % in median latency (standard deviation, "
        f"{result['log_ratio_df']:.0f} rounds of {result['round_s']:.0f} s)"
    )
    lines.append(_line(result, "sampler_power_w", "the sampler itself takes", "W"))
    lines.append(_line(result, "sampler_latency_ratio", "latency with over without it:", ""))
    lines.append(_line(result, "lag_s", "the sensor follows a step with a time constant of", "s"))
    lines.append(f"{result['minutes']:.0f} min on the board, with {result['onnx_sha256'][:12]}")
    return lines


def _line(result: Mapping[str, Any], field: str, words: str, unit: str) -> str:
    value = result[field]
    if value is None:
        return f"{words} unknown: {result['unknown'].get(field)}"
    low, high = result[f"{field}_ci95"]
    return f"{words} {value:.5g} {unit}".rstrip() + f" [{low:.5g}, {high:.5g}]"
