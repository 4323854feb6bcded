"""Builds and reads engines on the board, each in a worker of its own; built ones are cached."""

import contextlib
import hashlib
import json
import os

from . import blobs, cache, checks, plans, trtexec, trtexec_engine
from .clock import now_ns
from .errors import AgentError
from .exercise import STEP_LIMIT_S, Exercise
from .libraries import Libraries
from .workerlink import WorkerLink

_BUILD_LIMIT_S = 3600.0


class Runner:
    """Everything that needs the accelerator."""

    def __init__(self, board, store, worker_argv):
        self._board = board
        self._store = store
        self._worker_argv = worker_argv
        self._identities = {}
        self.libraries = Libraries(board.children)
        self._exercise = Exercise(board, store, self._worker)
        self.run = self._exercise.run
        self.step_response = self._exercise.step_response

    def versions(self, job):
        """Versions of the libraries on the board (None: absent, or not to be imported).

        Where importing one kills the worker, it is found out which, and how to go on.
        """
        try:
            with self._worker(job) as worker:
                return worker.call("versions", {}, STEP_LIMIT_S)
        except AgentError as error:
            if error.code != "worker_died" or not self.libraries.examine():
                raise
        with self._worker(job) as worker:
            return worker.call("versions", {}, STEP_LIMIT_S)

    def build(self, job):
        """Builds an engine, or finds the one built from the same things before."""
        want = plans.build(job.params)
        onnx = self._store.require(want["onnx"], "the network")
        identity = self._identity(job, want["runtime"])
        key = _key(want, identity, self._board)
        known = self._cached(key)
        if known is not None:
            return dict(known, key=key, cached=True)
        made = dict(self._build(job, want, identity, onnx), onnx=want["onnx"])
        self._store.write_json(made, "engines", key + ".json")
        cache.Cache(self._store).trim()
        return dict(made, key=key, cached=False)

    def infer(self, job):
        """Runs stacked samples through an engine; the outputs become blobs."""
        count = checks.integer(job.params, "count", 1, 1000000)
        load = self._exercise.load_request(job, 0, feed=False)
        inputs = self._exercise.input_paths(job)
        fresh = []
        try:
            with self._worker(job) as worker:
                outputs = worker.call("load", load, STEP_LIMIT_S)["outputs"]
                fresh = [self._store.fresh() for _ in outputs]
                request = {"inputs": inputs, "count": count, "outputs": fresh}
                done = worker.call("infer", request, STEP_LIMIT_S)["outputs"]
            hashes = [self._store.adopt(path) for path in fresh]
        finally:
            for path in fresh:
                blobs.remove(path)
        return {"outputs": [dict(one, sha256=sha) for one, sha in zip(done, hashes)]}

    def layers(self, job):
        """Mean time of each layer as the runtime's own profiler tells (it slows the engine)."""
        iterations = checks.integer(job.params, "iterations", 1, 100000, 50)
        with self._worker(job) as worker:
            worker.call("load", self._exercise.load_request(job, 10), STEP_LIMIT_S)
            return worker.call("layers", {"iterations": iterations}, STEP_LIMIT_S)

    def trtexec(self, job):
        """NVIDIA's own benchmark on an engine (see `trtexec`)."""
        return trtexec.run(self._board, self._store, job)

    @contextlib.contextmanager
    def _worker(self, job):
        """A worker; where memory ran out it is said how much there is."""
        log = self._store.path("log", "worker.err")
        env = self.libraries.environment()
        before = self._board.memory_kills()
        try:
            with WorkerLink(self._worker_argv, self._board.children, log, job, env) as worker:
                yield worker
        except AgentError as error:
            if error.code == "out_of_memory" or "signal 9" in (error.why or ""):
                killer = _killer(before, self._board.memory_kills())
                told = (error.why, killer, self._board.memory_text())
                error.why = "; ".join(filter(None, told))
            raise

    def _identity(self, job, runtime):
        """Release and platform of a runtime; asked once, since it means loading the library."""
        if runtime == trtexec_engine.RUNTIME:
            return trtexec_engine.identity(self._board)
        if runtime not in self._identities:
            with self._worker(job) as worker:
                answer = worker.call("identity", {"runtime": runtime}, STEP_LIMIT_S)
            self._identities[runtime] = answer
        return self._identities[runtime]

    def _cached(self, key):
        known = self._store.read_json("engines", key + ".json")
        if known is None or self._store.size(known["engine"]) != known["plan_bytes"]:
            return None
        self._store.require(known["engine"], "engine")  # used again: it stays
        return known

    def _build(self, job, want, identity, onnx):
        target = self._store.fresh()
        request = dict(want, onnx=onnx, engine=target, timing_cache=self._timing(want, identity))
        try:
            if want["runtime"] == trtexec_engine.RUNTIME:
                begin_ns = now_ns()
                made = trtexec_engine.build(self._board, want, onnx, target)
                made["build_s"] = (now_ns() - begin_ns) / 1e9
            else:
                with self._worker(job) as worker:
                    made = worker.call("build", request, _BUILD_LIMIT_S)
            made["plan_bytes"] = os.path.getsize(target)
            made["engine"] = self._store.adopt(target)
        finally:
            blobs.remove(target)
        told = {name: identity.get(name) for name in ("platform", "dialect", "via")}
        return dict(made, runtime_version=identity["version"], **told)

    def _timing(self, want, identity):
        """Where measured kernel times are kept; None for a fresh build, which must measure anew."""
        if want["build_index"] > 0:
            return None
        name = "%s %s %s" % (identity["version"], identity["platform"], self._board.model())
        return self._store.path("timing", hashlib.sha256(name.encode("utf-8")).hexdigest())


def _killer(before, after):
    """Whether the kernel ended a process for its memory meanwhile; None where it does not count."""
    if before is None or after is None:
        return None
    if after > before:
        return "the kernel's out-of-memory killer ended a process meanwhile"
    return "the kernel's out-of-memory killer ended nothing meanwhile"


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
