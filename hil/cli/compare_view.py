"""How a comparison is shown: both sides, the ratio with its interval, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hil.cli.profile_view import COLOURS, DIGITS, unplanned
from hil.cli.terminal import out
from hil.report.figures import number

_ROWS = (
    ("energy, gross", "energy_mj", "mJ"),
    ("energy, net of idle", "energy_net_mj", "mJ"),
    ("power under load", "power_w", "W"),
    ("latency p50", "latency_p50_ms", "ms"),
    ("latency p99", "latency_p99_ms", "ms"),
)


def show(result: Mapping[str, Any]) -> None:
    """Print a comparison."""
    provenance, validity = result["provenance"], result["validity"]
    style = "bold white on magenta" if provenance == "emulated" else "bold black on cyan"
    heading = Text.assemble((f" {provenance.upper()} ", style), " ")
    heading.append(validity.upper(), style=COLOURS[validity])
    out.print(heading.append(f"  on {result['device']}", style="bold"), soft_wrap=True)
    for side in ("a", "b"):
        engines = ", ".join(sha256[:12] for sha256 in result[side]["engines_sha256"])
        line = f"{side.upper()}: {result[side]['model']}  {result[side]['precision']}  {engines}"
        out.print(line, style="dim", soft_wrap=True, highlight=False)
    out.print(ratios_table(result))
    for line in sentences(result):
        out.print(escape(line), soft_wrap=True, highlight=False)
    if result["calibration"]:
        out.print(escape(result["calibration"]), soft_wrap=True, highlight=False)
    for line in unplanned(result):
        out.print(escape(line), soft_wrap=True, highlight=False)
    for reason in result["reasons"]:
        out.print(f"[{COLOURS[validity]}]{validity}:[/] {escape(reason)}", soft_wrap=True)


def ratios_table(result: Mapping[str, Any]) -> Table:
    """Return the table of both sides' figures and their ratios."""
    rail = result.get("rail")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"figure{f', read on {rail}' if rail else ''}")
    for title in ("A", "B", "B / A", "95 % of the ratio"):
        table.add_column(title, justify="right", no_wrap=True)
    for title, name, unit in _ROWS:
        ratio = result[f"{name}_ratio"]
        if ratio is None:
            table.add_row(title, "-", "-", "-", f"[dim]{escape(result[f'{name}_ratio_reason'])}[/]")
            continue
        low, high = result[f"{name}_ratio_ci95"]
        colour = "green" if high < 1 else "red" if low > 1 else "default"
        table.add_row(
            title,
            f"{number(result['a'][name], DIGITS)} {unit}",
            f"{number(result['b'][name], DIGITS)} {unit}",
            f"[bold {colour}]{ratio:.4f}[/]",
            escape(f"[{low:.4f}, {high:.4f}]"),
        )
    return table


def sentences(result: Mapping[str, Any]) -> list[str]:
    """Return what the table means, in sentences."""
    lines = [verdict(result, name, noun) for name, noun in _SPOKEN]
    unit = "fresh engine builds" if result["scope"] == "build" else "these two engines"
    dropped = result["rounds_dropped"]
    without = f", {dropped} dropped for invalid runs" if dropped else ""
    lines.append(
        f"scope {result['scope']}: about {unit}; {result['rounds_used']} rounds by turns"
        f"{without}, {result['looks']} looks, {result['stopped']['board_s']:.0f} s on the board"
    )
    drift = result.get("energy_mj_ratio_drift_per_run")
    if drift is not None:
        lines.append(f"drift from run to run {drift:+.2%}: cancels, since the order is mirrored")
    if result["resolves"] is not None:
        lines.append(
            f"this board resolves {100 * result['resolves']:.2g} % in as many rounds (calibrated)"
        )
    return [line for line in lines if line]


_SPOKEN = (("energy_mj", "energy"), ("latency_p50_ms", "median latency"))


def verdict(result: Mapping[str, Any], name: str, noun: str) -> str:
    """Say what a ratio's interval lets one say about B, and no more."""
    ratio = result[f"{name}_ratio"]
    if ratio is None:
        return ""
    low, high = result[f"{name}_ratio_ci95"]
    if low <= 1 <= high:
        most = max(1 - low, high - 1)
        return f"{noun}: no difference shown; one beyond {100 * most:.2g} % is ruled out at 95 %"
    less, word = (1 - ratio, "less") if ratio < 1 else (ratio - 1, "more")
    ends = sorted(abs(1 - end) for end in (low, high))
    return (
        f"{noun}: B needs {100 * less:.3g} % {word} than A, "
        f"[{100 * ends[0]:.3g}, {100 * ends[1]:.3g}] % at 95 %"
    )
