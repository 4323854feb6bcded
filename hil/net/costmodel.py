"""Counts of many architectures at once, as a few matrix products.

Every count is a sum over live vertices. Every channel count is linear in the chosen widths,
windows multiply the weights of their convolution, and each resolution has a table of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hil.net.graph import Flow, Trace, Vertex
from hil.net.labels import IntArray
from hil.net.materialise import dropped_branches, group_of, kernel_of
from hil.net.resolution import at_height
from hil.net.slicing import BoolArray
from hil.net.variables import Architecture, Space

FloatArray = NDArray[np.float64]

FP16_BYTES = 2
# Norms fold into the convolution before them, views are not computed.
_FREE = ("norm", "view", "constant")
_COLUMNS = "depthwise linear pointwise pool grouped deconv resize concat slice"


@dataclass(frozen=True)
class Counts:
    """Counts of N architectures by V vertices: float arrays (N, V), all 0 where not live."""

    live: BoolArray
    c_in: FloatArray
    c_out: FloatArray
    macs: FloatArray
    params: FloatArray
    elements: FloatArray


class CostModel:
    """Counts as linear forms in the widths, one row per vertex.

    Attributes:
        launched: (V,) vertices that are a kernel of their own.
    """

    def __init__(self, trace: Trace, space: Space) -> None:
        self._trace = trace
        self._space = space
        self._positions = self._of_kind("width")
        self._choices = [np.array(space.variables[i].choices) for i in self._positions]
        self._bases = np.array([1.0, *(float(c[-1]) for c in self._choices)])
        self._owner = self._owners()
        levels = [at_height(trace, r.height) for r in space.resolutions] or [trace]
        flows = [level.flows for level in levels]
        self._c_in = np.array([self._reads(v) for v in trace.vertices])
        self._c_out = np.array([self._linear(trace.flows[v.name].writes) for v in trace.vertices])
        self._elements = [
            np.array([self._moved(v, flow[v.name]) for v in trace.vertices]) for flow in flows
        ]
        self._macs = [np.array([_arithmetic(trace, v) for v in level.vertices]) for level in levels]
        self._params = np.array([_weights(trace, v) for v in trace.vertices])
        self._windows = [(i, *self._window(i)) for i in self._of_kind("kernel")]
        self._live: dict[tuple[int, ...], tuple[BoolArray, BoolArray]] = {}
        self.launched = np.array([v.kind not in _FREE for v in trace.vertices])

    def counts(self, archs: Sequence[Architecture]) -> Counts:
        """Count architectures (valid ones: nothing is checked here)."""
        choices = self._matrix(archs)
        widths = [
            c[choices[:, i]][:, None] for i, c in zip(self._positions, self._choices, strict=True)
        ]
        inputs = np.concatenate([np.ones((len(choices), 1)), *widths], axis=1)
        pairs = [self._live_vertices(self._space.dropped(a)) for a in choices.tolist()]
        live, owns = (np.array([pair[k] for pair in pairs]) for k in range(2))
        c_in, c_out = inputs @ self._c_in.T * live, inputs @ self._c_out.T * live
        window = self._share(choices)
        product = c_in * c_out
        macs, elements = np.empty_like(c_in), np.empty_like(c_in)
        for level in range(len(self._macs)):
            rows = self._at_level(choices, level)
            m0, m1, m2 = self._macs[level].T
            macs[rows] = m0 + m1 * c_out[rows] + m2 * product[rows]
            elements[rows] = inputs[rows] @ self._elements[level].T
        p0, p1, w1, w2 = self._params.T
        weights = (w1 * c_out + w2 * product) * window
        params = (p0 + p1 * c_out + weights) * (live & owns)
        return Counts(live, c_in, c_out, macs * window * live, params, elements * live)

    def bytes_each(self, archs: Sequence[Architecture]) -> FloatArray:
        """(N,) bytes of one number in each architecture's engine."""
        choices = self._matrix(archs)
        for i in self._of_kind("precision"):
            bits = np.array(self._space.variables[i].choices, dtype=np.float64)
            chosen: FloatArray = bits[choices[:, i]] / 8
            return chosen
        return np.full(len(choices), float(FP16_BYTES))

    def of_kind(self, kind: str, archs: Sequence[Architecture]) -> BoolArray:
        """(N, V) vertices that are of a counted kind under each architecture."""
        whole = np.array([_column(v) == kind for v in self._trace.vertices])
        mask = np.repeat(whole[None, :], len(archs), axis=0)
        if kind in ("conv_1x1", "conv_kxk"):
            choices = self._matrix(archs)
            for i, rows, sides in self._windows:
                plain = [r for r in rows if self._trace.vertices[r].kind == "conv"]
                single = np.array([max(side) == 1 for side in sides])[choices[:, i]]
                mask[:, plain] = (single if kind == "conv_1x1" else ~single)[:, None]
        return mask

    def _matrix(self, archs: Sequence[Architecture]) -> IntArray:
        return np.asarray(archs, dtype=np.int64).reshape(len(archs), len(self._space.variables))

    def _of_kind(self, kind: str) -> list[int]:
        return [i for i, v in enumerate(self._space.variables) if v.kind == kind]

    def _at_level(self, choices: IntArray, level: int) -> BoolArray:
        chosen = self._of_kind("resolution")
        if not chosen:
            return np.ones(len(choices), dtype=bool)
        return np.asarray(choices[:, chosen[0]] == level)

    def _window(self, i: int) -> tuple[list[int], list[tuple[int, ...]]]:
        """Rows of a kernel variable's vertices, and the window under each choice."""
        variable = self._space.variables[i]
        kernel = kernel_of(self._trace, variable)
        rows = [r for r, v in enumerate(self._trace.vertices) if v.name in kernel.vertices]
        return rows, [kernel.sides(choice) for choice in variable.choices]

    def _share(self, choices: IntArray) -> FloatArray:
        """(N, V) share of the prototype's window that is left."""
        share = np.ones((len(choices), len(self._trace.vertices)))
        for i, rows, sides in self._windows:
            areas = np.array([float(np.prod(side)) for side in sides])
            share[:, rows] = (areas / areas[-1])[choices[:, i]][:, None]
        return share

    def _reads(self, vertex: Vertex) -> FloatArray:
        reads = self._trace.flows[vertex.name].reads
        return self._linear(reads[0]) if reads else np.zeros(1 + len(self._positions))

    def _moved(self, vertex: Vertex, flow: Flow) -> FloatArray:
        """(constant, one coefficient per width) of elements read and written."""
        if vertex.kind in _FREE:
            return np.zeros(1 + len(self._positions))
        elements: FloatArray = flow.area * self._linear(flow.writes)
        elements[0] += flow.fixed
        for classes, area in zip(flow.reads, flow.areas, strict=True):
            elements = elements + area * self._linear(classes)
        return elements

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


