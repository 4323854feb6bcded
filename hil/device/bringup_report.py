"""What a first contact comes to, as one JSON object; pure, and the same from a tape of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hil.device.assumptions import ASSUMPTIONS
from hil.device.bringup import Result, verdict_rows
from hil.device.bringup_file import proposals
from hil.device.config import DeviceConfig
from hil.device.redaction import Secrets, redact

SCHEMA = "hil/bringup@1"


def report(
    results: Sequence[Result],
    device: DeviceConfig,
    provenance: str,
    header: Mapping[str, Any],
    secrets: Secrets,
) -> dict[str, Any]:
    """Return the report, with nothing in it that tells whose board it is.

    Args:
        results: of all stages, in order.
        device: the device file, read.
        provenance: measured or emulated.
        header: when and how; the one part that differs when a contact is replayed.
        secrets: names to take out.
    """
    stages = [_stage(result) for result in results]
    known = [row["board_s"] for row in stages if row["board_s"] is not None]
    rows = verdict_rows(results, ASSUMPTIONS)
    told = {
        "schema": SCHEMA,
        "header": dict(header),
        "device": device.name,
        "board": device.board,
        "provenance": provenance,
        "board_s": round(sum(known), 3),
        "stages": stages,
        "counts": dict(Counter(row["status"] for row in stages)),
        "assumptions": rows,
        "verdicts": dict(Counter(row["verdict"] for row in rows)),
        "proposed": proposals(results),
    }
    clean: dict[str, Any] = redact(told, secrets)
    return clean


def _stage(result: Result) -> dict[str, Any]:
    outcome = result.outcome
    return {
        "stage": result.stage,
        "status": outcome.status,
        "summary": outcome.summary,
        "next_step": outcome.next_step,
        "board_s": None if result.board_s is None else round(result.board_s, 3),
        "facts": dict(outcome.facts),
    }
