"""The agent's life: one thread listens to the host, the main thread does what it asks.

The main thread is the worker bee on purpose: it alone sleeps in board time and forks children
(Linux kills a child when the *thread* that forked it ends). The listening thread knows only
liveness time: it renews the lease, sends heartbeats, cancels, queues what the host answers to a
running request, and ends the agent when the host is gone. It never waits for the main thread.
"""

import os
import select
import signal
import sys
import threading

from . import answers, wire
from .clock import boottime_s
from .errors import AgentError, from_exception

HEARTBEAT_S = 5.0
HOST_SILENT_S = 30.0
_LAST_WILL_S = 60.0
_CHUNK = 1 << 16


class Job:
    """One request while it is carried out."""

    def __init__(self, request, outbox):
        self.id = request.id
        self.method = request.method
        self.params = request.params
        self._outbox = outbox
        self._end = None
        self._answers = None

    def emit(self, event):
        """Sends one event of this request."""
        self._outbox.put({"id": self.id, "event": event})

    def end(self, error):
        """Asks the request to end with that error; the first to ask is heard."""
        if self._end is None:
            self._end = error

    def check(self):
        """Ends the request if somebody asked for it."""
        if self._end is not None:
            raise self._end

    def expect_answers(self):
        """Lets the host answer this request's events; returns the queue of what it says."""
        self._answers = answers.Answers()
        return self._answers

    def answer(self, fields):
        """Takes an answer of the host; where the request expects none it is dropped."""
        queue = self._answers
        if queue is None:
            return
        try:
            queue.put(answers.read(fields))
        except AgentError as error:
            self.end(error)


class Server:
    """Listens on `handle`, answers through `outbox`, carries requests out with `call`.

    Args:
        handle: file descriptor of the host's lines.
        outbox: where messages to the host go.
        call: carries out a `Job` and returns its result.
        lease: renewed by every line from the host.
        heartbeat_s: how often the host hears that the agent lives.
        silent_s: after that long without a line the host is taken for dead.
    """

    def __init__(
        self, handle, outbox, call, lease, heartbeat_s=HEARTBEAT_S, silent_s=HOST_SILENT_S
    ):
        self._handle = handle
        self._outbox = outbox
        self._call = call
        self._lease = lease
        self._heartbeat_s = heartbeat_s
        self._silent_s = silent_s
        self._changed = threading.Condition()
        self._job = None
        self._taken = False
        self._closing = False
        self._wake_read, self._wake_write = os.pipe()
        self.finished = threading.Event()

    def serve(self, last_will):
        """Carries requests out until the host is gone; call it on the main thread.

        Args:
            last_will: called on the listening thread where the main thread does not come to an
                end in time after the host is gone.
        """
        listener = threading.Thread(target=self._listen, args=(last_will,), name="listener")
        listener.daemon = True
        listener.start()
        while True:
            job = self._next()
            if job is None:
                return
            answer = self._answer(job)
            with self._changed:
                self._job = None
            self._outbox.put(answer)

    def handle_signals(self):
        """SIGTERM and SIGHUP end the agent in order; a Ctrl-C meant for the host does not.

        A Python handler runs only once the main thread runs Python code again, which it does not
        while it waits for a request; so the C handler's own wake-up byte tells the listener.
        """
        os.set_blocking(self._wake_write, False)
        signal.set_wakeup_fd(self._wake_write)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # not SIG_IGN, which children would inherit

    def _next(self):
        with self._changed:
            while not self._closing and (self._job is None or self._taken):
                self._changed.wait()
            if self._closing:
                return None
            self._taken = True
            return self._job

    def _answer(self, job):
        try:
            return {"id": job.id, "result": self._call(job)}
        except Exception as error:  # noqa: BLE001 - the boundary: every failure is named and sent
            return {"id": job.id, "error": from_exception(error).as_dict()}

    def _listen(self, last_will):
        try:
            self._listen_until_gone()
        finally:
            with self._changed:
                self._closing = True
                if self._job is not None:
                    self._job.end(AgentError("cancelled", "the host is gone"))
                self._changed.notify_all()
            if not self.finished.wait(_LAST_WILL_S):
                last_will()

    # assumes: agent-dies-with-link
    def _listen_until_gone(self):
        lines = wire.LineBuffer()
        heard_s = boottime_s()
        beat_s = heard_s + self._heartbeat_s
        while not self._outbox.broken:
            now_s = boottime_s()
            if now_s - heard_s >= self._silent_s:
                sys.stderr.write("hil agent: no line from the host for %g s\n" % self._silent_s)
                return
            if now_s >= beat_s:
                self._outbox.put({"notify": "heartbeat"})
                beat_s = now_s + self._heartbeat_s
            wait_s = max(0.0, min(beat_s, heard_s + self._silent_s) - now_s)
            ready, _, _ = select.select([self._handle, self._wake_read], [], [], wait_s)
            if self._wake_read in ready and self._told_to_end():
                return
            if self._handle in ready:
                data = os.read(self._handle, _CHUNK)
                if not data:
                    return
                if self._feed(lines.feed(data)):
                    heard_s = boottime_s()

    def _told_to_end(self):
        numbers = os.read(self._wake_read, 64)
        return signal.SIGTERM in numbers or signal.SIGHUP in numbers

    def _feed(self, lines):
        for line in lines:
            self._renew()
            self._on_message(wire.parse(line))
        return bool(lines)

    def _on_message(self, message):
        if isinstance(message, wire.BadLine):
            self._refuse(message.id, AgentError("bad_request", message.message))
        elif isinstance(message, wire.Notification):
            if message.name == "cancel":
                self._cancel(message.id, AgentError("cancelled", "the host cancelled the request"))
            elif message.name == "answer":
                self._hand_over(message)
        elif message.method == "ping":
            self._outbox.put({"id": message.id, "result": {}})
        else:
            self._take(message)

    def _take(self, request):
        with self._changed:
            busy = self._job
            if busy is None:
                self._job = Job(request, self._outbox)
                self._taken = False
                self._changed.notify_all()
                return
        self._refuse(request.id, AgentError("busy", "the agent is busy with %s" % busy.method))

    def _refuse(self, identity, error):
        self._outbox.put({"id": identity, "error": error.as_dict()})

    def _cancel(self, identity, error):
        with self._changed:
            if self._job is not None and self._job.id == identity:
                self._job.end(error)

    def _hand_over(self, answer):
        with self._changed:
            if self._job is not None and self._job.id == answer.id:
                self._job.answer(answer.fields)

    def _renew(self):
        try:
            kept = self._lease.renew()
        except (OSError, AgentError) as error:
            sys.stderr.write("hil agent: could not renew the lease: %s\n" % error)
            return
        if kept:
            return
        with self._changed:
            if self._job is not None:
                self._job.end(AgentError("lease_lost", "somebody took the board over"))
