"""The space as the search sees it: a product of finite choices, with analytic hardware features.

Everything above this file works on `Batch`es: choices and standardised features of many
architectures at once. Features are asked for once per architecture and kept.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from hil.synth.records import Arch, FloatArray, IntArray

# Choices of these kinds are ordered: neighbouring levels behave alike, more is more.
ORDERED_KINDS = frozenset({"width", "depth", "kernel", "resolution"})
_HEX = re.compile(r"[0-9a-f]{16}")
_REFERENCE_RANDOM = 128
_REFERENCE_LEVELS = 16


@dataclass(frozen=True)
class VariableSpec:
    """One choice variable: `size` choices, of which `identity` is the prototype's."""

    name: str
    kind: str
    size: int
    identity: int

    @property
    def ordered(self) -> bool:
        """Whether neighbouring choices resemble each other."""
        return self.kind in ORDERED_KINDS


class SearchSpace(Protocol):
    """What the synthesis needs of a space; every tuple of choice indices is valid."""

    @property
    def variables(self) -> tuple[VariableSpec, ...]:
        """The choice variables, in the order of an architecture's entries."""
        ...

    def key(self, arch: Arch) -> str:
        """Canonical identity: equal keys mean equal networks."""
        ...

    def neighbours(self, arch: Arch) -> Iterable[Arch]:
        """Architectures that differ in one variable."""
        ...

    def features(self, arch: Arch) -> FloatArray:
        """Fixed-length analytic hardware features (arithmetic, traffic, launches, ...)."""
        ...

    def cost(self, arch: Arch) -> tuple[float, float]:
        """Exact (MACs, parameters)."""
        ...


@runtime_checkable
class BatchSpace(Protocol):
    """A space that reads many architectures at once, much faster than one by one.

    Each row must not depend on which others it is read with.
    """

    def features_of(self, archs: Sequence[Arch]) -> FloatArray:
        """`SearchSpace.features` of each, (N, features)."""
        ...

    def costs_of(self, archs: Sequence[Arch]) -> FloatArray:
        """`SearchSpace.cost` of each, (N, 2)."""
        ...


@runtime_checkable
class SignalSpace(Protocol):
    """A space that says of a network what speaks for its accuracy before it is trained."""

    def signals_of(self, archs: Sequence[Arch]) -> FloatArray:
        """Training-free signals of each, (N, signals), on any scale.

        The first is the one to go by where nothing was trained yet: more is better.
        """
        ...


def identity(space: SearchSpace) -> Arch:
    """The prototype's architecture."""
    return tuple(v.identity for v in space.variables)


def uniform_level(space: SearchSpace, level: float) -> Arch:
    """Every width at `level` of its identity choice (0 least, 1 the prototype's).

    All else stays as in the prototype: this is width scaling as practised, nothing more.
    """
    return tuple(
        round(level * v.identity) if v.kind == "width" else v.identity for v in space.variables
    )


def random_archs(space: SearchSpace, count: int, rng: np.random.Generator) -> list[Arch]:
    """Uniform draws from the product of choices."""
    sizes = np.array([v.size for v in space.variables])
    draws = np.floor(rng.random((count, len(sizes))) * sizes).astype(int)
    return [tuple(int(c) for c in row) for row in draws]


def unique(space: SearchSpace, archs: Iterable[Arch], taken: Iterable[str] = ()) -> list[Arch]:
    """Architectures in order, each network once, none whose key is in `taken`."""
    seen = set(taken)
    kept = []
    for arch in archs:
        key = space.key(arch)
        if key not in seen:
            seen.add(key)
            kept.append(arch)
    return kept


def network_name(key: str) -> str:
    """What people call a network, by its key: six hexadecimal digits of it."""
    text = key if _HEX.match(key) else hashlib.sha256(key.encode()).hexdigest()
    return f"net-{text[:6]}"


