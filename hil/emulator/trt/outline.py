"""A network as the board's server needs it: all of the file but the values of large weights.

The server answers every program of the board, and one file of half a gigabyte would keep it from
that for a minute. What refuses, shapes and times networks looks at no large weight's values; what
computes with them has the file itself. Field numbers are those of onnx.proto3.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

from hil.emulator.client import BoardClient

KEPT_BYTES = 1 << 17
"""Weights up to this size keep their values: beyond all that shapes are computed from."""
GRAPH, INITIALIZER = 7, 5
DATA_TYPE = 2
VALUES = frozenset((4, 5, 9, 10))
"""Of a tensor: float_data, int32_data (where halves are), raw_data, double_data."""
FLOATS = frozenset((1, 10, 11, 16))
"""FLOAT, FLOAT16, DOUBLE, BFLOAT16: other weights may be zero points, which must be zero."""
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
Field = tuple[int, int | memoryview, memoryview]


def parsed(client: BoardClient, data: bytes) -> dict[str, Any]:
    """Has the board's server read a network; its answer names the file by its whole hash."""
    text = base64.b64encode(outline(data)).decode()
    return client.call("parse", data=text, sha256=hashlib.sha256(data).hexdigest())


def outline(data: bytes) -> bytes:
    """Leaves the values of large float weights out; what is no sound model stays as it is."""
    try:
        return b"".join(_model(memoryview(data)))
    except ValueError:
        return data


def _model(model: memoryview) -> Iterator[bytes | memoryview]:
    for number, value, whole in _fields(model):
        if number == GRAPH and isinstance(value, memoryview):
            yield from _wrapped(GRAPH, b"".join(_graph(value)))
        else:
            yield whole


def _graph(graph: memoryview) -> Iterator[bytes | memoryview]:
    for number, value, whole in _fields(graph):
        large = number == INITIALIZER and isinstance(value, memoryview) and len(value) > KEPT_BYTES
        light = _without_values(value) if large and isinstance(value, memoryview) else None
        if light is None:
            yield whole
        else:
            yield from _wrapped(INITIALIZER, light)


def _without_values(tensor: memoryview) -> bytes | None:
    fields = list(_fields(tensor))
    if not any(number == DATA_TYPE and value in FLOATS for number, value, _ in fields):
        return None
    return b"".join(whole for number, _, whole in fields if number not in VALUES)


def _wrapped(number: int, content: bytes) -> Iterator[bytes]:
    size, length = len(content), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    yield bytes([number << 3 | _LENGTH, *length, size])
    yield content


def _fields(message: memoryview) -> Iterator[Field]:
    """Gives each field: its number, its value where that is of any use here, all its bytes.

    Raises:
        ValueError: the message is cut short or none.
    """
    at = 0
    while at < len(message):
        start = at
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value, message[start:at]
            continue
        if kind == _LENGTH:
            size, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"unknown kind of field {kind}")
        if at + size > len(message):
            raise ValueError("cut short")
        yield tag >> 3, message[at : at + size], message[start : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for position in range(10):
        if at + position >= len(message):
            raise ValueError("cut short")
        byte = message[at + position]
        value |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return value, at + position + 1
    raise ValueError("number too long")
