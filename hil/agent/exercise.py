"""Puts an engine to work beside the power sources: as planned, or on and off.

The agent's half: it brackets the worker's load with idle, keeps the sources running around all of
it and forwards what comes. It computes no figure.
"""

import glob

from . import blobs, checks, loadloop, packing, plans, trtexec_engine
from .clock import board_sleep, now_ns
from .meters import Meters, require_all

STEP_LIMIT_S = 1800.0
_QUIET_S = 2.5
"""Board time between other work and an idle window: six lags of a slow power sensor (0.42 s).
Never longer than the idle window itself, which whoever asked for a short one wants short."""
_SPREAD = 0.381966
"""Golden section: successive steps fall on well spread phases of the sensor's period."""


class Exercise:
    """Runs engines that are in the store, each in a worker of its own.

    Args:
        board: the board.
        store: its blobs.
        worker: called with a job, gives a worker's link.
    """

    def __init__(self, board, store, worker):
        self._board = board
        self._store = store
        self._worker = worker

    def run(self, job):
        """Runs an engine as planned beside the power sources; evidence leaves as events."""
        plan = plans.load(job.params)
        specs = plans.sources(job.params, plan["interval_ms"])
        if job.params.get("runtime") == trtexec_engine.RUNTIME:
            return self._by_trtexec(job, plan, specs)
        answers = job.expect_answers() if plans.most_blocks(plan) > plan["blocks"] else None
        try:
            return self._exercised(
                job, specs, plan["warmup"], lambda *at: self._planned(job, plan, answers, *at)
            )
        finally:
            if answers is not None:
                answers.close()

    def _by_trtexec(self, job, plan, specs):
        """The same with trtexec as the load, which the host lays out afterwards."""
        if plan["rate_hz"] is not None or plan["max_blocks"] is not None:
            raise checks.bad("trtexec runs back to back, and for a time that is fixed beforehand")
        require_all(self._board, specs)
        job.emit(loadloop.state_event(self._board.root, self._board.power_mode()))
        quiet_s = min(_QUIET_S, plan["idle_s"])
        meters = Meters(self._board, self._store, specs, job)
        with meters:
            board_sleep(quiet_s, job.check)
            self._idle(job, "idle_before", plan["idle_s"])
            done = trtexec_engine.run(self._board, self._store, job, plan)
            job.emit(loadloop.state_event(self._board.root, None))
            board_sleep(quiet_s, job.check)
            self._idle(job, "idle_after", plan["idle_s"])
        job.emit(loadloop.state_event(self._board.root, self._board.power_mode()))
        return {"power": meters.told(), "copies": "excluded", "trtexec": done}

    def step_response(self, job):
        """Switches the load on and off while the sources are read, for how they follow a step.

        Marks are `on` and `off` with the number of the step, between the two idles.
        """
        plan = plans.steps(job.params)
        specs = plans.sources(job.params, plan["interval_ms"])
        return self._exercised(job, specs, 10, lambda *at: self._steps(job, plan, *at))

    def load_request(self, job, warmup, feed=True):
        """What a worker needs to load the engine that a request names."""
        engine = checks.sha256(job.params.get("engine"), "engine")
        return {
            "runtime": checks.text(job.params, "runtime", plans.RUNTIMES),
            "engine": self._store.require(engine, "engine"),
            "inputs": self.input_paths(job) if feed else {},
            "warmup": warmup,
            "cuda_graph": checks.flag(job.params, "cuda_graph", False),
            "shapes": checks.shapes(job.params, "shapes"),
        }

    def input_paths(self, job):
        """Paths of the inputs that a request names."""
        given = checks.blobs_by_name(job.params, "inputs")
        return {name: self._store.require(sha, "input") for name, sha in given.items()}

    def _exercised(self, job, specs, warmup, work):
        require_all(self._board, specs)  # before the engine is loaded for nothing
        mode = self._board.power_mode()
        with self._worker(job) as worker:
            request = self.load_request(job, warmup)
            loaded = worker.call("load", request, STEP_LIMIT_S, job.emit)
            job.emit(loadloop.state_event(self._board.root, mode))
            meters = Meters(self._board, self._store, specs, job)
            with meters:
                work(worker, meters)
        job.emit(loadloop.state_event(self._board.root, self._board.power_mode()))
        return {"power": meters.told(), "copies": loaded["copies"]}

    def _planned(self, job, plan, answers, worker, meters):
        def emit(event):
            if event["kind"] == "stamps":
                for packed in packing.unspill(event):
                    job.emit(packed)
                return
            if event.get("name") == "block":
                meters.flush()  # so that a block's mark comes after every line of its time
                meters.hurry(event["stop_ns"])
            job.emit(event)

        scratch = self._store.fresh()
        quiet_s = min(_QUIET_S, plan["idle_s"])
        board_sleep(quiet_s, job.check)
        self._idle(job, "idle_before", plan["idle_s"])
        limit_s = 120.0 + 3.0 * plans.load_s(plan)
        try:
            worker.call("run", {"plan": plan, "scratch": scratch}, limit_s, emit, answers)
        finally:
            for path in glob.glob(scratch + "-*"):
                blobs.remove(path)
        board_sleep(quiet_s, job.check)
        self._idle(job, "idle_after", plan["idle_s"])

    def _steps(self, job, plan, worker, _):
        self._idle(job, "idle_before", plan["idle_s"])
        for index in range(plan["steps"]):
            shift_s = (index * _SPREAD % 1.0) * plan["interval_ms"] / 1000.0
            hold_s = plan["hold_s"] + shift_s
            request = {"duration_s": hold_s}
            on = worker.call("hold", request, 120.0 + 3.0 * hold_s)
            job.emit(dict(on, kind="mark", name="on", index=index))
            board_sleep(hold_s, job.check)
            self._mark(job, "off", index, on["stop_ns"])
        self._idle(job, "idle_after", plan["idle_s"])

    # assumes: idle-by-clocks
    def _idle(self, job, name, duration_s):
        start_ns = now_ns()
        board_sleep(duration_s, job.check)
        self._mark(job, name, 0, start_ns)

    def _mark(self, job, name, index, start_ns):
        event = {"kind": "mark", "name": name, "index": index, "inferences": None}
        job.emit(dict(event, start_ns=start_ns, stop_ns=now_ns()))
