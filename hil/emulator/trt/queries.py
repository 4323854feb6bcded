"""Queries as trtexec 8.2 runs them: one stream, the next enqueued while the last one computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from hil.emulator.clockfile import NOW
from hil.emulator.trt.device import COPY_BYTES_PER_NS, COPY_NS
from hil.emulator.trt.engine import PROFILER_NS, Context
from hil.emulator.trt.tensors import Tensor

BYTES = {"float32": 4, "int32": 4, "float16": 2, "int8": 1, "bool": 1, "uint8": 1}
MS = 1_000_000
WAKE_NS = 40_000
"""Assumed: a host that blocks on an event is woken this much later than one that spins."""


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        warmup_ms, duration_ms, iterations: at least so long and so many after the warm-up.
        transfers: inputs and outputs are copied for each query.
        spin: the host spins on events instead of blocking.
        profiled: layers are timed, which costs time.
    """

    warmup_ms: float
    duration_ms: float
    iterations: int
    transfers: bool
    spin: bool
    profiled: bool = False


@dataclass(frozen=True)
class Query:
    """One query, in nanoseconds since the first was enqueued: (start, end) of each part."""

    enqueue: tuple[int, int]
    h2d: tuple[int, int]
    compute: tuple[int, int]
    d2h: tuple[int, int]

    @property
    def latency_ns(self) -> int:
        """Copies and computation, without queueing."""
        return sum(stop - start for start, stop in (self.h2d, self.compute, self.d2h))

    @property
    def end_to_end_ns(self) -> int:
        """From the first copy's start to the last copy's end."""
        return self.d2h[1] - self.h2d[0]


def run(
    context: Context, plan: Plan, report: Callable[[str, float], None] | None = None
) -> list[Query]:
    """Runs queries until the plan is fulfilled; the board's time moves on with them.

    Args:
        context: the engine, ready.
        plan: how long.
        report: told (layer, milliseconds) of each query where the plan is `profiled`.
    """
    time = context.device.time
    zero_ns = time.words[NOW]
    ends = (context.engine.inputs, context.engine.outputs)
    copies_ns = [_copy_ns(tensors, plan) for tensors in ends]
    queries: list[Query] = []
    host_ns, free_ns, after = 0, 0, 0
    while True:
        query = _query(context, plan, copies_ns, host_ns, free_ns)
        queries.append(query)
        figures = context.figures()
        time.occupy(zero_ns + query.compute[0], zero_ns + query.compute[1], figures.activity)
        if report is not None:
            share = (query.compute[1] - query.compute[0]) / 1e9 / figures.gpu_s
            for name, seconds in figures.layers:
                report(name, seconds * share * 1e3)
        after += query.compute[0] >= plan.warmup_ms * MS
        # The host enqueues one query ahead and then waits for the one before.
        waited_ns = queries[-2].d2h[1] + (0 if plan.spin else WAKE_NS) if len(queries) > 1 else 0
        host_ns, free_ns = max(query.enqueue[1], waited_ns), query.compute[1]
        time.reach(zero_ns + host_ns)
        if after >= plan.iterations and host_ns >= (plan.warmup_ms + plan.duration_ms) * MS:
            time.reach(zero_ns + query.d2h[1])
            return queries


def _query(context: Context, plan: Plan, copies_ns: list[int], host_ns: int, free_ns: int) -> Query:
    figures = context.figures()
    share = context.next_share()
    enqueued_ns = host_ns + round(figures.enqueue_s * 1e9)
    start_ns = max(host_ns + copies_ns[0], free_ns)
    # Without transfers both copies are told as empty, at the ends of the computation.
    h2d = (host_ns, host_ns + copies_ns[0]) if plan.transfers else (start_ns, start_ns)
    extra_ns = PROFILER_NS * len(figures.layers) if plan.profiled else 0
    stop_ns = start_ns + round(figures.gpu_s * 1e9 * share) + extra_ns
    return Query(
        (host_ns, enqueued_ns), h2d, (start_ns, stop_ns), (stop_ns, stop_ns + copies_ns[1])
    )


def _copy_ns(tensors: Sequence[Tensor], plan: Plan) -> int:
    if not plan.transfers:
        return 0
    size = sum(prod(tensor.shape) * BYTES[tensor.dtype] for tensor in tensors)
    return COPY_NS + round(size / COPY_BYTES_PER_NS)
