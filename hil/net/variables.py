"""The space of networks around a prototype: finite choices, one index each."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from hil.core.errors import ConfigError
from hil.net.graph import Frozen

Architecture = tuple[int, ...]
"""One choice index per variable of a space."""

Kind = Literal["width", "depth", "kernel", "resolution", "precision"]
DROP, KEEP = 0, 1
PRECISIONS = {"int8": 8, "fp16": 16, "fp32": 32}
"""Bits of each precision that an engine can be built with."""


@dataclass(frozen=True)
class Variable:
    """One choice. Choices ascend: a higher index is never a smaller network.

    Attributes:
        name: `width:<first vertex>`, `depth:<block>`, `kernel:<vertex>`, `resolution` or
            `precision`.
        kind: "width" (channels of a dependency group), "depth" (a residual branch), "kernel" (a
            convolution's window), "resolution" (of the input) or "precision" (of the engine).
        choices: units of channels (see `each`); (0, 1) for dropped and kept; sides of the
            window; heights in pixels; bits.
        identity: index of the prototype's choice; the last, except for precision.
        vertices: the vertices whose width or window it is, or that go with the branch; none
            where it concerns all.
        each: channels of the first vertex that one unit of width holds, 1 for most groups.
    """

    name: str
    kind: Kind
    choices: tuple[int, ...]
    identity: int
    vertices: tuple[str, ...]
    each: int = 1

    @property
    def size(self) -> int:
        """Number of choices."""
        return len(self.choices)


@dataclass(frozen=True)
class Resolution:
    """A size of the input that the trace proves.

    Attributes:
        height: of the first input with two axes of space.
        shapes: of all inputs, batch 1.
        outputs: shapes of all results at that size, batch 1.
    """

    height: int
    shapes: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Space:
    """All choices around one prototype.

    Attributes:
        prototype_id: the trace's identifier (structure and shapes).
        variables: the choices, in the order of an architecture's entries.
        resolutions: what each choice of the resolution variable means; empty without one.
        remarks: choices that were asked for and refused, and what they change outside the
            network (shapes of dense results), with the reason.
        only_precision: of all engines, where just one is allowed; None leaves it to the job.
    """

    prototype_id: str
    variables: tuple[Variable, ...]
    resolutions: tuple[Resolution, ...] = ()
    remarks: tuple[Frozen, ...] = ()
    only_precision: str | None = None

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

    def precision(self, arch: Sequence[int]) -> str | None:
        """What the architecture's engine is to be built with; None where the job says it."""
        for variable, choice in zip(self.variables, arch, strict=True):
            if variable.kind == "precision":
                bits = variable.choices[choice]
                return next(name for name, b in PRECISIONS.items() if b == bits)
        return self.only_precision

    def resolution(self, arch: Sequence[int]) -> Resolution | None:
        """The architecture's input size; None where it is the prototype's for all."""
        for variable, choice in zip(self.variables, arch, strict=True):
            if variable.kind == "resolution":
                return self.resolutions[choice]
        return None

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
            if variable.vertices and dead.issuperset(variable.vertices):
                result.add(i)
        return frozenset(result)
