"""Every random number of the emulated board comes from here, and from nothing but its key.

The key is the board's seed, the seed of the last reset and a purpose, so that a figure depends
on those and on what is measured, never on what was measured before.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from hil.emulator.board import Noise

NS = 1_000_000_000


@dataclass(frozen=True)
class Seed:
    """What the noise of the board hangs on: which board it is, and how it was reset."""

    board: int
    reset: int

    def digest(self, *purpose: object) -> int:
        """Folds the seeds and a purpose into 128 bits."""
        text = "\x1f".join(str(part) for part in (self.board, self.reset, *purpose))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")

    def stdlib(self, *purpose: object) -> random.Random:
        """A standard-library generator for one purpose."""
        return random.Random(self.digest(*purpose))

    def philox(self, *purpose: object) -> np.random.Generator:
        """A counter-based numpy generator for one purpose."""
        import numpy

        return numpy.random.Generator(numpy.random.Philox(key=self.digest(*purpose)))


def murmur(seed: Seed, start_ns: int, noise: Noise) -> Iterator[tuple[int, float]]:
    """Yields (until when, extra watts, of either sign) without gaps from `start_ns` on.

    The system's small change on VDD_IN, of which the monitor's lag leaves little.
    """
    draw = seed.stdlib("murmur")
    period_ns = round(noise.murmur_period_s * NS)
    until_ns = start_ns
    while True:
        until_ns += period_ns
        yield until_ns, max(-2.5, min(2.5, draw.gauss(0.0, 1.0))) * noise.murmur_sd_w
