"""From an architecture to a network that inherits the prototype's weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from hil.core.errors import ConfigError
from hil.net.graph import Group, Kernel, Trace
from hil.net.kernels import crop
from hil.net.slicing import BoolArray, slice_module, sliced_axes
from hil.net.variables import Space, Variable

FloatArray = NDArray[np.float64]
Importance = Mapping[str, FloatArray]
"""Scores by width variable, one per channel of its group; the higher, the later removed.

Kernel variables may have scores too (`stimuli.py`), one for each step of the window from its
centre; they rank choices, and never move the crop off the centre.
"""


def materialise(
    trace: Trace, space: Space, arch: Sequence[int], importance: Importance | None = None
) -> nn.Module:
    """Build the network of an architecture, with weights sliced from the prototype's.

    Channels that stay keep their order and windows shrink about their centre, so the identity
    architecture is the prototype bit for bit. The result shares no memory with the prototype, is
    in evaluation mode and trainable. Its structure depends on the architecture alone, its weights
    on `importance` as well. Resolution and precision leave the module as it is.

    Args:
        trace: the traced prototype.
        space: the space made from that trace.
        arch: one choice index per variable.
        importance: which channels to keep; by default those of largest weights.

    Raises:
        ConfigError: the architecture is none of this space, or the space is of another trace.
    """
    if space.prototype_id != trace.identifier:
        raise ConfigError(
            "the space was made from another prototype", fix="trace the prototype of this run"
        )
    arch = space.validate(arch)
    kept = _kept_classes(trace, space, arch, importance)
    graph, called = _edited_graph(trace, dropped_branches(trace, space, arch))
    _rewrite_counts(trace, graph, kept)
    root: dict[str, object] = {
        str(node.target): copy.deepcopy(_attribute(trace.prototype, str(node.target)))
        for node in graph.nodes
        if node.op == "get_attr"
    }
    windows = _windows(trace, space, arch)
    for path in called:
        module = copy.deepcopy(trace.prototype.get_submodule(path))
        if path in trace.channels:
            slice_module(module, trace.channels[path], kept)
        if path in windows:
            crop(module, windows[path])
        root[path] = module
    result = fx.GraphModule(root, graph)
    return result.eval()


def rebuild(trace: Trace, space: Space, arch: Sequence[int]) -> nn.Module:
    """The structure of `materialise(trace, space, arch)`, to load a saved state dict into.

    The prototype's weights do not matter: a trace of the factory's fresh network will do.
    """
    first = {
        v.name: -np.arange(len(group_of(trace, v).classes), dtype=np.float64)
        for v in space.variables
        if v.kind == "width"
    }
    return materialise(trace, space, arch, first)


def dropped_branches(trace: Trace, space: Space, arch: Sequence[int]) -> dict[str, str]:
    """Additions to remove, by traced name, with the shortcut that replaces each."""
    branches = {f"depth:{b.name}": b for b in trace.branches}
    found = [branches[space.variables[i].name] for i in space.dropped(arch)]
    return {b.add: b.shortcut for b in found}


def group_of(trace: Trace, variable: Variable) -> Group:
    """The group that a width variable chooses for."""
    return next(g for g in trace.groups if f"width:{g.name}" == variable.name)


def magnitude_importance(trace: Trace, space: Space) -> dict[str, FloatArray]:
    """L2 norm of each channel's weights over all layers of its group.

    A layer's norms are divided by their mean first, so that no layer outweighs the others by
    its scale alone.
    """
    total = np.zeros(trace.class_count)
    for path, channels in trace.channels.items():
        module = trace.prototype.get_submodule(path)
        for axis, classes in sliced_axes(module, channels):
            weight = getattr(module, "weight", None)
            if weight is None:
                continue
            other = tuple(i for i in range(weight.dim()) if i != axis)
            squares = weight.detach().double().square()
            energy = (squares.sum(other) if other else squares).cpu().numpy()
            per_class = np.bincount(classes, weights=energy, minlength=trace.class_count)
            total += per_class / max(float(per_class[np.unique(classes)].mean()), 1e-30)
    return {
        v.name: np.sqrt(total[group_of(trace, v).classes])
        for v in space.variables
        if v.kind == "width"
    }


def _kept_classes(
    trace: Trace, space: Space, arch: Sequence[int], importance: Importance | None
) -> BoolArray:
    kept = np.ones(trace.class_count, dtype=bool)
    narrowed = [
        (v, v.choices[c])
        for v, c in zip(space.variables, arch, strict=True)
        if v.kind == "width" and c != v.identity
    ]
    if narrowed and importance is None:
        importance = magnitude_importance(trace, space)
    for variable, width in narrowed:
        classes = group_of(trace, variable).classes
        scores = np.asarray((importance or {})[variable.name], dtype=np.float64)
        if scores.shape != classes.shape:
            raise ConfigError(
                f"{variable.name} needs {len(classes)} channel scores", why=f"got {scores.shape}"
            )
        # Stable: among equal scores the earlier channel stays.
        kept[classes[np.argsort(-scores, kind="stable")[width:]]] = False
    return kept


def kernel_of(trace: Trace, variable: Variable) -> Kernel:
    """The convolution that a kernel variable chooses for."""
    return next(k for k in trace.kernels if f"kernel:{k.name}" == variable.name)


def _windows(trace: Trace, space: Space, arch: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Chosen windows by module path."""
    found = {}
    for variable, choice in zip(space.variables, arch, strict=True):
        if variable.kind == "kernel":
            kernel = kernel_of(trace, variable)
            found[kernel.module] = kernel.sides(variable.choices[choice])
    return found


