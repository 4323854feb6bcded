"""The device file that a first contact proposes: the old one, with what was found.

Rule of this file: pure, but for `settle`, which writes beside the old file unless told to replace
it. What a device file has no field for stands in its comments.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hil.core.errors import HostError
from hil.core.names import SHIPPED
from hil.device.bringup import Result


@dataclass(frozen=True)
class Settled:
    """A device file as written.

    Attributes:
        path: where.
        diff: against the old one, as `diff -u` shows it; empty where no field changed.
    """

    path: Path
    diff: str


def proposals(results: Sequence[Result]) -> dict[str, Any]:
    """Return the fields that stages know better, by dotted name; later stages win."""
    fields: dict[str, Any] = {}
    for result in results:
        fields |= dict(result.outcome.proposed)
    return fields


def notes(results: Sequence[Result]) -> list[str]:
    """Return what was found and has no field, a line each."""
    facts = {one.stage: one.outcome.facts for one in results if one.outcome.facts}
    told = []
    if "identity" in facts:
        one = facts["identity"]
        told.append(f"board: {one['model']}, L4T {one['l4t']}")
    if "rails" in facts:
        told.append(f"rails: {', '.join(facts['rails']['power_w'])}")
    if "sensor" in facts:
        told.append(f"monitors: {facts['sensor']['monitors'] or 'tell nothing of themselves'}")
    if "modes" in facts:
        told.append(f"modes: {', '.join(f'{n} {m}' for n, m in facts['modes']['modes'].items())}")
    if "privileges" in facts:
        told += [f"sudo allows: {line}" for line in facts["privileges"]["allowed"]]
    return [_plain(line) for line in told]


def drafted(old: str, fields: Mapping[str, Any], comments: Sequence[str]) -> str:
    """Return a device file with some fields changed and what was found in comments.

    Args:
        old: text of the device file.
        fields: by dotted name; a part that is missing is made.
        comments: lines.
    """
    data = yaml.safe_load(old)
    for name, value in fields.items():
        *above, last = name.split(".")
        place = data
        for part in above:
            if not isinstance(place.get(part), dict):
                place[part] = {}
            place = place[part]
        place[last] = value
    head = ["Found by `hil bringup`; a field that it changed is in the difference it showed."]
    text = "".join(f"# {line}\n" for line in [*head, *comments])
    return text + yaml.safe_dump(data, sort_keys=False)


def difference(old: str, new: str, name: str) -> str:
    """Return what changes between two device files, comments and layout left aside."""
    before, after = (
        yaml.safe_dump(yaml.safe_load(text), sort_keys=False).splitlines() for text in (old, new)
    )
    return "\n".join(difflib.unified_diff(before, after, name, f"{name} (found)", lineterm="", n=1))


def settle(source: Path, results: Sequence[Result], *, write: bool, cwd: Path) -> Settled:
    """Write the device file as found: over the old one only with `write`.

    Args:
        source: the device file that was used.
        results: of the stages.
        write: replace `source`; one that ships with hil is copied to ./devices instead.
        cwd: where the file goes if `source` ships with hil.

    Raises:
        HostError: it cannot be written.
    """
    try:
        old = source.read_text(encoding="utf-8")
        new = drafted(old, proposals(results), notes(results))
        shipped = source.absolute().is_relative_to(SHIPPED.absolute())
        folder = cwd / "devices" if shipped else source.parent
        name = source.name if write else f"{source.stem}.found{source.suffix}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_text(new, encoding="utf-8")
    except OSError as error:
        raise HostError("the device file cannot be written", why=str(error)) from error
    return Settled(path, difference(old, new, source.name))


def _plain(text: str) -> str:
    """Return what a board told as text that cannot leave a comment line."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
