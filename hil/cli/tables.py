"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from hil.report.figures import NETWORK_COLUMNS, figure_text


def networks_table(result: Mapping[str, Any]) -> Table:
    """Prototype, uniform width scaling and the synthesized networks, with intervals."""
    label = result["provenance"].upper()
    table = Table(
        title=f"{result['profile']} on {result['device']} ({label}), 95 % intervals over "
        f"fresh engine builds, energy as read on {result['rail']}",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    table.add_column("network")
    for column in NETWORK_COLUMNS:
        table.add_column(column.title, justify="right")
    table.add_column("verdict")
    networks = [result["prototype"], *result["baselines"], *result["certified"]]
    networks += [*result["not_certified"], *filter(None, [result["least_violating"]])]
    for network in networks:
        cells = []
        for column in NETWORK_COLUMNS:
            text, interval = figure_text(network, column)
            cells.append(f"{text}\n[dim]{escape(interval)}[/]" if interval else text)
        verdict = str(network["verdict"] or "")
        shown = f"[bold green]{verdict}[/]" if verdict.startswith("feasible") else verdict
        suspicion = "" if network["validity"] == "valid" else f", {network['validity']}"
        table.add_row(escape(network["name"]), *cells, f"{shown}\n[dim]{label}{suspicion}[/]")
    return table