def _rewrite_counts(trace: Trace, graph: fx.Graph, kept: BoolArray) -> None:
    """Write the numbers of channels that are left where the graph holds them as constants."""
    for node in graph.nodes:
        rewrite = trace.rewrites.get(node.name)
        if rewrite is None or all(kept[classes].all() for classes in rewrite.counted):
            continue
        counts = [int(kept[classes].sum()) for classes in rewrite.counted]
        if rewrite.position is None:
            node.op, node.target = "call_function", torch.split
            node.args, node.kwargs = (node.args[0], counts, 1), {}
            continue
        sizes = list(node.args[1]) if isinstance(node.args[1], list | tuple) else [*node.args[1:]]
        sizes[rewrite.position] = counts[0]
        node.args = (node.args[0], tuple(sizes))


def _edited_graph(trace: Trace, dropped: Mapping[str, str]) -> tuple[fx.Graph, list[str]]:
    """A copy of the graph without the dropped branches, and the modules that it calls."""
    graph = copy.deepcopy(trace.prototype.graph)
    if dropped:
        before = trace.topology.live({})
        gone = set(before - trace.topology.live(dropped))
        nodes = {node.name: node for node in graph.nodes}
        # Last first: a shortcut can be an earlier addition that is dropped as well.
        for add, shortcut in reversed(list(dropped.items())):
            _replace(trace.prototype, nodes[add], nodes[shortcut])
        for node in graph.nodes:  # what nobody read before goes with what it read
            if node.name not in before and any(n.name in gone for n in node.all_input_nodes):
                gone.add(node.name)
        for node in reversed(list(graph.nodes)):
            if node.name in gone:
                graph.erase_node(node)
    called = [str(n.target) for n in graph.nodes if n.op == "call_module"]
    return graph, list(dict.fromkeys(called))


def _replace(prototype: nn.Module, add: fx.Node, shortcut: fx.Node) -> None:
    """Let the addition's readers read the shortcut."""
    others = [n for n in shortcut.users if n is not add]
    if others and any(_writes_in_place(prototype, reader) for reader in add.users):
        # An operation that overwrote the sum must not overwrite what others still read.
        with add.graph.inserting_before(add):
            shortcut = add.graph.call_method("clone", (shortcut,))
    add.replace_all_uses_with(shortcut)


def _writes_in_place(prototype: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return bool(getattr(prototype.get_submodule(str(node.target)), "inplace", False))
    name = str(getattr(node.target, "__name__", node.target))
    in_place = name.endswith("_") or name in ("iadd", "isub", "imul")
    return in_place or bool(node.kwargs.get("inplace"))


def _attribute(module: nn.Module, path: str) -> object:
    owner, _, name = path.rpartition(".")
    return getattr(module.get_submodule(owner), name)
