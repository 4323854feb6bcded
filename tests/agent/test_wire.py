"""Framing holds however the bytes arrive; the peer's mistakes are values, not crashes."""

import json

from hypothesis import given
from hypothesis import strategies as st

from hil.agent import wire

LINES = st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"")), max_size=8)


@given(LINES, st.binary(max_size=10), st.lists(st.integers(1, 50), max_size=60))
def test_lines_are_the_same_however_the_stream_was_chunked(lines, rest, sizes):
    rest = rest.replace(b"\n", b"")
    stream = b"".join(line + b"\n" for line in lines) + rest
    buffer, got, at = wire.LineBuffer(), [], 0
    for size in [*sizes, len(stream)]:
        got += buffer.feed(stream[at : at + size])
        at += size

    assert got == lines  # and never `rest`: it has no newline


@given(st.integers(1, 30), st.integers(0, 60), st.integers(1, 7))
def test_a_line_over_the_limit_is_told_once_and_skipped_to_its_end(limit, length, chunk):
    stream = b"x" * length + b"\nok\n"
    buffer, got = wire.LineBuffer(limit), []
    for at in range(0, len(stream), chunk):
        got += buffer.feed(stream[at : at + chunk])

    first = b"x" * length if length <= limit else None
    assert got == [first, b"ok" if limit >= 2 else None]


@given(st.binary(max_size=60))
def test_any_line_is_a_message_or_a_bad_line(data):
    assert isinstance(wire.parse(data), (wire.Request, wire.Notification, wire.BadLine))


def test_a_request_keeps_its_id_even_where_it_is_refused():
    refused = wire.parse(b'{"id": 7, "method": 3}')

    assert isinstance(refused, wire.BadLine)
    assert refused.id == 7


def test_deeply_nested_json_is_refused():
    assert isinstance(wire.parse(b"[" * 200_000), wire.BadLine)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=4))
def test_an_encoded_message_is_one_ascii_line(message):
    line = wire.encode(message)

    assert line.count(b"\n") == 1
    assert json.loads(line.decode("ascii")) == message
