"""The agent client: answers, errors by code, cancelling, and dead links noticed soon."""

from __future__ import annotations

import json
import sys
import threading
import time
from queue import SimpleQueue

import pytest

from hil.core.errors import (
    ConfigError,
    DeviceError,
    ExportError,
    LeaseTimeoutError,
    ProtocolError,
)
from hil.device.client import AgentClient, Patience
from hil.device.faults import BLAME, EngineDiedError, NoPowerError, UnpinnedError
from hil.device.transport import ChildTransport

# An agent of a few lines: the answer to a request is in its parameters.
SMALL_AGENT = """\
import json, sys
for text in sys.stdin:
    ask = json.loads(text)
    if "method" in ask:
        for event in ask["params"].get("events", []):
            print(json.dumps({"id": ask["id"], "event": event}), flush=True)
        end = {key: ask["params"][key] for key in ("result", "error") if key in ask["params"]}
        if end:
            print(json.dumps(dict(end, id=ask["id"])), flush=True)
    elif ask["notify"] == "cancel":
        print(json.dumps({"id": ask["id"], "error": {"code": "cancelled"}}), flush=True)
"""


class ScriptedTransport:
    """Hands out what a test puts into it, and keeps what is sent."""

    def __init__(self) -> None:
        self.incoming: SimpleQueue[bytes] = SimpleQueue()
        self.sent: SimpleQueue[dict] = SimpleQueue()

    def send(self, line: bytes) -> None:
        self.sent.put(json.loads(line))

    def receive(self) -> bytes:
        return self.incoming.get()

    def exit_status(self) -> int | None:
        return None

    def log(self) -> str:
        return "last words"

    def close(self) -> None:
        self.incoming.put(b"")


@pytest.fixture
def scripted():
    transport = ScriptedTransport()
    client = AgentClient(transport, where="bench")
    yield transport, client
    client.close()


@pytest.fixture
def agent(tmp_path):
    argv = (sys.executable, "-u", "-c", SMALL_AGENT)
    client = AgentClient(ChildTransport(argv, cwd=tmp_path, env={}), where="bench")
    yield client
    client.close()


def test_events_come_in_order_before_the_result(agent):
    seen = []
    events = [{"n": n} for n in range(1000)]

    result = agent.request("m", {"events": events, "result": {"x": 1}}, on_event=seen.append)

    assert result == {"x": 1}
    assert seen == events


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("lease_held", LeaseTimeoutError),
        ("unsupported_opset", ExportError),
        ("unsupported_operator", ExportError),
        ("parse_failed", ExportError),
        ("build_failed", ExportError),
        ("no_power", NoPowerError),
        ("disk_full", DeviceError),
        ("out_of_memory", EngineDiedError),
        ("worker_died", EngineDiedError),
        ("checksum", DeviceError),
        ("not_permitted", UnpinnedError),
        ("board_state", UnpinnedError),
        ("unknown_shape", ConfigError),
        ("internal", ProtocolError),
        ("never heard of", ProtocolError),
    ],
)
def test_an_agent_s_error_says_who_must_act_and_how(code, kind, agent):
    with pytest.raises(kind) as caught:
        agent.request("m", {"error": {"code": code, "message": "it broke", "why": "rust"}})

    assert type(caught.value) is kind
    assert (caught.value.what, caught.value.why) == ("it broke", "rust")
    assert caught.value.fix


def test_the_agent_s_own_advice_comes_first(agent):
    with pytest.raises(DeviceError) as caught:
        agent.request("m", {"error": {"code": "disk_full", "message": "full", "fix": "delete a"}})

    assert caught.value.fix == "delete a"


def test_every_code_of_the_protocol_has_somebody_to_act():
    codes = """
        protocol bad_request busy cancelled lease_held lease_lost checksum disk_full not_permitted
        unwritable board_state
        no_runtime no_power unsupported_opset unsupported_operator parse_failed
        build_failed unknown_shape out_of_memory worker_died timeout internal
    """
    assert set(BLAME) == set(codes.split())


