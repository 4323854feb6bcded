"""Tensors of an engine as every runtime describes them, and what to feed them by default."""

import array
import sys

SIZES = {
    "float32": 4,
    "float16": 2,
    "float64": 8,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
}
_LCG_A, _LCG_C, _LCG_SEED = 1664525, 1013904223, 20200217


class Tensor:
    """One input or output: name, numpy's name of its type, and its full shape."""

    def __init__(self, name, dtype, shape):
        self.name = name
        self.dtype = dtype
        self.shape = tuple(shape)

    def as_dict(self):
        """Its JSON form."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}

    def elements(self):
        """How many numbers it holds."""
        count = 1
        for dim in self.shape:
            count *= dim
        return count

    def nbytes(self):
        """Its size in C order, in bytes."""
        return self.elements() * SIZES[self.dtype]

    def stacked_shape(self, count):
        """Shape of `count` of it: along a batch axis of one, else along a new first axis."""
        rest = self.shape[1:] if self.shape[:1] == (1,) else self.shape
        return [count] + list(rest)


def uniform(count):
    """`count` float32 numbers, uniform on [0, 1), the same on every board and release.

    The upper 24 bits of x -> (1664525 x + 1013904223) mod 2**32 (Numerical Recipes), from
    x = 20200217, divided by 2**24: exact in float32.
    """
    values = array.array("f")
    state = _LCG_SEED
    for _ in range(count):
        state = (_LCG_A * state + _LCG_C) & 0xFFFFFFFF
        values.append((state >> 8) / 16777216.0)
    return values


def default_input(tensor):
    """Bytes for an input that nobody gave: `uniform` for real types, zeros for integers."""
    if tensor.dtype == "float32":
        values = uniform(tensor.elements())
        if sys.byteorder != "little":
            values.byteswap()
        return values.tobytes()
    if tensor.dtype == "float16":
        import struct

        values = uniform(tensor.elements())
        return struct.pack("<%de" % len(values), *values)
    return bytes(tensor.nbytes())
