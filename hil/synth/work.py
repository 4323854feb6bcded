"""The two halves of a job's work as the loop sees them: the host's bench and the board.

Rule of this file: interfaces and what passes between them. A traced prototype on a leased board
and a table of recorded networks both answer to these, so there is one loop for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hil.core.evidence import RunPlan
from hil.device.session import BoardInfo, PlausibleDraws
from hil.synth.boardwork import Figures, Model
from hil.synth.paired import Paired
from hil.synth.records import Arch, FloatArray
from hil.synth.searchspace import SearchSpace
from hil.synth.store import RunStore

Stage = Literal["search", "final"]


@dataclass(frozen=True)
class Trained:
    """A network with weights, and how it did on the search split.

    Attributes:
        weights_sha256: of its state dict; "" for a recorded network, which has none.
        accuracy: fraction right.
        pictures: of the search split.
        right: which of them it got right; None where only their number is recorded.
    """

    weights_sha256: str
    accuracy: float
    pictures: int
    right: NDArray[np.bool_] | None = None

    @staticmethod
    def answered(weights_sha256: str, right: NDArray[np.bool_]) -> Trained:
        """A network whose answers are known picture by picture."""
        share = float(right.mean()) if right.size else 0.0
        return Trained(weights_sha256, share, right.size, right)


@dataclass(frozen=True)
class Contender:
    """A network that goes into the final table, with final weights.

    Attributes:
        name: as people see it.
        key: identity of its figures in the journal: the network and its final weights.
        model: as the board takes it.
    """

    name: str
    arch: Arch
    trained: Trained
    key: str
    model: Model


class Device(Protocol):
    """Who gives the figures."""

    @property
    def name(self) -> str:
        """The device's name in its YAML."""
        ...

    @property
    def provenance(self) -> str:
        """One of measured, emulated, replayed: stored with every figure."""
        ...

    @property
    def board(self) -> BoardInfo:
        """The board as probed, or as recorded."""
        ...


class Board(Protocol):
    """Gives figures of networks, each once a stage and build: the run's journal is asked first."""

    @property
    def session(self) -> Device:
        """Who gives them."""
        ...

    @property
    def store(self) -> RunStore:
        """The run's journal."""
        ...

    @property
    def rail(self) -> str | None:
        """What energy is read on."""
        ...

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
        """Figures of one build of a network (see `BoardWork.measure`)."""
        ...

    def known(self, key: str, *, stage: str, build: int = 0) -> bool:
        """Whether that measurement is in the journal already."""
        ...

    def answers(self, model: Model, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """An engine's own outputs for N pictures, (N, classes)."""
        ...

    def plausible(self, networks: Sequence[Callable[[], Model]]) -> PlausibleDraws | None:
        """Joint draws over plausible boards, None where there are none."""
        ...


class Bench(Protocol):
    """Makes and trains the networks of one job; every training is a step of the run's journal."""

    @property
    def search_space(self) -> SearchSpace:
        """The space as the search sees it."""
        ...

    @property
    def identity(self) -> Trained:
        """The prototype as trained."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about the data."""
        ...

    def stimuli(self) -> tuple[FloatArray, ...] | None:
        """Harm of every choice by task stimuli; None where the task cannot be probed."""
        ...

    def export(self, arch: Arch, weights_sha256: str | None) -> Model:
        """The network as the board takes it, with inherited weights or with those named."""
        ...

    def glance(self, arch: Arch) -> float | None:
        """Promise before any training of its own, more is better; None where it cannot be told.

        Only compared among networks of one job; it is never told to a searcher.
        """
        ...

    def train(self, arch: Arch, stage: Stage) -> Trained:
        """Train a network, shortly (search) or to the end (final), once a stage."""
        ...

    def compare(self, trained: Trained) -> Paired:
        """A network against the prototype on the search split."""
        ...

    def examine(
        self,
        contenders: Sequence[Contender],
        board: Board,
        reason: str,
        done: Callable[[str], None],
    ) -> dict[str, Paired]:
        """Every network against the first on held-out pictures, which this opens.

        Args:
            contenders: the prototype first.
            board: runs engines where answers are to be those of engines.
            reason: why the pictures are opened.
            done: told each contender's name.
        """
        ...

    def changes(self, arch: Arch) -> tuple[str, ...]:
        """What an architecture changes in the prototype, in words."""
        ...
