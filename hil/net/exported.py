"""A network as a graph of modules and functions: by `torch.fx`, else by `torch.export`.

`torch.export` runs the network on the example and records ATen operations, so Python that looks
at shapes is no obstacle. What it recorded is written back in the terms `torch.fx` would have
used (a convolution is its module again, under its own path), so that everything after this file
reads one kind of graph. Either graph is held to the network's own outputs, bit for bit.
"""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx.proxy import TraceError
from torch.nn import functional
from torch.utils._pytree import tree_leaves, tree_unflatten

from hil.core.errors import ExportError

OWN = "own"
"""Entry of a graph's `meta`: tensors that it holds and the network's state dict does not."""

_REFUSALS = (
    TraceError,
    RuntimeError,
    TypeError,
    ValueError,
    AttributeError,
    AssertionError,
    LookupError,
    NotImplementedError,
)


def graph_of(model: nn.Module, example: tuple[Tensor, ...]) -> fx.GraphModule:
    """The network as a graph that computes the same, bit for bit.

    Args:
        model: in evaluation mode; the graph takes over its modules.
        example: its inputs, batch first.

    Raises:
        ExportError: neither torch.fx nor torch.export can trace it, or it does not run.
    """
    wanted = _results(model, example)
    refusals = []
    for name, make in (("torch.fx", _by_fx), ("torch.export", by_export)):
        try:
            graph = make(model, example)
            if _agree(_leaves(graph, example), wanted):
                graph.meta[OWN] = sorted(set(graph.state_dict()) - set(model.state_dict()))
                return graph
            refusals.append(f"{name}: its graph computes something else")
        except _REFUSALS as error:
            refusals.append(f"{name}: {type(error).__name__}: {first_line(error)}")
    if not _agree(_leaves(model, example), wanted):
        raise ExportError(
            "the prototype gives different results for the same input",
            why="it draws random numbers in evaluation mode",
            fix="let eval() switch off everything random",
        )
    raise ExportError(
        "torch.fx and torch.export cannot trace the prototype",
        why="; ".join(refusals),
        fix="move control flow that depends on tensor values out of forward()",
    )


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return next(iter(str(error).strip().splitlines()), "no message")


def _results(model: nn.Module, example: tuple[Tensor, ...]) -> list[Any]:
    try:
        return _leaves(model, example)
    except _REFUSALS as error:
        raise ExportError(
            "the prototype does not run on its example input",
            why=f"{type(error).__name__}: {first_line(error)}",
            fix="give the shape that the network expects, batch first",
        ) from error


def _leaves(model: nn.Module, example: tuple[Tensor, ...]) -> list[Any]:
    with torch.no_grad():
        return list(tree_leaves(model(*(x.clone() for x in example))))


def _agree(got: list[Any], wanted: list[Any]) -> bool:
    pairs = zip(got, wanted, strict=False)
    return len(got) == len(wanted) and all(
        torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a == b
        for a, b in pairs
    )


def _by_fx(model: nn.Module, _example: tuple[Tensor, ...]) -> fx.GraphModule:
    return fx.symbolic_trace(model)


