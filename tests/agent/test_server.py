"""The agent hears its host at any time, answers each request once, and ends when it is alone."""

import json
import os
import select
import threading
from contextlib import closing

import pytest

from hil.agent.outbox import Outbox
from hil.agent.server import Server


class FreeBoard:
    """A lease that somebody takes away when told."""

    def __init__(self):
        self.kept = True
        self.renewals = 0

    def renew(self):
        self.renewals += 1
        return self.kept


class Wire:
    """A server on two pipes, its main loop on a thread."""

    def __init__(self, call, **times):
        self.lease = FreeBoard()
        read_end, self.to_agent = os.pipe()
        from_agent, write_end = os.pipe()
        self.read_end = read_end
        self.write_end = write_end
        self.answers = os.fdopen(from_agent, "rb")
        self.outbox = Outbox(write_end)
        self.server = Server(read_end, self.outbox, call, self.lease, **times)
        self.thread = threading.Thread(target=self.server.serve, args=(lambda: None,))
        self.thread.start()

    def send(self, *messages):
        os.write(self.to_agent, b"".join(json.dumps(m).encode() + b"\n" for m in messages))

    def receive(self):
        return json.loads(self.answers.readline())

    def close(self):
        if self.to_agent is not None:
            os.close(self.to_agent)
            self.to_agent = None
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.server.finished.set()
        self.outbox.close(5)


@pytest.fixture
def connect():
    wires = []

    def make(call, **times):
        wires.append(Wire(call, **times))
        return wires[-1]

    yield make
    for one in wires:
        one.close()
        os.close(one.write_end)
        one.answers.close()


def until_ended(started):
    """A request that runs until somebody ends it."""

    def call(job):
        started.set()
        while True:
            job.check()
            threading.Event().wait(0.005)

    return call


def test_a_second_request_is_told_that_the_agent_is_busy_while_ping_is_answered(connect):
    started = threading.Event()
    wire = connect(until_ended(started))
    wire.send({"id": 1, "method": "long"})
    assert started.wait(5)

    wire.send({"id": 2, "method": "other"}, {"id": 3, "method": "ping"})

    assert wire.receive()["error"]["code"] == "busy"
    assert wire.receive() == {"id": 3, "result": {}}
    wire.send({"notify": "cancel", "id": 1})
    answer = wire.receive()
    assert (answer["id"], answer["error"]["code"]) == (1, "cancelled")


def test_a_cancel_for_another_request_changes_nothing(connect):
    started, proceed = threading.Event(), threading.Event()

    def call(job):
        started.set()
        proceed.wait(5)
        job.check()
        return {"done": True}

    wire = connect(call)
    wire.send({"id": 1, "method": "long"})
    assert started.wait(5)
    wire.send({"notify": "cancel", "id": 99}, {"id": 2, "method": "ping"})
    assert wire.receive()["id"] == 2
    proceed.set()

    assert wire.receive() == {"id": 1, "result": {"done": True}}


def test_answers_reach_the_request_that_runs_and_expects_them(connect):
    started, taken = threading.Event(), []

    def call(job):
        with closing(job.expect_answers()) as queue:
            started.set()
            while not taken:
                if select.select([queue], [], [], 5)[0]:
                    taken.extend(queue.take())
        return {}

    wire = connect(call)
    wire.send({"id": 1, "method": "long"})
    assert started.wait(5)
    about = {"notify": "answer", "block": 4, "go": True}
    wire.send({**about, "id": 2}, {**about, "id": 1})

    assert wire.receive() == {"id": 1, "result": {}}
    assert taken == [{"block": 4, "go": True}]


def test_losing_the_lease_ends_the_request(connect):
    started = threading.Event()
    wire = connect(until_ended(started))
    wire.send({"id": 1, "method": "long"})
    assert started.wait(5)

    wire.lease.kept = False
    wire.send({"notify": "heartbeat"})

    assert wire.receive()["error"]["code"] == "lease_lost"
    assert wire.lease.renewals == 2


def test_an_unforeseen_failure_is_an_answer_and_the_agent_lives_on(connect):
    def call(job):
        if job.method == "bad":
            raise KeyError("nobody thought of this")
        return {"fine": True}

    wire = connect(call)
    wire.send({"id": 1, "method": "bad"})
    assert wire.receive()["error"]["code"] == "internal"
    wire.send({"id": 2, "method": "good"})
    assert wire.receive() == {"id": 2, "result": {"fine": True}}


def test_events_precede_the_one_answer(connect):
    def call(job):
        for number in range(3):
            job.emit({"number": number})
        return {}

    wire = connect(call)
    wire.send({"id": "a", "method": "m"})

    got = [wire.receive() for _ in range(4)]
    assert [message.get("event", {}).get("number") for message in got] == [0, 1, 2, None]
    assert got[3] == {"id": "a", "result": {}}


def test_the_agent_sends_heartbeats_and_ends_when_the_host_falls_silent(connect):
    wire = connect(lambda job: {}, heartbeat_s=0.02, silent_s=0.2)

    assert wire.receive() == {"notify": "heartbeat"}
    wire.thread.join(5)  # no end of file: silence alone

    assert not wire.thread.is_alive()


def test_lines_from_the_host_keep_the_agent_alive(connect):
    wire = connect(lambda job: {}, heartbeat_s=0.05, silent_s=0.6)
    for _ in range(16):  # 0.8 s in steps of the agent's own heartbeat
        assert wire.receive() == {"notify": "heartbeat"}
        wire.send({"notify": "heartbeat"})

    assert wire.thread.is_alive()


def test_the_end_of_input_ends_a_running_request(connect):
    started = threading.Event()
    wire = connect(until_ended(started))
    wire.send({"id": 1, "method": "long"})
    assert started.wait(5)

    wire.close()

    assert wire.receive()["error"]["code"] == "cancelled"
