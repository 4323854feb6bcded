"""The agent's protocol without any I/O: bytes in, messages out (JSON lines, protocol 2).

Rule of this file: no clock, no thread, no file; chunk boundaries never matter. A request ends in
exactly one result or error; anything an agent may not say raises ProtocolError. While a request
runs, the host may send notifications about it: `cancel`, and `answer` to what its events ask.

Until the first well-formed message, lines that are no JSON are kept as `noise` and skipped: a
login shell's greeting comes before the agent can speak. One without a newline is cut off.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hil.core.errors import ProtocolError

PROTOCOL = 2
MAX_LINE_BYTES = 8 * 1024 * 1024
NOISE_LINES = 20


@dataclass(frozen=True)
class Result:
    """A request succeeded."""

    id: int
    value: Mapping[str, Any]


@dataclass(frozen=True)
class Failure:
    """A request failed, in the agent's words."""

    id: int
    code: str
    message: str
    why: str | None = None
    fix: str | None = None


@dataclass(frozen=True)
class Event:
    """Something seen while a request runs."""

    id: int
    value: Mapping[str, Any]


@dataclass(frozen=True)
class Heartbeat:
    """The agent is alive."""


Message = Result | Failure | Event | Heartbeat


class LineDecoder:
    """Cuts bytes into lines, whatever the chunks."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield each complete line without its newline.

        Raises:
            ProtocolError: a line longer than the protocol allows.
        """
        searched = len(self._rest)
        self._rest += data
        while (end := self._rest.find(b"\n", searched)) >= 0:
            line = bytes(self._rest[:end])
            del self._rest[: end + 1]
            searched = 0
            _refuse_long(len(line))
            yield line
        _refuse_long(len(self._rest))


class Conversation:
    """One host talking to one agent: numbers requests, pairs answers.

    A request given up on stays known until its answer comes, and that answer is swallowed.

    Attributes:
        spoken: whether the agent has sent a message yet.
        noise: lines before that message.
    """

    def __init__(self) -> None:
        self._decoder = LineDecoder()
        self._last_id = 0
        self._open: set[int] = set()
        self._given_up: set[int] = set()
        self.spoken = False
        self.noise: list[str] = []

    @property
    def unanswered(self) -> bool:
        """Whether a request given up on still runs on the board."""
        return bool(self._given_up)

    def request(self, method: str, params: Mapping[str, Any]) -> tuple[int, bytes]:
        """Return the number and the line of a new request."""
        self._last_id += 1
        self._open.add(self._last_id)
        return self._last_id, line({"id": self._last_id, "method": method, "params": dict(params)})

    def give_up(self, request_id: int) -> bytes:
        """Return the line that cancels a request; its messages are swallowed from now on."""
        if request_id in self._open:
            self._open.discard(request_id)
            self._given_up.add(request_id)
        return line({"notify": "cancel", "id": request_id})

    def answer(self, request_id: int, fields: Mapping[str, Any]) -> bytes:
        """Return the line that answers an event of an open request; it is not answered back."""
        return line({**fields, "notify": "answer", "id": request_id})

    def receive(self, data: bytes) -> Iterator[Message]:
        """Yield the messages completed by these bytes.

        Raises:
            ProtocolError: the agent broke the protocol.
        """
        for raw in self._decoder.feed(data):
            fields = self._fields(raw)
            if fields is not None:
                yield from self._message(fields)

    def _fields(self, raw: bytes) -> Mapping[str, Any] | None:
        if not raw.strip():
            return None
        fields = _object(raw)
        if fields is None and not self.spoken:
            fields = _glued(raw)
        if fields is not None:
            self.spoken = True
            return fields
        text = raw[:200].decode("utf-8", errors="replace")
        if self.spoken:
            raise ProtocolError(f"the agent sent a line that is no message: {text!r}")
        if len(self.noise) < NOISE_LINES:
            self.noise.append(text)
        return None

    def _message(self, fields: Mapping[str, Any]) -> Iterator[Message]:
        if "id" not in fields:
            if fields.get("notify") == "heartbeat":
                yield Heartbeat()
            return  # notifications of a later release are not for us
        number = fields["id"]
        if number in self._given_up:
            if "event" not in fields:
                self._given_up.discard(number)
            return
        if number not in self._open:
            raise ProtocolError(f"the agent answered request {number!r}, which is not open")
        yield self._answer(number, fields)

    def _answer(self, number: int, fields: Mapping[str, Any]) -> Message:
        for name in ("event", "result", "error"):
            if name in fields:
                value = fields[name]
                if not isinstance(value, dict):
                    raise ProtocolError(f"{name} of request {number} is no object: {value!r}")
                return self._of_kind(name, number, value)
        raise ProtocolError(f"a message about request {number} has no event, result or error")

    def _of_kind(self, name: str, number: int, value: Mapping[str, Any]) -> Message:
        if name == "event":
            return Event(number, value)
        self._open.discard(number)
        if name == "result":
            return Result(number, value)
        return Failure(
            number,
            code=str(value.get("code", "internal")),
            message=str(value.get("message", "no message")),
            why=value.get("why"),
            fix=value.get("fix"),
        )


def _glued(raw: bytes) -> Mapping[str, Any] | None:
    """Return the message that a greeting without a newline came right before."""
    at = raw.find(b"{")
    while at >= 0:
        fields = _object(raw[at:])
        if fields is not None and ("id" in fields or "notify" in fields):
            return fields
        at = raw.find(b"{", at + 1)
    return None


def _object(raw: bytes) -> Mapping[str, Any] | None:
    try:
        fields = json.loads(raw)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


def line(fields: Mapping[str, Any]) -> bytes:
    """Return one message as a line of bytes.

    Raises:
        ProtocolError: the line would be longer than the protocol allows.
    """
    encoded = json.dumps(fields, separators=(",", ":")).encode("utf-8")
    _refuse_long(len(encoded))
    return encoded + b"\n"


def _refuse_long(length: int) -> None:
    if length > MAX_LINE_BYTES:
        raise ProtocolError(f"a line of {length} bytes; the protocol allows {MAX_LINE_BYTES}")


HEARTBEAT = line({"notify": "heartbeat"})
