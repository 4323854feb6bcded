"""Convolutions whose window may shrink about its centre without changing any shape."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx, nn

from hil.net.branches import WEIGHTED
from hil.net.graph import Frozen, Kernel
from hil.net.wiring import Walk

TASK_OUTPUT = "the task's output"
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def find_kernels(
    walk: Walk, names: Mapping[fx.Node, str]
) -> tuple[tuple[Kernel, ...], tuple[Frozen, ...]]:
    """Windows that may shrink, and those that may not (as `kernel:NAME`), with the reason.

    Args:
        walk: the finished walk.
        names: vertex names by node, in execution order.
    """
    calls: dict[str, list[fx.Node]] = {}
    for node in names:
        if node.op == "call_module" and type(walk.called(node)) in (*_CONVOLUTIONS, *_TRANSPOSED):
            calls.setdefault(str(node.target), []).append(node)
    heads = heads_of(walk)
    found: list[Kernel] = []
    refused: list[Frozen] = []
    for path, nodes in calls.items():
        module = walk.called(nodes[0])
        assert isinstance(module, nn.modules.conv._ConvNd)
        if max(module.kernel_size) == 1:
            continue
        name = names[nodes[0]]
        choices = _choices(module)
        reason = _reason(walk, module, path, choices)
        if heads.intersection(nodes):
            reason = TASK_OUTPUT
        if reason:
            refused.append(Frozen(f"kernel:{name}", reason))
            continue
        vertices = tuple(names[n] for n in nodes)
        found.append(Kernel(name, path, tuple(module.kernel_size), choices, vertices))
    return tuple(found), tuple(refused)


def _reason(
    walk: Walk, module: nn.modules.conv._ConvNd, path: str, choices: tuple[int, ...]
) -> str | None:
    if isinstance(module, _TRANSPOSED):
        return "a transposed convolution's window decides the shape"
    if path not in walk.uses:
        return walk.why_locked(path)
    if any(size % 2 == 0 for size in module.kernel_size):
        return "an even window has no centre"
    if len(choices) < 2:
        return "its padding is narrower than the crop, so the shape would change"
    return None


def _choices(module: nn.modules.conv._ConvNd) -> tuple[int, ...]:
    largest = max(module.kernel_size)
    return tuple(c for c in range(2 - largest % 2, largest + 1, 2) if _fits(module, c))


def _fits(module: nn.modules.conv._ConvNd, choice: int) -> bool:
    """Whether the padding holds what the window loses on each side."""
    if module.padding == "same":
        return True
    if isinstance(module.padding, str):  # "valid": there is none
        return False
    sides = zip(module.kernel_size, module.dilation, module.padding, strict=True)
    return all(p >= d * max(k - choice, 0) // 2 for k, d, p in sides)


def crop(module: nn.Module, sizes: tuple[int, ...]) -> None:
    """Keep the centre of a convolution's window, in place; padding for the rest goes too."""
    assert isinstance(module, nn.modules.conv._ConvNd)
    if tuple(module.kernel_size) == sizes:
        return
    lost = [(k - s) // 2 for k, s in zip(module.kernel_size, sizes, strict=True)]
    middle = tuple(slice(cut, cut + size) for cut, size in zip(lost, sizes, strict=True))
    weight = module.weight
    cropped = weight.detach()[(slice(None), slice(None), *middle)].clone()
    module.weight = nn.Parameter(cropped, requires_grad=weight.requires_grad)
    if isinstance(module.padding, tuple):
        taken = zip(module.padding, module.dilation, lost, strict=True)
        module.padding = tuple(p - d * cut for p, d, cut in taken)
        around = [p for p in reversed(module.padding) for _ in range(2)]
    else:  # "same": an odd window is padded alike on both sides
        spans = [d * (size - 1) // 2 for d, size in zip(module.dilation, sizes, strict=True)]
        around = [span for span in reversed(spans) for _ in range(2)]
    module._reversed_padding_repeated_twice = around
    module.kernel_size = sizes


def heads_of(walk: Walk) -> set[fx.Node]:
    """The last operations with weights before each result."""
    heads: set[fx.Node] = set()
    seen: set[fx.Node] = set()
    stack = [n for n in walk.module.graph.nodes if n.op == "output"]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if walk.kinds.get(node) in WEIGHTED - {"other"}:
            heads.add(node)
        else:
            stack.extend(node.all_input_nodes)
    return heads
