"""Tasks whose networks were all trained and measured before: a table behind the loop's interfaces.

Nothing is trained here: a training is the lookup of what somebody's training came to, counted like
any other, with the noise of its seed in it as it is. Costs come from the device of driver replay.

Limits of a table: which pictures a network got right is not in it, so two networks are compared as
if they had no error in common, which makes every interval of the difference as wide as it can be.
"""

# ruff: noqa: ARG002 - the interfaces name arguments that a record has no use for
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.core.errors import ConfigError, MeasurementError
from hil.core.evidence import RunPlan
from hil.device.config import ReplayDevice
from hil.device.recorded import Recording, read_columns
from hil.device.replay_config import RecordedTable
from hil.device.session import BoardInfo, PlausibleDraws
from hil.synth.boardwork import Figures, Model, step_name
from hil.synth.cells import EDGES, OPERATIONS, Cells
from hil.synth.loop import OpenBench
from hil.synth.paired import Paired
from hil.synth.profile import Profile, Table
from hil.synth.progress import Watcher
from hil.synth.records import Arch, FloatArray
from hil.synth.searchspace import identity
from hil.synth.store import RunStore
from hil.synth.work import Bench, Board, Contender, Stage, Trained

ANOTHER = "another_training"
SCHEMA = "hil/recorded-network@1"


@dataclass(frozen=True)
class RecordedDevice:
    """Who gives a table's figures (`hil.synth.work.Device`)."""

    name: str
    board: BoardInfo
    provenance: str = "replayed"