def digest(space: SearchSpace) -> str:
    """Hash of the space's description; a saved generator opens only on the space it was made in."""
    base = identity(space)
    macs, params = space.cost(base)
    description = {
        "variables": [[v.name, v.kind, v.size, v.identity] for v in space.variables],
        "identity": space.key(base),
        "cost": [float(macs), float(params)],
    }
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Batch:
    """Many architectures as arrays.

    Attributes:
        choices: (N, variables) choice indices.
        linear: (N, features) standardised features.
        logs: the same of their logarithms.
        signals: (N, signals) standardised training-free signals, none where the space has none.
        macs: (N,) MACs.
        params: (N,) parameters.
    """

    choices: IntArray
    linear: FloatArray
    logs: FloatArray
    signals: FloatArray
    macs: FloatArray
    params: FloatArray

    def __len__(self) -> int:
        return len(self.choices)

    @property
    def archs(self) -> list[Arch]:
        """The rows as architectures."""
        return [tuple(int(c) for c in row) for row in self.choices]

    def take(self, rows: IntArray | Sequence[int]) -> Batch:
        """The rows at `rows`, in that order."""
        index = np.asarray(rows, dtype=np.int64)
        return Batch(
            self.choices[index],
            self.linear[index],
            self.logs[index],
            self.signals[index],
            self.macs[index],
            self.params[index],
        )


class Encoder:
    """Turns architectures into `Batch`es; standardises by a fixed sample of the space."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.identity = identity(space)
        self._rows: dict[Arch, FloatArray] = {}
        self._width = 0
        raw, signals = self._raw(self._reference())
        self._positive = np.asarray(raw.min(axis=0) >= 0)
        self._offset = np.where(self._positive, 0.02 * np.abs(raw).mean(axis=0) + 1e-12, 0.0)
        self._linear = _moments(raw)
        self._log = _moments(self._logarithm(raw))
        self._signal = _moments(signals)

    def encode(self, archs: Sequence[Arch]) -> Batch:
        """The architectures as arrays."""
        raw, signals = self._raw(archs)
        choices = np.array(archs, dtype=np.int64).reshape(len(archs), len(self.space.variables))
        return Batch(
            choices,
            _standardise(raw, self._linear),
            _standardise(self._logarithm(raw), self._log),
            _standardise(signals, self._signal),
            raw[:, -2].copy(),
            raw[:, -1].copy(),
        )

    def _raw(self, archs: Sequence[Arch]) -> tuple[FloatArray, FloatArray]:
        """Features with MACs and parameters last, (N, features + 2), and signals, (N, signals)."""
        new = list(dict.fromkeys(arch for arch in archs if arch not in self._rows))
        if new:
            signals = self._signals(new)
            self._rows.update(zip(new, np.hstack([signals, self._read(new)]), strict=True))
            self._width = signals.shape[1]
        rows = np.array([self._rows[arch] for arch in archs]).reshape(len(archs), -1)
        return rows[:, self._width :], rows[:, : self._width]

    def _signals(self, archs: Sequence[Arch]) -> FloatArray:
        space = self.space
        return (
            space.signals_of(archs) if isinstance(space, SignalSpace) else np.empty((len(archs), 0))
        )

    def _read(self, archs: Sequence[Arch]) -> FloatArray:
        """Features, MACs and parameters, (N, features + 2)."""
        space = self.space
        if isinstance(space, BatchSpace):
            return np.hstack([space.features_of(archs), space.costs_of(archs)])
        features = np.array([space.features(arch) for arch in archs], dtype=np.float64)
        return np.hstack([features, np.array([space.cost(arch) for arch in archs])])

    def _logarithm(self, raw: FloatArray) -> FloatArray:
        logs: FloatArray = raw.copy()
        keep = self._positive
        logs[:, keep] = np.log(np.maximum(raw[:, keep], 0.0) + self._offset[keep])
        return logs

    def _reference(self) -> list[Arch]:
        # Half random, half along the uniform diagonal: random draws alone crowd the middle.
        rng = np.random.Generator(np.random.Philox(key=0))
        levels = np.linspace(0.0, 1.0, _REFERENCE_LEVELS)
        diagonal = [uniform_level(self.space, float(level)) for level in levels]
        return random_archs(self.space, _REFERENCE_RANDOM, rng) + diagonal


def _moments(raw: FloatArray) -> tuple[FloatArray, FloatArray]:
    scale = raw.std(axis=0)
    # A constant feature tells nothing apart; an infinite scale maps it to zero.
    return raw.mean(axis=0), np.where(scale > 1e-9 * (1 + np.abs(raw).max(axis=0)), scale, np.inf)


def _standardise(raw: FloatArray, moments: tuple[FloatArray, FloatArray]) -> FloatArray:
    location, scale = moments
    result: FloatArray = (raw - location) / scale
    return result
