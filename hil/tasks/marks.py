"""How a network did, picture by picture: what is kept of its answers, and the score that they make.

Rule of this file: plain numpy. A score is a fraction of one; marks of two networks on the same
pictures can be compared, because every picture's own share in the score is kept.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Marks(Protocol):
    """What is known of one network's answers to some pictures."""

    @property
    def pictures(self) -> int:
        """How many pictures there are."""
        ...

    @property
    def score(self) -> float:
        """The task's main score, from 0 to 1."""
        ...

    @property
    def scores(self) -> Mapping[str, float]:
        """Every score of the task by name, in percent."""
        ...

    def weighted(self, weights: FloatArray) -> FloatArray:
        """The main score with pictures counted more or less than once.

        Args:
            weights: `b x pictures`, not negative; 1 counts a picture as it is, 0 leaves it out.

        Returns:
            One score a row.
        """
        ...

    def to_bytes(self) -> bytes:
        """Everything kept, for a run's files."""
        ...


@dataclass(frozen=True)
class Right:
    """Marks of a classifier: which pictures (`n`, booleans) it got right; the score is top-1."""

    right: NDArray[np.bool_]

    @property
    def pictures(self) -> int:
        """How many pictures there are."""
        return self.right.size

    @property
    def score(self) -> float:
        """Share of pictures answered rightly; 0 of none."""
        return float(self.right.mean()) if self.right.size else 0.0

    @property
    def scores(self) -> Mapping[str, float]:
        """Top-1 in percent."""
        return {"top1": 100 * self.score}

    def weighted(self, weights: FloatArray) -> FloatArray:
        """See `Marks.weighted`."""
        share: FloatArray = weights @ self.right / weights.sum(axis=1)
        return share

    def to_bytes(self) -> bytes:
        """The booleans in numpy's own format."""
        return packed(right=self.right)

    @classmethod
    def from_bytes(cls, data: bytes) -> Right:
        """Read what `to_bytes` wrote."""
        return cls(unpacked(data)["right"])


def packed(**arrays: NDArray[Any]) -> bytes:
    """Arrays as one compressed file of numpy's."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpacked(data: bytes) -> dict[str, NDArray[Any]]:
    """Read what `packed` wrote; nothing but plain arrays is accepted."""
    with np.load(io.BytesIO(data), allow_pickle=False) as held:
        return {name: held[name] for name in held.files}
