"""Boards whose truth is known, for judging certificates: what a build reads, block by block.

Everything is logarithms around the network's true mean, and a board's time is counted in
measurements: in a round the prototype is measured first, then each finalist. A build's figure is
the mean of its blocks, as measured today.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BLOCKS = 4
"""Blocks a build, as profiles measure finalists unless told otherwise."""


@dataclass(frozen=True)
class World:
    """How builds and blocks differ.

    Attributes:
        spread: standard deviation between builds of a network (for `flips`: of the rest).
        shape: of the spread: normal, or skewed (exponential, long on the bad side).
        flips: (share, size): so many builds get a kernel that costs so much more.
        block_noise: standard deviation of a block.
        block_phi: correlation of one block of a build with the next.
        drift: how far the board moves over the whole session, steadily; to the worse.
        slow: standard deviation of what wanders from measurement to measurement, correlation 0.9.
        within: whether the certificate claims to hold here; the others show where it ends.
    """

    spread: float
    shape: str = "normal"
    flips: tuple[float, float] | None = None
    block_noise: float = 0.01
    block_phi: float = 0.7
    drift: float = 0.0
    slow: float = 0.0
    within: bool = True


WORLDS: Mapping[str, World] = {
    "blocks independent (2 %), builds alike": World(0.0, block_noise=0.02, block_phi=0.0),
    "blocks independent (2 %), builds 2 %": World(0.02, block_noise=0.02, block_phi=0.0),
    "builds alike": World(0.0),
    "builds 1 %": World(0.01),
    "builds 2 %": World(0.02),
    "builds 3 %": World(0.03),
    "builds 2 %, drift 3 % a session": World(0.02, drift=0.03),
    "builds alike, drift 3 % a session": World(0.0, drift=0.03),
    "builds 1 %, blocks correlated 0.95": World(0.01, block_phi=0.95),
    "builds 1 %, slow wander 1 %": World(0.01, slow=0.01),
    "builds 2 %, skewed": World(0.02, shape="skewed"),
    "two kernels: 1 build in 10 costs 5 % more": World(0.003, flips=(0.1, 0.05)),
    "two kernels: 1 in 4, 5 %": World(0.003, flips=(0.25, 0.05)),
    "two kernels: 1 in 2, 5 %": World(0.003, flips=(0.5, 0.05)),
    "builds 3 %, skewed": World(0.03, shape="skewed", within=False),
    "two kernels: 1 in 10, 10 %": World(0.003, flips=(0.1, 0.10), within=False),
    "slow wander 2 % alone": World(0.0, slow=0.02, within=False),
}


@dataclass(frozen=True)
class Session:
    """What one session reads in many runs.

    Attributes:
        prototype: (runs, rounds, blocks).
        finalists: (runs, finalists, rounds, blocks).
    """

    prototype: FloatArray
    finalists: FloatArray

    def builds(self) -> tuple[FloatArray, FloatArray]:
        """The figures of builds: (runs, rounds) and (runs, finalists, rounds)."""
        return self.prototype.mean(axis=-1), self.finalists.mean(axis=-1)


def session(
    world: World, rng: np.random.Generator, runs: int, finalists: int, rounds: int
) -> Session:
    """Draw sessions; all networks have a true mean of 0.

    The prototype's skew is the mirror image of the finalists': the worst case, in which both make
    a broken limit look kept.
    """
    shape = (runs, finalists + 1, rounds)
    build = _between_builds(world, rng, shape)
    build[:, 0] *= -1
    # Measurements in the order they are made, the prototype's first in each round.
    count = rounds * (finalists + 1)
    time = world.drift * (np.arange(count) / max(1, count - 1) - 0.5)
    moved = time + world.slow * _wander(rng, (runs, count), 0.9)
    build += moved.reshape(runs, rounds, finalists + 1).transpose(0, 2, 1)
    noise = world.block_noise * _wander(rng, (*shape, BLOCKS), world.block_phi)
    blocks = build[..., None] + noise
    return Session(blocks[:, 0], blocks[:, 1:])


def _between_builds(world: World, rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    if world.shape == "skewed":
        drawn = world.spread * (rng.exponential(1.0, shape) - 1.0)
    else:
        drawn = world.spread * rng.standard_normal(shape)
    if world.flips is not None:
        share, size = world.flips
        drawn += math.log1p(size) * ((rng.random(shape) < share) - share)
    return np.asarray(drawn, dtype=np.float64)


def _wander(rng: np.random.Generator, shape: tuple[int, ...], phi: float) -> FloatArray:
    """Stationary first-order autoregression along the last axis, of variance 1."""
    values = rng.standard_normal(shape)
    for k in range(1, shape[-1]):
        values[..., k] = phi * values[..., k - 1] + math.sqrt(1 - phi**2) * values[..., k]
    return values
