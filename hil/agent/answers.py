"""What the host says to a request while it runs: put by one thread, taken by another."""

import collections
import os
import threading

from . import checks

_MOST = 1000


def read(fields):
    """The answer in a notification: {"block": which, "go": whether to go on}.

    Raises:
        AgentError: `bad_request` where it is none.
    """
    go = fields.get("go")
    if not isinstance(go, bool):
        raise checks.bad("go must be true or false")
    return {"block": checks.integer(fields, "block", 0, _MOST), "go": go}


class Answers:
    """A queue that `select` can watch. Putting never waits; close it when the request ends."""

    def __init__(self):
        self._lock = threading.Lock()
        self._queue = collections.deque(maxlen=_MOST)
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._open = True

    def fileno(self):
        """Readable while something waits."""
        return self._read

    def put(self, answer):
        """Queues one answer; after the end it is dropped."""
        with self._lock:
            if not self._open:
                return
            self._queue.append(answer)
            try:
                os.write(self._write, b"!")
            except BlockingIOError:
                pass  # the pipe is full of wake-up bytes already

    def take(self):
        """All that waits, in order; call it when readable."""
        with self._lock:
            os.read(self._read, 2 * _MOST)
            taken = list(self._queue)
            self._queue.clear()
            return taken

    def close(self):
        """Ends the queue."""
        with self._lock:
            if self._open:
                self._open = False
                os.close(self._read)
                os.close(self._write)
