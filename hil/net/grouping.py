"""From labels to groups: which channels are one choice, and which stay, with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from torch import fx

from hil.net.graph import Channels, Flow, Frozen, Group, Rewrite
from hil.net.labels import IntArray
from hil.net.wiring import Walk

_PRODUCERS = frozenset({"conv", "grouped", "deconv", "linear"})
_LEAST_CHANNELS = 4


class Classes:
    """Labels to consecutive class numbers."""

    def __init__(self, walk: Walk) -> None:
        self._book = walk.book
        self._numbers: dict[int, int] = {}

    def __call__(self, labels: IntArray) -> IntArray:
        """The class of each label."""
        roots = self._book.resolve(labels).tolist()
        numbers = self._numbers
        return np.array([numbers.setdefault(r, len(numbers)) for r in roots], dtype=np.int64)

    def frozen(self) -> dict[int, str]:
        """Classes that stay, and why."""
        return {self._numbers.setdefault(root, len(self._numbers)): reason
                for root, reason in self._book.frozen().items()}  # fmt: skip

    @property
    def count(self) -> int:
        """Classes numbered so far."""
        return len(self._numbers)


def producers(walk: Walk, names: Mapping[fx.Node, str], classes: Classes) -> dict[str, IntArray]:
    """Output classes of every vertex that makes channels; frozen where it is not sliceable."""
    result: dict[str, IntArray] = {}
    for node, name in names.items():
        value = walk.values.get(node)
        use = walk.uses.get(str(node.target)) if node.op == "call_module" else None
        passes_on = use is not None and use.way == "blocks"
        if walk.kinds[node] in _PRODUCERS and isinstance(value, np.ndarray) and not passes_on:
            result[name] = classes(value)
    return result


def find_groups(
    made: Mapping[str, IntArray], reasons: Mapping[int, str], signatures: Mapping[int, object]
) -> tuple[tuple[Group, ...], tuple[Frozen, ...]]:
    """Classes made by the same producers, and met equally often everywhere, are one group.

    Args:
        made: output classes of every producer.
        reasons: classes that stay, and why.
        signatures: where and how often each class occurs (`occurrences`).
    """
    members: dict[int, list[str]] = {}
    for name, outputs in made.items():
        for number in outputs.tolist():
            members.setdefault(number, []).append(name)
    together: dict[tuple[tuple[str, ...], object], list[int]] = {}
    frozen: dict[str, str] = {}
    for number, owners in members.items():
        if number in reasons:
            for owner in owners:
                frozen.setdefault(owner, reasons[number])
        else:
            together.setdefault((tuple(owners), signatures[number]), []).append(number)
    groups: list[Group] = []
    for (owners_key, _), numbers in together.items():
        each = owners_key.count(owners_key[0])
        if len(numbers) * each < _LEAST_CHANNELS or len(numbers) == 1:
            channels = "channels" if each == 1 else f"times {each} channels"
            frozen.update((o, f"only {len(numbers)} {channels}") for o in owners_key)
            continue
        name = _unused(owners_key[0], (g.name for g in groups))
        producing = tuple(dict.fromkeys(owners_key))
        groups.append(Group(name, np.array(numbers, dtype=np.int64), producing, each))
    return tuple(groups), tuple(Frozen(*item) for item in frozen.items())


def occurrences(
    flows: Iterable[Flow], channels: Iterable[Channels], rewrites: Iterable[Rewrite], count: int
) -> dict[int, object]:
    """By class: in which tensors, modules and written counts it occurs, and how often.

    Classes of one group must agree in this: then every channel count is linear in the group's
    width, and no part of a split can lose all of its channels.
    """
    places = [a for flow in flows for a in (*flow.reads, flow.writes)]
    places += [a for used in channels for a in (used.reads, used.writes)]
    places += [a for rewrite in rewrites for a in rewrite.counted]
    found: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for place, classes in enumerate(places):
        numbers, times = np.unique(classes, return_counts=True)
        for number, often in zip(numbers.tolist(), times.tolist(), strict=True):
            found[number].append((place, often))
    return {number: tuple(seen) for number, seen in enumerate(found)}


def _unused(name: str, taken: Iterable[str]) -> str:
    count, result, names = 1, name, set(taken)
    while result in names:
        count += 1
        result = f"{name}#{count}"
    return result
