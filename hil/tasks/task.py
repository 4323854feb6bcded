"""What one task is to the rest: how answers are judged in training, and how they are scored.

Everything else (data, the training loop, the search, certificates) is the same for every task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hil.tasks.data import Split
from hil.tasks.marks import Marks

Answers = tuple[NDArray[np.float32], ...]
"""What a network or an engine gave, one array an output, each with the pictures first."""


class Task(Protocol):
    """One task, made for the data of one job.

    `outputs` below is what a network returns for a batch; `targets` is a tensor with one entry a
    picture, as `targets()` makes it.
    """

    @property
    def name(self) -> str:
        """As profiles call it."""
        ...

    @property
    def portion(self) -> int | None:
        """Pictures whose answers are held in memory together at most; None for all."""
        ...

    def targets(self, split: Split) -> Tensor:
        """Right answers as a tensor, one entry a picture."""
        ...

    def moved(self, targets: Tensor, offsets: Tensor, most: int) -> Tensor:
        """Right answers to pictures that were moved (see `training.shifted`)."""
        ...

    def loss(self, outputs: Any, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """How wrong answers are: a scalar, the mean over pictures, that falls as they improve."""
        ...

    def soften(self, outputs: Any) -> tuple[Tensor, ...]:
        """A teacher's answers as students are shown them, each tensor with the pictures first."""
        ...

    def distillation(self, outputs: Any, softened: Sequence[Tensor]) -> Tensor:
        """How far a student's answers are from a teacher's softened ones: a scalar."""
        ...

    def mark(self, answers: Answers, split: Split) -> Marks:
        """How answers to the pictures of a split did, from the host's network or from an engine."""
        ...

    def join(self, parts: Sequence[Marks]) -> Marks:
        """Marks of portions, one after the other, as those of all their pictures."""
        ...

    def read(self, data: bytes) -> Marks:
        """Marks from their bytes."""
        ...
