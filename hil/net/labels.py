"""Channel labels: which channels of which tensors are one and the same choice.

Every channel that a layer produces gets a number. Operations that need two channels to stay
together (a residual add, a depthwise filter) join their numbers; operations whose effect on
channels is not proven freeze them. What is left is a partition into classes: a class is kept or
removed as a whole, everywhere at once, so that slicing each tensor by the kept classes cannot
leave two layers that disagree.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


class LabelBook:
    """Union-find over channel numbers, with the reasons why some must stay."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._reasons: dict[int, str] = {}

    def fresh(self, count: int) -> IntArray:
        """Numbers for `count` new channels."""
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        return np.arange(start, start + count, dtype=np.int64)

    def join(self, left: IntArray, right: IntArray) -> None:
        """Make the channels at equal positions one class; `left` and `right` are equally long."""
        for a, b in zip(left.tolist(), right.tolist(), strict=True):
            root_a, root_b = self._find(a), self._find(b)
            # The smaller number wins, so that classes do not depend on the order of joins.
            self._parent[max(root_a, root_b)] = min(root_a, root_b)

    def freeze(self, labels: IntArray, reason: str) -> None:
        """Record that these channels must stay; the first reason given is the one reported."""
        for label in labels.tolist():
            self._reasons.setdefault(label, reason)

    def resolve(self, labels: IntArray) -> IntArray:
        """The class of each channel."""
        return np.array([self._find(label) for label in labels.tolist()], dtype=np.int64)

    def frozen(self) -> dict[int, str]:
        """Frozen classes and why: by class, the reason that was recorded first."""
        result: dict[int, str] = {}
        for label, reason in self._reasons.items():
            result.setdefault(self._find(label), reason)
        return result

    def _find(self, label: int) -> int:
        root = label
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[label] != root:
            self._parent[label], label = root, self._parent[label]
        return root
