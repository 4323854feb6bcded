"""Windows inside the load of a trtexec that tells no clock.

trtexec counts its own times from a moment it does not tell. That moment is bounded on the board's
clock: it lies after the line that says that inference starts (its arrival less a moment for the
pipe) and so early that the last query ends before the next line came; where those lines are
missing or late, after the process began and before it ended. Windows lie where there is steady
load for every moment in between, settled and with a tail as planned; their edges are starts of
queries.

Rule of this file: pure.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hil.core.errors import MeasurementError
from hil.core.evidence import Mark, RunPlan

MARK = "trtexec"
STARTS = "Starting inference"
PIPE_NS = 250_000_000  # a line arrives after it was printed: at most this much, on a busy board
NS_PER_MS = 1_000_000
ROUNDING = 1e-5  # it writes six significant digits
_NEXT = "see what this release of trtexec writes with --exportTimes, or install python3-libnvinfer"


@dataclass(frozen=True)
class Query:
    """One inference, in ms of trtexec's own time."""

    start_ms: float
    stop_ms: float
    latency_ms: float


@dataclass(frozen=True)
class Layout:
    """What a run of trtexec comes to.

    Attributes:
        marks: settle, blocks and tail on the board's clock.
        latency_ns: of the queries of each block.
        zero_ns: earliest and latest that trtexec's time may count from.
    """

    marks: tuple[Mark, ...]
    latency_ns: tuple[tuple[int, ...], ...]
    zero_ns: tuple[int, int]


def read_queries(data: bytes) -> tuple[Query, ...]:
    """Return the queries that trtexec wrote down, by their starts.

    Raises:
        MeasurementError: the file is not one of trtexec's, or holds none.
    """
    try:
        rows = [_query(row) for row in json.loads(data)]
    except (KeyError, TypeError, ValueError) as error:
        raise MeasurementError(
            "the times that trtexec wrote cannot be read", why=repr(error), fix=_NEXT
        ) from error
    if not rows:
        raise MeasurementError("trtexec wrote down no query", fix=_NEXT)
    return tuple(sorted(rows, key=lambda row: row.start_ms))


def _query(row: Mapping[str, Any]) -> Query:
    start, stop = float(row["startComputeMs"]), float(row["endComputeMs"])
    return Query(start, stop, float(row["latencyMs"]))


def lay_out(
    plan: RunPlan,
    whole: Mark,
    said: Sequence[tuple[int, str]],
    queries: Sequence[Query],
    warmup_ms: float,
) -> Layout:
    """Lay settling, windows and tail into a run of trtexec.

    Args:
        plan: what was planned; as many of its blocks as fit are laid.
        whole: from its start to its end.
        said: its lines, each stamped on arrival.
        queries: as `read_queries` gives them, those of the warm-up may be among them.
        warmup_ms: how long it warmed up.

    Raises:
        MeasurementError: its times do not fit the board's clock, or hold too little load.
    """
    zero_ns = _zero(whole, said, queries)
    first_ms, last_ms = queries[0].start_ms, max(query.stop_ms for query in queries)
    # 10.x leaves the warm-up out of the file, so its first query may be late in its own time.
    steady_ns = zero_ns[1] + round(max(first_ms, warmup_ms) * NS_PER_MS)
    end_ns = zero_ns[0] + round(last_ms * NS_PER_MS)
    middle_ns = (zero_ns[0] + zero_ns[1]) // 2
    starts = [middle_ns + round(query.start_ms * NS_PER_MS) for query in queries]
    at = bisect_left(starts, steady_ns + round(plan.settle_s * 1e9))
    last_edge_ns = end_ns - round(plan.tail_s * 1e9)
    edges = [at]
    while len(edges) <= plan.blocks:
        if edges[-1] >= len(starts):
            break
        at = bisect_left(starts, starts[edges[-1]] + round(plan.window_s * 1e9))
        if at >= len(starts) or starts[at] > last_edge_ns:
            break
        edges.append(at)
    if len(edges) <= 1:
        raise MeasurementError(
            "trtexec's load holds no window",
            why=f"{(end_ns - steady_ns) / 1e9:.1f} s of it are certain to be steady load",
            fix="make the run longer, or install python3-libnvinfer",
        )
    blocks = [(starts[a], starts[b], b - a) for a, b in pairwise(edges)]
    before = bisect_left(starts, steady_ns)
    marks = [Mark("settle", 0, steady_ns, blocks[0][0], edges[0] - before)]
    marks += [Mark("block", k, *block) for k, block in enumerate(blocks)]
    marks.append(Mark("tail", 0, blocks[-1][1], end_ns, len(starts) - edges[-1]))
    latency_ns = [
        tuple(round(query.latency_ms * NS_PER_MS) for query in queries[a:b])
        for a, b in pairwise(edges)
    ]
    return Layout(tuple(marks), tuple(latency_ns), zero_ns)


def _zero(
    whole: Mark, said: Sequence[tuple[int, str]], queries: Sequence[Query]
) -> tuple[int, int]:
    """Return the earliest and the latest moment that trtexec's times may count from.

    Its lines tell most; where one was stamped so late that nothing fits, the process alone does.
    """
    first_ms, last_ms = queries[0].start_ms, max(query.stop_ms for query in queries)
    process = (whole.start_ns, whole.stop_ns)
    for begun_ns, ended_ns in (_by_lines(process, said), process):
        low_ns = begun_ns - round(first_ms * NS_PER_MS)
        high_ns = ended_ns - round((1 - ROUNDING) * last_ms * NS_PER_MS)
        if low_ns <= high_ns:
            return low_ns, high_ns
    raise MeasurementError(
        "trtexec's own times do not fit the board's clock",
        why=f"{(last_ms - first_ms) / 1e3:.2f} s of queries within "
        f"{(whole.stop_ns - whole.start_ns) / 1e9:.2f} s",
        fix=_NEXT,
    )


def _by_lines(process: tuple[int, int], said: Sequence[tuple[int, str]]) -> tuple[int, int]:
    """Return when the queries began and ended at the earliest and the latest."""
    for number, (t_ns, text) in enumerate(said):
        if STARTS in text:
            later = [after_ns for after_ns, _ in said[number + 1 : number + 2]]
            return max(process[0], t_ns - PIPE_NS), min([process[1], *later])
    return process
