"""What the host may ask: one table from method names to what carries them out.

Methods that touch the board demand the lease first; `job` is the request being carried out.
"""

import base64
import binascii
import os
import platform
import shutil
import sys

from . import cache, checks, inflate, source_nvml, surroundings, transcript, watch, wire
from .clock import now_ns
from .errors import AgentError, mount_of

_MOST_PIECE = 4 << 20
_NEED_LEASE = ("board_pin", "board_restore", "engine_build", "engine_run", "engine_infer")
_NEED_LEASE += ("engine_layers", "engine_trtexec", "step_response", "store_clean", "cache_clean")


class Methods:
    """The agent's abilities, over a board, its state folder, its lease, clocks and runner."""

    def __init__(self, board, store, lease, clocks, runner):
        self._board = board
        self._store = store
        self._lease = lease
        self._clocks = clocks
        self._runner = runner
        self._greeted = False
        self._table = {
            "hello": self._hello,
            "probe": self._probe,
            "lease_acquire": self._lease_acquire,
            "lease_release": self._lease_release,
            "lease_status": lambda _: lease.status(),
            "transcript": lambda job: transcript.read(board, clocks, job),
            "power_watch": lambda job: watch.watch(board, store, job),
            "disk": self._disk,
            "blob_stat": self._blob_stat,
            "blob_commit": self._blob_commit,
            "blob_write": self._blob_write,
            "blob_read": self._blob_read,
            "store_clean": self._store_clean,
            "cache_clean": self._cache_clean,
            "board_pin": self._board_pin,
            "board_restore": lambda _: {"restored": clocks.restore()},
            "engine_build": runner.build,
            "engine_run": runner.run,
            "engine_infer": runner.infer,
            "engine_layers": runner.layers,
            "engine_trtexec": runner.trtexec,
            "step_response": runner.step_response,
            "clock": lambda _: {"t_ns": now_ns(), "wall_s": surroundings.wall_clock_s()},
        }

    def call(self, job):
        """Carries out one request; returns its result or raises `AgentError`."""
        if job.method not in self._table:
            raise checks.bad("there is no method %r" % job.method)
        if not self._greeted and job.method != "hello":
            raise AgentError("protocol", "the first request must be hello")
        if job.method in _NEED_LEASE:
            self._lease.require()
        return self._table[job.method](job)

    def leave(self):
        """Gives back what this session changed: clocks and mode while the board is its own."""
        try:
            if self._lease.held():
                self._clocks.restore()
        finally:
            self._lease.release()

    def _hello(self, job):
        offered = job.params.get("protocols")
        if not isinstance(offered, list) or wire.PROTOCOL not in offered:
            raise AgentError(
                "protocol",
                "host and agent share no protocol version",
                "the agent speaks %d, the host offers %s" % (wire.PROTOCOL, offered),
                "update hil on the host: it ships the agent that fits",
            )
        self._store.prepare()
        self._finish_broken_restore()
        self._greeted = True
        return {
            "protocol": wire.PROTOCOL,
            "python": platform.python_version(),
            "pid": os.getpid(),
            "root": self._board.root,
            "state_dir": self._store.folder,
            "state_dir_refused": self._store.refused,
            "boot_id": self._board.boot_id,
        }

    def _finish_broken_restore(self):
        """Gives back what an agent that was killed could not, unless somebody uses the board."""
        if not self._clocks.pending():
            return
        try:
            self._lease.acquire("hil, finishing a broken restore", 60.0)
        except AgentError:
            return  # the holder's agent, or the next to hold the lease, does it
        try:
            self._clocks.restore()
        except AgentError as error:
            _complain("could not finish a broken restore", error)
        finally:
            self._lease.release()

    def _probe(self, job):
        board = self._board
        versions = self._runner.versions(job)
        told = surroundings.read(board.root)
        libraries = self._runner.libraries
        told["import_deaths"] = libraries.deaths
        told["tensorrt_elsewhere"] = None
        if versions["tensorrt"] is None and board.l4t() is not None:
            told["tensorrt_elsewhere"] = libraries.elsewhere("tensorrt", board.root)
        about = {
            "model": board.model(),
            "l4t": board.l4t(),
            "l4t_read_in": board.release_file(),
            "tensorrt": versions["tensorrt"],
            "pycuda": versions["pycuda"],
            "numpy": versions["numpy"],
            "onnxruntime": versions["onnxruntime"],
            "nvpmodel": board.power_mode(),
            "sudo": {
                "nvpmodel": self._clocks.permitted("nvpmodel", "-m", "0"),
                "jetson_clocks": self._clocks.permitted("jetson_clocks"),
            },
            "tegrastats": board.tegrastats(),
            "trtexec": board.trtexec(),
            "disk_free_bytes": shutil.disk_usage(self._store.folder).free,
            "memory_bytes": board.memory_bytes(),
            "python": platform.python_version(),
            "emulated": board.emulated(),
            "cpu": board.cpu(),
        }
        if "host_runtimes" in versions:
            about["host_runtimes"] = versions["host_runtimes"]
        if checks.flag(job.params, "gpu", False):
            about["gpu"] = source_nvml.about(board)
        return dict(told, **about)

    def _lease_acquire(self, job):
        owner = checks.text(job.params, "owner")
        ttl_s = checks.number(job.params, "ttl_s", 0.05, 86400, 60)
        reason = job.params.get("steal_reason")
        if reason is not None:
            reason = checks.text(job.params, "steal_reason")
        mine_before = self._lease.held()
        taken = self._lease.acquire(owner, ttl_s, reason)
        if not mine_before and self._clocks.pending():
            self._finish_for_new_holder()
        return taken

    def _finish_for_new_holder(self):
        try:
            self._clocks.restore()
        except AgentError as error:
            _complain("could not give back what an earlier session changed", error)

    def _lease_release(self, _):
        self._lease.release()
        return {}

    def _disk(self, _):
        folder = self._store.folder
        return {"mount": mount_of(folder), "free_bytes": shutil.disk_usage(folder).free}

    def _blob_stat(self, job):
        sha256 = checks.sha256(job.params.get("sha256"))
        size = self._store.size(sha256)
        if size is not None:
            self._store.require(sha256, "it")  # the host counts on it: it stays
        return {"bytes": size}

    def _blob_commit(self, job):
        sha256 = checks.sha256(job.params.get("sha256"))
        name = checks.file_name(job.params.get("name"))
        if "inflated_bytes" in job.params:
            size = checks.integer(job.params, "inflated_bytes", 0, inflate.MOST_BYTES)
            name = inflate.unpack(self._store, name, size)
        self._store.commit(name, sha256)
        return {}

    def _blob_write(self, job):
        try:
            data = base64.b64decode(checks.text(job.params, "data_b64", empty=True), validate=True)
        except binascii.Error:
            raise checks.bad("data_b64 is not base64")
        offset = checks.integer(job.params, "offset", 0, 1 << 50)
        self._store.append(checks.file_name(job.params.get("name")), offset, data)
        return {}

    def _blob_read(self, job):
        sha256 = checks.sha256(job.params.get("sha256"))
        offset = checks.integer(job.params, "offset", 0, 1 << 50)
        most = checks.integer(job.params, "most", 1, _MOST_PIECE)
        data = self._store.piece(sha256, offset, most)
        return {"data_b64": base64.b64encode(data).decode("ascii")}

    def _store_clean(self, _):
        files, size = self._store.clean()
        return {"files": files, "bytes": size}

    def _cache_clean(self, job):
        keep = checks.integer(job.params, "keep_bytes", 0, 1 << 60, cache.LIMIT_BYTES)
        return cache.Cache(self._store).trim(keep, unused=True)

    def _board_pin(self, job):
        mode = job.params.get("nvpmodel")
        if mode is not None:
            mode = checks.integer(job.params, "nvpmodel", 0, 99)
        clocks = job.params.get("clocks", True)
        if not isinstance(clocks, bool):
            raise checks.bad("clocks must be true or false")
        state = self._clocks.pin(mode, clocks)
        return {"state": state, "found_pinned": self._clocks.found_pinned}


def _complain(what, error):
    sys.stderr.write("hil agent: %s: %s (%s)\n" % (what, error.message, error.why))
