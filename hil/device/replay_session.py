"""Kept evidence of earlier runs as a device: the recorded run again, labelled so, and nothing else.

A network is found by the hash of its ONNX file. Nothing runs, so nothing is built, timed or
answered that was not recorded; what is asked for beyond the record is refused.
"""

# ruff: noqa: ARG002 - the interfaces name arguments that a record has no use for
from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from hil.core.errors import ConfigError, HostError, MeasurementError
from hil.core.evidence import Evidence, RunPlan
from hil.device.config import ReplayDevice
from hil.device.records import board_info
from hil.device.session import (
    BoardInfo,
    Decide,
    EngineInfo,
    EngineSpec,
    LayerTimes,
    PlausibleDraws,
    TensorInfo,
    TrtexecRun,
)

PATTERN = "evidence*.json.gz"


@dataclass
class ReplaySession:
    """Answers `hil.device.session.Session` from evidence (see there for the contract).

    Attributes:
        device: the device file, read.
        folder: where the evidence lies.
        runs: each recorded run with its file, in the order of the files' names.
    """

    device: ReplayDevice
    folder: Path
    runs: tuple[tuple[Path, Evidence], ...]
    _played: dict[str, int] = field(default_factory=dict)

    @classmethod
    def open(cls, device: ReplayDevice) -> ReplaySession:
        """Read a folder of evidence.

        Raises:
            ConfigError: there is none in it.
            HostError: a file is damaged.
        """
        folder = device.replay.evidence
        assert folder is not None
        runs = tuple((path, read_evidence(path)) for path in sorted(folder.rglob(PATTERN)))
        if not runs:
            raise ConfigError(
                f"there is no evidence in {folder}",
                why=f"no file in it or below is named {PATTERN}",
                fix="name a folder that `hil profile` kept, such as one in runs/profile",
            )
        return cls(device, folder, runs)

    @property
    def name(self) -> str:
        """The device's name in its YAML."""
        return self.device.name

    @property
    def provenance(self) -> str:
        """Always replayed; `board.emulated` tells what the record was of."""
        return "replayed"

    @property
    def board(self) -> BoardInfo:
        """The board of the first record, as it was probed then."""
        first = self.runs[0][1]
        emulated = any(evidence.provenance == "emulated" for _, evidence in self.runs)
        return replace(board_info(self.name, first.board), emulated=emulated)

    def put_blob(self, data: bytes) -> str:
        """Name bytes by their hash; nothing is shipped."""
        return hashlib.sha256(data).hexdigest()

    def get_blob(self, sha256: str) -> bytes:
        """Refused: a record holds no files of the board."""
        self._refuse("files of a board")

    def build(self, spec: EngineSpec) -> EngineInfo:
        """Find the recorded engine of a network.

        Raises:
            ConfigError: there is no record of it.
        """
        specs = [(evidence.engine, evidence.engine.get("spec") or {}) for _, evidence in self.runs]
        same = [(e, s) for e, s in specs if s.get("onnx_sha256") == spec.onnx_sha256]
        if not same:
            known = sorted({str(s.get("onnx_sha256"))[:12] for _, s in specs})
            raise ConfigError(
                f"{self.name} has no record of this network",
                why=f"its sha256 is {spec.onnx_sha256[:12]}; recorded are {', '.join(known)}",
                fix="measure it on a board first (`hil profile MODEL --device BOARD`), then name "
                "the folder which that kept",
            )
        alike = [
            (engine, recorded)
            for engine, recorded in same
            if (recorded["precision"], recorded["runtime"], recorded["build_index"])
            == (spec.precision, spec.runtime, spec.build_index)
        ]
        if not alike:
            kept = sorted({f"{s['precision']} build {s['build_index']}" for _, s in same})
            raise ConfigError(
                f"{self.name} has no record of this network at {spec.precision}, "
                f"build {spec.build_index}, on {spec.runtime}",
                why=f"recorded are {', '.join(kept)} on {same[0][1]['runtime']}",
                fix="ask for one of these, or measure it on a board first",
            )
        return _engine_info(spec, alike[0][0])

    def run(
        self, info: EngineInfo, plan: RunPlan, power: str, decide: Decide | None = None
    ) -> Evidence:
        """Return the recorded run of an engine; of several the next one each time.

        The record's own plan holds, whatever is asked for: nothing can be measured longer.

        Raises:
            MeasurementError: power is asked for and was not recorded.
        """
        mine = [e for _, e in self.runs if e.engine["engine_sha256"] == info.engine_sha256]
        played = self._played.get(info.engine_sha256, 0)
        self._played[info.engine_sha256] = played + 1
        recorded = mine[played % len(mine)]
        if power not in ("none", recorded.power_source):
            raise MeasurementError(
                f"{self.name} has no record of {power}",
                why=f"power was read with {recorded.power_source} then",
                fix="name that source in the device file, or ask for --latency-only",
            )
        return replace(recorded, provenance=self.provenance)

    def step_response(self, info: EngineInfo, power: str, interval_ms: int, steps: int) -> Evidence:
        """Refused: no record of a run is one of steps."""
        self._refuse("steps of load")

    def infer(
        self, info: EngineInfo, inputs: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, NDArray[np.generic]]:
        """Refused: a record holds no outputs."""
        self._refuse("outputs of a network")

    def layers(self, info: EngineInfo) -> LayerTimes:
        """Refused: the layers' times are in the kept result, not in the evidence."""
        self._refuse("times of layers")

    def trtexec(self, info: EngineInfo) -> TrtexecRun | None:
        """Refused: a record holds no run of trtexec."""
        self._refuse("a run of trtexec")

    def plausible(self, infos: Sequence[EngineInfo]) -> PlausibleDraws | None:
        """None: nobody asked the board's model when this was recorded."""
        return None

    def pin(self, nvpmodel: int | None = None, clocks: bool | None = None) -> None:
        """Nothing to pin; a state that is asked for by name is refused."""
        if nvpmodel is not None or clocks is not None:
            self._refuse("another operating point")

    def restore(self) -> None:
        """Nothing was changed."""

    def reset(self, seed: int) -> None:
        """A record has no state."""

    def _refuse(self, what: str) -> NoReturn:
        raise MeasurementError(
            f"{self.name} cannot give {what}",
            why=f"it replays evidence kept in {self.folder}, and nothing runs",
            fix="use the board itself",
        )


