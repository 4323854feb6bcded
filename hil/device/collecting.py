"""Collects what an agent tells during a run into evidence, exactly as told.

Rule of this file: no figure is computed and nothing is dropped; what does not fit the protocol
raises ProtocolError. Stamps arrive as doubles in seconds and become integer nanoseconds here,
because that arithmetic would cost the board milliseconds of idle between two windows.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.core.errors import ProtocolError
from hil.core.evidence import Mark, PowerRecord

Lines = list[tuple[int, str]]


class RunCollector:
    """Takes the events of one run.

    Attributes:
        marks: phases, in the order they ended.
        states: clocks and temperatures, in order.
        sources: for each of the board's power sources, by its number, what it said of itself.
        lines: for each of them the stamped lines.
        said: stamped lines of a trtexec that is the load.
        told: what else belongs to how the load came up.
        latency: for each block, by its number, the latency of each inference in ns.
    """

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        self.states: list[Mapping[str, Any]] = []
        self.sources: dict[int, Mapping[str, Any]] = {}
        self.lines: dict[int, Lines] = {}
        self.latency: dict[int, list[int]] = {}
        self.said: Lines = []
        self.told: dict[str, Any] = {}
        self._load_ns: int | None = None
        self._before: dict[str, list[int]] = {"warmup": [], "settle": []}
        self._takers = {
            "start": self._take_start,
            "source": self._take_source,
            "power": self._take_power,
            "mark": self._take_mark,
            "latency": self._take_latency,
            "state": self._take_state,
            "said": self._take_said,
        }

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event; kinds of a later release are ignored.

        Raises:
            ProtocolError: an event without the fields of its kind.
        """
        taker = self._takers.get(str(event.get("kind")))
        if taker is None:
            return
        try:
            taker(event)
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise ProtocolError(
                f"an event of a run cannot be read: {event.get('kind')}", why=repr(error)
            ) from error

    @property
    def start(self) -> dict[str, Any]:
        """How the load came up, as evidence keeps it."""
        warmup, settle = self._before["warmup"], self._before["settle"]
        # A clock that did not move while the engine was loaded tells nothing about it.
        start: dict[str, Any] = {"load_ns": self._load_ns} if self._load_ns else {}
        start |= self.told
        if warmup or settle:
            start["first_ns"] = (warmup or settle)[0]
        if warmup:
            start["warmup_ns"] = warmup[1:]
        if settle:
            start["settle_ns"] = settle if warmup else settle[1:]
        return start

    def block(self, index: int) -> Mark | None:
        """Return the mark of a block that has ended, else None."""
        found = (mark for mark in self.marks if mark.name == "block" and mark.index == index)
        return next(found, None)

    def _take_start(self, event: Mapping[str, Any]) -> None:
        self._load_ns = int(event["load_ns"])

    def _take_source(self, event: Mapping[str, Any]) -> None:
        about = {"argv": list(event["argv"]), "settings": dict(event["settings"])}
        self.sources[int(event["source"])] = about

    def _take_power(self, event: Mapping[str, Any]) -> None:
        lines = self.lines.setdefault(int(event["source"]), [])
        lines.extend((int(t_ns), str(text)) for t_ns, text in event["lines"])

    def _take_mark(self, event: Mapping[str, Any]) -> None:
        self.marks.append(
            Mark(
                name=str(event["name"]),
                index=int(event["index"]),
                start_ns=int(event["start_ns"]),
                stop_ns=int(event["stop_ns"]),
                inferences=_count(event.get("inferences")),
                missed=_count(event.get("missed")),
            )
        )

    def _take_latency(self, event: Mapping[str, Any]) -> None:
        phase, index = str(event["phase"]), int(event["index"])
        blocks, before = self.latency, self._before
        series = blocks.setdefault(index, []) if phase == "block" else before[phase]
        series.extend(latencies_ns(event["starts_b64"], event["stops_b64"]))

    def _take_said(self, event: Mapping[str, Any]) -> None:
        self.said.extend((int(t_ns), str(text)) for t_ns, text in event["lines"])

    def _take_state(self, event: Mapping[str, Any]) -> None:
        self.states.append({key: value for key, value in event.items() if key != "kind"})


def board_records(
    told: Sequence[Mapping[str, Any]], lines: Mapping[int, Lines]
) -> tuple[PowerRecord, ...]:
    """Return the records of the board's power sources.

    Args:
        told: what the agent's answer says of each source (`power`).
        lines: the stamped lines of each, by its place in that list.

    Raises:
        ProtocolError: the answer does not have that form.
    """
    try:
        return tuple(
            PowerRecord(
                source=str(one["source"]),
                lines=tuple(lines.get(index, ())),
                argv=tuple(str(word) for word in one["argv"]),
                settings={**one["settings"], "where": "board", "exit": one["exit"]},
            )
            for index, one in enumerate(told)
        )
    except (KeyError, TypeError) as error:
        raise ProtocolError(
            "what the agent says of its power sources cannot be read", why=repr(error)
        ) from error


def latencies_ns(starts_b64: str, stops_b64: str) -> list[int]:
    """Return the time from each start to its stop, both rounded to whole nanoseconds first.

    Args:
        starts_b64: base64 of little-endian doubles, seconds of board time.
        stops_b64: as many of them.

    Raises:
        ValueError: not base64, not whole doubles, no finite times, or not as many of both.
    """
    starts, stops = _nanoseconds(starts_b64), _nanoseconds(stops_b64)
    if starts.shape != stops.shape:
        raise ValueError(f"{starts.size} starts and {stops.size} stops")
    taken: list[int] = (stops - starts).tolist()
    return taken


def _nanoseconds(text: str) -> NDArray[np.int64]:
    seconds = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f8")
    if not np.isfinite(seconds).all():
        raise ValueError("a stamp that is no number")
    return np.rint(seconds * 1e9).astype(np.int64)


def _count(value: Any) -> int | None:
    return None if value is None else int(value)
