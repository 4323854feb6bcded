"""A sensor that looks a part of the time: what its readings may be off for a load with a rhythm.

On an A100 or H100 the power that NVML tells is the mean of a quarter of each 100 ms ("Part-time
Power Measurements", arXiv 2312.02741); nothing is stated for the energy counter, which may add up
the same readings. Such a sensor sees some parts of an inference more often than others. How much
that can matter is bounded without knowing what the power does within an inference: it lies between
idle and what the GPU may draw, and its mean as seen is the reading. The most it can be is when all
power stands where the sensor looked least, and the least where it looked most.

Inferences far shorter than a look are seen whole and the bound is small; one that keeps step with
the sensor may hide any share of itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hil.core.energy import NS_PER_S
from hil.measure.scene import Scene, block_marks
from hil.measure.sensors import SensorErrors

Floats = NDArray[np.float64]
# Where in the load the first look falls is not known, nor is its period to the last digit.
_OFFSETS = 8
_PERIODS = (0.998, 1.0, 1.002)


@dataclass(frozen=True)
class Unseen:
    """What readings may be off because of what was not seen.

    Attributes:
        watts: bound of the error of the mean power, either way; None where it has none.
        source: what it rests on.
    """

    watts: float | None
    source: str


def unseen(scene: Scene, limits: SensorErrors) -> Unseen | None:
    """Bound it for one run; None for a sensor that sees all of the time.

    Args:
        scene: the run.
        limits: `seen_part` and `update_ms` of its sensor.
    """
    part, update_ms = limits.seen_part, limits.update_ms
    if part is None or update_ms is None or not 0 < part < 1:
        return None
    told = f"readings cover {part:.0%} of each {update_ms:g} ms"
    limit_mw = scene.trace.settings.get("power_limit_mw")
    if not limit_mw:
        return Unseen(None, f"{told}, and the GPU does not tell the power that it may draw")
    idle_w = fmean(scene.idle_pieces_w() or (0.0,))
    reading_w, most_w = fmean(scene.block_powers_w()), limit_mw / 1000.0
    swing_w = max(most_w, reading_w) - min(idle_w, reading_w)
    busy = (reading_w - min(idle_w, reading_w)) / swing_w if swing_w > 0 else 0.0
    off = max((deviation(*seen, busy) for seen in _looks(scene, part, update_ms)), default=1.0)
    return Unseen(
        off * swing_w,
        f"{told}; between idle and {most_w:.0f} W the power of an inference may stand anywhere",
    )


def deviation(lengths: Floats, density: Floats, seen: float) -> float:
    """Return how far a share of an inference may be from what was seen of it.

    Args:
        lengths: of the parts of an inference; they add up to 1.
        density: how often each was looked at, against the mean of all.
        seen: share of the looks that found the GPU at work.

    Returns:
        The largest difference between `seen` and the length of any set of parts, cut anywhere,
        that the looks would have shown as `seen`.
    """

    def length_of(order: NDArray[np.intp], side: Literal["left", "right"]) -> float:
        shown = np.concatenate(([0.0], np.cumsum((lengths * density)[order])))
        length = np.concatenate(([0.0], np.cumsum(lengths[order])))
        last = int(np.searchsorted(shown, seen, side=side))
        if last == 0 or last == len(shown):
            return float(length[min(last, len(shown) - 1)])
        more = (seen - shown[last - 1]) / (shown[last] - shown[last - 1])
        return float(length[last - 1] + more * (length[last] - length[last - 1]))

    # What was never looked at shows nothing: all of it may be at work, or none.
    most, least = (
        length_of(np.argsort(density), "right"),
        length_of(np.argsort(-density), "left"),
    )
    return max(most - seen, seen - least, 0.0)


def coverage(first: Floats, last: Floats) -> tuple[Floats, Floats]:
    """Return parts of an inference and how often each was looked at.

    Args:
        first: where each look begins, counted in inferences.
        last: where each ends.

    Returns:
        (lengths, density) as `deviation` takes them.
    """
    spans = last - first
    whole = np.floor(spans)
    begins = first % 1.0
    ends = begins + (spans - whole)
    # A piece that reaches past the end of an inference goes on at its start.
    over = ends > 1.0
    starts = np.concatenate((begins, np.zeros(int(over.sum()))))
    stops = np.concatenate((np.minimum(ends, 1.0), ends[over] - 1.0))
    edges = np.unique(np.concatenate(([0.0, 1.0], starts, stops)))
    change = np.zeros(len(edges))
    np.add.at(change, np.searchsorted(edges, starts), 1.0)
    np.add.at(change, np.searchsorted(edges, stops), -1.0)
    counts = whole.sum() + np.cumsum(change)[:-1]
    return np.diff(edges), counts / spans.sum()


def _looks(scene: Scene, part: float, update_ms: float) -> Iterator[tuple[Floats, Floats]]:
    blocks = list(_progress(scene))
    for factor in _PERIODS:
        period_ns = update_ms * 1e6 * factor
        for offset in range(_OFFSETS):
            begun, ended = [], []
            for stamps_ns, count in blocks:
                first_ns = stamps_ns[0] + period_ns * offset / _OFFSETS
                at = np.arange(first_ns, stamps_ns[-1] - part * period_ns, period_ns)
                begun.append(np.interp(at, stamps_ns, count))
                ended.append(np.interp(at + part * period_ns, stamps_ns, count))
            first, last = np.concatenate(begun), np.concatenate(ended)
            if len(first) and (last > first).any():
                yield coverage(first, last)


def _progress(scene: Scene) -> Iterator[tuple[Floats, Floats]]:
    """Yield each block's stamps and the inferences begun by then, in ns of the block."""
    evidence = scene.evidence
    for mark, latencies in zip(block_marks(evidence), evidence.latency_ns, strict=True):
        length_ns = float(mark.stop_ns - mark.start_ns)
        if evidence.plan.rate_hz is not None:
            yield (
                np.array([0.0, length_ns]),
                np.array([0.0, length_ns / NS_PER_S * evidence.plan.rate_hz]),
            )
            continue
        ends = np.concatenate(([0.0], np.cumsum(np.asarray(latencies, dtype=float))))
        # What lies between one inference and the next is shared out among them.
        yield ends * (length_ns / ends[-1]), np.arange(len(ends), dtype=float)
