"""Tracing a prototype: what it is made of, which channels go together, what may be left out.

The graph comes from `torch.fx`, or from `torch.export` where that fails (`exported.py`). Channels
are followed through it operation by operation (`rules.py`, `views.py`); an operation without a
proven rule freezes all channels that touch it, because a wrong guess here would surface as a
broken network hours later on a board.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, fx, nn

from hil.core.errors import ExportError
from hil.net.branches import find_branches
from hil.net.exported import first_line, graph_of
from hil.net.graph import Channels, Flow, Frozen, Rewrite, Topology, Trace, Vertex
from hil.net.grouping import Classes, find_groups, occurrences, producers
from hil.net.kernels import TASK_OUTPUT, find_kernels, heads_of
from hil.net.operations import apply_rule
from hil.net.wiring import Parts, Walk


def trace(model: nn.Module, example: tuple[Tensor, ...]) -> Trace:
    """Trace a prototype; the model itself is left untouched.

    `torch.fx` is tried first, `torch.export` where that fails (`exported.py`).

    Args:
        model: any network that one of the two can trace; traced in evaluation mode, so a branch
            on `self.training` keeps its evaluation side.
        example: its inputs, batch first; only the first element of the batch is used.

    Raises:
        ExportError: the network cannot be traced, or does not run on the example.
    """
    example = tuple(x[:1].detach() for x in example)
    model = copy.deepcopy(model).eval()
    return retrace(graph_of(model, example), example)


def retrace(module: fx.GraphModule, example: tuple[Tensor, ...]) -> Trace:
    """Trace a network that is a graph already, at the sizes of an example.

    Raises:
        ExportError: it does not run on the example.
    """
    try:
        walk = Walk(module, example)
    except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
        raise ExportError(
            "the prototype does not run on its example input",
            why=f"{type(error).__name__}: {first_line(error)}",
            fix="give the shape that the network expects, batch first",
        ) from error
    for node in module.graph.nodes:
        _visit(walk, node)
    return _assemble(walk, example)


def _visit(walk: Walk, node: fx.Node) -> None:
    if node.op == "placeholder":
        shape = walk.shapes.get(node, ())
        labels = walk.book.fresh(shape[1]) if len(shape) > 1 else None
        walk.values[node] = labels
        walk.freeze_value(labels, "coupled with the network's input")
    elif node.op == "output":
        for source in node.all_input_nodes:
            walk.freeze_value(walk.values.get(source), TASK_OUTPUT)
    else:
        walk.values[node] = apply_rule(walk, node)


def _assemble(walk: Walk, example: tuple[Tensor, ...]) -> Trace:
    names = _vertex_names(walk)
    classes = Classes(walk)
    vertices = _vertices(walk, names)
    made = producers(walk, names, classes)
    reasons = classes.frozen()
    topology = _topology(walk)
    branches, refused = find_branches(walk, topology, names)
    kernels, kept_kernels = find_kernels(walk, names)
    flows = {name: _flow(walk, node, classes) for node, name in names.items()}
    channels = {
        path: Channels(classes(use.reads), classes(use.writes), use.way)
        for path, use in walk.uses.items()
    }
    rewrites = {
        node.name: Rewrite(position, tuple(map(classes, counted)))
        for node, (position, counted) in walk.counts.items()
    }
    # Last: flows, channels and rewrites number the classes they meet.
    count = classes.count
    signatures = occurrences(flows.values(), channels.values(), rewrites.values(), count)
    groups, frozen = find_groups(made, reasons, signatures)
    heads = {names[node] for node in heads_of(walk)}
    frozen = tuple(Frozen(f.name, TASK_OUTPUT) if f.name in heads else f for f in frozen)
    return Trace(
        prototype=walk.module,
        example=example,
        vertices=vertices,
        groups=groups,
        branches=branches,
        frozen=frozen + refused + kept_kernels,
        identifier=_identifier(vertices, topology, example),
        nodes={name: node.name for node, name in names.items()},
        flows=flows,
        channels=channels,
        class_count=count,
        topology=topology,
        kernels=kernels,
        rewrites=rewrites,
        outputs=walk.outputs,
    )


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


def _flow(walk: Walk, node: fx.Node, classes: Classes) -> Flow:
    reads, areas, fixed = [], [], 0
    for source in node.all_input_nodes:
        value = walk.values.get(source)
        if isinstance(value, Parts):
            own = walk.values[node]
            if isinstance(own, np.ndarray):
                reads.append(classes(own))
                areas.append(math.prod(walk.shapes[node][2:]))
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
