"""`hil gate`: do these networks keep their budgets, and did they get worse?"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.cli.gate_answers import Labelled, read_labelled
from hil.cli.gate_ask import Question, asked_of, entries_of
from hil.cli.gate_rounds import MOST_BUILD, Builder
from hil.cli.gate_view import conclude, show
from hil.cli.gate_work import Entry, Gating, fault_json
from hil.cli.gate_write import Outputs
from hil.cli.keeping import Keeper, keeper
from hil.cli.measuring import Desk, board_json, desk, refuse_without_power
from hil.cli.network import check_precision
from hil.cli.options import (
    BatchOption,
    DeviceOption,
    HostOption,
    JsonOption,
    KeepOption,
    LatencyOnlyOption,
    MaxTimeOption,
    PrecisionOption,
    ShapeOption,
    WaitOption,
    load_device,
    seconds,
)
from hil.cli.rounds import Rule
from hil.cli.terminal import print_json, say
from hil.core.errors import ConfigError, HilError, HostError, InterruptedRunError

if TYPE_CHECKING:
    from hil.device.config import DeviceConfig
    from hil.measure.gate_baseline import Recorded
    from hil.measure.gate_outcome import Finding

SCHEMA = "hil/gate-result@1"
OutOption = Annotated[Path | None, typer.Option(metavar="FILE")]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("gate", help="Fail where a network breaks a budget or got worse than before.")(gate)


def gate(
    models: Annotated[list[Path], typer.Argument(help="Networks to gate, ONNX files.")],
    device: DeviceOption,
    baseline: Annotated[
        Path | None, typer.Option(help="Compare with this file, written by --write-baseline.")
    ] = None,
    baseline_model: Annotated[
        list[Path] | None,
        typer.Option(help="Compare with this network by turns; one, or one for each. Repeatable."),
    ] = None,
    budget_file: Annotated[
        Path | None, typer.Option(help="Budgets and margins (schema hil/gate@1).")
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(help="energy_mj=5, or energy_mj=85% of the baseline's. Repeatable."),
    ] = None,
    energy_mj: Annotated[str | None, typer.Option(help="Short for --budget energy_mj=...")] = None,
    latency_p99_ms: Annotated[
        str | None, typer.Option(help="Short for --budget latency_p99_ms=...")
    ] = None,
    margin: Annotated[
        list[str] | None,
        typer.Option(help="energy_mj=3%: how much worse than the baseline. Repeatable."),
    ] = None,
    labelled: Annotated[
        Path | None, typer.Option(help="An .npz of `inputs` and `labels`, for accuracy.")
    ] = None,
    accuracy: Annotated[float | None, typer.Option(min=0, max=100, help="At least, in %.")] = None,
    points_lost: Annotated[
        float | None, typer.Option(min=0, max=100, help="At most, against the baseline.")
    ] = None,
    write_baseline: Annotated[
        Path | None, typer.Option(help="Write what was measured, to compare with later.")
    ] = None,
    builds: Annotated[
        int, typer.Option(min=1, help="Engine builds that screening goes through.")
    ] = 1,
    max_time: MaxTimeOption = "20m",
    inconclusive: Annotated[
        str, typer.Option(help="fail (exit 5) or pass (exit 0, said as a warning).")
    ] = "fail",
    junit: OutOption = None,
    markdown: OutOption = None,
    summary: OutOption = None,
    bencher: OutOption = None,
    benchmark_json: OutOption = None,
    annotations: Annotated[
        bool | None,
        typer.Option("--annotations/--no-annotations", help="Of GitHub (default: where it runs)."),
    ] = None,
    precision: PrecisionOption = None,
    shape: ShapeOption = None,
    batch: BatchOption = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of orders and build numbers (default: drawn).")
    ] = None,
    latency_only: LatencyOnlyOption = False,
    keep: KeepOption = True,
    host: HostOption = None,
    wait: WaitOption = "0s",
    as_json: JsonOption = False,
) -> None:
    """Hold networks against budgets and against a baseline, on one board, in one lease.

    A file of --summary and annotations default to GitHub's where a workflow runs this.
    """
    check_precision(precision)
    if inconclusive not in ("fail", "pass"):
        raise ConfigError(f"--inconclusive {inconclusive!r} is none", fix="choose fail or pass")
    outputs = Outputs.of(
        os.environ, junit, markdown, summary, bencher, benchmark_json, write_baseline, annotations
    )
    outputs.check()
    words = list(budget or ())
    words += [f"energy_mj={energy_mj}"] if energy_mj is not None else []
    words += [f"latency_p99_ms={latency_p99_ms}"] if latency_p99_ms is not None else []
    question = Question(
        models=tuple(models), baseline=baseline, baseline_models=tuple(baseline_model or ()),
        budget_file=budget_file, budgets=tuple(words), margins=tuple(margin or ()),
        at_least=accuracy, lose_at_most=points_lost, labelled=labelled is not None,
        latency_only=latency_only, writes=write_baseline is not None,
    )  # fmt: skip
    asked = asked_of(question)
    config = load_device(device, host)
    Rule(None, seconds(max_time)).check(builds)
    refuse_without_power(config, latency_only=latency_only)
    entries = entries_of(question, asked, config, tuple(shape or ()), batch)
    pictures = None if labelled is None else read_labelled(labelled)
    run = GateRun(
        device, config, entries, pictures, precision, builds, seconds(max_time), seconds(wait),
        seed if seed is not None else random.SystemRandom().randrange(MOST_BUILD), latency_only,
        write_baseline is not None,
    )  # fmt: skip
    created = datetime.now(UTC)
    kept = keeper("gate", models[0].stem, created, keep=keep)
    try:
        result = run.go(kept, created.isoformat(timespec="seconds"), inconclusive == "pass")
    except InterruptedRunError as error:
        raise _interrupted(kept) from error
    finally:
        kept.clear()
    result["folder"] = None if kept.folder is None or not kept.folder.exists() else str(kept.folder)
    print_json(result) if as_json else show(result)
    outputs.write(result, run.records)
    if result["folder"] is not None:
        kept.result(result)
        say(f"kept, with the raw evidence of every run: {result['folder']}")
    conclude(result)


@dataclass
class GateRun:
    """A gate that is about to run.

    Attributes:
        records: what a baseline file would hold, once it has run.
    """

    device: str
    config: DeviceConfig
    entries: Sequence[Entry]
    labelled: Labelled | None
    precision: str | None
    builds: int
    max_time_s: float
    wait_s: float
    seed: int
    latency_only: bool
    writes: bool

    def __post_init__(self) -> None:
        self.records: Mapping[str, Recorded] = {}

    def go(self, kept: Keeper, created: str, doubt_passes: bool) -> dict[str, Any]:
        """Measure everything and return the result; a board that cannot be had is one, too.

        Raises:
            ConfigError: unlike would be compared with like.
            HostError: the disk is full.
        """
        from hil.measure.gate_demands import checks_of
        from hil.measure.gate_outcome import failed

        sitting = desk(
            self.config, self.device, "gate", wait_s=self.wait_s, latency_only=self.latency_only
        )
        checks = [checks_of(e.network.name, e.wanted) for e in self.entries]
        family = max(1, sum(map(len, checks)))
        findings: list[Finding] = []
        told: dict[str, Any] = {"device": self.config.name, "provenance": _expected(self.config)}
        try:
            with sitting as at:
                told = self._desk_json(at)
                gating = Gating(
                    *(at, kept, Builder(at, self.precision, 1 + self.seed % MOST_BUILD), family),
                    builds=self.builds,
                    max_time_s=self.max_time_s,
                    seed=self.seed,
                    labelled=self.labelled,
                    latency_only=self.latency_only,
                    writes=self.writes,
                )
                for entry in self.entries:
                    findings += gating.findings(entry)
                told |= {"models": gating.told, "board_s": gating.board_s}
                self.records = gating.records
                if gating.faults:
                    told["fault"] = gating.faults[0]
        except (ConfigError, HostError):
            raise
        except HilError as error:
            say(f"the gate could not be measured: {error.what}")
            measured = {finding.check.model for finding in findings}
            left = [c for group in checks for c in group if c.model not in measured]
            findings += failed(left, error)
            told["fault"] = fault_json(error)
        return self._result(told, findings, created, family, doubt_passes)

    def _result(
        self,
        told: Mapping[str, Any],
        findings: Sequence[Finding],
        created: str,
        family: int,
        doubt_passes: bool,
    ) -> dict[str, Any]:
        from hil.measure.gate import FALSE_ALARM
        from hil.measure.gate_outcome import exit_code, outcomes

        decided = outcomes(findings)
        code = exit_code(decided, **({"inconclusive": 0} if doubt_passes else {}))
        fault = told.get("fault")
        if fault is not None and code == 0:
            code = fault["exit_code"]
        return {
            "schema": SCHEMA,
            "created": created,
            "gated": [entry.network.name for entry in self.entries],
            "models": [],
            "board_s": 0.0,
            "notes": [],
            **told,
            "false_alarm": FALSE_ALARM,
            "family": family,
            "seed": self.seed,
            "checks": [outcome.to_json() for outcome in decided],
            "exit_code": code,
        }

    def _desk_json(self, at: Desk) -> dict[str, Any]:
        notes = [at.calibration_note] if at.calibration_note else []
        if at.calibration is None:
            notes.append(
                f"{at.config.name} is not calibrated as it stands, so no margin was held against "
                "what it resolves: hil device calibrate"
            )
        if any(entry.recorded is not None for entry in self.entries):
            notes.append(
                "compared with a file: what the board drifted since it was written is in the "
                "figures; --baseline-model measures both by turns and cancels it"
            )
        return {
            "provenance": at.session.provenance,
            "rail": None if self.latency_only else at.rail,
            **board_json(at.session),
            "notes": notes,
        }


def _interrupted(kept: Keeper) -> InterruptedRunError:
    """Say what an interrupted gate left behind; the board was restored on the way out."""
    runs = 0 if kept.folder is None else len(list(kept.folder.glob("*/evidence-*.json.gz")))
    left = f"the raw evidence of {runs} runs is in {kept.folder}" if runs else "nothing was kept"
    return InterruptedRunError(f"interrupted; the board is as it was found, {left}")


def _expected(config: DeviceConfig) -> str:
    """Where figures of a device would come from, for results of a board that cannot be had."""
    return {"emulated": "emulated", "replay": "replayed"}.get(config.driver, "measured")
