"""What a network costs, counted from the trace alone: no module is built.

Every count is a sum over live vertices, and every channel count is linear in the chosen widths,
so thousands of architectures are counted as a few matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hil.net.graph import Trace, Vertex
from hil.net.labels import IntArray
from hil.net.materialise import dropped_branches, group_of
from hil.net.space import Architecture, Space

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

FP16_BYTES = 2
_COUNTED = ("conv_kxk", "conv_1x1", "depthwise", "linear", "pointwise", "pool", "other")
_WITH_MACS = ("conv_kxk", "conv_1x1", "depthwise", "linear", "other")
FEATURE_NAMES = (
    *(f"count_{kind}" for kind in _COUNTED),
    *(f"macs_{kind}" for kind in _WITH_MACS),
    "activation_bytes",
    "weight_bytes",
)
"""Names of `hardware_features`, in order; all are additive over live vertices."""


@dataclass(frozen=True)
class VertexCost:
    """One vertex of an architecture.

    Attributes:
        name: the vertex.
        c_in: channels read from the first operand.
        c_out: channels written.
        macs: multiply-accumulates of convolutions and matrix products, for one input.
        params: learned numbers.
        bytes_moved: weights, operands and result, each once, in FP16. Norms and views move
            nothing: norms fold into the convolution before them, views are not computed.
        live: False where the vertex is gone with a dropped branch; its counts are then 0.
    """

    name: str
    c_in: int
    c_out: int
    macs: int
    params: int
    bytes_moved: int
    live: bool


@dataclass(frozen=True)
class Cost:
    """Of one network, for one input.

    Attributes:
        macs: multiply-accumulates of convolutions and matrix products (torch's own counter
            counts two operations for each).
        params: learned numbers.
    """

    macs: int
    params: int


def vertex_table(trace: Trace, space: Space, arch: Sequence[int]) -> tuple[VertexCost, ...]:
    """The cost of every vertex of the prototype under an architecture."""
    model = cost_model(trace, space)
    counts = model.counts([space.validate(arch)])
    traffic = FP16_BYTES * (counts.params + counts.elements)
    columns = (counts.c_in, counts.c_out, counts.macs, counts.params, traffic)
    rows = np.stack([np.rint(column[0]) for column in columns]).astype(np.int64).T.tolist()
    return tuple(
        VertexCost(v.name, c_in, c_out, macs, params, moved, bool(live))
        for v, (c_in, c_out, macs, params, moved), live in zip(
            trace.vertices, rows, counts.live[0], strict=True
        )
    )


def cost(trace: Trace, space: Space, arch: Sequence[int]) -> Cost:
    """MACs and parameters of an architecture."""
    counts = cost_model(trace, space).counts([space.validate(arch)])
    return Cost(int(np.rint(counts.macs.sum())), int(np.rint(counts.params.sum())))


def costs(trace: Trace, space: Space, archs: Sequence[Architecture]) -> FloatArray:
    """(N, 2): MACs and parameters of many architectures at once."""
    counts = cost_model(trace, space).counts(archs)
    return np.stack([counts.macs.sum(1), counts.params.sum(1)], axis=1)


def hardware_features(trace: Trace, space: Space, arch: Sequence[int]) -> FloatArray:
    """What a linear cost model may weigh: see `FEATURE_NAMES`."""
    row: FloatArray = hardware_matrix(trace, space, [space.validate(arch)])[0]
    return row


def hardware_matrix(trace: Trace, space: Space, archs: Sequence[Architecture]) -> FloatArray:
    """(N, len(FEATURE_NAMES)): `hardware_features` of many architectures at once."""
    return cost_model(trace, space).features(archs)


@dataclass(frozen=True)
class Counts:
    """Counts of N architectures by V vertices: float arrays (N, V), all 0 where not live."""

    live: BoolArray
    c_in: FloatArray
    c_out: FloatArray
    macs: FloatArray
    params: FloatArray
    elements: FloatArray


@lru_cache(maxsize=8)
def cost_model(trace: Trace, space: Space) -> CostModel:
    """The compiled counts of a space; made once for each trace and space."""
    return CostModel(trace, space)


class CostModel:
    """Counts as linear forms in the widths, one row per vertex."""

    def __init__(self, trace: Trace, space: Space) -> None:
        self._trace = trace
        self._space = space
        self._positions = [i for i, v in enumerate(space.variables) if v.kind == "width"]
        self._choices = [np.array(space.variables[i].choices) for i in self._positions]
        self._bases = np.array([1.0, *(float(c[-1]) for c in self._choices)])
        self._owner = self._owners()
        forms = [self._forms(v) for v in trace.vertices]
        self._c_in, self._c_out, self._elements = (
            np.array([form[k] for form in forms]) for k in range(3)
        )
        self._coefficients = np.array([_coefficients(trace, v) for v in trace.vertices])
        self._kinds = _kind_matrix(trace)
        self._live: dict[tuple[int, ...], tuple[BoolArray, BoolArray]] = {}

    def counts(self, archs: Sequence[Architecture]) -> Counts:
        """Count architectures (valid ones: nothing is checked here)."""
        choices = np.asarray(archs, dtype=np.int64)
        ones = np.ones((len(choices), 1))
        widths = [
            c[choices[:, i]][:, None] for i, c in zip(self._positions, self._choices, strict=True)
        ]
        inputs = np.concatenate([ones, *widths], axis=1)
        pairs = [self._live_vertices(self._space.dropped(a)) for a in choices.tolist()]
        live, owns = (np.array([pair[k] for pair in pairs]) for k in range(2))
        c_in, c_out = inputs @ self._c_in.T * live, inputs @ self._c_out.T * live
        m0, m1, m2, p0, p1, p2 = self._coefficients.T
        product = c_in * c_out
        macs = (m0 + m1 * c_out + m2 * product) * live
        params = (p0 + p1 * c_out + p2 * product) * (live & owns)
        return Counts(live, c_in, c_out, macs, params, inputs @ self._elements.T * live)

    def features(self, archs: Sequence[Architecture]) -> FloatArray:
        """(N, len(FEATURE_NAMES)) features."""
        counts = self.counts(archs)
        by_kind = counts.live.astype(np.float64) @ self._kinds
        macs = counts.macs @ self._kinds[:, [_COUNTED.index(kind) for kind in _WITH_MACS]]
        bytes_moved = [counts.elements.sum(1) * FP16_BYTES, counts.params.sum(1) * FP16_BYTES]
        return np.concatenate([by_kind, macs, np.stack(bytes_moved, axis=1)], axis=1)

    def _forms(self, vertex: Vertex) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(constant, one coefficient per width) of channels in, channels out and elements."""
        flow = self._trace.flows[vertex.name]
        zero = np.zeros(1 + len(self._positions))
        c_in = self._linear(flow.reads[0]) if flow.reads else zero
        c_out = self._linear(flow.writes)
        if vertex.kind in ("norm", "view", "constant"):
            return c_in, c_out, zero
        elements = flow.area * c_out
        elements[0] += flow.fixed
        for classes, area in zip(flow.reads, flow.areas, strict=True):
            elements = elements + area * self._linear(classes)
        return c_in, c_out, elements

    def _linear(self, classes: IntArray) -> FloatArray:
        """How many of these channels are left, as a form in the widths.

        Exact because all classes of a group occur equally often wherever one of them occurs.
        """
        present = np.bincount(self._owner[classes], minlength=1 + len(self._positions))
        share: FloatArray = present / self._bases
        return share

    def _owners(self) -> IntArray:
        """By class: 0 where it always stays, else 1 + the width variable that it belongs to."""
        owner = np.zeros(self._trace.class_count, dtype=np.int64)
        for column, i in enumerate(self._positions, start=1):
            owner[group_of(self._trace, self._space.variables[i]).classes] = column
        return owner

    def _live_vertices(self, dropped: tuple[int, ...]) -> tuple[BoolArray, BoolArray]:
        """Which vertices are live, and which of them are their module's first live call."""
        if dropped not in self._live:
            arch = list(self._space.identity)
            for i in dropped:
                arch[i] = 0
            names = self._trace.topology.live(dropped_branches(self._trace, self._space, arch))
            nodes = [self._trace.nodes[v.name] for v in self._trace.vertices]
            live = np.array([node in names for node in nodes])
            self._live[dropped] = live, self._first_calls(live)
        return self._live[dropped]

    def _first_calls(self, live: BoolArray) -> BoolArray:
        seen: set[str] = set()
        first = np.ones(len(live), dtype=bool)
        for i, vertex in enumerate(self._trace.vertices):
            if vertex.module is not None and live[i]:
                first[i] = vertex.module not in seen
                seen.add(vertex.module)
        return first


