"""Results again from raw evidence: where evidence lies, how it was scored, what has changed.

Rule of this file: it reads files and computes; it shows nothing and writes nothing.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.cli.keeping import EVIDENCE, RESULT
from hil.core.errors import ConfigError, HilError, HostError, MeasurementError

if TYPE_CHECKING:
    from hil.core.evidence import Evidence
    from hil.measure.comparison import Scored

TOLERANCE = 1e-12
"""Relative: below it two figures differ by rounding alone."""
DAMAGED = "take it from a backup, or measure again: nothing is guessed from half a file"
# Describe the file or the moment rather than the measurement.
_NOT_COMPARED = frozenset({"schema"})


@dataclass(frozen=True)
class Change:
    """One figure that differs; the names of figures inside others are dotted."""

    figure: str
    old: Any
    new: Any

    @property
    def relative(self) -> float | None:
        """Change relative to the stored figure; None where that means nothing."""
        if not _is_number(self.old) or not _is_number(self.new) or self.old == 0:
            return None
        return float(self.new / self.old - 1)


@dataclass(frozen=True)
class Rescored:
    """One result, recomputed.

    Attributes:
        result: None where it could not be recomputed; `error` then says why.
        stored: what was stored beside the evidence, None where nothing was.
    """

    name: str
    rail: str | None
    result: Mapping[str, Any] | None
    stored: Mapping[str, Any] | None
    changes: tuple[Change, ...]
    error: HilError | None = None


def rescored(what: Path, rail: str | None) -> tuple[Rescored, ...]:
    """Recompute every result that a path holds evidence of.

    Args:
        what: an evidence file, the folder of a result, or the folder of a synthesis run.
        rail: to read energy on; None is the one it was stored with.

    Raises:
        ConfigError: there is nothing of the kind at that path.
        HostError: a file is damaged.
    """
    if what.is_dir():
        from hil.synth.store import DATABASE

        if (what / DATABASE).is_file():
            return tuple(_of_run(what, rail))
        return tuple(_of_folder(what, rail))
    if not what.is_file():
        raise ConfigError(
            f"there is no {what}",
            fix="name an evidence file, a folder in ./runs/profile, or the folder of a run",
        )
    if what.name == RESULT:
        return tuple(_of_folder(what.parent, rail))
    return (_one(str(what), read_evidence(what), {}, None, rail),)


def read_evidence(path: Path) -> Evidence:
    """Read raw evidence, compressed or not.

    Raises:
        ConfigError: the file is not evidence.
        HostError: it is damaged.
    """
    from hil.core.evidence import Evidence

    try:
        data = path.read_bytes()
        text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        return Evidence.from_json(json.loads(text))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise HostError(f"{path} is damaged", why=str(error), fix=DAMAGED) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is no evidence",
            why=str(error),
            fix="name a file that profile or compare kept (evidence*.json.gz)",
        ) from error
    except OSError as error:
        raise HostError(f"cannot read {path}", why=str(error)) from error


def _of_folder(folder: Path, rail: str | None) -> Iterator[Rescored]:
    stored = _stored(folder)
    files = sorted(folder.glob("evidence*.json.gz"))
    if not files:
        raise ConfigError(
            f"there is no evidence in {folder}",
            fix="name a folder that profile, compare or synthesize wrote",
        )
    schema = str((stored or {}).get("schema"))
    if stored is not None and "rounds" in stored:
        yield _of_rounds(folder, stored, rail)
    elif stored is not None and schema.startswith(("hil/builds@", "hil/sweep@")):
        for part in _parts(stored):
            path = folder / Path(part["evidence"]["file"]).name
            yield _guarded(path, part["scored_with"], part, rail)
    else:
        single = stored if schema.startswith("hil/result@") else None
        settings = (stored or {}).get("scored_with") or {}
        own = Path(((single or {}).get("evidence") or {}).get("file") or EVIDENCE).name
        for path in files:
            yield _guarded(path, settings, single if path.name == own else None, rail)


def _guarded(
    path: Path, settings: Mapping[str, Any], stored: Mapping[str, Any] | None, rail: str | None
) -> Rescored:
    try:
        return _one(path.name, read_evidence(path), settings, stored, rail)
    except HilError as error:
        return Rescored(path.name, rail, None, stored, (), error)


def _parts(stored: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if "builds" in stored:
        return list(stored["builds"])
    return [point["result"] for point in stored["points"] if point["result"] is not None]


def _stored(folder: Path) -> dict[str, Any] | None:
    path = folder / RESULT
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise HostError(f"{path} is damaged", why=str(error), fix=DAMAGED) from error


def _of_run(folder: Path, rail: str | None) -> Iterator[Rescored]:
    from hil.core.evidence import Evidence
    from hil.synth.store import RunStore

    with RunStore.open(folder, write=False) as store:
        for step in store.steps("measure"):
            if step.value["refused"] is not None or not step.value["evidence"]:
                continue
            stored = step.value["result"]
            settings = {"rail": stored.get("rail")}
            try:
                evidence = Evidence.from_json(store.json_blob(step.value["evidence"]))
                yield _one(step.key, evidence, settings, stored, rail)
            except HilError as error:
                yield Rescored(step.key, rail, None, stored, (), error)


def _one(
    name: str,
    evidence: Evidence,
    settings: Mapping[str, Any],
    stored: Mapping[str, Any] | None,
    rail: str | None,
) -> Rescored:
    chosen = rail or settings.get("rail") or (stored or {}).get("rail") or _total_rail(evidence)
    result = _measured(evidence, settings, chosen).to_json()
    changes = () if stored is None else tuple(changes_between(stored, result))
    return Rescored(name, chosen, result, stored, changes)


def _total_rail(evidence: Evidence) -> str | None:
    """Return the rail of the whole module, for evidence that stands alone.

    Raises:
        MeasurementError: no rail of it is known to be that.
    """
    from hil.measure.sensors import TOTAL_RAILS, board_of
    from hil.measure.trace import read_power

    if evidence.power_source == "none":
        return None
    rails = list(read_power(evidence.power[0]).rails)
    board = board_of(evidence.board.get("model"))
    totals = {name: rail for name, rail in TOTAL_RAILS.items() if board in (None, name)}
    total = [rail for rail in rails if rail in totals.values()]
    if len(rails) == 1 or len(total) == 1:
        return (total or rails)[0]
    raise MeasurementError(
        "the evidence does not say which rail to read energy on",
        why=f"its rails are {', '.join(rails) or 'none'}",
        fix="name one: --rail VDD_IN",
    )


def _measured(evidence: Evidence, settings: Mapping[str, Any], rail: str | None) -> Any:
    from hil.measure.calibration import Calibration
    from hil.measure.numbers import measurement
    from hil.measure.sensors import SensorErrors
    from hil.measure.stopping import Limit, StopRule

    sensor, stop, calibration = (settings.get(k) for k in ("sensor", "stop", "calibration"))
    rule = None
    if stop is not None:
        limits = tuple(Limit(**limit) for limit in stop["limits"])
        rule = StopRule(**{**stop, "limits": limits})
    return measurement(
        evidence,
        rail,
        sensor=None if sensor is None else SensorErrors(**sensor),
        stop=rule,
        calibration=None if calibration is None else Calibration.from_json(calibration),
    )


def _of_rounds(folder: Path, stored: Mapping[str, Any], rail: str | None) -> Rescored:
    """Recompute a comparison: every run of every round, then the ratios."""
    from hil.cli.rounds import comparison_json
    from hil.measure.comparison import compared

    settings = {**stored["scored_with"]}
    chosen = rail or settings.get("rail")
    rounds = [_scored(folder, row, settings, chosen) for row in stored["rounds"]]
    done = comparison_json(compared(rounds, looks=stored["looks"] or None))
    result = {"provenance": stored["provenance"], "rail": chosen, **done}
    old = {name: stored[name] for name in done if name in stored and name not in ("a", "b")}
    old |= {side: {k: stored[side].get(k) for k in done[side]} for side in ("a", "b")}
    return Rescored(folder.name, chosen, result, old, tuple(changes_between(old, done)))


def _scored(
    folder: Path, row: Mapping[str, Any], settings: Mapping[str, Any], rail: str | None
) -> Scored:
    from hil.measure.comparison import Scored

    sides = {side: read_evidence(folder / row[side]["file"]) for side in ("a", "b")}
    a, b = (_measured(sides[side], settings, rail) for side in ("a", "b"))
    return Scored(row["build"], row["first"], row["at_s"], a, b)


def changes_between(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> Iterator[Change]:
    """Yield every figure of the new result that the stored one has otherwise.

    A field that only one of the two knows (another release wrote it) is no change.
    """
    for name in new:
        if name not in old or (not prefix and name in _NOT_COMPARED):
            continue
        yield from _differ(f"{prefix}{name}", old[name], new[name])


def _differ(name: str, old: Any, new: Any) -> Iterator[Change]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from changes_between(old, new, f"{name}.")
    elif _is_list(old) and _is_list(new) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differ(f"{name}[{index}]", one, other)
    elif _is_number(old) and _is_number(new):
        if abs(new - old) > TOLERANCE * max(abs(old), abs(new)):
            yield Change(name, old, new)
    elif old != new:
        yield Change(name, old, new)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
