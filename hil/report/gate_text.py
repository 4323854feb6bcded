"""How a gate's outcome is written for people: one line a check, a table in Markdown, annotations.

Rule of this file: pure, data in (the JSON of `hil gate`), text out. Names of networks come from
whoever opened the pull request, so nothing of them may become markup or a command of the runner.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hil.report.figures import number

Result = Mapping[str, Any]
DIGITS = 4
MARKS = {"passed": "✅", "violated": "❌", "inconclusive": "❔", "error": "⚠️"}
TITLES = {
    "energy_mj": "energy",
    "energy_net_mj": "energy, net of idle",
    "power_w": "power",
    "latency_p50_ms": "latency p50",
    "latency_p99_ms": "latency p99",
    "accuracy": "accuracy",
}
PER = {"mJ": "mJ/inference", "%": "points"}
_MARKUP = {ord(c): f"&#{ord(c)};" for c in "<>&|`*_[]()#!~\\@"}


def label(result: Result) -> str:
    """Return where figures come from, in capitals, unless they are measured; else nothing."""
    kind = str(result["provenance"])
    return "" if kind == "measured" else kind.upper()


def device_of(result: Result) -> str:
    """Return the device with its label."""
    kind = label(result)
    return f"{result['device']} ({kind})" if kind else str(result["device"])


def figure(check: Mapping[str, Any]) -> str:
    """Return the candidate's figure with its interval and unit; a dash where it is unknown."""
    if check["value"] is None:
        return "-"
    low, high = (number(end, DIGITS) for end in check["value_ci95"])
    return f"{number(check['value'], DIGITS)} {check['unit']} [{low}, {high}]"


def change(check: Mapping[str, Any]) -> str:
    """Return the change in engineering units: "+0.31 mJ/inference, +4.2 % [+3.1, +5.4]"."""
    if check["change"] is None:
        if check["ratio"] is None:
            return "-"
        low, high = (100 * end for end in check["ratio_ci95"])
        return f"{100 * check['ratio']:.1f} % of the limit [{low:.1f}, {high:.1f}]"
    unit = PER.get(check["unit"], check["unit"])
    moved = f"{_signed(check['change'])} {unit}"
    if check["ratio"] is None:
        low, high = check["change_ci95"]
        return f"{moved} [{_signed(low)}, {_signed(high)}]"
    low, high = (100 * (end - 1) for end in check["ratio_ci95"])
    return f"{moved}, {100 * (check['ratio'] - 1):+.1f} % [{low:+.1f}, {high:+.1f}]"


def line(check: Mapping[str, Any]) -> str:
    """Return one check in one line."""
    said = f"{check['model']}: {TITLES[check['metric']]} {check['status']}"
    parts = [f"{said}, asked {check['asked']}"]
    if check["value"] is not None:
        parts.append(f"{figure(check)}; {change(check)}")
    if check["status"] in ("inconclusive", "error"):
        parts.append(check["reason"])
    if check["note"]:
        parts.append(check["note"])
    if check["next_step"]:
        parts.append(f"next: {check['next_step']}")
    return "; ".join(parts)


def headline(result: Result) -> str:
    """Return the whole gate in a few words."""
    checks = result["checks"]
    if not checks:
        return "nothing was asked; the baseline was measured"
    counts = [
        f"{count} {'with an error' if status == 'error' else status}"
        for status in MARKS
        if (count := sum(check["status"] == status for check in checks))
    ]
    return f"{len(checks)} check{'s' if len(checks) > 1 else ''}: {', '.join(counts)}"


def markdown(result: Result) -> str:
    """Return the gate as Markdown, for a job's summary or a comment on a pull request."""
    kind = label(result)
    lines = [f"### hil gate on {plain(device_of(result))}: {headline(result)}", ""]
    if kind == "EMULATED":
        lines += ["> **EMULATED**: figures come from a model of the board, not from a board.", ""]
    elif kind:
        lines += [f"> **{kind}**: these figures were recorded before.", ""]
    if result["checks"]:
        lines += ["| | network | metric | asked | figure [95 %] | change [95 %] |"]
        lines += ["|---|---|---|---|---|---|"]
    for check in result["checks"]:
        cells = (
            f"{MARKS[check['status']]} {check['status']}",
            plain(check["model"]),
            plain(TITLES[check["metric"]]),
            plain(check["asked"]),
            plain(figure(check)),
            plain(change(check)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    told = [check for check in result["checks"] if check["status"] != "passed" or check["note"]]
    lines += ["", *(f"- {plain(line(check))}" for check in told), ""] if told else [""]
    lines += [f"<sub>{plain(text)}</sub>  " for text in footnotes(result)]
    return "\n".join(lines).rstrip() + "\n"


def footnotes(result: Result) -> list[str]:
    """Return how the figures were come by."""
    rail = result.get("rail")
    read = f"energy as read on {rail}; " if rail else ""
    notes = [
        f"{read}intervals 95 %; a failure is shown on fresh engine builds, and the chance of any "
        f"false alarm in this gate is at most {100 * result['false_alarm']:.3g} %"
    ]
    for model in result["models"]:
        if model["validity"] != "valid":
            why = "; ".join(model["reasons"]) or "no round is usable"
            notes.append(f"{model['name']}: {model['validity']}, {why}")
        if model["rounds_dropped"]:
            notes.append(f"{model['name']}: {model['rounds_dropped']} rounds left out as invalid")
        notes += [f"{model['name']}: {each['reason']}" for each in model["fallbacks"]]
    return [*notes, *result["notes"]]


def workflow_commands(result: Result) -> list[str]:
    """Return a workflow command for each check that did not pass (GitHub Actions)."""
    kinds = {"violated": "error", "error": "error", "inconclusive": "warning"}
    kind = label(result)
    commands = []
    for check in result["checks"]:
        if check["status"] in kinds:
            title = f"hil gate {check['status']}{f' ({kind})' if kind else ''}"
            commands.append(
                f"::{kinds[check['status']]} title={_property(title)}::{_data(line(check))}"
            )
    if kind and result["checks"]:
        text = f"the figures of this gate are {kind}"
        commands.append(f"::notice title={_property('hil gate')}::{_data(text)}")
    return commands


def plain(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return " ".join(str(text).split()).translate(_MARKUP)


def _signed(value: float) -> str:
    return f"{'-' if value < 0 else '+'}{number(abs(value), 3)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
