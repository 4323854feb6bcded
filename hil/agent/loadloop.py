"""The load that is measured: one engine, back to back, from settling to tail without a pause.

Each inference is stamped before it is enqueued and after its stream is synchronised. Stamps stay
floats until the load has stopped, because turning a block's worth into integers takes
milliseconds of idle board.
"""

import array
import base64
import gc
import sys
import time

from . import state
from .clock import now_ns, to_ns

_PER_EVENT = 500000


def _window(step, duration_s, starts, stops):
    """Runs back to back for at least `duration_s` of board time, at least once."""
    clock = time.monotonic
    before = clock()
    end = before + duration_s
    while True:
        step()
        after = clock()
        starts.append(before)
        stops.append(after)
        if after >= end:
            return
        before = clock()


def run(step, plan, root, emit):
    """Settles, measures `plan["blocks"]` windows and runs the tail, as one load.

    Emits a `mark` for each phase as it ends, a `state` between phases (a few file reads, outside
    every window), and the `latency` of each block once the load is over: one event, or several
    in order where a block holds more inferences than one line may carry.
    """
    phases = [("settle", 0, plan["settle_s"])]
    phases += [("block", index, plan["window_s"]) for index in range(plan["blocks"])]
    phases += [("tail", 0, plan["tail_s"])]
    kept = []
    gc.collect()
    gc.disable()
    try:
        for name, index, duration_s in phases:
            starts, stops = array.array("d"), array.array("d")
            _window(step, duration_s, starts, stops)
            emit(_mark(name, index, starts, stops))
            emit(state_event(root, None))
            if name == "block":
                kept.append((index, starts, stops))
    finally:
        gc.enable()
    for index, starts, stops in kept:
        for first in range(0, len(starts), _PER_EVENT):
            part = slice(first, first + _PER_EVENT)
            packed = _packed(starts[part], stops[part])
            emit({"kind": "latency", "block": index, "ns_b64": packed})


def state_event(root, power_mode):
    """The board's clocks and temperatures now, as an event."""
    return dict(state.read(root), kind="state", t_ns=now_ns(), nvpmodel=power_mode)


def _mark(name, index, starts, stops):
    return {
        "kind": "mark",
        "name": name,
        "index": index,
        "start_ns": to_ns(starts[0]),
        "stop_ns": to_ns(stops[-1]),
        "inferences": len(starts),
    }


def _packed(starts, stops):
    taken = array.array("Q", (to_ns(b) - to_ns(a) for a, b in zip(starts, stops)))
    if sys.byteorder != "little":
        taken.byteswap()
    return base64.b64encode(taken.tobytes()).decode("ascii")
