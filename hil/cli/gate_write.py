"""Where a gate's outcome goes: files that CI servers and trackers read, GitHub's own places."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hil.cli.keeping import write_whole
from hil.cli.terminal import err, say
from hil.core.errors import ConfigError, HostError

if TYPE_CHECKING:
    from hil.measure.gate_baseline import Recorded


@dataclass(frozen=True)
class Outputs:
    """Files to write, and whether the runner is told line by line.

    Attributes:
        summary: appended to, as GitHub asks of a step.
        baseline: written where every network was measured.
        annotations: workflow commands, on stderr; stdout may be JSON.
    """

    junit: Path | None
    markdown: Path | None
    summary: Path | None
    bencher: Path | None
    benchmark_json: Path | None
    baseline: Path | None
    annotations: bool

    @classmethod
    def of(
        cls,
        environment: Mapping[str, str],
        junit: Path | None,
        markdown: Path | None,
        summary: Path | None,
        bencher: Path | None,
        benchmark_json: Path | None,
        baseline: Path | None,
        annotations: bool | None,
    ) -> Self:
        """Fill in what GitHub's runner says of itself."""
        told = environment.get("GITHUB_STEP_SUMMARY")
        if summary is None and told:
            summary = Path(told)
        if annotations is None:
            annotations = environment.get("GITHUB_ACTIONS") == "true"
        return cls(junit, markdown, summary, bencher, benchmark_json, baseline, annotations)

    def check(self) -> None:
        """Refuse folders that are not there, before the board is touched.

        Raises:
            ConfigError: naming the first of them.
        """
        for path in (
            *(self.junit, self.markdown, self.bencher, self.benchmark_json, self.baseline),
            self.summary,
        ):
            if path is not None and not path.absolute().parent.is_dir():
                raise ConfigError(f"cannot write {path}", why="there is no such folder")

    def write(self, result: Mapping[str, Any], records: Mapping[str, Recorded]) -> None:
        """Write everything that was asked for.

        Raises:
            HostError: the disk is full, or cannot be written.
        """
        from hil.report import gate_files, gate_text

        for path, made in (
            (self.junit, gate_files.junit),
            (self.markdown, gate_text.markdown),
            (self.bencher, gate_files.bencher),
            (self.benchmark_json, gate_files.benchmark_json),
        ):
            if path is not None:
                write_whole(path, made(result).encode())
        if self.summary is not None:
            try:
                with self.summary.open("a", encoding="utf-8") as file:
                    file.write(gate_text.markdown(result))
            except OSError as error:
                raise HostError(f"cannot write {self.summary}", why=str(error)) from error
        if self.annotations:
            for command in gate_text.workflow_commands(result):
                err.file.write(command + "\n")
        if self.baseline is not None:
            self._write_baseline(self.baseline, result, records)

    def _write_baseline(
        self, path: Path, result: Mapping[str, Any], records: Mapping[str, Recorded]
    ) -> None:
        from hil.measure.comparison import MIN_ROUNDS
        from hil.measure.gate_baseline import BaselineFile

        thin = [name for name in result["gated"] if name not in records]
        thin += [
            name
            for name, one in records.items()
            if not one.values or min(map(len, one.values.values())) < MIN_ROUNDS
        ]
        if "fault" in result or thin:
            told = ", ".join(thin) or "some network"
            say(f"{path} is not written: {told} could not be measured to the end")
            return
        data = BaselineFile(str(result["created"]), records).to_json()
        write_whole(path, (json.dumps(data, indent=1) + "\n").encode())
        say(f"wrote {path}: compare with it by --baseline {path}")
