"""Samples as engines take them: shapes checked, bytes in the board's order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.device.session import EngineInfo, TensorInfo


def sample_count(info: EngineInfo, inputs: Mapping[str, NDArray[np.generic]]) -> int:
    """Return N of inputs shaped (N, *sample).

    Raises:
        ValueError: names, shapes or N do not fit the engine.
    """
    expected = {tensor.name: tensor.shape[1:] for tensor in info.inputs}
    got = {name: tuple(values.shape[1:]) for name, values in inputs.items()}
    if got != expected:
        raise ValueError(f"inputs shaped {got} a sample; the engine takes {expected}")
    counts = {values.shape[0] for values in inputs.values()}
    if len(counts) != 1:
        raise ValueError(f"inputs of different numbers of samples: {sorted(counts)}")
    return int(counts.pop())


def stacked(tensor: TensorInfo, values: NDArray[np.generic]) -> bytes:
    """Return samples as the agent takes them: C order, in the engine's own type."""
    return np.ascontiguousarray(values, dtype=dtype_of(tensor.dtype)).tobytes()


def dtype_of(name: str) -> np.dtype[Any]:
    """Return the numpy type of an engine's tensor on a board."""
    return np.dtype(name).newbyteorder("<")  # every Jetson is little-endian
