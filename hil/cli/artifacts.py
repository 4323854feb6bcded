"""What a run leaves for people: networks as files, and the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hil.synth.store import RunStore


def write_networks(store: RunStore, result: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write ONNX, weights and certificate of the prototype and every finalist.

    A network of a table has a certificate alone.

    Returns:
        The folders written, one a network.
    """
    entries = [result["prototype"], *result["baselines"], *result["certified"]]
    written = []
    for entry in [*entries, *result["not_certified"]]:
        place = folder / entry["name"].replace(" ", "-")
        place.mkdir(parents=True, exist_ok=True)
        if entry["onnx_sha256"] is not None:
            (place / "network.onnx").write_bytes(store.blob(entry["onnx_sha256"]))
            (place / "weights.pt").write_bytes(store.blob(entry["weights_sha256"]))
        text = json.dumps({**entry, "requirements": result["requirements"]}, indent=1)
        (place / "certificate.json").write_text(text, encoding="utf-8")
        written.append(place)
    return written


def write_report(
    store: RunStore, result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], path: Path
) -> None:
    """Write the run's page, with the winner's power trace from the evidence kept."""
    from hil.report.synthesis import SearchPoint, render

    points = [
        SearchPoint(row["name"], row["energy_mj"], row["accuracy"], status_of(row))
        for row in rows
        if row["energy_mj"] is not None
    ]
    shown = [(e, "uniform") for e in result["baselines"]] + [(result["prototype"], "prototype")]
    shown += [(entry, "certified") for entry in result["certified"]]
    points += [
        SearchPoint(entry["name"], entry["energy_mj"], entry["accuracy"], status)
        for entry, status in shown
        if entry["energy_mj"] is not None
    ]
    best = (result["certified"] or [result["prototype"]])[0]
    trace = _trace(store, best, result["rail"])
    page = render(result, points, trace, rows, generations_told(store))
    path.write_text(page, encoding="utf-8")


def generations_told(store: RunStore) -> dict[int, int]:
    """Return each round's generation of the generator, as the journal has it."""
    return {int(step.key): step.value["generation"] for step in store.steps("round")}


def status_of(row: Mapping[str, Any]) -> str:
    """How the plot marks a network that the search measured."""
    if row["accuracy"] is not None:
        return "trained"
    return "refused" if row["verdict"] == "infeasible" else "passed"


def _trace(store: RunStore, entry: Mapping[str, Any], rail: str | None) -> Any:
    from hil.core.evidence import Evidence
    from hil.core.tegrastats import parse
    from hil.report.synthesis import PowerTrace

    if rail is None or not entry["evidence"] or not entry["evidence"][0]:
        return None
    evidence = Evidence.from_json(store.json_blob(entry["evidence"][0]))
    if not evidence.power_lines:
        return None
    zero_ns = evidence.power_lines[0][0]
    readings = [(t_ns, parse(line)) for t_ns, line in evidence.power_lines]
    known = [(t_ns, r.rails[rail]) for t_ns, r in readings if r is not None and rail in r.rails]
    windows = [
        (m.name, (m.start_ns - zero_ns) / 1e9, (m.stop_ns - zero_ns) / 1e9)
        for m in evidence.marks
        if m.name in {"idle_before", "block", "idle_after"}
    ]
    return PowerTrace(
        rail,
        [(t_ns - zero_ns) / 1e9 for t_ns, _ in known],
        [reading.now_mw / 1000 for _, reading in known],
        windows,
    )
