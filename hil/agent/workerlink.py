"""The agent's side of the worker: a child that owns TensorRT and CUDA, and may die of them.

JSON lines on the child's stdin and stdout: `{"method", "params"}` there, any number of
`{"event"}` and one `{"result"}` or `{"error"}` back; a request may expect answers of the host on
the way, which reach the child as `{"answer"}`. Its stderr is a file, read when it dies.
"""

import json
import os
import select
import signal
import subprocess

from . import procs, wire
from .clock import Deadline
from .errors import AgentError, from_dict

_CHUNK = 1 << 16
_LOOK_S = 0.2
_ENDS = {
    signal.SIGSEGV: "a segmentation fault",
    signal.SIGABRT: "an abort, as of an exception that nobody caught",
    signal.SIGBUS: "a bus error",
    signal.SIGILL: "an illegal instruction",
    signal.SIGFPE: "an arithmetic fault",
}
"""What a library does to its process, in words."""
_DOING = {
    "build": "building the engine",
    "load": "loading the engine",
    "run": "running the engine",
    "hold": "running the engine",
    "infer": "running the engine",
    "layers": "timing the engine's layers",
}


class WorkerLink:
    """One worker for one request; use as a context manager so that it always ends.

    Args:
        argv: how to start it.
        children: the registry that owns it.
        log: path of its stderr; replaced.
        job: the request; its `check` ends the worker early.
        env: its environment.
    """

    def __init__(self, argv, children, log, job, env):
        self._children = children
        self._log = log
        self._job = job
        self._lines = wire.LineBuffer()
        self._ready = []
        self._method, self._limit_s = None, 0.0
        with open(log, "wb"):
            pass
        # Opened to read as well: the worker looks for its library's messages in there.
        with open(log, "a+b") as errors:
            self._process = children.spawn(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=env,
            )

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        procs.close_quietly(self._process.stdin)
        if kind is not None:
            procs.signal_group(self._process, signal.SIGKILL)
        # Closing CUDA politely takes a moment; the driver's cleanup after a kill takes longer.
        elif procs.wait_exit(self._process, 5.0) is None:
            procs.signal_group(self._process, signal.SIGKILL)
        self._process.wait()
        self._children.forget(self._process)

    def call(self, method, params, timeout_s, on_event=None, answers=None):
        """Makes one request and waits for its end.

        Args:
            method: one of the worker's methods.
            params: its parameters.
            timeout_s: liveness seconds it may take.
            on_event: called with each event on the way.
            answers: the host's answers to this request, handed on as they come.

        Raises:
            AgentError: what the worker answered; `worker_died`; `timeout`; or the request's end.
        """
        self._method, self._limit_s = method, timeout_s
        self._send(wire.encode({"method": method, "params": params}))
        deadline = Deadline(timeout_s)
        while True:
            message = self._receive(deadline, answers)
            if "event" in message:
                if on_event is not None:
                    on_event(message["event"])
            elif "error" in message:
                raise from_dict(message["error"])
            else:
                return message["result"]

    def _send(self, line):
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death()

    def _receive(self, deadline, answers):
        handle = self._process.stdout.fileno()
        watched = [handle] if answers is None else [handle, answers]
        while not self._ready:
            self._job.check()
            if deadline.passed():
                raise AgentError(
                    "timeout",
                    "%s was not finished in time" % self._doing(),
                    "the process was still at it after %.0f s and was ended" % self._limit_s,
                    "the agent is well; try again, or with a smaller network",
                )
            ready, _, _ = select.select(watched, [], [], min(_LOOK_S, deadline.left_s()))
            if answers in ready:
                for answer in answers.take():
                    self._send(wire.encode({"answer": answer}))
            if handle not in ready:
                continue
            data = os.read(handle, _CHUNK)
            if not data:
                raise self._death()
            self._ready += self._lines.feed(data)
        line = self._ready.pop(0)
        if line is None:
            raise AgentError("internal", "the worker sent a line over the limit")
        return json.loads(line.decode("ascii"))

    def _doing(self):
        return _DOING.get(self._method, "asking the runtime (`%s`)" % self._method)

    def _death(self):
        status = procs.wait_exit(self._process, 5.0)
        killed = status is not None and status < 0
        fix = "the agent is well; try again, with a smaller network or workspace if memory ran out"
        if killed and -status == signal.SIGKILL:
            how = "it was killed (signal 9), as the kernel does when memory runs out"
            fix = "close other programs on the board, lower runtime.workspace_mib, or add swap"
        elif killed:
            named = _ENDS.get(-status)
            how = "signal %d ended it" % -status + (": " + named if named else "")
        else:
            how = "it ended with status %s" % status
        with open(self._log, "rb") as file:
            said = file.read()[-2000:].decode("utf-8", "replace").strip().splitlines()[-4:]
        return AgentError(
            "worker_died",
            "the process died while %s" % self._doing(),
            "; ".join([how] + said),
            fix,
        )
