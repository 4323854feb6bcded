"""Reads the times that trtexec wrote of each query (`--exportTimes`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hil.core.errors import MeasurementError, ProtocolError
from hil.device.session import TrtexecRun

# assumes: trtexec-times
_ONLY_8 = "endToEndMs"  # 10.x has dropped it, and leaves the warm-up out of the file


def read(answer: Mapping[str, Any], times: bytes) -> TrtexecRun:
    """Return the run of the agent's answer and the file that trtexec wrote.

    8.x counts time from before the warm-up and writes the warm-up's queries down as well: what
    starts within it is dropped. 10.x leaves those out by itself.

    Raises:
        MeasurementError: the file is not one of trtexec's.
        ProtocolError: the answer is not one of an agent.
    """
    try:
        argv = tuple(str(word) for word in answer["argv"])
        warmup_ms = float(answer["warmup_ms"])
        version = answer["version"]
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError("the answer about trtexec cannot be read", why=repr(error)) from error
    try:
        kept, dropped = _latencies_ms(json.loads(times), warmup_ms)
    except (KeyError, TypeError, ValueError) as error:
        raise MeasurementError(
            "the times that trtexec wrote cannot be read",
            why=repr(error),
            fix="see what this release of trtexec writes with --exportTimes",
        ) from error
    return TrtexecRun(kept, argv, dropped, None if version is None else str(version))


def _latencies_ms(
    queries: Sequence[Mapping[str, Any]], warmup_ms: float
) -> tuple[tuple[float, ...], int]:
    latencies = [float(query["latencyMs"]) for query in queries]
    in_warmup = [
        _ONLY_8 in query and float(query["startComputeMs"]) < warmup_ms for query in queries
    ]
    kept = [ms for ms, early in zip(latencies, in_warmup, strict=True) if not early]
    return tuple(kept), sum(in_warmup)
