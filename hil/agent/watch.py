"""Reads the power sources for a while beside nothing at all: no engine, no lease, no change."""

from . import checks, plans
from .clock import board_sleep, now_ns
from .meters import Meters, require_all


def watch(board, store, job):
    """Lets the sources run; their lines leave as the events of a run, between one mark.

    Raises:
        AgentError: `no_power` where the board has not what was asked for.
    """
    interval_ms = checks.integer(job.params, "interval_ms", 10, 10000, 100)
    duration_s = checks.number(job.params, "duration_s", 0.1, 600, 5.0)
    specs = plans.sources(job.params, interval_ms)
    if not specs:
        raise checks.bad("power must name a source")
    require_all(board, specs)
    meters = Meters(board, store, specs, job)
    with meters:
        start_ns = now_ns()
        board_sleep(duration_s, job.check)
        mark = {"kind": "mark", "name": "watch", "index": 0, "inferences": None}
        job.emit(dict(mark, start_ns=start_ns, stop_ns=now_ns()))
    return {"power": meters.told()}
