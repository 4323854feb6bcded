"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from hil.report.figures import NETWORK_COLUMNS, figure_text
from hil.report.plausible import rows, titles


def networks_table(result: Mapping[str, Any]) -> Table:
    """Prototype, uniform width scaling and the synthesized networks side by side."""
    label = result["provenance"].upper()
    networks = [result["prototype"], *result["baselines"], *result["certified"]]
    networks += [*result["not_certified"], *filter(None, [result["least_violating"]])]
    table = Table(
        title=f"{result['profile']} on {result['device']}: {label} figures, 95 % intervals over "
        f"fresh engine builds, energy as read on {result['rail']}",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    table.add_column("", overflow="fold")
    for network in networks:
        table.add_column(escape(network["name"]), justify="right", overflow="fold")
    for column in NETWORK_COLUMNS:
        cells = []
        for network in networks:
            text, interval = figure_text(network, column)
            cells.append(f"{text}\n[dim]{escape(interval)}[/]" if interval else text)
        table.add_row(column.title, *cells)
    if named := titles(result):
        shown = [rows(network) for network in networks]
        for number, title in enumerate(named):
            texts = [row[number] for row in shown]
            table.add_row(title, *(f"{t}\n[dim]{escape(i)}[/]" if i else t for t, i in texts))
    if any(network.get("binding") for network in networks):
        table.add_row("closest limit", *(_closest(network) for network in networks))
    table.add_row("verdict", *(_verdict(network) for network in networks))
    table.add_row(
        "provenance",
        *(f"{label}\n[dim]{_doubt(network)}[/]" for network in networks),
    )
    return table


METHOD_COLUMNS = (
    ("best_u", "best U", ".2f"),
    ("least_energy_mj", "energy mJ", ".4g"),
    ("energy_ratio", "over hil's", ".3f"),
    ("energy_ratio_to_prototype", "over prototype's", ".3f"),
    ("measurements", "measured", "d"),
    ("trainings", "trained", "d"),
    ("feasible", "feasible", "d"),
    ("device_seconds", "board s", ".0f"),
)


def methods_table(result: Mapping[str, Any]) -> Table:
    """What each way to search made of the same budget; energy at equal accuracy."""
    compared = result["compare"]
    label = compared["provenance"].upper()
    table = Table(
        title=f"methods on the same budget: {label} figures of the search, not certified; least "
        "energy at no less accuracy than hil's best network",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    table.add_column("method")
    for _, title, _ in METHOD_COLUMNS:
        table.add_column(title, justify="right")
    for row in compared["methods"]:
        texts = ("-" if row[f] is None else format(row[f], form) for f, _, form in METHOD_COLUMNS)
        table.add_row(escape(row["method"]), *texts)
    return table


def _closest(network: Mapping[str, Any]) -> str:
    """Which limit binds, and by what share of it the certificate keeps it."""
    binding = network.get("binding")
    if binding is None:
        return "-"
    mode = "" if binding["nvpmodel"] is None else f" in mode {binding['nvpmodel']}"
    return f"{binding['metric']}{mode}\n[dim]{100 * binding['slack']:+.1f} % of it left[/]"


def _verdict(network: Mapping[str, Any]) -> str:
    verdict = str(network["verdict"] or "-")
    return f"[bold green]{verdict}[/]" if verdict.startswith("feasible") else verdict


def _doubt(network: Mapping[str, Any]) -> str:
    return "" if network["validity"] == "valid" else str(network["validity"])
