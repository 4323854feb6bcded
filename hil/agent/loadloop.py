"""The load that is measured: one engine, from settling to tail without a pause.

Each inference is stamped before it is enqueued and after its stream is synchronised. Inferences
follow back to back, or one in each slot of a fixed rate.
"""

import gc
import time

from . import packing, state
from .clock import now_ns, to_ns
from .pace import Pace


class Window:
    """What one phase left behind: edges and stamps in seconds of board time.

    `missed` counts the slots of a paced phase that no inference was started in; None for a
    phase without pace.
    """

    def __init__(self):
        self.starts = packing.series()
        self.stops = packing.series()
        self.start_s = None
        self.stop_s = None
        self.missed = None

    def mark(self, name, index):
        """The phase as an event."""
        return {
            "kind": "mark",
            "name": name,
            "index": index,
            "start_ns": to_ns(self.start_s),
            "stop_ns": to_ns(self.stop_s),
            "inferences": len(self.starts),
            "missed": self.missed,
        }


def back_to_back(step, duration_s, clock=time.monotonic):
    """Runs for at least `duration_s` of board time, at least once."""
    window = Window()
    starts, stops = window.starts, window.stops
    before = window.start_s = clock()
    end = before + duration_s
    while True:
        step()
        after = clock()
        starts.append(before)
        stops.append(after)
        if after >= end:
            window.stop_s = after
            return window
        before = clock()


def paced(step, duration_s, pace, clock=time.monotonic):
    """Runs one inference a slot for at least `duration_s`, at least one.

    The window begins with a slot and ends where the next one begins, so that it holds whole
    periods with the pause that belongs to each. Work between two windows makes the inference of
    that slot late: it is run, and belongs to neither.
    """
    window = Window()
    starts, stops = window.starts, window.stops
    if pace.begun:
        step()
    pace.wait()
    before = window.start_s = clock()
    end = before + duration_s
    window.missed = 0
    while True:
        step()
        stops.append(clock())
        starts.append(before)
        window.missed += pace.wait()
        before = clock()
        if before >= end:
            window.stop_s = before
            return window


class Load:
    """One engine at work, phase after phase.

    Args:
        step: one inference.
        rate_hz: None for back to back.
        root: the board's root folder.
        scratch: start of the names of files for stamps, made here and removed by who reads them.
        emit: takes events.
        clock: board time in seconds.
        sleep: lets that many seconds of it pass.
    """

    def __init__(self, step, rate_hz, root, scratch, emit, clock=time.monotonic, sleep=time.sleep):
        self._step = step
        self._pace = None if rate_hz is None else Pace(1.0 / rate_hz, clock, sleep)
        self._root = root
        self._scratch = scratch
        self._emit = emit
        self._clock = clock

    def phase(self, name, index, duration_s):
        """Works for that long; tells its `mark`, then the board's `state` (a few file reads)."""
        if self._pace is None:
            window = back_to_back(self._step, duration_s, self._clock)
        else:
            window = paced(self._step, duration_s, self._pace, self._clock)
        self._emit(window.mark(name, index))
        self._emit(state_event(self._root, None))
        return window

    def send(self, name, index, window):
        """Tells the stamps of a phase, in a file: quick enough to do between two windows."""
        path = "%s-%s-%d" % (self._scratch, name, index)
        self._emit(packing.spill(path, name, index, window.starts, window.stops))


def run(load, plan, go_on=None):
    """Settles, measures windows and runs the tail, as one load.

    The stamps of settling and of each block leave once the load is over; in a run that may go on
    those of a block leave with it, because the host judges it.

    Args:
        load: the engine at work.
        plan: checked by `plans.load`; its `max_blocks` needs `go_on`.
        go_on: tells whether to go on after the evidence through a block; waits to be told. It is
            asked about one block when the one after it has just ended, so that the answer has a
            whole window to come in.
    """
    least, most = plan["blocks"], plan["max_blocks"] or plan["blocks"]
    kept = []
    gc.collect()
    gc.disable()
    try:
        kept.append(("settle", 0, load.phase("settle", 0, plan["settle_s"])))
        for index in range(most):
            window = load.phase("block", index, plan["window_s"])
            if most == least:
                kept.append(("block", index, window))
                continue
            load.send("block", index, window)
            if least <= index < most - 1 and not go_on(index - 1):
                break
        load.phase("tail", 0, plan["tail_s"])
    finally:
        gc.enable()
    for name, index, window in kept:
        load.send(name, index, window)


def state_event(root, power_mode):
    """The board's clocks and temperatures now, as an event."""
    return dict(state.read(root), kind="state", t_ns=now_ns(), nvpmodel=power_mode)
