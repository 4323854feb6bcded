"""Philox 4x64-10 for many keys at once: a seed's draws without a generator object a seed.

J. Salmon, M. Moraes, R. Dror and D. Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
Equal to `numpy.random.Philox(key=[seed, 0], counter=[0, stream, 0, 0])`, word for word.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157))
_WEYL = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B))
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


def philox(keys: Words, stream: int, count: int) -> Words:
    """The first `count` words of each key's stream, (keys, count).

    Args:
        keys: (N,) one a seed.
        stream: second word of the counter.
        count: words wanted.
    """
    blocks = -(-count // 4)
    shape = (len(keys), blocks)
    # numpy counts up before it hands out the first block.
    c0 = np.broadcast_to(np.arange(1, blocks + 1, dtype=np.uint64), shape)
    c1 = np.full(shape, stream, dtype=np.uint64)
    c2 = c3 = np.zeros(shape, dtype=np.uint64)
    k0, k1 = keys[:, None].copy(), np.zeros((len(keys), 1), dtype=np.uint64)
    for _ in range(_ROUNDS):
        high0, low0 = _product(_MULTIPLIERS[0], c0)
        high1, low1 = _product(_MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + _WEYL[0], k1 + _WEYL[1]
    return np.stack([c0, c1, c2, c3], axis=2).reshape(len(keys), -1)[:, :count]


def _product(a: np.uint64, b: Words) -> tuple[Words, Words]:
    """High and low word of a 64-bit product, by halves."""
    a_high, a_low = a >> _HALF, a & _LOW
    b_high, b_low = b >> _HALF, b & _LOW
    low = a_low * b_low
    middle = a_high * b_low + (low >> _HALF)
    cross = a_low * b_high + (middle & _LOW)
    return a_high * b_high + (middle >> _HALF) + (cross >> _HALF), a * b
