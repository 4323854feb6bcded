"""Searches that ended, kept line by line, so that a long benchmark is continued and not begun anew.

A line counts only for the same table, columns and budget and the same code: its key holds a hash of
the sources that a search runs through. A line cut short by a kill is skipped and searched again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import hil
from hil.bench.search_run import Trace

_SOURCES = ("bench", "synth")


def code_digest() -> str:
    """Hash of every source file that a search may run through."""
    root = Path(hil.__file__).parent
    files = sorted(f for part in _SOURCES for f in (root / part).rglob("*.py"))
    total = hashlib.sha256()
    for file in files:
        total.update(file.relative_to(root).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


class Journal:
    """Finished searches in a file of JSON lines.

    Args:
        file: made where it is missing, with its folder.
        settings: all that a search depends on besides what its own key says.
    """

    def __init__(self, file: Path, settings: Mapping[str, Any]) -> None:
        self._file = file
        text = json.dumps({**settings, "code": code_digest()}, sort_keys=True)
        self._settings = hashlib.sha256(text.encode()).hexdigest()[:24]
        self._known = self._read()

    def get(self, key: str) -> Trace | None:
        """What a search came to, None where it did not end yet."""
        return self._known.get(key)

    def put(self, key: str, trace: Trace) -> None:
        """Keep a search that ended."""
        line = json.dumps({"settings": self._settings, "key": key, "trace": asdict(trace)})
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # A line that a kill cut short must not swallow this one.
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(f"\n{line}\n")
        self._known[key] = trace

    def _read(self) -> dict[str, Trace]:
        if not self._file.is_file():
            return {}
        found = {}
        for line in self._file.read_text("utf-8").splitlines():
            try:
                row = json.loads(line)
                if row["settings"] == self._settings:
                    found[str(row["key"])] = _trace(row["trace"])
            except (ValueError, KeyError, TypeError):
                continue
        return found


def _trace(row: Mapping[str, Any]) -> Trace:
    return Trace(
        tuple(row["best"]),
        tuple(row["trained"]),
        int(row["measurements"]),
        int(row["forfeited"]),
        float(row["seconds"]),
    )