def _coefficients(trace: Trace, vertex: Vertex) -> tuple[float, ...]:
    """(m0, m1, m2, p0, p1, p2): macs = m0 + m1 c_out + m2 c_in c_out, params likewise."""
    if vertex.module not in trace.channels:
        return vertex.macs, 0.0, 0.0, vertex.params, 0.0, 0.0
    module = trace.prototype.get_submodule(vertex.module or "")
    biases = 0 if getattr(module, "bias", None) is None else 1
    weights = 0 if (weight := getattr(module, "weight", None)) is None else weight.numel()
    c_in, c_out = vertex.c_in, vertex.c_out
    if vertex.kind in ("conv", "deconv", "linear"):
        dense = c_in * c_out
        return 0.0, 0.0, vertex.macs / dense, 0.0, biases, weights / dense
    return 0.0, vertex.macs / c_out, 0.0, 0.0, weights / c_out + biases, 0.0


def _kind_matrix(trace: Trace) -> FloatArray:
    """(V, len(_COUNTED)) membership; norms, views and constants launch nothing of their own."""
    result = np.zeros((len(trace.vertices), len(_COUNTED)))
    for row, vertex in enumerate(trace.vertices):
        kind = _launched_kind(vertex)
        if kind is not None:
            result[row, _COUNTED.index(kind)] = 1.0
    return result


def _launched_kind(vertex: Vertex) -> str | None:
    if vertex.kind in ("norm", "view", "constant"):
        return None
    if vertex.kind == "conv":
        return "conv_1x1" if set(vertex.kernel) == {1} else "conv_kxk"
    return vertex.kind if vertex.kind in _COUNTED else "other"
