"""Latency: percentiles with intervals, when warm-up was over, builds against builds, a cross-check.

Rule of this file: pure. A percentile is a value that was seen, and its interval counts correlated
inferences for what they are worth (`hil.core.stats.block_quantile`). The first inference and
those before the first window are in none of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hil.core.evidence import Evidence
from hil.core.stats import (
    Estimate,
    Series,
    block_quantile,
    effective_size,
    smallest_sample,
)

NS_PER_MS = 1e6
PERCENTILES: Mapping[str, float] = {
    "latency_p50_ms": 0.50,
    "latency_p90_ms": 0.90,
    "latency_p95_ms": 0.95,
    "latency_p99_ms": 0.99,
}
# Batches of five (MSER-5): long enough to calm single inferences, short beside any warm-up.
BATCH = 5
FEWEST_BATCHES = 12
# Of truncations that are as good as the best one up to chance, the earliest is taken.
NO_WORSE = 1.5
# NVIDIA accepts its own published TX2 latencies within 10 %; two loops that time the same engine
# differently (transfers overlapped or not, who waits for whom) are not to be held to less.
# assumes: latency-agrees
AGREEMENT = 0.10


@dataclass(frozen=True)
class StartUp:
    """How the load came up.

    Attributes:
        engine_load_ms: to load the engine and make it ready.
        first_inference_ms: the first one.
        warmup_inferences: from the first until latency was steady, the first included; None
            where it was not before the first block, or too few were told.
        told: inferences before the first block.
        unknown: for each that is None, why.
    """

    engine_load_ms: float | None
    first_inference_ms: float | None
    warmup_inferences: int | None
    told: int
    unknown: Mapping[str, str]


def percentiles(
    blocks: Sequence[Series],
) -> tuple[dict[str, Estimate | None], dict[str, str], float]:
    """Return percentiles over blocks, why those that are None are, and the effective size.

    Args:
        blocks: for each block its latencies in ns, in order.

    Returns:
        The size is the smallest over the percentiles: as how many independent inferences they
        count.
    """
    blocks_ms = [np.asarray(block, dtype=float) / NS_PER_MS for block in blocks]
    total = sum(block.size for block in blocks_ms)
    figures: dict[str, Estimate | None] = {}
    unknown = {}
    for name, q in PERCENTILES.items():
        figures[name] = block_quantile(blocks_ms, q)
        if figures[name] is None:
            unknown[name] = (
                f"{total} inferences are too few for an interval of this percentile: "
                f"{smallest_sample(q)} independent ones are needed"
            )
    return figures, unknown, min(effective_size(blocks_ms, q) for q in PERCENTILES.values())


def start_up(evidence: Evidence) -> StartUp:
    """Return how the load came up, as far as the run tells."""
    start: Mapping[str, Any] = evidence.start
    unknown = {}
    load_ms, first_ms = _ms(start.get("load_ns")), _ms(start.get("first_ns"))
    if load_ms is None:
        unknown["engine_load_ms"] = "the run does not tell how long the engine took to load"
    if first_ms is None:
        unknown["first_inference_ms"] = "the run does not tell its first inference"
    before = [*start.get("warmup_ns", ()), *start.get("settle_ns", ())]
    found = find_warmup(before)
    count = None if found is None else found + (first_ms is not None)
    if count is None:
        few = len(before) < BATCH * FEWEST_BATCHES
        unknown["warmup_inferences"] = (
            f"{len(before)} inferences before the first block are too few to tell"
            if few
            else "latency was not steady before the first block"
        )
    return StartUp(load_ms, first_ms, count, len(before), unknown)


def find_warmup(latencies: Series) -> int | None:
    """Return how many leading values to leave out so that the rest is steady.

    MSER-5 (White 1997): of all truncations, that with the smallest standard error of what is
    left, over batches of five. Here a batch is its median, so that no hiccup of the operating
    system is taken for warming up, and the earliest of nearly equal ones is taken.

    Returns:
        A multiple of five; None where no truncation in the first half is best (the series is
        not steady by its end, as far as it tells), or where the series is shorter than twelve
        batches.
    """
    data = np.asarray(latencies, dtype=float)
    count = data.size // BATCH
    if count < FEWEST_BATCHES:
        return None
    batches = np.median(data[: count * BATCH].reshape(count, BATCH), axis=1)
    # From the end: sums over what is left after each truncation.
    shifted = batches - batches[-1]
    left = np.arange(count, 0, -1)
    sums = np.cumsum(shifted[::-1])[::-1]
    squares = np.cumsum(shifted[::-1] ** 2)[::-1]
    variance = np.maximum(squares / left - (sums / left) ** 2, 0.0)
    errors = variance / left
    # Up to three quarters are tried; a best one past the half says that it is still moving.
    tried = errors[: 3 * count // 4]
    best = int(np.argmax(tried <= tried.min() * NO_WORSE))
    return None if best > count // 2 else best * BATCH


def _ms(nanoseconds: Any) -> float | None:
    return None if nanoseconds is None else float(nanoseconds) / NS_PER_MS


@dataclass(frozen=True)
class Agreement:
    """Our median latency over that of the board's own tool.

    Attributes:
        ratio: ours over theirs, 95 %.
        verdict: `agrees` where the whole interval lies within 10 % of one, `differs` where all
            of it lies outside, else `undecided`.
    """

    ratio: Estimate
    verdict: Literal["agrees", "differs", "undecided"]


def agreement(ours: Estimate | None, trtexec_ms: Series) -> Agreement | None:
    """Hold the median latency against `trtexec`'s on the same engine.

    Args:
        ours: our median, in ms.
        trtexec_ms: its latencies in ms, warm-up left out.

    Returns:
        None where either median has no interval. The two loops do not time the same thing:
        trtexec tells computation alone and spins, ours runs from before the launch until the
        host knows of the end; so it is a check that finds blunders, not one per cent, and a
        network of many small kernels may differ by what launching them costs.
    """
    theirs = block_quantile([np.asarray(trtexec_ms, dtype=float)], 0.5)
    if ours is None or theirs is None or min(ours.low, theirs.low) <= 0:
        return None
    value = math.log(ours.value / theirs.value)
    down = math.hypot(math.log(ours.value / ours.low), math.log(theirs.high / theirs.value))
    up = math.hypot(math.log(ours.high / ours.value), math.log(theirs.value / theirs.low))
    ratio = Estimate(math.exp(value), math.exp(value - down), math.exp(value + up))
    low, high = 1 / (1 + AGREEMENT), 1 + AGREEMENT
    if low <= ratio.low and ratio.high <= high:
        return Agreement(ratio, "agrees")
    outside = ratio.high < low or ratio.low > high
    return Agreement(ratio, "differs" if outside else "undecided")
