"""Power sources: programs that print a line a reading, each in a process of its own.

Lines go home raw, each with the board time of its arrival; nothing here interprets them. What is
started for which source is in `source_*.py`, one small file each.
"""

import os
import subprocess
import tempfile
import threading

from . import (
    monitors,
    procs,
    source_command,
    source_ina3221,
    source_nvml,
    source_rapl,
    source_tegrastats,
    wire,
)
from .clock import Deadline, now_ns
from .errors import AgentError
from .selfstart import last_words

_CHUNK = 65536
_BATCH = 16
SOURCES = {
    "tegrastats": source_tegrastats.start,
    "ina3221": source_ina3221.start,
    "nvml": source_nvml.start,
    "rapl": source_rapl.start,
    "command": source_command.start,
}
"""How each source is started: (board, spec) -> (command line, settings)."""


class PowerReader:
    """Reads a pipe to its end on a thread of its own and hands on stamped lines in batches.

    It makes exactly one reading of the board's clock for each whole line, right after the line
    arrived, and is the only thread to read that clock while the worker runs. A last line without
    newline is dropped: a cut number would pass for a smaller one. `ended` is called, on that
    thread, once the pipe has ended and everything is handed on.
    """

    def __init__(self, handle, emit, stamp=now_ns, ended=None):
        self._handle = handle
        self._emit = emit
        self._stamp = stamp
        self._ended = ended
        self._lock = threading.Lock()
        self._batch = []
        self._wanted = None
        self.started = threading.Event()
        self._thread = threading.Thread(target=self._read, name="power")
        self._thread.daemon = True
        self._thread.start()

    def join(self, seconds):
        """Waits for the end of the pipe."""
        self._thread.join(seconds)

    def flush(self):
        """Hands on every line stamped so far, before it returns."""
        with self._lock:
            self._hand_on()

    def hurry(self, after_ns, count):
        """Hands lines on at once when `count` of them are stamped later than `after_ns`."""
        with self._lock:
            self._wanted = (after_ns, count)

    def _read(self):
        lines = wire.LineBuffer()
        while True:
            data = os.read(self._handle, _CHUNK)
            if not data:
                break
            for line in lines.feed(data):
                self._take((line or b"").decode("utf-8", "replace"))
            with self._lock:
                if len(self._batch) >= _BATCH:
                    self._hand_on()
        self.flush()
        if self._ended is not None:
            self._ended()

    def _take(self, line):
        with self._lock:  # stamped and kept are one: whoever flushes later gets this line, too
            stamp_ns = self._stamp()
            self._batch.append([stamp_ns, line])
            self.started.set()
            if self._wanted is not None and stamp_ns > self._wanted[0]:
                after_ns, missing = self._wanted
                self._wanted = (after_ns, missing - 1) if missing > 1 else None
                if missing == 1:
                    self._hand_on()

    def _hand_on(self):
        if self._batch:
            self._emit(self._batch)
            self._batch = []


def require(board, spec):
    """Command line and settings of a source that can be read here.

    Args:
        board: the board.
        spec: `source`, `interval_ms`, `rail` (None: none is named), and `command`, the program
            and its arguments where the source is `command`.

    Raises:
        AgentError: `no_power` where the board does not have the source, `bad_request` for one
            that nobody knows.
    """
    start = SOURCES.get(spec["source"])
    if start is None:
        raise AgentError(
            "bad_request",
            "there is no power source %s" % spec["source"],
            "known: %s" % ", ".join(sorted(SOURCES)),
        )
    argv, settings = start(board, spec)
    common = dict(monitors.sensor_settings(board.root), interval_ms=spec["interval_ms"])
    return argv, dict(common, **settings)


def open_source(board, store, spec, forward, ended=None):
    """Starts a power source; its stamped lines go to `forward` in batches from now on.

    A fresh process each time, so that tegrastats' running mean begins here.

    Args:
        board: the board.
        store: the agent's state folder.
        spec: as `require` takes it.
        forward: takes a list of [stamp in ns, line].
        ended: called where it ends by itself.

    Raises:
        AgentError: as `require`.
    """
    argv, settings = require(board, spec)
    return PowerSource(board, store, spec["source"], (argv, settings), forward, ended)


class PowerSource:
    """One process that prints a line a reading.

    `argv` is what was started and `settings` what the source told of itself.
    """

    def __init__(self, board, store, name, started, emit, ended=None):
        self.name = name
        argv, self.settings = started
        self.argv = argv
        self._children = board.children
        self._tell_end = ended
        # Without a name, so that two sources never write over each other and nothing is left.
        self._errors = tempfile.TemporaryFile(dir=store.path("log"))
        self._process = board.children.spawn(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=board.environment(),
        )
        self._reader = PowerReader(self._process.stdout.fileno(), emit, ended=self._at_end)

    def flush(self):
        """Hands on every line stamped so far, before it returns."""
        self._reader.flush()

    def hurry(self, after_ns, count):
        """Hands lines on at once when `count` of them are stamped later than `after_ns`."""
        self._reader.hurry(after_ns, count)

    def wait_first_line(self, seconds):
        """True once a line has arrived; waits at most that long, in liveness time."""
        deadline = Deadline(seconds)
        while not self._reader.started.wait(0.05) and not deadline.passed():
            if self._process.poll() is not None:
                self._reader.join(1.0)  # what it said before it ended may still be in the pipe
                break
        return self._reader.started.is_set()

    def _at_end(self):
        if self._tell_end is not None:
            self._tell_end()

    def silent(self):
        """The error for a source that says nothing: its own last words where it left some."""
        self._errors.seek(0)
        said = self._errors.read()[-2000:].decode("utf-8", "replace").strip()
        status = self._process.poll()
        ended = "it still runs" if status is None else "it ended with status %d" % status
        return last_words(said) or AgentError(
            "no_power",
            "%s gave no line" % self.name,
            "%s%s" % (ended, ": " + said if said else ""),
            "run `%s` on the board and see what it says" % " ".join(self.argv),
        )

    def stop(self):
        """Ends it; returns its exit status where it had ended by itself before, else None."""
        self._tell_end = None
        by_itself = self._process.poll()
        if by_itself is None:
            procs.signal_group(self._process, 15)
            if procs.wait_exit(self._process, 2.0) is None:
                procs.signal_group(self._process, 9)
        self._reader.join(2.0)
        procs.stop(self._children, self._process)
        self._errors.close()
        return by_itself
