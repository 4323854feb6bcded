"""Judges how a session on a hostile board ended. Pure: what ran and what was left come in as data.

An ending is good where the user knows as much as can be known: a valid figure that is right, a
figure called suspect or invalid with reasons, or a refusal that names the cause and the next step.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hil.core.errors import ExitCode

FACTOR = 2.0
"""How many of its own 95 % half-widths (sensor's error included) a valid figure may be off by."""
LATENCY_TOLERANCE = 0.05
"""A valid median latency may be off by so much: jitter, and the loop's own time."""
GOOD = ("valid", "suspect", "invalid", "refused")
BAD = ("crash", "hang", "wrong", "unexplained", "changed")
REFUSALS = (
    ExitCode.USAGE,
    ExitCode.BOARD,
    ExitCode.LEASE_TIMEOUT,
    ExitCode.MEASUREMENT,
    ExitCode.EXPORT,
)
"""Codes by which the board, its state or its software is refused; 7 and 8 would blame others."""
TAIL = 600


@dataclass(frozen=True)
class Ending:
    """How one verb ended.

    Attributes:
        verb: such as profile.
        status: its exit code; None where it was ended for taking too long.
        out, err: what it said.
        wall_s: how long it took.
    """

    verb: str
    status: int | None
    out: str
    err: str
    wall_s: float


@dataclass(frozen=True)
class Verdict:
    """What became of a board.

    Attributes:
        kind: one of `GOOD` and `BAD`.
        verb: which verb decides it.
        detail: the evidence, short.
    """

    kind: str
    verb: str
    detail: str

    @property
    def good(self) -> bool:
        """Whether the user knows as much as can be known."""
        return self.kind in GOOD


def judge(
    endings: Sequence[Ending],
    says: Sequence[str],
    truth: Mapping[str, float] | None,
    left: Sequence[str],
) -> Verdict:
    """Judges a whole session: the first verb that failed the user, else how `profile` ended.

    Args:
        endings: of all verbs, in order; `profile` is the last.
        says: words of the board's variants, of which a refusal must have one.
        truth: what one inference truly costs (`energy_mj`, `latency_ms`), None where none ran.
        left: what was found changed on the board afterwards.
    """
    verdicts = [_one(ending, says, truth) for ending in endings]
    for verdict in verdicts:
        if not verdict.good:
            return verdict
    if left:
        return Verdict("changed", endings[-1].verb, "; ".join(left))
    return verdicts[-1]


def _one(ending: Ending, says: Sequence[str], truth: Mapping[str, float] | None) -> Verdict:
    if ending.status is None:
        return Verdict("hang", ending.verb, f"still running after {ending.wall_s:.0f} s")
    text = ending.out + "\n" + ending.err
    if "Traceback (most recent call last)" in text or ending.status not in (
        ExitCode.GOOD,
        ExitCode.PARITY,
        ExitCode.HOST,
        *REFUSALS,
    ):
        return Verdict("crash", ending.verb, f"exit {ending.status}: {text[-TAIL:].strip()}")
    result = _result(ending.out) if ending.verb == "profile" else None
    if result is not None:
        if _joules_refused(ending, result):
            return _refusal(ending, says)
        return _figure(ending, result, truth)
    if ending.status == ExitCode.GOOD:
        return Verdict("valid", ending.verb, "nothing to complain about")
    return _refusal(ending, says)


def _result(out: str) -> dict[str, Any] | None:
    try:
        found = json.loads(out)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "validity" in found else None


def _joules_refused(ending: Ending, result: Mapping[str, Any]) -> bool:
    """Whether this is a latency alone, and the exit code says that energy was refused."""
    return ending.status == ExitCode.MEASUREMENT and result.get("energy_mj") is None


def _figure(
    ending: Ending, result: Mapping[str, Any], truth: Mapping[str, float] | None
) -> Verdict:
    validity, reasons = str(result["validity"]), list(result.get("reasons") or ())
    if result.get("provenance") != "emulated":
        return Verdict("wrong", ending.verb, f"labelled {result.get('provenance')}")
    if validity != "valid":
        if not reasons:
            return Verdict("unexplained", ending.verb, f"{validity} without a reason")
        return Verdict(validity, ending.verb, "; ".join(map(_words, reasons)))
    off = _off(result, truth)
    if off:
        return Verdict("wrong", ending.verb, off)
    if ending.status != ExitCode.GOOD and "next:" not in ending.err:
        return Verdict("unexplained", ending.verb, f"valid, and yet exit {ending.status}")
    return Verdict("valid", ending.verb, "")


def _words(reason: object) -> str:
    if isinstance(reason, Mapping):
        return str(reason.get("message") or reason.get("what") or dict(reason))
    return str(reason)


def _off(result: Mapping[str, Any], truth: Mapping[str, float] | None) -> str:
    """How far a valid result is from the truth; "" where it is right."""
    if truth is None:
        return "a figure, and yet no engine has run"
    energy_mj, interval = result.get("energy_mj"), result.get("energy_mj_u95_total")
    if energy_mj is None or interval is None:
        return "valid without an energy or its interval"
    half_mj = (interval[1] - interval[0]) / 2
    off_mj = energy_mj - truth["energy_mj"]
    if abs(off_mj) > FACTOR * half_mj:
        return (
            f"{energy_mj:.4g} mJ called valid, truly {truth['energy_mj']:.4g}: "
            f"{off_mj / truth['energy_mj']:+.1%}, stated +-{half_mj / energy_mj:.1%}"
        )
    latency_ms = result["latency_p50_ms"]
    off = latency_ms / truth["latency_ms"] - 1
    if abs(off) > LATENCY_TOLERANCE:
        return f"{latency_ms:.4g} ms called valid, truly {truth['latency_ms']:.4g}: {off:+.1%}"
    return ""


def _refusal(ending: Ending, says: Sequence[str]) -> Verdict:
    text = _complaint(ending)
    short = " ".join(text.split())[-TAIL:]
    if ending.status not in REFUSALS:
        return Verdict("unexplained", ending.verb, f"exit {ending.status} blames others: {short}")
    if not any(re.search(word, text, re.IGNORECASE) for word in says):
        return Verdict("unexplained", ending.verb, f"does not name the cause: {short}")
    if "next:" not in text and "->" not in text:
        return Verdict("unexplained", ending.verb, f"does not say what to do: {short}")
    return Verdict("refused", ending.verb, short)


def _complaint(ending: Ending) -> str:
    """What was said about what is wrong: a doctor's lines that are not ok, and the error."""
    if ending.verb == "profile":
        reasons = (_result(ending.out) or {}).get("reasons") or ()
        return "\n".join([*map(_words, reasons), ending.err])
    lines = [line for line in ending.out.splitlines() if not line.startswith("ok ")]
    return "\n".join([*lines, ending.err])
