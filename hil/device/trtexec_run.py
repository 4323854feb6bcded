"""Engines of a board that has trtexec and no TensorRT for Python: what they can and cannot do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hil.core.errors import DeviceError, MeasurementError
from hil.core.evidence import RunPlan
from hil.core.fallbacks import trtexec_engine
from hil.device.collecting import RunCollector
from hil.device.session import BoardInfo, EngineInfo, EngineSpec
from hil.device.trtexec_layout import MARK, lay_out, read_queries

RUNTIME = "trtexec"
MORE_S = 600.0  # loading the engine, and writing down every query
LONG_BLOCKS = 16
"""Windows of a run that would stop itself: trtexec's time is fixed before it starts."""


def needed(board: BoardInfo) -> bool:
    """Whether TensorRT's engines can only be had through trtexec on a board."""
    return board.tensorrt is None and board.raw.get("trtexec") is not None


def by_trtexec(spec: EngineSpec) -> EngineSpec:
    """Return what trtexec is to build."""
    return replace(spec, runtime=RUNTIME)


def fixed(plan: RunPlan) -> RunPlan:
    """Return a plan as trtexec can keep it.

    Raises:
        MeasurementError: it cannot.
    """
    if plan.rate_hz is not None:
        raise MeasurementError(
            "inferences at a fixed rate need TensorRT for Python",
            why="trtexec runs them back to back",
            fix=trtexec_engine({}).next_step,
        )
    if plan.max_blocks is None:
        return plan
    return replace(
        plan, blocks=max(plan.blocks, min(plan.max_blocks, LONG_BLOCKS)), max_blocks=None
    )


def refuse(info: EngineInfo, what: str) -> None:
    """Refuse what trtexec cannot do.

    Raises:
        DeviceError: the engine is trtexec's.
    """
    if info.spec.runtime == RUNTIME:
        fallback = trtexec_engine({})
        raise DeviceError(
            f"an engine that trtexec runs has no {what}",
            why=fallback.reason,
            fix=fallback.next_step,
        )


def lay(
    collector: RunCollector,
    plan: RunPlan,
    result: Mapping[str, Any],
    get_blob: Callable[[str], bytes],
) -> None:
    """Put windows and latencies into what a run of trtexec left.

    Raises:
        MeasurementError: its times cannot be read or do not fit.
    """
    done = result["trtexec"]
    whole = next(mark for mark in collector.marks if mark.name == MARK)
    queries = read_queries(get_blob(str(done["times"])))
    found = lay_out(plan, whole, collector.said, queries, float(done["warmup_ms"]))
    at = collector.marks.index(whole)
    collector.marks[at + 1 : at + 1] = found.marks
    collector.latency.update({n: list(block) for n, block in enumerate(found.latency_ns)})
    collector.told = {
        "trtexec": {
            "argv": list(done["argv"]),
            "warmup_ms": done["warmup_ms"],
            "zero_ns": list(found.zero_ns),
            "said": [list(line) for line in collector.said],
        }
    }