def read_evidence(path: Path) -> Evidence:
    """Read one file of evidence.

    Raises:
        HostError: it is damaged, or cannot be read.
    """
    try:
        evidence = Evidence.from_json(json.loads(gzip.decompress(path.read_bytes())))
        _ = evidence.engine["engine_sha256"]
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise HostError(
            f"{path} cannot be read as evidence",
            why=str(error) or type(error).__name__,
            fix="take it from a backup, or out of the folder",
        ) from error
    return evidence


def _engine_info(spec: EngineSpec, engine: Mapping[str, Any]) -> EngineInfo:
    return EngineInfo(
        spec=spec,
        engine_sha256=engine["engine_sha256"],
        key=engine["key"],
        cached=True,
        build_s=float(engine["build_s"]),
        runtime_version=engine["runtime_version"],
        plan_bytes=int(engine["plan_bytes"]),
        device_memory_bytes=engine["device_memory_bytes"],
        inputs=_tensors(engine["inputs"]),
        outputs=_tensors(engine["outputs"]),
        messages=tuple(engine["messages"]),
        platform=engine.get("platform"),
        dialect=engine.get("dialect"),
        via=engine.get("via"),
    )


def _tensors(rows: Sequence[Mapping[str, Any]]) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo(row["name"], row["dtype"], tuple(row["shape"])) for row in rows)
