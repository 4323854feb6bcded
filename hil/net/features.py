"""What a network costs, counted from the trace alone: no module is built.

The counting itself is in `costmodel.py`; here is what the search asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hil.net.costmodel import FP16_BYTES, CostModel, FloatArray
from hil.net.graph import Trace
from hil.net.variables import Architecture, Space

_COUNTED = ("conv_kxk", "conv_1x1", "depthwise", "linear", "pointwise", "pool", "other")
_WITH_MACS = ("conv_kxk", "conv_1x1", "depthwise", "linear", "other")
_ALSO_COUNTED = ("grouped", "deconv", "resize", "concat", "slice")
_ALSO_WITH_MACS = ("grouped", "deconv")
FEATURE_NAMES = (
    *(f"count_{kind}" for kind in _COUNTED),
    *(f"macs_{kind}" for kind in _WITH_MACS),
    "activation_bytes",
    "weight_bytes",
)
"""Features of every space, in order; see `feature_names` for those that some have besides."""


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
    """What a linear cost model may weigh: see `feature_names`."""
    row: FloatArray = hardware_matrix(trace, space, [space.validate(arch)])[0]
    return row


def hardware_matrix(trace: Trace, space: Space, archs: Sequence[Architecture]) -> FloatArray:
    """(N, len(feature_names)): `hardware_features` of many architectures at once."""
    model = cost_model(trace, space)
    counts = model.counts(archs)
    size_bytes = model.bytes_each(archs)
    wide, narrow = size_bytes > FP16_BYTES, size_bytes < FP16_BYTES
    columns: dict[str, FloatArray] = {
        "activation_bytes": counts.elements.sum(1) * size_bytes,
        "weight_bytes": counts.params.sum(1) * size_bytes,
        "count_fp32": (counts.live & model.launched).sum(1) * wide,
        "macs_fp32": counts.macs.sum(1) * wide,
        "count_int8": (counts.live & model.launched).sum(1) * narrow,
        "macs_int8": counts.macs.sum(1) * narrow,
    }
    for kind in (*_COUNTED, *_ALSO_COUNTED):
        mask = model.of_kind(kind, archs)
        columns[f"count_{kind}"] = (counts.live & mask).sum(1).astype(np.float64)
        columns[f"macs_{kind}"] = (counts.macs * mask).sum(1)
    return np.stack([columns[name] for name in feature_names(trace, space)], axis=1)


def feature_names(trace: Trace, space: Space) -> tuple[str, ...]:
    """Names of `hardware_features`, in order; all are additive over live vertices.

    Operations that the prototype does not have, and precision where it is no choice, take no
    columns. Bytes are those of the chosen precision, FP16's where there is no choice.
    """
    kinds = {vertex.kind for vertex in trace.vertices}
    more = [f"count_{kind}" for kind in _ALSO_COUNTED if kind in kinds]
    more += [f"macs_{kind}" for kind in _ALSO_WITH_MACS if kind in kinds]
    bits = next((v.choices for v in space.variables if v.kind == "precision"), ())
    if 16 in bits and 32 in bits:  # of two precisions one column tells which it is
        more += ["count_fp32", "macs_fp32"]
    if 8 in bits:
        more += ["count_int8", "macs_int8"]
    return (*FEATURE_NAMES, *more)


@lru_cache(maxsize=8)
def cost_model(trace: Trace, space: Space) -> CostModel:
    """The compiled counts of a space; made once for each trace and space."""
    return CostModel(trace, space)
