"""NVIDIA's own benchmark on an engine, as a second opinion on latency; power is not read.

Its times of each query go home as the file it wrote. `--noDataTransfers`: nothing is copied, so a
latency is the computation alone, between two CUDA events. `--useSpinWait`: the host spins on the
event instead of sleeping on it, so no wake-up is in the figure. One stream, queries in order.
"""

import os
import re

from . import blobs, checks, plans
from .errors import AgentError

VERSION = re.compile(r"TensorRT v(\d+)")
_GRACE_S = 600.0  # loading a large engine
_HELP_S = 60.0


def run(board, store, job):
    """Times the engine of a request; returns {"times": blob, "argv", "version", "warmup_ms"}.

    Raises:
        AgentError: `no_runtime` where the board has no trtexec; `worker_died` where it fails.
    """
    program = board.trtexec()
    if program is None:
        raise AgentError("no_runtime", "this board has no trtexec", fix="sudo apt install tensorrt")
    plans.only_tensorrt(job.params)
    engine = store.require(checks.sha256(job.params.get("engine"), "engine"), "engine")
    warmup_ms = checks.integer(job.params, "warmup_ms", 0, 60000, 200)
    duration_s = checks.integer(job.params, "duration_s", 1, 600, 3)
    target = store.fresh()
    argv = [program] + flags(help_text(board, program), engine, target, warmup_ms, duration_s)
    argv += at_shapes(checks.shapes(job.params, "shapes"))
    try:
        done = board.run(argv, _GRACE_S + 3.0 * duration_s)
        if done.status != 0 or not filled(target):
            raise _failure(done)
        times = store.adopt(target)
    finally:
        blobs.remove(target)
    found = VERSION.search(done.output)
    version = None if found is None else found.group(1)
    return {"times": times, "argv": argv, "version": version, "warmup_ms": warmup_ms}


def flags(known, engine, times, warmup_ms, duration_s):
    """The arguments in the words of this release: 10 calls the streams differently from 8."""
    streams = "--infStreams=1" if "--infStreams" in known else "--streams=1"
    return [
        "--loadEngine=" + engine,
        "--warmUp=%d" % warmup_ms,
        "--duration=%d" % duration_s,
        "--iterations=10",
        streams,
        "--useSpinWait",
        "--noDataTransfers",
        "--exportTimes=" + times,
    ]


def at_shapes(shapes):
    """The arguments that run an engine of changing shape at given ones; none without."""
    return ["--shapes=" + shapes_text(shapes)] if shapes else []


def shapes_text(shapes):
    """Shapes of inputs as trtexec reads them."""
    return ",".join(
        "%s:%s" % (name, "x".join(map(str, dims))) for name, dims in sorted(shapes.items())
    )


def help_text(board, program):
    """What this release prints of its flags."""
    done = board.run([program, "--help"], _HELP_S)
    return done.output + done.errors


def filled(path):
    """True where a file is there and holds something."""
    return os.path.exists(path) and os.path.getsize(path) > 0


def ended(status):
    """How a program ended, in words: by itself or by a signal."""
    if status < 0:
        return "was ended by signal %d" % -status
    return "ended with status %d" % status


def _failure(done):
    how = "took too long" if done.status is None else ended(done.status)
    return AgentError(
        "worker_died",
        "trtexec %s" % how,
        done.tail() or None,
        "the engine may need plugins that trtexec does not load; its own figures are not needed",
    )
