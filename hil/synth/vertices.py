"""What every vertex of the prototype costs, and what accuracy hangs on it, as finally believed.

A vertex's cost is what the metric falls by under the choice that saves most of it, all others as in
the prototype; its sensitivity is what that same choice does to accuracy. Both are medians of the
inquisitor's posteriors, so they rest on every network measured and trained, and are no measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hil.synth.inquisitor import Inquisitor
from hil.synth.receipts import Insight
from hil.synth.records import ACCURACY, Arch

_COSTS = ("energy_mj", "latency_p50_ms", "latency_p99_ms", "latency_p90_ms", "latency_p95_ms")


def vertices_json(
    inquisitor: Inquisitor, changes: Callable[[Arch], tuple[str, ...]]
) -> dict[str, Any] | None:
    """Cost and sensitivity by vertex, costliest first; None where no cost was learned.

    Args:
        inquisitor: when the search is over.
        changes: an architecture's changes against the prototype, in words.
    """
    known = inquisitor.generator.screen.posteriors
    metric = next((m for m in _COSTS if m in known), None)
    if metric is None:
        return None
    space = inquisitor.space
    by_name: dict[str, list[Insight]] = {}
    for insight in inquisitor.insights():
        by_name.setdefault(insight.variable, []).append(insight)
    rows = []
    for j, variable in enumerate(space.variables):
        most = min(by_name[variable.name], key=lambda i: i.changes[metric])
        arch = tuple(most.choice if i == j else v.identity for i, v in enumerate(space.variables))
        rows.append(_row(variable.name, most, metric, changes(arch)))
    rows.sort(key=lambda row: (-row["saves"], row["vertex"]))
    return {
        "metric": metric,
        "provenance": "predicted",
        "measured_networks": len([o for o in inquisitor.observations if metric in o.costs]),
        "trained_networks": len([o for o in inquisitor.observations if o.accuracy is not None]),
        "rows": rows,
    }


def _row(name: str, most: Insight, metric: str, text: tuple[str, ...]) -> Mapping[str, Any]:
    points = most.changes.get(ACCURACY)
    return {
        "vertex": name,
        "change": ", ".join(text),
        "saves": max(-most.changes[metric], 0.0),
        "accuracy_points": None if points is None else 100.0 * points,
        "macs": most.changes["macs"],
        "parameters": most.changes["params"],
    }
