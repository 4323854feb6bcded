"""Builds, runs and reads engines on the board, each in a worker of its own.

The agent's half: caches engines by content, brackets the worker's load with idle, keeps the power
source running around all of it and forwards what comes. It computes no figure.
"""

import hashlib
import json
import os

from . import blobs, checks, loadloop
from .clock import board_sleep, now_ns
from .power import Tegrastats, require_tegrastats
from .workerlink import WorkerLink

RUNTIMES = ("tensorrt", "onnxruntime")
_BUILD_LIMIT_S = 3600.0
_STEP_LIMIT_S = 1800.0
_QUIET_S = 2.5
"""Board time between other work and an idle window: six lags of a slow power sensor (0.42 s).
Never longer than the idle window itself, which whoever asked for a short one wants short."""
_TRAILING_SAMPLES = 3
"""Power samples past the last window, so that its edge lies between two of them."""


class Runner:
    """Everything that needs the accelerator."""

    def __init__(self, board, store, worker_argv):
        self._board = board
        self._store = store
        self._worker_argv = worker_argv
        self._identities = {}

    def versions(self, job):
        """Versions of the libraries on the board (None: absent)."""
        with self._worker(job) as worker:
            return worker.call("versions", {}, _STEP_LIMIT_S)

    def build(self, job):
        """Builds an engine, or finds the one built from the same things before."""
        want = _build_request(job.params)
        onnx = self._store.require(want["onnx"], "the network")
        identity = self._identity(job, want["runtime"])
        key = _key(want, identity, self._board)
        known = self._cached(key)
        if known is not None:
            return dict(known, key=key, cached=True)
        made = self._build(job, want, identity, onnx)
        self._store.write_json(made, "engines", key + ".json")
        return dict(made, key=key, cached=False)

    def run(self, job):
        """Runs an engine as planned beside the power source; evidence leaves as events."""
        plan = _plan(job.params)
        power = checks.text(job.params, "power", ("tegrastats", "none"))
        if power == "tegrastats":
            require_tegrastats(self._board)  # before the engine is loaded for nothing
        mode = self._board.power_mode()
        with self._worker(job) as worker:
            loaded = worker.call("load", self._load_request(job, plan["warmup"]), _STEP_LIMIT_S)
            job.emit(loadloop.state_event(self._board.root, mode))
            if power == "none":
                self._phases(job, worker, plan, quiet_s=0.0)
                argv, ended = [], None
            else:
                argv, ended = self._powered(job, worker, plan)
        job.emit(loadloop.state_event(self._board.root, self._board.power_mode()))
        return {"power_argv": argv, "power_exit": ended, "copies": loaded["copies"]}

    def infer(self, job):
        """Runs stacked samples through an engine; the outputs become blobs."""
        count = checks.integer(job.params, "count", 1, 1000000)
        load = self._load_request(job, 0, feed=False)
        inputs = self._input_paths(job)
        fresh = []
        try:
            with self._worker(job) as worker:
                outputs = worker.call("load", load, _STEP_LIMIT_S)["outputs"]
                fresh = [self._store.fresh() for _ in outputs]
                request = {"inputs": inputs, "count": count, "outputs": fresh}
                done = worker.call("infer", request, _STEP_LIMIT_S)["outputs"]
            hashes = [self._store.adopt(path) for path in fresh]
        finally:
            for path in fresh:
                blobs.remove(path)
        return {"outputs": [dict(one, sha256=sha) for one, sha in zip(done, hashes)]}

    def layers(self, job):
        """Mean time of each layer as the runtime's own profiler tells (it slows the engine)."""
        iterations = checks.integer(job.params, "iterations", 1, 100000, 50)
        with self._worker(job) as worker:
            worker.call("load", self._load_request(job, 10), _STEP_LIMIT_S)
            return worker.call("layers", {"iterations": iterations}, _STEP_LIMIT_S)

    def _powered(self, job, worker, plan):
        def forward(lines):
            job.emit({"kind": "power", "lines": lines})

        source = Tegrastats(self._board, self._store, plan["interval_ms"], forward)
        ended = None
        try:
            self._first_line(job, source, plan)
            self._phases(job, worker, plan, min(_QUIET_S, plan["idle_s"]))
            board_sleep(_TRAILING_SAMPLES * plan["interval_ms"] / 1000.0, job.check)
        finally:
            ended = source.stop()
        return source.argv, ended

    def _first_line(self, job, source, plan):
        """Lets board time pass until the source speaks: on an emulated board none passes alone."""
        for _ in range(5):
            board_sleep(0.1 + 2 * plan["interval_ms"] / 1000.0, job.check)
            if source.wait_first_line(2.0):
                return
        raise source.silent()

    def _phases(self, job, worker, plan, quiet_s):
        board_sleep(quiet_s, job.check)
        self._idle(job, "idle_before", plan["idle_s"])
        planned_s = plan["settle_s"] + plan["blocks"] * plan["window_s"] + plan["tail_s"]
        worker.call("run", {"plan": plan}, 120.0 + 3.0 * planned_s, job.emit)
        board_sleep(quiet_s, job.check)
        self._idle(job, "idle_after", plan["idle_s"])

    def _idle(self, job, name, duration_s):
        start_ns = now_ns()
        board_sleep(duration_s, job.check)
        event = {"kind": "mark", "name": name, "index": 0, "inferences": None}
        job.emit(dict(event, start_ns=start_ns, stop_ns=now_ns()))

    def _worker(self, job):
        log = self._store.path("log", "worker.err")
        return WorkerLink(self._worker_argv, self._board.children, log, job)

    def _identity(self, job, runtime):
        """Release and platform of a runtime; asked once, since it means loading the library."""
        if runtime not in self._identities:
            with self._worker(job) as worker:
                answer = worker.call("identity", {"runtime": runtime}, _STEP_LIMIT_S)
            self._identities[runtime] = answer
        return self._identities[runtime]

    def _cached(self, key):
        known = self._store.read_json("engines", key + ".json")
        whole = known is not None and self._store.size(known["engine"]) == known["plan_bytes"]
        return known if whole else None

    def _build(self, job, want, identity, onnx):
        target = self._store.fresh()
        request = dict(want, onnx=onnx, engine=target, timing_cache=self._timing(want, identity))
        try:
            with self._worker(job) as worker:
                made = worker.call("build", request, _BUILD_LIMIT_S)
            made["plan_bytes"] = os.path.getsize(target)
            made["engine"] = self._store.adopt(target)
        finally:
            blobs.remove(target)
        return dict(made, runtime_version=identity["version"])

    def _timing(self, want, identity):
        """Where measured kernel times are kept; None for a fresh build, which must measure anew."""
        if want["build_index"] > 0:
            return None
        name = "%s %s %s" % (identity["version"], identity["platform"], self._board.model())
        return self._store.path("timing", hashlib.sha256(name.encode("utf-8")).hexdigest())

    def _load_request(self, job, warmup, feed=True):
        engine = self._store.require(checks.sha256(job.params.get("engine"), "engine"), "engine")
        return {
            "runtime": checks.text(job.params, "runtime", RUNTIMES),
            "engine": engine,
            "inputs": self._input_paths(job) if feed else {},
            "warmup": warmup,
        }

    def _input_paths(self, job):
        given = checks.blobs_by_name(job.params, "inputs")
        return {name: self._store.require(sha, "input") for name, sha in given.items()}


