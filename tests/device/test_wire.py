"""The agent's protocol, without any I/O: the same messages for any chunking, every breach named."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.core.errors import ProtocolError
from hil.device.wire import (
    MAX_LINE_BYTES,
    Conversation,
    Event,
    Failure,
    Heartbeat,
    LineDecoder,
    Result,
    line,
)

ANSWERS = (
    b'{"notify":"heartbeat"}\n'
    b'{"id":1,"event":{"kind":"mark"}}\n'
    b'{"notify":"of a later release"}\n'
    b'{"id":1,"result":{"model":"\xc3\xa9"}}\n'
    b'{"id":2,"error":{"code":"no_power","message":"m","why":null,"fix":"f"}}\n'
)
MESSAGES = [
    Heartbeat(),
    Event(1, {"kind": "mark"}),
    Result(1, {"model": "é"}),
    Failure(2, "no_power", "m", None, "f"),
]


def asked(*methods: str) -> Conversation:
    conversation = Conversation()
    for method in methods:
        conversation.request(method, {})
    return conversation


@given(cuts=st.lists(st.integers(0, len(ANSWERS)), max_size=12))
def test_any_chunking_gives_the_same_messages(cuts):
    edges = [0, *sorted(cuts), len(ANSWERS)]
    conversation = asked("probe", "engine_run")

    got = [
        message
        for start, stop in pairwise(edges)
        for message in conversation.receive(ANSWERS[start:stop])
    ]

    assert got == MESSAGES


def test_requests_are_numbered_lines_of_json():
    conversation = Conversation()

    first = conversation.request("ping", {})
    second = conversation.request("blob_stat", {"sha256": "ab"})

    assert first == (1, b'{"id":1,"method":"ping","params":{}}\n')
    assert json.loads(second[1]) == {"id": 2, "method": "blob_stat", "params": {"sha256": "ab"}}


def test_a_login_shell_s_greeting_before_the_first_message_is_skipped():
    conversation = asked("hello")

    got = list(conversation.receive(b'Welcome!\n42\n\n{"id":1,"result":{}}\n'))

    assert got == [Result(1, {})]
    assert conversation.noise == ["Welcome!", "42"]


@pytest.mark.parametrize(
    "breach",
    [
        b"stray print\n",
        b"[1]\n",
        b'{"id":9,"result":{}}\n',
        b'{"id":1,"result":[]}\n',
        b'{"id":1}\n',
        b'{"id":1,"result":{}}\n{"id":1,"result":{}}\n',
        b"\xff\n",
    ],
)
def test_a_breach_of_protocol_is_named(breach):
    conversation = asked("hello")
    assert list(conversation.receive(b'{"notify":"heartbeat"}\n')) == [Heartbeat()]

    with pytest.raises(ProtocolError):
        list(conversation.receive(breach))


def test_a_request_given_up_is_cancelled_and_its_answer_swallowed():
    conversation = asked("engine_run")

    assert json.loads(conversation.give_up(1)) == {"notify": "cancel", "id": 1}
    assert conversation.unanswered
    assert list(conversation.receive(b'{"id":1,"event":{}}\n')) == []
    assert conversation.unanswered
    assert list(conversation.receive(b'{"id":1,"error":{"code":"cancelled"}}\n')) == []
    assert not conversation.unanswered


def test_a_line_longer_than_the_protocol_allows_is_refused_before_it_fills_memory():
    decoder = LineDecoder()
    half = b"x" * (MAX_LINE_BYTES // 2 + 1)
    assert list(decoder.feed(half)) == []

    with pytest.raises(ProtocolError):
        list(decoder.feed(half))


def test_we_send_no_line_longer_than_the_protocol_allows():
    with pytest.raises(ProtocolError):
        line({"x": "y" * MAX_LINE_BYTES})


def test_a_greeting_without_a_newline_is_cut_off():
    talk = Conversation()
    number, _ = talk.request("hello", {})
    answer = line({"id": number, "result": {"protocol": 2}})

    (message,) = talk.receive(b"loading {modules}... " + answer)

    assert message == Result(number, {"protocol": 2})


def test_braces_of_a_greeting_are_no_message():
    talk = Conversation()
    talk.request("hello", {})

    assert list(talk.receive(b'{"motd": 1} {\nuse {"a": {}}\n')) == []
    assert talk.noise == ['{"motd": 1} {', 'use {"a": {}}']
    assert not talk.spoken
