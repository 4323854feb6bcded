"""The space of networks around a prototype: finite choices, read off its trace, never by hand."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from hil.core.errors import ConfigError
from hil.net.graph import Trace

Architecture = tuple[int, ...]
"""One choice index per variable of a space."""

DROP, KEEP = 0, 1
_GRANULE = 8
_LEAST_SHARE = 0.25
_MOST_LEVELS = 10


@dataclass(frozen=True)
class Variable:
    """One choice. Choices ascend: a higher index is never a smaller network.

    Attributes:
        name: `width:<first vertex>` or `depth:<block>`.
        kind: "width" (channels of a dependency group) or "depth" (a residual branch).
        choices: widths in channels, or (0, 1) for dropped and kept.
        identity: index of the prototype's choice, always the last.
        vertices: the vertices whose width it is, or that go with the branch.
    """

    name: str
    kind: Literal["width", "depth"]
    choices: tuple[int, ...]
    identity: int
    vertices: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of choices."""
        return len(self.choices)


@dataclass(frozen=True)
class Space:
    """All choices around one prototype.

    Attributes:
        prototype_id: the trace's identifier (structure and shapes).
        variables: the choices, in the order of an architecture's entries.
    """

    prototype_id: str
    variables: tuple[Variable, ...]

    @property
    def identity(self) -> Architecture:
        """The architecture that is the prototype."""
        return tuple(v.identity for v in self.variables)

    @property
    def size(self) -> int:
        """Number of architectures; several can be one network (see `canonical`)."""
        return math.prod(v.size for v in self.variables)

    def validate(self, arch: Sequence[int]) -> Architecture:
        """The architecture as a tuple of ints.

        Raises:
            ConfigError: wrong length, or an index that is no choice.
        """
        if len(arch) != len(self.variables):
            raise ConfigError(
                f"the architecture has {len(arch)} choices", why=f"{len(self.variables)} are needed"
            )
        for index, variable in zip(arch, self.variables, strict=True):
            if not 0 <= index < variable.size:
                raise ConfigError(
                    f"{index} is no choice of {variable.name}", why=f"it has {variable.size}"
                )
        return tuple(int(index) for index in arch)

    def canonical(self, arch: Sequence[int]) -> Architecture:
        """The architecture with every choice that no longer matters set to the prototype's.

        A dropped branch takes the widths and inner branches that lie within it out of play.
        """
        valid = self.validate(arch)
        dropped = [i for i in self._depths if self._is_dropped(valid, i)]
        if not dropped:
            return valid
        inert = self._inert(tuple(dropped))
        return tuple(
            v.identity if i in inert else c
            for i, (v, c) in enumerate(zip(self.variables, valid, strict=True))
        )

    def key(self, arch: Sequence[int]) -> str:
        """Hash of the canonical architecture: equal keys are the same network."""
        text = json.dumps([self.prototype_id, self.canonical(arch)])
        return hashlib.sha256(text.encode()).hexdigest()

    def neighbours(self, arch: Sequence[int]) -> tuple[Architecture, ...]:
        """Canonical architectures one level away in one choice that matters."""
        base = self.canonical(arch)
        found: dict[Architecture, None] = {}
        for i, variable in enumerate(self.variables):
            for index in (base[i] - 1, base[i] + 1):
                if 0 <= index < variable.size:
                    found[self.canonical((*base[:i], index, *base[i + 1 :]))] = None
        found.pop(base, None)
        return tuple(found)

    def dropped(self, arch: Sequence[int]) -> tuple[int, ...]:
        """Positions of the depth variables that are dropped."""
        return tuple(i for i in self._depths if self._is_dropped(arch, i))

    def _is_dropped(self, arch: Sequence[int], i: int) -> bool:
        return self.variables[i].choices[arch[i]] == DROP

    @cached_property
    def _depths(self) -> tuple[int, ...]:
        return tuple(i for i, v in enumerate(self.variables) if v.kind == "depth")

    def _inert(self, dropped: tuple[int, ...]) -> frozenset[int]:
        gone = {i: frozenset(self.variables[i].vertices) for i in dropped}
        result = set()
        for i, variable in enumerate(self.variables):
            dead: set[str] = set().union(*(g for j, g in gone.items() if j != i))
            if dead.issuperset(variable.vertices):
                result.add(i)
        return frozenset(result)


def build_space(trace: Trace, frozen: Collection[str] = ()) -> Space:
    """Every choice that the trace allows.

    Args:
        trace: the traced prototype.
        frozen: variables to leave out, by name (`width:conv1`, `depth:stage1.0`).

    Raises:
        ConfigError: `frozen` names no variable.
    """
    widths = [
        Variable(f"width:{g.name}", "width", c, len(c) - 1, g.producers)
        for g in trace.groups
        if len(c := width_choices(len(g.classes))) > 1
    ]
    depths = [
        Variable(f"depth:{b.name}", "depth", (DROP, KEEP), KEEP, b.vertices) for b in trace.branches
    ]
    variables = (*widths, *depths)
    unknown = sorted(set(frozen) - {v.name for v in variables})
    if unknown:
        raise ConfigError(
            f"there is no variable {unknown[0]} to freeze",
            fix=f"choose among {', '.join(v.name for v in variables)}",
        )
    return Space(trace.identifier, tuple(v for v in variables if v.name not in frozen))


def width_choices(base: int) -> tuple[int, ...]:
    """Widths from a quarter of `base` to `base`, ascending, at most ten.

    Steps of 8 channels (of base/8 below 32 channels), doubled until no more than ten are left.
    """
    step = _GRANULE if base >= 32 else max(1, base // 8)
    while True:
        least = math.ceil(base * _LEAST_SHARE / step) * step
        choices = sorted({*range(least, base + 1, step), base})
        if len(choices) <= _MOST_LEVELS:
            return tuple(choices)
        step *= 2