def _build_request(params):
    return {
        "onnx": checks.sha256(params.get("onnx"), "onnx"),
        "runtime": checks.text(params, "runtime", RUNTIMES),
        "precision": checks.text(params, "precision", ("fp16", "fp32")),
        "workspace_mib": checks.integer(params, "workspace_mib", 1, 1 << 20, 512),
        "shapes": checks.shapes(params, "shapes"),
        "build_index": checks.integer(params, "build_index", 0, 1 << 20, 0),
    }


def _key(want, identity, board):
    """Names everything that a build depends on: other tactics win in another power mode."""
    mode = board.power_mode()
    parts = dict(
        want,
        version=identity["version"],
        platform=[board.model(), identity["platform"]],
        nvpmodel=None if mode is None else mode["id"],
    )
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _plan(params):
    plan = params.get("plan")
    if not isinstance(plan, dict):
        raise checks.bad("plan must be an object")
    read = {
        "idle_s": checks.number(plan, "idle_s", 0, 600, 4.0),
        "settle_s": checks.number(plan, "settle_s", 0, 600, 3.0),
        "window_s": checks.number(plan, "window_s", 0.001, 600, 8.0),
        "blocks": checks.integer(plan, "blocks", 1, 1000, 4),
        "tail_s": checks.number(plan, "tail_s", 0, 600, 0.5),
        "interval_ms": checks.integer(plan, "interval_ms", 10, 10000, 100),
        "warmup": checks.integer(plan, "warmup", 0, 100000, 10),
    }
    if read["blocks"] * read["window_s"] > 7200:
        raise checks.bad("a run may hold at most 7200 s of windows")
    return read
