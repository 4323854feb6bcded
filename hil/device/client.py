"""Talks to one agent: requests in, answers or errors out, and a dead link noticed soon.

The protocol itself is `wire.Conversation`; this adds the threads (one reads, one sends heartbeats)
and the deadlines. One request runs at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from hil.core.errors import DeviceError, HilError, ProtocolError
from hil.device.faults import to_error
from hil.device.transport import Transport
from hil.device.wire import HEARTBEAT, PROTOCOL, Conversation, Event, Failure, Heartbeat, Result


class NoPythonError(DeviceError):
    """The login's PATH has no such interpreter."""


COMMAND_NOT_FOUND = 127  # POSIX shells
OnEvent = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]


@dataclass(frozen=True)
class Patience:
    """Liveness in wall time: the agent beats every 5 s and gives up on us after 30 s.

    Attributes:
        silence_s: longest silence of the agent before the link counts as lost.
        cancel_s: longest wait for a request given up on to end, before the next one.
    """

    heartbeat_s: float = 5.0
    silence_s: float = 20.0
    cancel_s: float = 30.0


@dataclass(frozen=True)
class _Lost:
    """The link ended; `broken` is the agent's breach of protocol where there was one."""

    broken: ProtocolError | None = None


class AgentClient:
    """One agent over one transport.

    Args:
        where: the board as people know it, for errors.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        where: str,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._where = where
        self._patience = patience or Patience()
        self._clock = clock
        self._conversation = Conversation()
        self._changed = threading.Condition()
        self._turn = threading.Lock()
        self._inbox: SimpleQueue[Result | Failure | Event | _Lost] = SimpleQueue()
        self._lost: _Lost | None = None
        self._heard_s = clock()
        self._stop = threading.Event()
        self._threads = (
            threading.Thread(target=self._read, name="agent-reader", daemon=True),
            threading.Thread(target=self._beat, name="agent-heartbeat", daemon=True),
        )
        for thread in self._threads:
            thread.start()

    def hello(self, host: str, timeout_s: float = 30.0) -> Mapping[str, Any]:
        """Agree on the protocol; must come first.

        Raises:
            DeviceError: the agent does not start, e.g. python3 is missing.
            ProtocolError: no protocol in common.
        """
        params = {"protocols": [PROTOCOL], "host": host}
        return self.request("hello", params, timeout_s=timeout_s)

    def request(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        on_event: OnEvent | None = None,
        timeout_s: float = 60.0,
    ) -> Mapping[str, Any]:
        """Ask, hand events to `on_event` as they come, and return the result.

        What `on_event` returns, unless None, is sent to the running request as an answer.
        Leaving early by any exception (Ctrl-C too) cancels the request on the board.

        Raises:
            DeviceError: the link is lost, or no answer in time.
            HilError: what the agent answered, by its code.
        """
        with self._turn:
            self._settle()
            with self._changed:
                number, line = self._conversation.request(method, params or {})
            finished = False
            try:
                self._send(line)
                deadline_s = self._clock() + timeout_s
                answer = self._answer(number, method, on_event or _ignore, deadline_s)
                finished = True
            finally:
                if not finished:
                    self._cancel(number)
        if isinstance(answer, Failure):
            raise to_error(answer)
        return answer.value

    @property
    def alive(self) -> bool:
        """Whether the link still stands, as far as is known."""
        return self._lost is None

    def close(self) -> None:
        """Let the agent end (it puts the board's state back) and stop the threads."""
        self._stop.set()
        self._transport.close()
        for thread in self._threads:
            thread.join(5.0)

    def _answer(
        self, number: int, method: str, on_event: OnEvent, deadline_s: float
    ) -> Result | Failure:
        while True:
            message = self._next(method, deadline_s)
            if not isinstance(message, Event):
                return message
            reply = on_event(message.value)
            if reply is not None:
                self._send(self._conversation.answer(number, reply))

    def _next(self, method: str, deadline_s: float) -> Result | Failure | Event:
        while True:
            if self._lost is not None and self._inbox.empty():
                raise self._lost_error(self._lost)
            try:
                message = self._inbox.get(timeout=max(0.0, min(1.0, deadline_s - self._clock())))
            except Empty:
                self._check_patience(method, deadline_s)
                continue
            if not isinstance(message, _Lost):
                return message

    def _check_patience(self, method: str, deadline_s: float) -> None:
        silent_s = self._clock() - self._heard_s
        if silent_s > self._patience.silence_s:
            with self._changed:  # nobody waits for this link again, giving back included
                self._lost = self._lost or _Lost()
                self._changed.notify_all()
            raise DeviceError(
                f"the link to {self._where} is dead",
                why=f"nothing was heard of its agent for {silent_s:.0f} s",
                fix="check the board's power and network, then run again",
            )
        if self._clock() >= deadline_s:
            raise DeviceError(
                f"{self._where} did not answer {method!r} in time",
                why="its agent is alive, but the request still runs",
                fix="run `hil doctor`; another program may be loading the board",
            )

    def _lost_error(self, lost: _Lost) -> HilError:
        if lost.broken is not None:
            return ProtocolError(lost.broken.what, why=lost.broken.why, fix=lost.broken.fix)
        status = self._transport.exit_status()
        log = self._transport.log().strip()
        if status == COMMAND_NOT_FOUND and not self._conversation.spoken:
            return NoPythonError(
                f"{self._where} has no Python for the agent",
                why=_tail([log]),
                fix="install python3 (3.6 or later) there, or set agent.python in the device file",
            )
        seen = [*self._conversation.noise, log, "" if status is None else f"exit status {status}"]
        if not self._conversation.spoken:
            return DeviceError(
                f"the agent does not start on {self._where}",
                why=_tail(seen),
                fix="try the login by hand (`ssh`), then run `hil doctor`",
            )
        return DeviceError(
            f"the link to {self._where} was lost",
            why=_tail(seen),
            fix="check the board's power and network, then run again",
        )

    def _settle(self) -> None:
        """Wait until a request given up on earlier has ended on the board."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._lost is not None or not self._conversation.unanswered,
                timeout=self._patience.cancel_s,
            )
        while not self._inbox.empty():
            self._inbox.get()

    def _cancel(self, number: int) -> None:
        with self._changed:
            line = self._conversation.give_up(number)
        with suppress(OSError):
            self._transport.send(line)

    def _send(self, line: bytes) -> None:
        try:
            self._transport.send(line)
        except OSError as error:
            with self._changed:  # the reader tells better why, if it notices within a moment
                self._changed.wait_for(lambda: self._lost is not None, timeout=1.0)
            raise self._lost_error(self._lost or _Lost()) from error

    def _read(self) -> None:
        lost = _Lost()
        try:
            while data := self._transport.receive():
                self._heard_s = self._clock()
                with self._changed:  # what a cancelled request said is never seen by the next
                    for message in self._conversation.receive(data):
                        if not isinstance(message, Heartbeat):
                            self._inbox.put(message)
                    self._changed.notify_all()
        except ProtocolError as error:
            lost = _Lost(error)
        except OSError:
            pass  # the same as an ended link
        with self._changed:
            self._lost = lost
            self._changed.notify_all()
        self._inbox.put(lost)

    def _beat(self) -> None:
        while not self._stop.wait(self._patience.heartbeat_s):
            try:
                self._transport.send(HEARTBEAT)
            except OSError:
                return  # the reader notices too, and reports it


def _ignore(_event: Mapping[str, Any]) -> None:
    pass


def _tail(texts: list[str], limit: int = 400) -> str | None:
    joined = " | ".join(line for text in texts for line in text.splitlines() if line.strip())
    return joined[-limit:] or None