def test_a_request_that_takes_too_long_is_cancelled_and_the_next_one_works(agent):
    with pytest.raises(DeviceError, match="did not answer 'slow' in time"):
        agent.request("slow", {}, timeout_s=0.05)

    assert agent.request("m", {"result": {"y": 2}}) == {"y": 2}


def test_leaving_a_request_by_an_exception_cancels_it(agent):
    def interrupt(_event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        agent.request("m", {"events": [{}, {}]}, on_event=interrupt)

    assert agent.request("m", {"result": {}}) == {}


def test_what_an_event_is_answered_with_reaches_the_running_request(scripted):
    transport, client = scripted
    for message in ({"event": {"n": 1}}, {"event": {"n": 2}}, {"result": {}}):
        transport.incoming.put(json.dumps({"id": 1, **message}).encode() + b"\n")

    def answer(event):
        return {"block": 7, "go": False} if event["n"] == 2 else None

    assert client.request("run", {}, on_event=answer) == {}

    asked, answered = transport.sent.get(timeout=5), transport.sent.get(timeout=5)
    assert asked["method"] == "run"
    assert answered == {"notify": "answer", "id": 1, "block": 7, "go": False}
    assert transport.sent.empty()


def test_an_agent_killed_in_the_middle_of_a_request_is_noticed_at_once(tmp_path):
    script = """import os
print('{"notify":"heartbeat"}', flush=True)
input()
os.kill(os.getpid(), 9)"""
    argv = (sys.executable, "-c", script)
    client = AgentClient(ChildTransport(argv, cwd=tmp_path, env={}), where="bench")
    start_s = time.monotonic()

    with pytest.raises(DeviceError, match=r"link to bench was lost.*exit status -9"):
        client.request("engine_run", {})

    assert time.monotonic() - start_s < 5
    assert not client.alive
    with pytest.raises(DeviceError):
        client.request("ping")
    client.close()


def test_an_agent_that_does_not_start_shows_what_it_said(tmp_path):
    argv = (sys.executable, "-c", "raise SystemExit('no module named x')")
    client = AgentClient(ChildTransport(argv, cwd=tmp_path, env={}), where="bench")

    with pytest.raises(DeviceError, match="does not start on bench") as caught:
        client.hello("me")

    assert "no module named x" in str(caught.value)
    client.close()


def test_a_missing_interpreter_is_a_device_error(tmp_path):
    with pytest.raises(DeviceError, match=r"agent\.python"):
        ChildTransport(("/no/such/python3",), cwd=tmp_path, env={})


def test_a_silent_agent_is_a_dead_link_though_the_channel_stands():
    transport = ScriptedTransport()
    now_s = [0.0]
    client = AgentClient(transport, where="bench", clock=lambda: now_s[0])
    threading.Timer(0.1, lambda: now_s.__setitem__(0, 21.0)).start()

    with pytest.raises(DeviceError, match="the link to bench is dead"):
        client.request("engine_run", {}, timeout_s=3600)
    began = time.monotonic()
    with pytest.raises(DeviceError):
        client.request("board_restore")

    assert time.monotonic() - began < 10.0  # nobody waits for what was asked before
    client.close()


def test_heartbeats_are_sent_while_nothing_is_asked():
    transport = ScriptedTransport()
    client = AgentClient(transport, where="bench", patience=Patience(heartbeat_s=0.01))

    assert [transport.sent.get(timeout=5) for _ in range(3)] == [{"notify": "heartbeat"}] * 3
    client.close()


def test_a_breach_of_protocol_is_our_fault_not_the_board_s(scripted):
    transport, client = scripted
    transport.incoming.put(b'{"id":7,"result":{}}\n')

    with pytest.raises(ProtocolError):
        client.request("ping")


def test_an_agent_of_another_protocol_is_refused(scripted):
    transport, client = scripted
    error = b'{"id":1,"error":{"code":"protocol","message":"no protocol in common"}}\n'
    threading.Timer(0.02, lambda: transport.incoming.put(error)).start()

    with pytest.raises(ProtocolError, match="update both"):
        client.hello("me")
