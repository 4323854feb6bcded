"""Collects what an agent tells during a run into evidence, exactly as told.

Rule of this file: no figure is computed and nothing is dropped; what does not fit the protocol
raises ProtocolError.
"""

from __future__ import annotations

import base64
import binascii
import sys
from array import array
from collections.abc import Mapping
from typing import Any

from hil.core.errors import ProtocolError
from hil.core.evidence import Evidence, Mark, RunPlan


class RunCollector:
    """Takes the events of one `engine_run`; then `evidence` gives the record."""

    def __init__(self) -> None:
        self._power: list[tuple[int, str]] = []
        self._marks: list[Mark] = []
        self._latency: dict[int, list[int]] = {}
        self._states: list[Mapping[str, Any]] = []
        self._takers = {
            "power": self._take_power,
            "mark": self._take_mark,
            "latency": self._take_latency,
            "state": self._take_state,
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

    def evidence(
        self,
        *,
        board: Mapping[str, Any],
        engine: Mapping[str, Any],
        plan: RunPlan,
        power: str,
        provenance: str,
        result: Mapping[str, Any],
    ) -> Evidence:
        """Return the record of the run; `result` is the agent's answer to it."""
        return Evidence(
            board=board,
            engine=engine,
            plan=plan,
            power_source=power,
            power_lines=tuple(self._power),
            marks=tuple(self._marks),
            latency_ns=tuple(tuple(self._latency[block]) for block in sorted(self._latency)),
            states=tuple(self._states),
            provenance=provenance,
            copies=str(result.get("copies", "excluded")),
            power_argv=tuple(str(word) for word in result.get("power_argv") or ()),
        )

    def _take_power(self, event: Mapping[str, Any]) -> None:
        self._power.extend((int(t_ns), str(text)) for t_ns, text in event["lines"])

    def _take_mark(self, event: Mapping[str, Any]) -> None:
        inferences = event.get("inferences")
        self._marks.append(
            Mark(
                name=str(event["name"]),
                index=int(event["index"]),
                start_ns=int(event["start_ns"]),
                stop_ns=int(event["stop_ns"]),
                inferences=None if inferences is None else int(inferences),
            )
        )

    def _take_latency(self, event: Mapping[str, Any]) -> None:
        series = self._latency.setdefault(int(event["block"]), [])
        series.extend(nanoseconds(event["ns_b64"]))

    def _take_state(self, event: Mapping[str, Any]) -> None:
        self._states.append({key: value for key, value in event.items() if key != "kind"})


def nanoseconds(text: str) -> array[int]:
    """Decode base64 of little-endian unsigned 64-bit integers.

    Raises:
        ValueError: not base64, or not whole integers.
    """
    values = array("Q")
    values.frombytes(base64.b64decode(text, validate=True))
    if sys.byteorder == "big":
        values.byteswap()
    return values
