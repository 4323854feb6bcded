"""How a gate is shown on a terminal, and which error it ends with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hil.cli.terminal import out
from hil.core.errors import (
    DeviceError,
    ExitCode,
    ExportError,
    HilError,
    HostError,
    LeaseTimeoutError,
    LimitViolatedError,
    MeasurementError,
    ParityError,
)
from hil.report.gate_text import (
    TITLES,
    change,
    figure,
    footnotes,
    headline,
    label,
    line,
)

COLOURS = {
    "passed": "bold green",
    "violated": "bold red",
    "inconclusive": "bold yellow",
    "error": "bold magenta",
}
_ERRORS: Mapping[int, type[HilError]] = {
    ExitCode.LIMIT_VIOLATED: LimitViolatedError,
    ExitCode.BOARD: DeviceError,
    ExitCode.LEASE_TIMEOUT: LeaseTimeoutError,
    ExitCode.MEASUREMENT: MeasurementError,
    ExitCode.EXPORT: ExportError,
    ExitCode.PARITY: ParityError,
    ExitCode.HOST: HostError,
}


def show(result: Mapping[str, Any]) -> None:
    """Print a gate."""
    kind = label(result) or "MEASURED"
    style = "bold white on magenta" if kind == "EMULATED" else "bold black on cyan"
    heading = Text.assemble((f" {kind} ", style), f"  gate on {result['device']}: ")
    out.print(heading.append(headline(result), style="bold"), soft_wrap=True)
    if result["checks"]:
        out.print(_table(result))
    for check in result["checks"]:
        if check["status"] != "passed" or check["note"]:
            out.print(escape(line(check)), soft_wrap=True, highlight=False)
    for text in footnotes(result):
        out.print(escape(text), style="dim", soft_wrap=True, highlight=False)


def _table(result: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("network", "metric", "asked", "figure [95 %]", "change [95 %]", "outcome"):
        table.add_column(title)
    for check in result["checks"]:
        table.add_row(
            *(escape(str(check["model"])), TITLES[check["metric"]], escape(check["asked"])),
            *(escape(figure(check)), escape(change(check))),
            f"[{COLOURS[check['status']]}]{check['status']}[/]",
        )
    return table


def conclude(result: Mapping[str, Any]) -> None:
    """Turn a gate into its exit code; returns where it is passed.

    Raises:
        HilError: of the kind that the exit code names.
    """
    code = result["exit_code"]
    if code == ExitCode.GOOD:
        return
    fault = result.get("fault")
    checks = [check for check in result["checks"] if check["exit_code"] == code]
    why = "; ".join(f"{c['model']} {c['metric']}: {c['reason']}" for c in checks[:4])
    steps = [check["next_step"] for check in checks if check["next_step"]]
    kind = _ERRORS.get(code, DeviceError)
    if fault is not None and not result["checks"]:
        raise kind(fault["what"], why=fault["why"], fix=fault["fix"])
    raise kind(headline(result), why=why or None, fix=steps[0] if steps else None)
