"""What a kept folder holds, made a report: which kind it is, and the raw evidence behind it.

Rule of this file: it reads and arranges; it measures nothing and writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.cli.keeping import RESULT
from hil.cli.rescoring import DAMAGED, read_evidence
from hil.core.errors import ConfigError, HostError

if TYPE_CHECKING:
    from hil.core.evidence import Evidence
    from hil.report.document import Document
    from hil.report.recorded import Recorded, Series

TAKES = (
    "name a folder that `hil synthesize` made, one that `hil profile` or `hil compare` kept "
    "(./runs/profile/..., ./runs/compare/...), or the result.json in it"
)
PROFILES = ("hil/result@", "hil/builds@", "hil/sweep@", "hil/referenced@")


def kept_document(folder: Path) -> Document:
    """Return the report of a folder that `hil profile` or `hil compare` kept.

    Raises:
        ConfigError: it is nothing that a report is made of.
        HostError: a file in it is damaged.
    """
    from hil.report import comparison, profile

    result = _read(folder)
    schema = str(result.get("schema"))
    try:
        if schema.startswith("hil/comparison@"):
            return comparison.document(result)
        if schema.startswith(PROFILES):
            return profile.document(result, _first_run(folder, result))
    except (KeyError, TypeError, StopIteration) as error:
        raise HostError(
            f"{folder / RESULT} is not whole", why=f"missing: {error}", fix=DAMAGED
        ) from error
    raise ConfigError(
        f"there is no report of {folder}", why=f"its result is of format {schema}", fix=TAKES
    )


def _read(folder: Path) -> dict[str, Any]:
    path = folder / RESULT
    if not folder.exists():
        raise ConfigError(f"there is no {folder}", fix=TAKES)
    if not path.is_file():
        what = f"it holds no {RESULT}" if folder.is_dir() else "it is a file of another kind"
        raise ConfigError(f"there is no report of {folder}", why=what, fix=TAKES)
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HostError(f"{path} is damaged", why=str(error), fix=DAMAGED) from error
    if not isinstance(kept, dict):
        raise ConfigError(f"{path} is no result", fix=TAKES)
    return kept


def _first_run(folder: Path, result: Mapping[str, Any]) -> Recorded | None:
    part = (result.get("builds") or [result])[0]
    named = (part.get("evidence") or {}).get("file")
    files = [folder / Path(named).name] if named else sorted(folder.glob("evidence*.json.gz"))
    if not files or not files[0].is_file():
        return None
    return recorded(read_evidence(files[0]), result.get("rail"))


def recorded(evidence: Evidence, rail: str | None) -> Recorded:
    """Arrange raw evidence for its pictures; seconds count from its first phase.

    Args:
        evidence: of one run.
        rail: shown first; all others follow by name.
    """
    from hil.measure.trace import read_power
    from hil.report.recorded import Recorded, Series

    zero_ns = min((mark.start_ns for mark in evidence.marks), default=0)

    def at_s(t_ns: int) -> float:
        return (t_ns - zero_ns) / 1e9

    rails: list[Series] = []
    for record in evidence.power:
        traces = read_power(record).rails
        for name in sorted(traces, key=lambda name: (name != rail, name)):
            samples = traces[name].samples
            label = name if record is evidence.power[0] else f"{record.source} {name}"
            times = [at_s(sample.t_ns) for sample in samples]
            rails.append(Series(label, times, [sample.power_w for sample in samples]))
    windows = [(mark.name, at_s(mark.start_ns), at_s(mark.stop_ns)) for mark in evidence.marks]
    return Recorded(
        rails=rails,
        windows_s=sorted(windows, key=lambda window: window[1]),
        latencies_ms=[ns / 1e6 for block in evidence.latency_ns for ns in block],
        temperatures_c=_temperatures(evidence, at_s),
    )


def _temperatures(evidence: Evidence, at_s: Any) -> list[Series]:
    from hil.report.recorded import Series

    seen: dict[str, list[tuple[float, float]]] = {}
    for state in evidence.states:
        for name, value in (state.get("temps_c") or {}).items():
            if value is not None and name != "PMIC-Die":  # tells 100 whatever it is
                seen.setdefault(name, []).append((at_s(state["t_ns"]), value))
    return [
        Series(name, [t for t, _ in rows], [value for _, value in rows])
        for name, rows in sorted(seen.items())
    ]
