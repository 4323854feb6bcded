"""The figures of a synthesis run as tables, for Markdown and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hil.report import explore
from hil.report.document import Cell, Document, Section, ends
from hil.report.figures import NETWORK_COLUMNS

Result = Mapping[str, Any]


def document(
    result: Result, rows: Sequence[Mapping[str, Any]], told: Mapping[int, int]
) -> Document:
    """Return a run's tables.

    Args:
        result: the final object of `hil synthesize --json`.
        rows: what the run kept of every network of the search.
        told: round to the generator's generation after it.
    """
    words = f"run {result['run']}, seed {result['seed']}, {result['board']}"
    return Document(
        kind="hil synthesize",
        subject=f"{result['profile']} on {result['device']}",
        provenance=result["provenance"],
        validity=None,
        facts=[words],
        sections=[
            Section("Requirements", lines=[each["text"] for each in result["requirements"]]),
            _networks(result),
            _searched(rows),
            _generations(rows, told),
            _refusals(rows),
            _cost(result),
        ],
    )


def _networks(result: Result) -> Section:
    networks = [result["prototype"], *result["baselines"], *result["certified"]]
    networks += result["not_certified"]
    networks += [result["least_violating"]] if result["least_violating"] else []
    columns, rows = ["network"], []
    for column in NETWORK_COLUMNS:
        columns += [column.title] + ([f"{column.title}, 95 %"] if column.interval else [])
    for network in networks:
        row: list[Cell] = [network["name"]]
        for column in NETWORK_COLUMNS:
            value = network.get(column.field)
            row.append(None if value is None else float(value * column.scale))
            if column.interval:
                both = ends(network, f"{column.field}_ci95")
                row.append(both and (both[0] * column.scale, both[1] * column.scale))
        rows.append([*row, network.get("verdict") or ""])
    last = len(columns)
    return Section("Networks", "", [*columns, "verdict"], rows, frozenset({0, last}))


def _searched(rows: Sequence[Mapping[str, Any]]) -> Section:
    fields = ("energy_mj", "latency_p50_ms", "latency_p99_ms", "accuracy", "utility")
    columns = ("network", "round", "energy mJ", "p50 ms", "p99 ms", "accuracy %", "U", "verdict")
    return Section(
        "Networks of the search",
        "Search figures, of one measurement each: none of these is a certificate.",
        columns,
        [(r["name"], r["round"], *(r.get(f) for f in fields), r["verdict"] or "") for r in rows],
        frozenset({0, len(columns) - 1}),
    )


def _generations(rows: Sequence[Mapping[str, Any]], told: Mapping[int, int]) -> Section:
    made = explore.generations(rows, told)
    return Section(
        "Generations",
        "",
        ("round", "generation", "measured", "trained", "satisfied", "best U", "mean U"),
        [(str(row["round"]), *list(row.values())[1:]) for row in made],
    )


def _refusals(rows: Sequence[Mapping[str, Any]]) -> Section:
    return Section(
        "Refused",
        "Mostly for: PREDICTED, what the best alternative of that choice alone would give back.",
        ("network", "round", "missed", "mostly for"),
        [(r["name"], r["round"], r["missed"], r["blame"]) for r in explore.refusals(rows)],
        frozenset({0, 2, 3}),
    )


def _cost(result: Result) -> Section:
    cost = [(name, value) for name, value in result["cost"].items() if not isinstance(value, dict)]
    return Section("What it cost", "", ("what", "is"), cost)
