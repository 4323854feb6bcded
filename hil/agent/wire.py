"""The wire without the wire: bytes in, messages out; messages in, bytes out.

Rule of this file: no I/O, no clock, no thread. A message is one JSON object on one line of at
most 8 MiB. The peer's mistakes become `BadLine` values, never exceptions that end the agent.

Protocol history: 1 (first); 2 (any number of power sources, latencies as stamps, runs that go on
for as long as the host answers so).
"""

import json

MAX_LINE_BYTES = 8 * 1024 * 1024
PROTOCOL = 2


class Request:
    """One call: answered by exactly one result or error with the same `id`."""

    def __init__(self, id, method, params):
        self.id = id
        self.method = method
        self.params = params


class Notification:
    """A message that nobody answers; `fields` is the whole of it.

    `heartbeat`; `cancel` with the `id` of a request; `answer` with an `id`, `block` and `go`:
    whether that run shall go on, after the evidence through that block.
    """

    def __init__(self, name, id, fields):
        self.name = name
        self.id = id
        self.fields = fields


class BadLine:
    """A line that is no message: why, and the `id` it seems to carry (None where unknown)."""

    def __init__(self, id, message):
        self.id = id
        self.message = message


class LineBuffer:
    """Cuts a byte stream into lines, however it was chunked.

    A line over the limit yields one None and is skipped to its end. What follows the last
    newline is held back: a cut line is never mistaken for a shorter whole one.
    """

    def __init__(self, limit_bytes=MAX_LINE_BYTES):
        self._limit = limit_bytes
        self._held = bytearray()
        self._skipping = False

    def feed(self, data):
        """Adds bytes; returns the lines completed by them, without newline (None: too long)."""
        lines = []
        start = 0
        while True:
            end = data.find(b"\n", start)
            if end < 0:
                self._hold(data[start:], lines)
                return lines
            self._hold(data[start:end], lines)
            if not self._skipping:
                lines.append(bytes(self._held))
            self._held = bytearray()
            self._skipping = False
            start = end + 1

    def _hold(self, piece, lines):
        if self._skipping:
            return
        self._held += piece
        if len(self._held) > self._limit:
            self._held = bytearray()
            self._skipping = True
            lines.append(None)


def encode(message):
    """One message as one line of ASCII JSON."""
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def parse(line):
    """Reads one line: a `Request`, a `Notification` or a `BadLine`."""
    if line is None:
        return BadLine(None, "a line may hold at most %d bytes" % MAX_LINE_BYTES)
    try:
        data = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return BadLine(None, "the line is not JSON")
    if not isinstance(data, dict):
        return BadLine(None, "the line is not a JSON object")
    if "notify" in data:
        return Notification(data["notify"], data.get("id"), data)
    return _request(data)


def _request(data):
    identity = data.get("id")
    if not isinstance(identity, (int, str)) or isinstance(identity, bool):
        return BadLine(None, "a request needs an id (integer or string)")
    method = data.get("method")
    if not isinstance(method, str):
        return BadLine(identity, "a request needs a method (string)")
    params = data.get("params", {})
    if not isinstance(params, dict):
        return BadLine(identity, "params must be an object")
    return Request(identity, method, params)