def by_export(model: nn.Module, example: tuple[Tensor, ...]) -> fx.GraphModule:
    """The network as `torch.export` records it, in terms of its own modules.

    Args:
        model: in evaluation mode.
        example: its inputs; the batch stays open, all other sizes are the example's.

    Raises:
        RuntimeError: torch.export cannot follow it; ValueError: it fixes its batch.
    """
    # Two inputs: torch.export takes a size of one for a constant.
    inputs = tuple(torch.cat([x[:1], x[:1]]) for x in example)
    batch = tuple({0: Dim.AUTO} for _ in inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own internals, nothing that a user can change
        program = torch.export.export(model, inputs, dynamic_shapes=batch, strict=False)
    return _Raiser(model, program).graph()


class _Raiser:
    """Writes an exported program in terms of the network's own modules."""

    def __init__(self, model: nn.Module, program: ExportedProgram) -> None:
        self._model = model
        self._program = program
        self._graph = fx.Graph()
        self._root: dict[str, Any] = {}
        self._values: dict[fx.Node, Any] = {}
        self._state: dict[fx.Node, str] = {}

    def graph(self) -> fx.GraphModule:
        for node in self._program.graph.nodes:
            if node.op == "placeholder":
                self._take(node)
            elif node.op == "call_function":
                self._raise(node)
            elif node.op == "output":
                self._give(node)
            else:
                raise ValueError(f"{node.target} is a branch of its own")
        return fx.GraphModule(self._root, self._graph).eval()

    def _take(self, node: fx.Node) -> None:
        spec = next(s for s in self._program.graph_signature.input_specs if _named(s, node))
        if spec.kind is InputKind.USER_INPUT:
            value = node.meta.get("val")
            if isinstance(value, Tensor) and isinstance(value.shape[0], int):
                raise ValueError(f"it works for a batch of {value.shape[0]} only")
            self._values[node] = self._graph.placeholder(node.name)
        elif spec.target is not None:
            self._state[node] = spec.target

    def _give(self, node: fx.Node) -> None:
        outputs = self._program.graph_signature.output_specs
        kinds = [getattr(o.kind, "name", "") for o in outputs]
        given: Any = node.args[0]
        results = self._read(
            [n for n, kind in zip(given, kinds, strict=True) if kind == "USER_OUTPUT"]
        )
        self._graph.output(tree_unflatten(results, self._program.call_spec.out_spec))

    def _raise(self, node: fx.Node) -> None:
        name = _operation(node.target)
        if name.startswith(("_assert", "sym_constrain", "_check")):
            return
        path = self._owner(node)
        if path is not None:
            (source,) = self._tensors(node)
            self._root[path] = self._model.get_submodule(path)
            self._values[node] = self._graph.call_module(path, (self._read(source),))
            return
        args, kwargs = self._read(node.args), self._read(node.kwargs)
        if name in _REWRITTEN:
            op, target, args, kwargs = _REWRITTEN[name](*args, **kwargs)
        elif name in _METHODS:
            op, target = "call_method", name
        elif name in _FUNCTIONS:
            op, target = "call_function", _FUNCTIONS[name]
        else:
            op, target = "call_function", node.target
        self._values[node] = self._graph.create_node(op, target, args, kwargs)

    def _owner(self, node: fx.Node) -> str | None:
        """Path of the torch.nn module whose whole work this node is, or None."""
        path = _place(node)
        if not path:
            return None
        try:
            module = self._model.get_submodule(path)
        except AttributeError:
            return None
        own = {
            f"{path}.{name}" for name, _ in (*module.named_parameters(), *module.named_buffers())
        }
        held = {self._state[n] for n in node.all_input_nodes if n in self._state}
        around = {*node.all_input_nodes, *node.users}
        whole = (
            type(module).__module__.startswith("torch.nn.modules")
            and next(module.children(), None) is None
            and getattr(module, "padding_mode", "zeros") == "zeros"
            and held <= own
            and len(self._tensors(node)) == 1
            and not any(_place(n) == path for n in around)
        )
        return path if whole else None

    def _tensors(self, node: fx.Node) -> list[fx.Node]:
        """Inputs of a node that are no state of the network."""
        return [n for n in node.all_input_nodes if n not in self._state]

    def _read(self, value: Any) -> Any:
        return fx.map_arg(value, self._value)

    def _value(self, node: fx.Node) -> Any:
        if node in self._values:
            return self._values[node]
        target = self._state[node]
        if target in self._program.constants and target not in self._program.state_dict:
            self._root[target] = self._program.constants[target]
        else:
            owner, _, name = target.rpartition(".")
            self._root[target] = getattr(self._model.get_submodule(owner), name)
        self._values[node] = self._graph.get_attr(target)
        return self._values[node]


def _named(spec: Any, node: fx.Node) -> bool:
    return getattr(spec.arg, "name", None) == node.name


def _place(node: fx.Node) -> str:
    """Path of the module that the node was recorded in; a second call has a mark of its own."""
    stack: Mapping[str, tuple[str, Any]] = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    return re.sub(r"@\d+$", "", path)


def _operation(target: Any) -> str:
    """`conv2d` of aten.conv2d.default; the name of any other function."""
    schema = getattr(target, "_schema", None)
    if schema is None:
        return str(getattr(target, "__name__", target))
    return str(schema.name).rpartition("::")[2]


def _resized(mode: str, align_at: int | None) -> Callable[..., Any]:
    def rewrite(x: Any, size: Any = None, *rest: Any) -> Any:
        named = {"size": size, "scale_factor": rest[-1] if rest else None, "mode": mode}
        if align_at is not None:
            named["align_corners"] = bool(rest[align_at])
        return "call_function", functional.interpolate, (x,), named

    return rewrite


def _sliced(x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    if dim < 0:
        return "call_function", torch.ops.aten.slice.Tensor, (x, dim, start, end, step), {}
    last = None if isinstance(end, int) and end >= 2**62 else end  # torch writes "all" so
    index = (*(slice(None),) * dim, slice(start, last, step))
    return "call_function", operator.getitem, (x, index), {}


_NAMES = """
    relu sigmoid tanh exp sqrt rsqrt square abs neg log clamp clamp_min clamp_max add sub mul div
    pow maximum minimum cat mean sum amax amin flatten unsqueeze squeeze chunk split max_pool1d
    max_pool2d max_pool3d
"""
_FUNCTIONAL_NAMES = """
    relu6 hardtanh hardswish hardsigmoid silu gelu leaky_relu softplus mish avg_pool2d avg_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d dropout pad
"""
_FUNCTIONS: dict[str, Any] = {
    **{name: getattr(torch, name) for name in _NAMES.split()},
    **{name: getattr(functional, name) for name in _FUNCTIONAL_NAMES.split()},
    "split_with_sizes": torch.split,
}
_METHOD_NAMES = """
    relu_ sigmoid_ tanh_ clamp_ add_ sub_ mul_ div_ view reshape expand expand_as contiguous clone
    detach
"""
_METHODS = frozenset(_METHOD_NAMES.split())
_REWRITTEN: dict[str, Callable[..., Any]] = {
    "sym_size": lambda x, axis: ("call_method", "size", (x, axis), {}),
    "slice": _sliced,
    "upsample_nearest1d": _resized("nearest", None),
    "upsample_nearest2d": _resized("nearest", None),
    "upsample_nearest3d": _resized("nearest", None),
    "upsample_bilinear2d": _resized("bilinear", 0),
}
