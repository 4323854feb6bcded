"""One walk over a traced network: shapes, arithmetic and channel labels of every node.

What an operation does to channels is written in `rules.py`. This file keeps the books: which
module reads and writes which channels, and what happens where no rule holds (every channel
that touches the operation is frozen, with the reason).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from hil.net.graph import Way
from hil.net.labels import IntArray, LabelBook


class UnprovenError(Exception):
    """A rule does not hold at this node; the text says why. Never leaves the walk."""


@dataclass(frozen=True)
class SizeOf:
    """The value of `x.shape`."""

    node: fx.Node


@dataclass(frozen=True)
class DimOf:
    """The value of `x.shape[axis]`."""

    node: fx.Node
    axis: int


@dataclass(frozen=True)
class Parts:
    """Several tensors: the labels of each, as of a split."""

    labels: tuple[IntArray, ...]


Value = IntArray | SizeOf | DimOf | Parts | None


@dataclass(frozen=True)
class Use:
    """Channels that a module reads and writes, as labels, and how they hang together."""

    reads: IntArray
    writes: IntArray
    way: Way


class Walk:
    """State of the walk.

    Attributes:
        book: the labels.
        shapes: shape of every tensor-valued node at batch 1; other nodes are absent.
        parts: shapes of the tensors of every node that yields several.
        outputs: shapes of all results, nested ones flattened.
        arithmetic: multiply-accumulates per node, counted by torch while running it.
        values: what is known of each node; labels of axis 1 for tensors of two or more axes.
        kinds: the kind of each vertex, "other" where nothing is proven.
        uses: channels of every module that may be sliced, by module path.
        counts: channel counts that a node holds as numbers: (position or None, labels counted).
    """

    def __init__(self, module: fx.GraphModule, example: tuple[Tensor, ...]) -> None:
        self.module = module
        self.modules = dict(module.named_modules())
        self.book = LabelBook()
        self.values: dict[fx.Node, Value] = {}
        self.kinds: dict[fx.Node, str] = {}
        self.uses: dict[str, Use] = {}
        self.counts: dict[fx.Node, tuple[int | None, tuple[IntArray, ...]]] = {}
        self._locked = _shared_parameters(module)
        recorder = _Recorder(module)
        recorder.run(*(x.clone() for x in example))  # the network may write into its input
        self.shapes, self.parts = recorder.shapes, recorder.parts
        self.outputs = recorder.outputs
        self.arithmetic = recorder.macs

    def is_tensor(self, node: fx.Node) -> bool:
        """Whether the node's value is one tensor."""
        return node in self.shapes

    def is_scalar(self, node: fx.Node) -> bool:
        """Whether the node is a tensor that broadcasts as one number whatever the channels."""
        shape = self.shapes.get(node)
        return shape == () or (node.op == "get_attr" and shape is not None and set(shape) <= {1})

    def called(self, node: fx.Node) -> nn.Module:
        """The module that a call_module node calls."""
        module: nn.Module = self.modules[str(node.target)]
        return module

    def labels(self, node: Any) -> IntArray:
        """Labels of a tensor node, or raise where it has no channel axis."""
        value = self.values.get(node) if isinstance(node, fx.Node) else None
        if not isinstance(value, np.ndarray):
            raise UnprovenError("an operand has no channel axis")
        return value

    def unlocked(self, node: fx.Node) -> str:
        """The called module's path, or raise where its parameters may not be sliced."""
        path = str(node.target)
        if path in self._locked:
            raise UnprovenError(self._locked[path])
        return path

    def why_locked(self, path: str) -> str:
        """Why a module is not sliced."""
        return self._locked.get(path, "its effect on channels is not proven")

    def dense(self, node: fx.Node, reads: IntArray, c_out: int) -> IntArray:
        """Book a module in which every output channel reads every input channel."""
        return self._use(node, reads, None, c_out, "dense")

    def channelwise(self, node: fx.Node, labels: IntArray) -> IntArray:
        """Book a module with parameters of its own for each channel."""
        return self._use(node, labels, labels, len(labels), "each")

    def tied(self, node: fx.Node, reads: IntArray, c_out: int, groups: int) -> IntArray:
        """Book a grouped convolution whose groups keep the same positions.

        Removing position i of every group leaves groups of equal size, as convolutions demand.
        """
        writes = self._use(node, reads, None, c_out, "tied")
        for labels in (reads, writes):
            first, *others = labels.reshape(groups, -1)
            for other in others:
                self.book.join(first, other)
        return writes

    def blocks(self, node: fx.Node, reads: IntArray, c_out: int, groups: int) -> IntArray:
        """Book a grouped convolution whose groups stay or go as a whole, inputs and outputs."""
        first, *others = reads.reshape(groups, -1).T
        for other in others:
            self.book.join(first, other)
        return self._use(node, reads, np.repeat(first, c_out // groups), c_out, "blocks")

    def _use(
        self, node: fx.Node, reads: IntArray, writes: IntArray | None, c_out: int, way: Way
    ) -> IntArray:
        path = self.unlocked(node)
        if path in self.uses:
            self.book.join(self.uses[path].reads, reads)
        else:
            self.uses[path] = Use(reads, self.book.fresh(c_out) if writes is None else writes, way)
        return self.uses[path].writes

    def leave_alone(self, node: fx.Node, reason: str) -> Value:
        """Freeze every channel that touches the node; its own channels are new and frozen."""
        for source in node.all_input_nodes:
            self.freeze_value(self.values.get(source), reason)
        if node.op == "call_module":
            path = str(node.target)
            self._locked.setdefault(path, reason)
            if path in self.uses:
                self.book.freeze(self.uses[path].reads, reason)
                self.book.freeze(self.uses[path].writes, reason)
        shape = self.shapes.get(node, ())
        if len(shape) < 2:
            return None
        labels = self.book.fresh(shape[1])
        self.book.freeze(labels, reason)
        return labels

    def freeze_value(self, value: Value, reason: str) -> None:
        """Freeze the channels that a value depends on."""
        if isinstance(value, SizeOf | DimOf):
            if not (isinstance(value, DimOf) and value.axis != 1):
                self.freeze_value(self.values.get(value.node), reason)
        elif isinstance(value, Parts):
            for labels in value.labels:
                self.book.freeze(labels, reason)
        elif value is not None:
            self.book.freeze(value, reason)


class _Recorder(fx.Interpreter):
    """Runs the network once and notes shapes and arithmetic of every node."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.parts: dict[fx.Node, tuple[tuple[int, ...], ...]] = {}
        self.macs: dict[fx.Node, int] = {}
        self.outputs: tuple[tuple[int, ...], ...] = ()

    def run_node(self, n: fx.Node) -> Any:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            result = super().run_node(n)
        # torch counts two operations per multiply-accumulate.
        self.macs[n] = counter.get_total_flops() // 2
        if n.op == "output":
            self.outputs = tuple(tuple(x.shape) for x in tree_leaves(result) if is_tensor(x))
        elif isinstance(result, Tensor):
            self.shapes[n] = tuple(result.shape)
        elif isinstance(result, Sequence) and result and all(map(is_tensor, result)):
            self.parts[n] = tuple(tuple(x.shape) for x in result)
        return result


def is_tensor(value: object) -> bool:
    """Whether a value of the running network is a tensor."""
    return isinstance(value, Tensor)


def _shared_parameters(module: nn.Module) -> dict[str, str]:
    """Paths of modules that own a parameter which another module owns too, with the reason."""
    owners: dict[int, list[str]] = {}
    for path, child in module.named_modules():
        for parameter in child.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(path)
    shared = Counter(path for paths in owners.values() if len(paths) > 1 for path in paths)
    return dict.fromkeys(shared, "shares a parameter with another module")