@dataclass(frozen=True)
class RecordedBoard:
    """A table as the loop's board (`hil.synth.work.Board`)."""

    session: RecordedDevice
    store: RunStore
    recording: Recording
    seed: int
    rail: str | None

    def measure(
        self,
        key: str,
        model: Callable[[], Model],
        plan: RunPlan,
        *,
        stage: str,
        build: int = 0,
        mode: int | None = None,
        same_engine: bool = False,
    ) -> Figures:
        """Measure a network's record again, with noise, once per stage and build.

        Raises:
            MeasurementError: another power mode, or one engine again, which no table records.
        """
        if mode is not None or same_engine:
            raise MeasurementError(
                f"{self.session.name} has one power mode, and no engine to run again",
                why="it replays a table",
                fix="leave nvpmodel out of the profile's limits, and its scope at build",
            )
        name = step_name(stage, key, build)
        return Figures.read(
            self.store.step("measure", name, lambda: self._fresh(model().onnx, name))
        )

    def _fresh(self, network: bytes, name: str) -> dict[str, Any]:
        stage, _, rest = name.partition(":")
        build = int(rest.rpartition(":")[2])
        choices = tuple(int(c) for c in json.loads(network)["choices"])
        read = self.recording.measure(choices, seed=self.seed, stage=stage, build=build)
        figures = {m: (r.value, r.low, r.high) for m, r in read.items() if m != "memory_mib"}
        if (energy := figures.get("energy_mj")) is not None:
            value, low, high = (1e3 / e for e in (energy[0], energy[2], energy[1]))
            figures["inferences_per_joule"] = (value, low, high)
        result: dict[str, Any] = {"provenance": self.session.provenance, "validity": "valid"}
        for metric, (value, low, high) in figures.items():
            result |= {metric: value, f"{metric}_ci95": [low, high]}
        memory = read.get("memory_mib")
        return {
            "result": {**result, "rail": self.rail, "reasons": []},
            "engine": {
                "engine_sha256": None,
                "device_memory_bytes": None if memory is None else memory.value * 2**20,
            },
            "onnx": self.store.put_blob(network),
            "evidence": "",
            "refused": None,
        }

    def known(self, key: str, *, stage: str, build: int = 0) -> bool:
        """Whether that measurement is in the journal already."""
        return self.store.find("measure", step_name(stage, key, build)) is not None

    def answers(self, model: Model, inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Nothing runs here.

        Raises:
            MeasurementError: always.
        """
        raise MeasurementError("a table answers no pictures", why="nothing runs on this device")

    def plausible(self, networks: Sequence[Callable[[], Model]]) -> PlausibleDraws | None:
        """None: no model stands behind a table."""
        return None


@dataclass(frozen=True)
class RecordedBench:
    """A table as the loop's bench (`hil.synth.work.Bench`)."""

    file: str
    table: Table
    store: RunStore
    columns: Mapping[str, NDArray[Any]]
    search_space: Cells

    @cached_property
    def identity(self) -> Trained:
        """The prototype as trained."""
        return self._trained(identity(self.search_space))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about the table's accuracies."""
        same = "which networks the table trained once only keep their figure of the search"
        heldout = f"column {self.table.accuracy.heldout}"
        if self.table.accuracy.heldout == ANOTHER:
            heldout = f"another training of the same network where the table has one; {same}"
        return (
            f"accuracies are looked up in {self.file}, column {self.table.accuracy.search}; "
            f"the final ones are of {heldout}",
            "which pictures a network got right is not recorded: intervals of a difference assume "
            "that no error is shared, so they are as wide as they can be",
        )

    def stimuli(self) -> tuple[FloatArray, ...] | None:
        """None: a table reacts to nothing."""
        return None

    def export(self, arch: Arch, weights_sha256: str | None) -> Model:
        """The network as a replayed board takes it: its choices."""
        told = {"schema": SCHEMA, "choices": list(arch)}
        return Model(json.dumps(told, sort_keys=True, separators=(",", ":")).encode())

    def glance(self, arch: Arch) -> float | None:
        """Accuracy after the cheaper training, where the table has one."""
        column = self.table.accuracy.glance
        if column is None:
            return None
        key = self.search_space.key(arch)
        step = self.store.step("glance", key, lambda: {"score": self._percent(column, arch)})
        return float(step["score"])

    def train(self, arch: Arch, stage: Stage) -> Trained:
        """Look a training up; counted as one."""
        key = f"{stage}:{self.search_space.key(arch)}"
        self.store.step("train", key, lambda: {"row": self.search_space.row(arch)})
        return self._trained(arch)

    def compare(self, trained: Trained) -> Paired:
        """A network against the prototype, as far apart as their accuracies allow."""
        return apart(trained.pictures, self.identity.accuracy, trained.accuracy)

    def examine(
        self,
        contenders: Sequence[Contender],
        board: Board,
        reason: str,
        done: Callable[[str], None],
    ) -> dict[str, Paired]:
        """Look up held-out accuracies; recorded in the journal as an opening of them."""
        accuracy = self.table.accuracy
        pictures = accuracy.heldout_pictures or accuracy.pictures
        self.store.step("heldout", "opened", lambda: {"reason": reason, "pictures": pictures})
        final = {c.name: self.heldout(c.arch) for c in contenders}
        own = final[contenders[0].name]
        for contender in contenders:
            done(contender.name)
        return {name: apart(pictures, own, share) for name, share in final.items()}

    def heldout(self, arch: Arch) -> float:
        """Fraction right in the end: of another training of the network where there is one."""
        accuracy = self.table.accuracy
        if accuracy.heldout != ANOTHER:
            return self._percent(accuracy.heldout, arch) / 100
        row = self.search_space.row(arch)
        if self.table.same is not None:
            named = self.columns[self.table.same]
            twins = np.flatnonzero(named == named[row])
            others = twins[twins != row]
            if len(others):
                # One of them, by the network's own hash: any would do, and it stays the same one.
                digest = hashlib.sha256(str(arch).encode()).digest()
                row = int(others[int.from_bytes(digest[:8], "big") % len(others)])
        return float(self.columns[accuracy.search][row]) / 100

    def changes(self, arch: Arch) -> tuple[str, ...]:
        """What differs from the prototype."""
        return tuple(
            f"edge {edge}: {OPERATIONS[op]}"
            for edge, op, base in zip(EDGES, arch, identity(self.search_space), strict=True)
            if op != base
        )

    def _trained(self, arch: Arch) -> Trained:
        accuracy = self.table.accuracy
        share = self._percent(accuracy.search, arch) / 100
        return Trained("", share, accuracy.pictures)

    def _percent(self, column: str, arch: Arch) -> float:
        return float(self.columns[column][self.search_space.row(arch)])


def apart(pictures: int, prototype: float, accuracy: float) -> Paired:
    """Two networks of which only accuracies are known, as if they had no error in common.

    Args:
        pictures: how many both answered.
        prototype: fraction that the prototype got right.
        accuracy: fraction that the other got right.
    """
    wrong = [round(pictures * (1 - share)) for share in (prototype, accuracy)]
    shared = max(sum(wrong) - pictures, 0)  # more errors than pictures: so many must be shared
    gained, lost = wrong[0] - shared, wrong[1] - shared
    return Paired(pictures, pictures - gained - lost - shared, gained, lost)


def open_table(
    profile: Profile, config: ReplayDevice, store: RunStore, seed: int
) -> tuple[Board, OpenBench]:
    """The board and the bench of a table.

    Raises:
        ConfigError: a table cannot be read or lacks a column.
    """
    assert profile.table is not None
    assert config.replay.table is not None
    recorded = config.replay.table
    info = BoardInfo(config.name, config.board, None, None, "", recorded.emulated, {})
    board = RecordedBoard(
        RecordedDevice(config.name, info), store, Recording.open(recorded), seed, recorded.rail
    )
    bench = _bench(profile.table, recorded, store)

    def opener(_watch: Watcher, check: Callable[[int], None]) -> Bench:
        accuracy = bench.table.accuracy
        check(accuracy.heldout_pictures or accuracy.pictures)
        store.step("train", "prototype", lambda: {"row": bench.search_space.row(_base(bench))})
        return bench

    return board, opener


def _base(bench: RecordedBench) -> Arch:
    return identity(bench.search_space)


def _bench(table: Table, recorded: RecordedTable, store: RunStore) -> RecordedBench:
    accuracy = table.accuracy
    named = [recorded.choices, table.macs, table.params, accuracy.search]
    named += [c for c in (accuracy.glance, table.same) if c is not None]
    named += [] if accuracy.heldout == ANOTHER else [accuracy.heldout]
    columns = read_columns(recorded.file, named)
    choices = np.asarray(columns[recorded.choices])
    if choices.ndim != 2 or choices.shape[1] != len(EDGES):
        raise ConfigError(
            f"column {recorded.choices} of {recorded.file} holds no cells",
            why=f"its shape is {choices.shape}; a cell has {len(EDGES)} edges",
        )
    space = Cells(choices, columns[table.params], columns[table.macs])
    return RecordedBench(recorded.file, table, store, columns, space)
