"""The way home: one thread writes, everyone else only queues.

A host that stops reading must not stop the agent from noticing that the host is gone.
"""

import collections
import os
import threading

from . import wire


class Outbox:
    """Lines to the host, whole and in the order they were queued."""

    def __init__(self, handle):
        self._handle = handle
        self._lines = collections.deque()
        self._changed = threading.Condition()
        self._closing = False
        self.broken = False
        self._thread = threading.Thread(target=self._write, name="outbox")
        self._thread.daemon = True
        self._thread.start()

    def put(self, message):
        """Queues one message."""
        line = wire.encode(message)
        with self._changed:
            self._lines.append(line)
            self._changed.notify()

    def close(self, seconds):
        """Writes out what is queued, giving up after that long."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)

    def _next(self):
        with self._changed:
            while not self._lines and not self._closing:
                self._changed.wait()
            return self._lines.popleft() if self._lines else None

    def _write(self):
        while True:
            line = self._next()
            if line is None:
                return
            try:
                _write_all(self._handle, line)
            except OSError:
                self.broken = True
                return


def _write_all(handle, data):
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
