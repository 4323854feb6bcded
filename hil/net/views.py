"""What views, sizes and splits do to channels, as far as it is proven (see `rules.py`)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import fx

from hil.net.labels import IntArray
from hil.net.rules import argument, axis_of, harmless, single, unknown
from hil.net.wiring import DimOf, Parts, SizeOf, UnprovenError, Value, Walk


def change_axes(walk: Walk, node: fx.Node) -> Value:
    """Axes of length one inserted or removed after the channels."""
    source, labels = single(walk, node)
    rank = max(len(walk.shapes[source]), len(walk.shapes.get(node, ())))
    if axis_of(argument(node, 1, "dim", 0), rank) < 2:
        raise UnprovenError("it moves the channel axis")
    return labels


def flatten(walk: Walk, node: fx.Node) -> Value:
    """(N, C, *S) to (N, C * prod S), or axes after the channels only."""
    source, labels = single(walk, node)
    before, after = walk.shapes[source], walk.shapes.get(node, ())
    if after[:2] == before[:2]:
        return labels
    return _repeat(labels, before, after)


def _repeat(labels: IntArray, before: tuple[int, ...], after: tuple[int, ...]) -> IntArray:
    """(N, C, *S) laid out as (N, C * prod S): every label covers a run of prod S features."""
    area = math.prod(before[2:])
    if after != (before[0], before[1] * area):
        raise UnprovenError("it moves the channel axis")
    return np.repeat(labels, area)


def reshape(walk: Walk, node: fx.Node) -> Value:
    """A view is proven where it keeps the channels as they are, or flattens all that follows.

    A count that is written as a number is written anew when channels are removed.
    """
    source = node.args[0]
    labels = walk.labels(source)
    assert isinstance(source, fx.Node)
    sizes = _sizes(node)
    before, after = walk.shapes[source], walk.shapes.get(node, ())
    if len(sizes) < 2 or len(after) < 2 or after[0] != before[0]:
        raise UnprovenError("it moves the channel axis")
    if not all(_plain_size(walk, size) for size in (sizes[0], *sizes[2:])):
        raise UnprovenError("it depends on a channel count")
    # The axes after the channels must hold as much as before, or channels would be split.
    if after[1] != before[1] and not isinstance(sizes[1], int):
        raise UnprovenError("it depends on a channel count")
    result = labels if after[1] == before[1] else _repeat(labels, before, after)
    _require_count(walk, node, sizes[1], result)
    return result


def _sizes(node: fx.Node) -> tuple[Any, ...]:
    """Sizes given one by one or as a list."""
    sizes = node.args[1:]
    if len(sizes) == 1 and isinstance(sizes[0], list | tuple):
        sizes = tuple(sizes[0])
    return sizes


def _require_count(walk: Walk, node: fx.Node, size: Any, labels: IntArray) -> None:
    """The size of axis 1 is inferred, a channel count, or a number that can be written anew.

    A count of other channels is right as long as those stay together with these.
    """
    if isinstance(size, int):
        if size != -1:
            walk.counts[node] = (1, (labels,))
        return
    value = walk.values.get(size) if isinstance(size, fx.Node) else None
    counted = walk.labels(value.node) if isinstance(value, DimOf) and value.axis == 1 else None
    if counted is None or len(counted) != len(labels):
        raise UnprovenError("it depends on a channel count")
    walk.book.join(counted, labels)


def expand(walk: Walk, node: fx.Node) -> Value:
    """`x.expand(...)` that leaves the channels as they are."""
    source, sizes = node.args[0], _sizes(node)
    labels = walk.labels(source)
    assert isinstance(source, fx.Node)
    before = walk.shapes[source]
    if len(sizes) != len(before) or walk.shapes[node][:2] != before[:2]:
        raise UnprovenError("it changes the channel axis")
    if not all(_plain_size(walk, size) for size in (sizes[0], *sizes[2:])):
        raise UnprovenError("it depends on a channel count")
    _require_count(walk, node, sizes[1], labels)
    return labels


def expand_as(walk: Walk, node: fx.Node) -> Value:
    """`x.expand_as(y)`: equal positions go together."""
    labels, like = (walk.labels(n) for n in node.args[:2])
    if len(labels) == len(like):
        walk.book.join(labels, like)
    else:
        walk.book.freeze(labels, "broadcast over all channels")
    return like


def split(walk: Walk, node: fx.Node) -> Value:
    """`chunk` and `split`: the parts' sizes are written anew when channels are removed."""
    source, labels = single(walk, node)
    sizes = [shape[1] for shape in walk.parts.get(node, ()) if len(shape) > 1]
    axis = axis_of(argument(node, 2, "dim", 0), len(walk.shapes[source]))
    if axis == 0 or not sizes:
        raise UnprovenError("it divides the batch")
    if axis > 1:
        return Parts((labels,) * len(sizes))
    parts = tuple(np.split(labels, np.cumsum(sizes)[:-1]))
    walk.counts[node] = (None, parts)
    return Parts(parts)


def _plain_size(walk: Walk, size: Any) -> bool:
    return isinstance(size, int) or (isinstance(size, fx.Node) and harmless(walk, size))


def take_size(walk: Walk, node: fx.Node) -> Value:
    """`x.size()` and `x.size(axis)`."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    axis = argument(node, 1, "dim", None)
    if axis is None:
        return SizeOf(source)
    return DimOf(source, axis_of(axis, len(walk.shapes[source])))


def take_attribute(walk: Walk, node: fx.Node) -> Value:
    """`x.shape` and other facts about a tensor."""
    source, name = node.args[0], node.args[1]
    if isinstance(source, fx.Node) and walk.is_tensor(source):
        if name == "shape":
            return SizeOf(source)
        if name in ("dtype", "device", "ndim"):
            return None
    return unknown(walk, node)


def take_item(walk: Walk, node: fx.Node) -> Value:
    """Indexing of sizes, or of axes after the channels."""
    source, index = node.args[0], node.args[1]
    assert isinstance(source, fx.Node)
    value = walk.values.get(source)
    if isinstance(value, SizeOf):
        return _pick_size(walk, value, index)
    if isinstance(value, Parts):
        if not isinstance(index, int):
            raise UnprovenError("it picks several parts")
        walk.kinds[node] = "slice"
        return value.labels[index]
    if not walk.is_tensor(source):
        return unknown(walk, node)
    whole = slice(None)
    if not isinstance(index, tuple) or index[:2] != (whole, whole):
        raise UnprovenError("it picks channels or pictures")
    if any(not isinstance(i, int | slice | type(None)) for i in index):
        raise UnprovenError("its index is computed")
    return walk.labels(source)


def _pick_size(walk: Walk, size: SizeOf, index: Any) -> Value:
    rank = len(walk.shapes[size.node])
    if isinstance(index, int):
        return DimOf(size.node, axis_of(index, rank))
    if isinstance(index, slice) and 1 not in range(rank)[index]:
        return None
    raise UnprovenError("it depends on a channel count")
