"""The board's own power meter: tegrastats in a process of its own, read line by line.

Lines go home raw, each with the board time of its arrival; nothing here interprets them.
"""

import os
import subprocess
import threading

from . import procs, wire
from .clock import Deadline, now_ns
from .errors import AgentError

_CHUNK = 65536
_BATCH = 16


class PowerReader:
    """Reads a pipe to its end on a thread of its own and hands on stamped lines in batches.

    It makes exactly one reading of the board's clock for each whole line, right after the line
    arrived, and is the only thread to read that clock while the worker runs. A last line without
    newline is dropped: a cut number would pass for a smaller one.
    """

    def __init__(self, handle, emit, stamp=now_ns):
        self._handle = handle
        self._emit = emit
        self._stamp = stamp
        self.started = threading.Event()
        self._thread = threading.Thread(target=self._read, name="power")
        self._thread.daemon = True
        self._thread.start()

    def join(self, seconds):
        """Waits for the end of the pipe."""
        self._thread.join(seconds)

    def _read(self):
        lines = wire.LineBuffer()
        batch = []
        while True:
            data = os.read(self._handle, _CHUNK)
            if not data:
                break
            for line in lines.feed(data):
                stamp_ns = self._stamp()
                batch.append([stamp_ns, (line or b"").decode("utf-8", "replace")])
                self.started.set()
            if len(batch) >= _BATCH:
                self._emit(batch)
                batch = []
        if batch:
            self._emit(batch)


def require_tegrastats(board):
    """Path of tegrastats.

    Raises:
        AgentError: `no_power` where the board has none.
    """
    program = board.tegrastats()
    if program is None:
        raise AgentError(
            "no_power",
            "this board has no tegrastats, so there is no power to measure",
            "it is neither on %s nor in the home folder" % board.path,
            "measure on a Jetson, or set `power: {source: none}` for latency alone",
        )
    return program


class Tegrastats:
    """One tegrastats process, started fresh so that its running mean begins here."""

    def __init__(self, board, store, interval_ms, emit):
        self.argv = [require_tegrastats(board), "--interval", str(interval_ms)]
        self._children = board.children
        self._log = store.path("log", "tegrastats.err")
        with open(self._log, "wb") as errors:
            self._process = board.children.spawn(
                self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
            )
        self._reader = PowerReader(self._process.stdout.fileno(), emit)

    def wait_first_line(self, seconds):
        """True once a line has arrived; waits at most that long, in liveness time."""
        deadline = Deadline(seconds)
        while not self._reader.started.wait(0.05) and not deadline.passed():
            if self._process.poll() is not None:
                break
        return self._reader.started.is_set()

    def silent(self):
        """The error for a source that says nothing."""
        with open(self._log, "rb") as file:
            said = file.read()[-2000:].decode("utf-8", "replace").strip()
        status = self._process.poll()
        ended = "it still runs" if status is None else "it ended with status %d" % status
        return AgentError(
            "no_power",
            "tegrastats gave no line",
            "%s%s" % (ended, ": " + said if said else ""),
            "run `%s` on the board and see what it says" % " ".join(self.argv),
        )

    def stop(self):
        """Ends it; returns its exit status where it had ended by itself before, else None."""
        by_itself = self._process.poll()
        if by_itself is None:
            procs.signal_group(self._process, 15)
            if procs.wait_exit(self._process, 2.0) is None:
                procs.signal_group(self._process, 9)
        self._reader.join(2.0)
        procs.stop(self._children, self._process)
        return by_itself
