"""What kinds of boards lack, as far as a host must know it before it asks them."""

from __future__ import annotations

NO_INT8 = ("jetson-tx1", "jetson-tx2", "jetson-nano")
"""Boards whose GPU (sm_53, sm_62) has no INT8 dot product (DP4A), so TensorRT has no fast INT8.

TensorRT takes the request all the same, warns, and builds what it would have built without it.
"""
_INT8 = ("jetson-xavier", "jetson-agx-xavier", "jetson-orin", "jetson-agx-orin")


def precisions_of(kind: str) -> tuple[str, ...]:
    """Precisions that TensorRT offers on a kind of board: INT8 only where it is known to be."""
    return ("fp16", "fp32", "int8") if kind.startswith(_INT8) else ("fp16", "fp32")
