"""The two halves of a job's work as the loop sees them: the host's bench and the board.

Rule of this file: interfaces and what passes between them. A traced prototype on a leased board
and a table of recorded networks both answer to these, so there is one loop for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hil.core.evidence import RunPlan
from hil.device.session import BoardInfo, PlausibleDraws
from hil.synth.boardwork import Figures, Model
from hil.synth.records import Arch, FloatArray
from hil.synth.resampled import Comparison, jackknife_error, without_each
from hil.synth.searchspace import SearchSpace
from hil.synth.store import RunStore
from hil.tasks.marks import Marks, Right

Stage = Literal["search", "final"]


@dataclass(frozen=True)
class Trained:
    """A network with weights, and how it did on the search split.

    Attributes:
        weights_sha256: of its state dict; "" for a recorded network, which has none.
        accuracy: the task's main score, as a fraction.
        pictures: of the search split.
        marks: how it did on each of them; None where only their number is recorded.
        accuracy_sd: standard deviation of `accuracy`; None where it is that of a proportion.
    """

    weights_sha256: str
    accuracy: float
    pictures: int
    marks: Marks | None = None
    accuracy_sd: float | None = None

    @staticmethod
    def answered(weights_sha256: str, marks: Marks) -> Trained:
        """A network whose answers are known picture by picture."""
        spread = None
        if not isinstance(marks, Right) and marks.pictures > 1:
            spread = jackknife_error(without_each(marks))
        return Trained(weights_sha256, marks.score, marks.pictures, marks, spread)


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

    def answers(self, model: Model, inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """An engine's own outputs for N pictures, in its order, each with N first."""
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

    def compare(self, trained: Trained) -> Comparison:
        """A network against the prototype on the search split."""
        ...

    def examine(
        self,
        contenders: Sequence[Contender],
        board: Board,
        reason: str,
        done: Callable[[str], None],
    ) -> Mapping[str, Comparison]:
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
