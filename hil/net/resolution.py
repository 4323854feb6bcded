"""Sizes of the input, proven by tracing the prototype again at each of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import interpolate

from hil.core.errors import ConfigError, ExportError
from hil.net.graph import Frozen, Trace
from hil.net.labels import IntArray
from hil.net.trace import retrace
from hil.net.variables import Resolution, Space

AUTO = "auto"
_MOST_LEVELS = 5
_NAME = "resolution"


def prove_resolutions(
    trace: Trace, asked: Sequence[int] | str
) -> tuple[tuple[Resolution, ...], tuple[Frozen, ...]]:
    """Sizes at which the network is the same network, the prototype's last, and remarks.

    A size holds where the prototype runs at it and every proof of its trace (channels, branches,
    windows) comes out the same. A remark tells of each size that does not, and of results that
    change their shape with it.

    Args:
        trace: the traced prototype.
        asked: heights in pixels, or "auto" for up to five from half the prototype's.

    Raises:
        ConfigError: a height is not below the prototype's, or not positive.
    """
    if not asked:
        return (), ()
    first = next((x for x in trace.example if x.dim() == 4), None)
    if first is None:
        return (), (Frozen(_NAME, "no input has two axes of space"),)
    base = int(first.shape[2])
    heights = _automatic(trace, base) if isinstance(asked, str) else sorted(set(asked))
    if any(not 0 < h <= base for h in heights):
        raise ConfigError(
            f"an input of {max(heights)} rows was asked for", why=f"the prototype takes {base}"
        )
    found: list[Resolution] = []
    remarks: list[Frozen] = []
    for height in (*(h for h in heights if h != base), base):
        try:
            there = at_height(trace, height)
        except ExportError as error:
            remarks.append(Frozen(_NAME, f"not {height} rows: {error.why or error}"))
            continue
        difference = _difference(trace, there)
        if difference:
            remarks.append(Frozen(_NAME, f"not {height} rows: {difference}"))
            continue
        shapes = tuple(tuple(x.shape) for x in there.example)
        found.append(Resolution(height, shapes, there.outputs))
        remarks += _changed(height, trace.outputs, there.outputs)
    return tuple(found), tuple(remarks)


def example_of(trace: Trace, space: Space, arch: Sequence[int]) -> tuple[Tensor, ...]:
    """Inputs of the size that an architecture takes, batch 1."""
    resolution = space.resolution(arch)
    if resolution is None:
        return trace.example
    pairs = zip(trace.example, resolution.shapes, strict=True)
    return tuple(fit(x, shape[2:]) for x, shape in pairs)


@lru_cache(maxsize=16)
def at_height(trace: Trace, height: int) -> Trace:
    """The same prototype traced at another size, the other side in proportion.

    Raises:
        ExportError: it does not run at that size.
    """
    base = next(x.shape[2] for x in trace.example if x.dim() == 4)
    if height == base:
        return trace
    scale = height / base
    inputs = (fit(x, [max(1, round(side * scale)) for side in x.shape[2:]]) for x in trace.example)
    return retrace(trace.prototype, tuple(inputs))


def fit(x: Tensor, sides: Sequence[int]) -> Tensor:
    """Pictures (N, C, H, W) resized bilinearly, averaging where they shrink; others as they are.

    Args:
        x: inputs of the prototype's size.
        sides: height and width, as in the last two of `Resolution.shapes`.
    """
    if x.dim() != 4 or tuple(x.shape[2:]) == tuple(sides):
        return x
    return interpolate(x, size=list(sides), mode="bilinear", align_corners=False, antialias=True)


class Fitted(nn.Module):
    """A network that is shown pictures of the prototype's size, and resizes them first."""

    def __init__(self, network: nn.Module, sides: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.sides = tuple(sides)

    def forward(self, x: Tensor) -> Tensor:
        """Resize, and answer."""
        result: Tensor = self.network(fit(x, self.sides))
        return result


def fitted(network: nn.Module, resolution: Resolution | None) -> nn.Module:
    """A network of one input as it answers pictures of the prototype's size: they are resized."""
    return network if resolution is None else Fitted(network, resolution.shapes[0][2:])


def _automatic(trace: Trace, base: int) -> list[int]:
    """Up to five heights from half to all of it, multiples of what the network divides by."""
    inner = [v.h_out for v in trace.vertices if 1 < v.h_out < base and base % v.h_out == 0]
    step = base // min(inner, default=base)
    heights = [h for h in range(step, base + 1, step) if 2 * h >= base] or [base]
    picks = np.linspace(0, len(heights) - 1, min(len(heights), _MOST_LEVELS))
    return [heights[round(i)] for i in picks]


def _difference(trace: Trace, there: Trace) -> str | None:
    """What tells the trace at another size from the prototype's, or None."""
    pairs = (
        ("the channels that go together", _groups(trace), _groups(there)),
        ("what is frozen", trace.frozen, there.frozen),
        ("the branches", trace.branches, there.branches),
        ("the windows", trace.kernels, there.kernels),
        ("channels of modules", _channels(trace), _channels(there)),
        ("counts in the graph", _rewrites(trace), _rewrites(there)),
    )
    return next((f"{what} differ there" for what, here, other in pairs if here != other), None)


def _groups(trace: Trace) -> list[object]:
    return [(g.name, g.producers, g.each, len(g.classes)) for g in trace.groups]


def _channels(trace: Trace) -> dict[str, object]:
    units = _units(trace)
    return {
        path: (used.way, units[used.reads].tolist(), units[used.writes].tolist())
        for path, used in trace.channels.items()
    }


def _rewrites(trace: Trace) -> dict[str, object]:
    units = _units(trace)
    return {n: [units[c].tolist() for c in r.counted] for n, r in trace.rewrites.items()}


def _units(trace: Trace) -> IntArray:
    """By class: its place among all units that may be removed, -1 where it stays.

    Numbers of classes that stay can depend on the size (an axis of space in the channels' place).
    """
    units = np.full(trace.class_count, -1, dtype=np.int64)
    free = [group.classes for group in trace.groups]
    if free:
        units[np.concatenate(free)] = np.arange(sum(map(len, free)))
    return units


def _changed(
    height: int, before: Sequence[tuple[int, ...]], after: Sequence[tuple[int, ...]]
) -> list[Frozen]:
    return [
        Frozen(
            _NAME,
            f"at {height} rows output {index} has shape {_written(now)} instead of {_written(old)}",
        )
        for index, (old, now) in enumerate(zip(before, after, strict=True))
        if old != now
    ]


def _written(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
