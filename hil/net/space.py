"""Every choice that a trace allows, never written by hand."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from hil.core.errors import ConfigError
from hil.net.graph import Group, Trace
from hil.net.resolution import prove_resolutions
from hil.net.variables import DROP, KEEP, PRECISIONS, Architecture, Space, Variable

__all__ = [
    "DROP",
    "KEEP",
    "Architecture",
    "Choices",
    "Space",
    "Variable",
    "build_space",
    "width_choices",
]

_GRANULE = 8
_LEAST_SHARE = 0.25
_MOST_LEVELS = 10


@dataclass(frozen=True)
class Choices:
    """What may be chosen beyond width and depth, and how finely.

    Attributes:
        kernels: whether windows of convolutions may shrink.
        resolutions: heights of the input in pixels below the prototype's, or "auto" for up to
            five from half of it; none leaves the input as it is.
        precisions: what engines may be built with; the first is the prototype's. None leaves it
            to the job.
        granule: channels by which widths of 32 and more step.
        levels: widths of single variables in channels, instead of the granule's: the edges of a
            measured staircase. The prototype's width is always among them.
    """

    kernels: bool = False
    resolutions: Sequence[int] | str = ()
    precisions: Sequence[str] = ()
    granule: int = _GRANULE
    levels: Mapping[str, Sequence[int]] | None = None


def build_space(
    trace: Trace, frozen: Collection[str] = (), choices: Choices | None = None
) -> Space:
    """Every choice that the trace allows, of the kinds that are asked for.

    Args:
        trace: the traced prototype.
        frozen: variables to leave out, by name (`width:conv1`, `depth:stage1.0`).
        choices: what may be chosen; by default width and depth.

    Raises:
        ConfigError: a name is no variable, or a choice is impossible.
    """
    choices = choices or Choices()
    levels = dict(choices.levels or {})
    widths = [_width(group, choices.granule, levels) for group in trace.groups]
    depths = [
        Variable(f"depth:{b.name}", "depth", (DROP, KEEP), KEEP, b.vertices) for b in trace.branches
    ]
    kernels = [
        Variable(f"kernel:{k.name}", "kernel", k.choices, len(k.choices) - 1, k.vertices)
        for k in trace.kernels
        if choices.kernels
    ]
    resolutions, remarks = prove_resolutions(trace, choices.resolutions)
    variables = [v for v in (*widths, *depths, *kernels) if v.size > 1]
    if len(resolutions) > 1:
        heights = tuple(r.height for r in resolutions)
        variables.append(Variable("resolution", "resolution", heights, len(heights) - 1, ()))
    variables += _precision(choices.precisions)
    _require_names(variables, {**dict.fromkeys(frozen, "freeze"), **dict.fromkeys(levels, "set")})
    left = tuple(v for v in variables if v.name not in frozen)
    if "resolution" in frozen or len(resolutions) == 1:
        resolutions = ()
    only = choices.precisions[0] if choices.precisions else None
    return Space(trace.identifier, left, resolutions, remarks, only)


def _width(group: Group, granule: int, levels: Mapping[str, Sequence[int]]) -> Variable:
    name, units = f"width:{group.name}", len(group.classes)
    allowed = width_choices(units, granule, group.each)
    if name in levels:
        allowed = _given_levels(name, levels[name], units, group.each)
    return Variable(name, "width", allowed, len(allowed) - 1, group.producers, group.each)


def _given_levels(name: str, widths: Sequence[int], units: int, each: int) -> tuple[int, ...]:
    wrong = [w for w in widths if w % each or not 0 < w <= units * each]
    if wrong:
        raise ConfigError(
            f"{name} cannot have {wrong[0]} channels",
            why=f"they come in steps of {each}, from {each} to {units * each}",
        )
    return tuple(sorted({*(w // each for w in widths), units}))


def _precision(names: Sequence[str]) -> list[Variable]:
    unknown = sorted(set(names) - set(PRECISIONS))
    if unknown:
        raise ConfigError(
            f"there is no precision {unknown[0]}", fix=f"choose among {', '.join(PRECISIONS)}"
        )
    bits = tuple(sorted({PRECISIONS[name] for name in names}))
    if len(bits) < 2:
        return []
    return [Variable("precision", "precision", bits, bits.index(PRECISIONS[names[0]]), ())]


def _require_names(variables: Sequence[Variable], wanted: Mapping[str, str]) -> None:
    known = {v.name for v in variables}
    for name in sorted(set(wanted) - known):
        raise ConfigError(
            f"there is no variable {name} to {wanted[name]}",
            fix=f"choose among {', '.join(v.name for v in variables)}",
        )


def width_choices(base: int, granule: int = _GRANULE, each: int = 1) -> tuple[int, ...]:
    """Widths from a quarter of `base` to `base`, ascending, at most ten.

    Steps of `granule` channels (of an eighth of all below 32 channels), doubled until no more
    than ten are left.

    Args:
        base: units that the prototype has.
        granule: channels of a step.
        each: channels that one unit holds.
    """
    channels = base * each
    step = granule if channels >= 32 else max(1, channels // 8)
    step = max(1, step // each)
    while True:
        least = math.ceil(base * _LEAST_SHARE / step) * step
        choices = sorted({*range(least, base + 1, step), base})
        if len(choices) <= _MOST_LEVELS:
            return tuple(choices)
        step *= 2
