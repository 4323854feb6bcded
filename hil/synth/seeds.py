"""Seeds for many purposes out of one, so that no two purposes share a stream."""

from __future__ import annotations

import hashlib


def derived_seed(seed: int, *purpose: str) -> int:
    """A seed for one purpose, independent of all others, below 2^31."""
    text = "\x1f".join([str(seed), *purpose])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
