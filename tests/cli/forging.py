"""A bundle in a forger's hands: files to change, and hashes made to agree with them again."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from typing import Any

from hil.cli.bundling import manifest

Json = Any


class Forged:
    """A copy of a bundle's files.

    Args:
        files: of an honest bundle.
        refreshed: whether every hash is made to agree with what was changed.
    """

    def __init__(self, files: dict[str, bytes], *, refreshed: bool) -> None:
        self.files, self.refreshed = dict(files), refreshed
        self.winner = str(self.read("result")["certified"][0]["name"])

    def read(self, name: str) -> Json:
        return json.loads(self.files[f"{name}.json"])

    def change(self, name: str, change: Callable[[Json], object]) -> None:
        """Change a JSON file in place."""
        data = self.read(name)
        change(data)
        self.files[f"{name}.json"] = (json.dumps(data, sort_keys=True, indent=1) + "\n").encode()

    def winning(self, change: Callable[[Json], object]) -> None:
        """Change what the result says of the first certified network."""
        self.change("result", lambda result: change(result["certified"][0]))

    def row(self, build: int, network: str | None = None) -> Json:
        name = network or self.winner
        (found,) = (
            r
            for r in self.read("builds")
            if (r["network"], r["build"], r["nvpmodel"]) == (name, build, None)
        )
        return found

    def rowed(self, build: int, change: Callable[[Json], object]) -> None:
        """Change what is stated of one build of the first certified network."""
        key = (self.winner, build, None)

        def one(rows: Json) -> None:
            for row in rows:
                if (row["network"], row["build"], row["nvpmodel"]) == key:
                    change(row)

        self.change("builds", one)

    def trace(self, build: int, network: str | None = None) -> Json:
        name = f"evidence/{self.row(build, network)['evidence']}.json.gz"
        return json.loads(gzip.decompress(self.files[name]))

    def put_trace(self, build: int, trace: Json) -> None:
        """Replace a trace; a forger who is careful renames it wherever its hash stands."""
        old = self.row(build)["evidence"]
        text = json.dumps(trace, sort_keys=True, separators=(",", ":"))
        data = gzip.compress(text.encode(), compresslevel=6, mtime=0)
        if not self.refreshed:
            self.files[f"evidence/{old}.json.gz"] = data
            return
        new = hashlib.sha256(data).hexdigest()
        del self.files[f"evidence/{old}.json.gz"]
        self.files[f"evidence/{new}.json.gz"] = data
        for name in ("result.json", "builds.json"):
            self.files[name] = self.files[name].replace(old.encode(), new.encode())

    def traced(self, build: int, change: Callable[[Json], object]) -> None:
        """Change a trace in place."""
        trace = self.trace(build)
        change(trace)
        self.put_trace(build, trace)

    def done(self) -> dict[str, bytes]:
        if self.refreshed:
            provenance = json.loads(self.files["manifest.json"])["provenance"]
            self.files["manifest.json"] = manifest(self.files, provenance)
        return self.files


def with_means(lines: Json, rail: str, watts_of: Callable[[int, int], int]) -> Json:
    """Return tegrastats lines with other readings of a rail, and the means that follow."""
    total, made = 0, []
    for count, (stamp, line) in enumerate(lines, 1):
        before, _, rest = line.partition(f"{rail} ")
        reading, _, after = rest.partition(" ")
        now = watts_of(stamp, int(reading.split("/")[0]))
        total += now
        made.append([stamp, f"{before}{rail} {now}/{total // count} {after}".rstrip()])
    return made
