"""A traced prototype's space, as the search sees it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from hil.net.features import cost, costs, hardware_features, hardware_matrix
from hil.net.graph import Trace
from hil.net.materialise import kernel_of
from hil.net.variables import Space
from hil.synth.records import Arch, FloatArray
from hil.synth.searchspace import VariableSpec


@dataclass(frozen=True, eq=False)
class TracedSpace:
    """Choices, counts and features of the networks around a prototype."""

    trace: Trace
    space: Space

    @cached_property
    def variables(self) -> tuple[VariableSpec, ...]:
        """The choice variables, in the order of an architecture's entries."""
        return tuple(VariableSpec(v.name, v.kind, v.size, v.identity) for v in self.space.variables)

    def key(self, arch: Arch) -> str:
        """Canonical identity: equal keys mean equal networks."""
        return self.space.key(arch)

    def neighbours(self, arch: Arch) -> Iterable[Arch]:
        """Architectures one level away in one choice that matters."""
        return self.space.neighbours(arch)

    def features(self, arch: Arch) -> FloatArray:
        """Launches, arithmetic and traffic by kind of operation (`hil.net.features`)."""
        return hardware_features(self.trace, self.space, arch)

    def features_of(self, archs: Sequence[Arch]) -> FloatArray:
        """`features` of many architectures at once, (N, features)."""
        return hardware_matrix(self.trace, self.space, archs)

    def costs_of(self, archs: Sequence[Arch]) -> FloatArray:
        """`cost` of many architectures at once, (N, 2)."""
        return costs(self.trace, self.space, archs)

    def cost(self, arch: Arch) -> tuple[float, float]:
        """Exact (MACs, parameters)."""
        counted = cost(self.trace, self.space, arch)
        return float(counted.macs), float(counted.params)


def changes(trace: Trace, space: Space, arch: Arch) -> tuple[str, ...]:
    """What an architecture changes in the prototype, in words."""
    canonical = space.canonical(arch)
    words = []
    for variable, choice in zip(space.variables, canonical, strict=True):
        if choice == variable.identity:
            continue
        name = variable.name.partition(":")[2]
        base, chosen = variable.choices[variable.identity], variable.choices[choice]
        if variable.kind == "depth":
            words.append(f"{name} dropped")
        elif variable.kind == "width":
            words.append(f"{name} {base * variable.each} to {chosen * variable.each} channels")
        elif variable.kind == "kernel":
            window = kernel_of(trace, variable)
            words.append(f"{name} {_by(window.sizes)} to {_by(window.sides(chosen))} window")
        elif variable.kind == "resolution":
            whole, size = (space.resolutions[c].shapes[0] for c in (variable.identity, choice))
            words.append(f"input {_by(whole[2:])} to {_by(size[2:])} pixels")
        else:
            words.append(f"engine in {space.precision(canonical)}")
    return tuple(words)


def _by(sides: Sequence[int]) -> str:
    return "x".join(map(str, sides))
