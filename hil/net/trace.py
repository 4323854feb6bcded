"""Tracing a prototype: what it is made of, which channels go together, what may be left out.

The graph comes from `torch.fx`. Channels are followed through it operation by operation
(`rules.py`); an operation without a proven rule freezes all channels that touch it, because a
wrong guess here would surface as a broken network hours later on a board.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError

from hil.core.errors import ExportError
from hil.net.branches import find_branches
from hil.net.graph import Channels, Flow, Frozen, Group, Topology, Trace, Vertex
from hil.net.labels import IntArray
from hil.net.operations import apply_rule
from hil.net.wiring import Walk

_PRODUCERS = frozenset({"conv", "deconv", "linear"})
_LEAST_CHANNELS = 4


def trace(model: nn.Module, example: tuple[Tensor, ...]) -> Trace:
    """Trace a prototype; the model itself is left untouched.

    Args:
        model: any network that `torch.fx` can trace; traced in evaluation mode, so a branch on
            `self.training` keeps its evaluation side.
        example: its inputs, batch first; only the first element of the batch is used.

    Raises:
        ExportError: the network cannot be traced, or does not run on the example.
    """
    example = tuple(x[:1].detach() for x in example)
    module = _symbolic(model)
    try:
        walk = Walk(module, example)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise ExportError(
            "the prototype does not run on its example input",
            why=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            fix="give the shape that the network expects, batch first",
        ) from error
    for node in module.graph.nodes:
        _visit(walk, node)
    return _assemble(walk, example)


def _symbolic(model: nn.Module) -> fx.GraphModule:
    model = copy.deepcopy(model).eval()
    try:
        return fx.symbolic_trace(model)
    except (TraceError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise ExportError(
            "torch.fx cannot trace the prototype",
            why=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            fix="move control flow that depends on tensor values out of forward()",
        ) from error


def _visit(walk: Walk, node: fx.Node) -> None:
    if node.op == "placeholder":
        shape = walk.shapes.get(node, ())
        labels = walk.book.fresh(shape[1]) if len(shape) > 1 else None
        walk.values[node] = labels
        walk.freeze_value(labels, "coupled with the network's input")
    elif node.op == "output":
        for source in node.all_input_nodes:
            walk.freeze_value(walk.values.get(source), "the task's output")
    else:
        walk.values[node] = apply_rule(walk, node)


def _assemble(walk: Walk, example: tuple[Tensor, ...]) -> Trace:
    names = _vertex_names(walk)
    classes = _Classes(walk)
    vertices = _vertices(walk, names)
    groups, frozen = _groups(walk, names, classes)
    topology = _topology(walk)
    branches, refused = find_branches(walk, topology, names)
    flows = {name: _flow(walk, node, classes) for node, name in names.items()}
    channels = {
        path: Channels(classes(use.reads), classes(use.writes)) for path, use in walk.uses.items()
    }
    return Trace(
        prototype=walk.module,
        example=example,
        vertices=vertices,
        groups=groups,
        branches=branches,
        frozen=frozen + refused,
        identifier=_identifier(vertices, topology, example),
        nodes={name: node.name for node, name in names.items()},
        flows=flows,
        channels=channels,
        class_count=classes.count,  # last: flows and channels number the classes they meet
        topology=topology,
    )


class _Classes:
    """Labels to consecutive class numbers."""

    def __init__(self, walk: Walk) -> None:
        self._book = walk.book
        self._numbers: dict[int, int] = {}

    def __call__(self, labels: IntArray) -> IntArray:
        roots = self._book.resolve(labels).tolist()
        numbers = self._numbers
        return np.array([numbers.setdefault(r, len(numbers)) for r in roots], dtype=np.int64)

    def frozen(self) -> dict[int, str]:
        return {self._numbers.setdefault(root, len(self._numbers)): reason
                for root, reason in self._book.frozen().items()}  # fmt: skip

    @property
    def count(self) -> int:
        return len(self._numbers)


def _vertex_names(walk: Walk) -> dict[fx.Node, str]:
    names: dict[fx.Node, str] = {}
    taken: set[str] = set()
    for node in walk.module.graph.nodes:
        if node.op in ("placeholder", "output") or not walk.is_tensor(node):
            continue
        base = str(node.target) if node.op in ("call_module", "get_attr") else node.name
        name, count = base, 1
        while name in taken:
            count += 1
            name = f"{base}#{count}"
        taken.add(name)
        names[node] = name
    return names


def _vertices(walk: Walk, names: Mapping[fx.Node, str]) -> tuple[Vertex, ...]:
    counted: set[int] = set()
    vertices = []
    for node in names:
        fresh = [p for p in _parameters(walk, node) if id(p) not in counted]
        counted.update(id(p) for p in fresh)
        vertices.append(_vertex(walk, node, names, sum(p.numel() for p in fresh)))
    return tuple(vertices)


def _vertex(walk: Walk, node: fx.Node, names: Mapping[fx.Node, str], params: int) -> Vertex:
    module = walk.called(node) if node.op == "call_module" else None
    shape = walk.shapes[node]
    height, width = (*shape[2:4], 1, 1)[:2]
    sources = [n for n in node.all_input_nodes if walk.is_tensor(n)]
    first = walk.shapes[sources[0]] if sources else ()
    return Vertex(
        name=names[node],
        op=type(module).__name__ if module is not None else _function_name(node),
        kind=walk.kinds[node],
        module=str(node.target) if module is not None else None,
        c_in=first[1] if len(first) > 1 else 0,
        c_out=shape[1] if len(shape) > 1 else 0,
        kernel=_window(module, "kernel_size"),
        stride=_window(module, "stride"),
        groups=int(getattr(module, "groups", 1)),
        h_out=height,
        w_out=width,
        macs=walk.arithmetic[node],
        params=params,
        inputs=tuple(names[n] for n in node.all_input_nodes if n in names),
    )


def _function_name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


def _window(module: nn.Module | None, name: str) -> tuple[int, ...]:
    value: Any = getattr(module, name, ()) if isinstance(module, nn.modules.conv._ConvNd) else ()
    return tuple(int(v) for v in value)


def _parameters(walk: Walk, node: fx.Node) -> list[nn.Parameter]:
    if node.op == "call_module":
        return list(walk.called(node).parameters())
    if node.op == "get_attr":
        owner, _, name = str(node.target).rpartition(".")
        value = getattr(walk.modules[owner], name, None)
        return [value] if isinstance(value, nn.Parameter) else []
    return []


def _flow(walk: Walk, node: fx.Node, classes: _Classes) -> Flow:
    reads, areas, fixed = [], [], 0
    for source in node.all_input_nodes:
        value = walk.values.get(source)
        if not walk.is_tensor(source):
            continue
        if isinstance(value, np.ndarray):
            reads.append(classes(value))
            areas.append(math.prod(walk.shapes[source][2:]))
        else:
            fixed += math.prod(walk.shapes[source])
    value, shape = walk.values.get(node), walk.shapes[node]
    if not isinstance(value, np.ndarray):
        empty = np.zeros(0, dtype=np.int64)
        return Flow(tuple(reads), tuple(areas), empty, 0, fixed + math.prod(shape))
    return Flow(tuple(reads), tuple(areas), classes(value), math.prod(shape[2:]), fixed)


def _groups(
    walk: Walk, names: Mapping[fx.Node, str], classes: _Classes
) -> tuple[tuple[Group, ...], tuple[Frozen, ...]]:
    """Classes made by the same producers, equally often, are one group, unless frozen."""
    producers = _producers(walk, names)
    members: dict[int, list[str]] = {}
    for name, labels in producers.items():
        for number in classes(labels).tolist():
            members.setdefault(number, []).append(name)
    reasons = classes.frozen()
    together: dict[tuple[str, ...], list[int]] = {}
    frozen: dict[str, str] = {}
    for number, owners in members.items():
        if number in reasons:
            for owner in owners:
                frozen.setdefault(owner, reasons[number])
        else:
            together.setdefault(tuple(owners), []).append(number)
    groups: list[Group] = []
    for owners_key, numbers in together.items():
        if len(numbers) < _LEAST_CHANNELS:
            frozen.update((o, f"only {len(numbers)} channels") for o in owners_key)
            continue
        name = _unused(owners_key[0], (g.name for g in groups))
        producing = tuple(dict.fromkeys(owners_key))
        groups.append(Group(name, np.array(numbers, dtype=np.int64), producing))
    return tuple(groups), tuple(Frozen(*item) for item in frozen.items())


def _producers(walk: Walk, names: Mapping[fx.Node, str]) -> dict[str, IntArray]:
    """Output labels of every vertex that makes channels; frozen ones where it is not sliceable."""
    result: dict[str, IntArray] = {}
    for node, name in names.items():
        value = walk.values.get(node)
        if walk.kinds[node] in _PRODUCERS and isinstance(value, np.ndarray):
            result[name] = value
    return result


def _unused(name: str, taken: Iterable[str]) -> str:
    count, result, names = 1, name, set(taken)
    while result in names:
        count += 1
        result = f"{name}#{count}"
    return result


def _topology(walk: Walk) -> Topology:
    nodes = walk.module.graph.nodes
    inputs = {n.name: tuple(i.name for i in n.all_input_nodes) for n in nodes}
    return Topology(inputs, next(n.name for n in nodes if n.op == "output"))


def _identifier(
    vertices: tuple[Vertex, ...], topology: Topology, example: tuple[Tensor, ...]
) -> str:
    description = {
        "vertices": [list(v.__dict__.values()) for v in vertices],
        "nodes": sorted((k, list(v)) for k, v in topology.inputs.items()),
        "example": [[list(x.shape), str(x.dtype)] for x in example],
    }
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