def _arithmetic(trace: Trace, vertex: Vertex) -> tuple[float, float, float]:
    """(m0, m1, m2): macs = m0 + m1 c_out + m2 c_in c_out at the prototype's window."""
    used = trace.channels.get(vertex.module or "")
    if used is None:
        return vertex.macs, 0.0, 0.0
    if used.way in ("dense", "tied"):
        return 0.0, 0.0, vertex.macs / (vertex.c_in * vertex.c_out)
    return 0.0, vertex.macs / vertex.c_out, 0.0


def _weights(trace: Trace, vertex: Vertex) -> tuple[float, float, float, float]:
    """(p0, p1, w1, w2): params = p0 + p1 c_out + share (w1 c_out + w2 c_in c_out)."""
    used = trace.channels.get(vertex.module or "")
    if used is None:
        return vertex.params, 0.0, 0.0, 0.0
    module = trace.prototype.get_submodule(vertex.module or "")
    biases = 0.0 if getattr(module, "bias", None) is None else 1.0
    weights = 0 if (weight := getattr(module, "weight", None)) is None else weight.numel()
    if used.way in ("dense", "tied"):
        return 0.0, biases, 0.0, weights / (vertex.c_in * vertex.c_out)
    return 0.0, biases, weights / vertex.c_out, 0.0


def _column(vertex: Vertex) -> str | None:
    """What a vertex is counted as; norms, views and constants launch nothing of their own."""
    if vertex.kind in _FREE:
        return None
    if vertex.kind == "conv":
        return "conv_1x1" if set(vertex.kernel) == {1} else "conv_kxk"
    return vertex.kind if vertex.kind in _COLUMNS.split() else "other"
