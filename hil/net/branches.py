"""Residual branches that can be left out: additions whose shortcut alone keeps every shape."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import fx

from hil.net.graph import Branch, Frozen, Topology
from hil.net.wiring import Walk

WEIGHTED = frozenset({"conv", "grouped", "depthwise", "deconv", "linear", "other"})
_ADDITIONS = frozenset({"add", "iadd", "add_"})


@dataclass(frozen=True)
class _Sides:
    branch: frozenset[fx.Node]
    shortcut: fx.Node


def find_branches(
    walk: Walk, topology: Topology, names: Mapping[fx.Node, str]
) -> tuple[tuple[Branch, ...], tuple[Frozen, ...]]:
    """Branches that may be dropped, and additions that may not, with the reason.

    Args:
        walk: the finished walk.
        topology: all nodes.
        names: vertex names by node, in execution order.
    """
    found: list[Branch] = []
    refused: list[Frozen] = []
    for node in names:
        operands = _operands(walk, node)
        if operands is None:
            continue
        verdict = _judge(walk, topology, node, operands)
        if isinstance(verdict, str):
            refused.append(Frozen(names[node], verdict))
            continue
        gone = [n for n in names if n in verdict.branch or n is node]
        taken = {branch.name for branch in found}
        name = _name([n for n in gone if n.op == "call_module"], names[node], taken)
        vertices = tuple(names[n] for n in gone)
        found.append(Branch(name, node.name, verdict.shortcut.name, vertices))
    return tuple(found), tuple(refused)


def _operands(walk: Walk, node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """Both operands of an addition of two equally shaped tensors; None for any other node."""
    title = str(getattr(node.target, "__name__", node.target))
    if node.op not in ("call_function", "call_method") or title not in _ADDITIONS:
        return None
    if len(node.args) != 2 or node.kwargs:
        return None
    left, right = node.args
    if not (isinstance(left, fx.Node) and isinstance(right, fx.Node)) or left is right:
        return None
    if walk.shapes.get(left) != walk.shapes.get(right) or left not in walk.shapes:
        return None
    return left, right


def _judge(
    walk: Walk, topology: Topology, node: fx.Node, operands: tuple[fx.Node, fx.Node]
) -> _Sides | str:
    """What would go and what would stay, or the reason why nothing may go."""
    sides = _split(walk, operands)
    if isinstance(sides, str):
        return sides
    weighted = [n for n in sides.branch if walk.kinds.get(n) in WEIGHTED]
    if not weighted:
        return "no operation with weights lies on the branch"
    live = topology.live({node.name: sides.shortcut.name})
    if any(n.name in live for n in sides.branch if walk.is_tensor(n)):
        return "the branch is read elsewhere"
    return sides


def _split(walk: Walk, operands: tuple[fx.Node, fx.Node]) -> _Sides | str:
    above = [_ancestors(walk, n) for n in operands]
    only = [above[0] - above[1], above[1] - above[0]]
    if not above[0] & above[1]:
        return "its operands share no origin"
    for keep, drop in ((0, 1), (1, 0)):
        if not only[keep]:  # the kept operand is what the other one was computed from
            return _Sides(frozenset(only[drop]), operands[keep])
    weights = [[n for n in side if walk.kinds.get(n) in WEIGHTED] for side in only]
    keep = 0 if len(weights[0]) < len(weights[1]) else 1
    if len(weights[0]) == len(weights[1]) or not _is_projection(walk, weights[keep]):
        return "neither operand is an identity or a 1x1 projection of the other's input"
    return _Sides(frozenset(only[1 - keep]), operands[keep])


def _is_projection(walk: Walk, weighted: Sequence[fx.Node]) -> bool:
    if not weighted:
        return True
    if len(weighted) > 1 or walk.kinds[weighted[0]] != "conv":
        return False
    return set(getattr(walk.called(weighted[0]), "kernel_size", (0,))) == {1}


def _ancestors(walk: Walk, node: fx.Node) -> set[fx.Node]:
    """The node and all tensors that it is computed from; reading a size computes nothing."""
    seen: set[fx.Node] = set()
    stack = [node]
    while stack:
        current = stack.pop()
        if current not in seen:
            seen.add(current)
            inputs = current.all_input_nodes
            stack.extend(n for n in inputs if walk.is_tensor(n) or n in walk.parts)
    return seen


def _name(modules: Sequence[fx.Node], fallback: str, taken: set[str]) -> str:
    """The longest path that all modules of the branch lie under."""
    paths = [str(n.target).split(".") for n in modules]
    levels = itertools.takewhile(lambda level: len(set(level)) == 1, zip(*paths, strict=False))
    name = ".".join(level[0] for level in levels) if len(paths) > 1 else ""
    name = name or fallback
    return name if name not in taken else f"{name}:{fallback}"
