"""`hil gate`: do these networks keep their budgets, and did they get worse?"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from hil.cli.gate_answers import Labelled, read_labelled
from hil.cli.gate_ask import Question, asked_of, entries_of
from hil.cli.gate_entry import Entry
from hil.cli.gate_options import (
    AccuracyOption,
    AnnotationsOption,
    BaselineModelOption,
    BaselineOption,
    BencherOption,
    BenchmarkJsonOption,
    BudgetFileOption,
    BudgetOption,
    BuildsOption,
    Doubt,
    EnergyOption,
    InconclusiveOption,
    JunitOption,
    LabelledOption,
    LatencyOption,
    MarginOption,
    MarkdownOption,
    ModelsArgument,
    PointsLostOption,
    SeedOption,
    SummaryOption,
    WriteBaselineOption,
)
from hil.cli.gate_rounds import MOST_BUILD, Builder
from hil.cli.gate_view import conclude, show
from hil.cli.gate_work import Gating, fault_json
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


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("gate", help="Fail where a network breaks a budget or got worse than before.")(gate)


def gate(
    models: ModelsArgument,
    device: DeviceOption,
    baseline: BaselineOption = None,
    baseline_model: BaselineModelOption = None,
    budget_file: BudgetFileOption = None,
    budget: BudgetOption = None,
    energy_mj: EnergyOption = None,
    latency_p99_ms: LatencyOption = None,
    margin: MarginOption = None,
    labelled: LabelledOption = None,
    accuracy: AccuracyOption = None,
    points_lost: PointsLostOption = None,
    write_baseline: WriteBaselineOption = None,
    builds: BuildsOption = 1,
    max_time: MaxTimeOption = "20m",
    inconclusive: InconclusiveOption = Doubt.FAIL,
    junit: JunitOption = None,
    markdown: MarkdownOption = None,
    summary: SummaryOption = None,
    bencher: BencherOption = None,
    benchmark_json: BenchmarkJsonOption = None,
    annotations: AnnotationsOption = None,
    precision: PrecisionOption = None,
    shape: ShapeOption = None,
    batch: BatchOption = None,
    seed: SeedOption = None,
    latency_only: LatencyOnlyOption = False,
    keep: KeepOption = True,
    host: HostOption = None,
    wait: WaitOption = "0s",
    as_json: JsonOption = False,
) -> None:
    """Hold networks against budgets and against a baseline, on one board, in one lease."""
    check_precision(precision)
    files = (junit, markdown, summary, bencher, benchmark_json, write_baseline)
    outputs = Outputs.of(os.environ, *files, annotations)
    outputs.check()
    short = (("energy_mj", energy_mj), ("latency_p99_ms", latency_p99_ms))
    words = [*(budget or ()), *(f"{name}={text}" for name, text in short if text is not None)]
    question = Question(
        *(tuple(models), baseline, tuple(baseline_model or ()), budget_file, tuple(words)),
        *(tuple(margin or ()), accuracy, points_lost, labelled is not None, latency_only),
        writes=write_baseline is not None,
    )
    asked, config = asked_of(question), load_device(device, host)
    pictures = None if labelled is None else read_labelled(labelled)
    entries = entries_of(question, asked, config, tuple(shape or ()), batch)
    run = GateRun(
        *(device, config, entries, pictures, precision, builds),
        max_time_s=seconds(max_time),
        wait_s=seconds(wait),
        seed=first_seed(seed),
        latency_only=latency_only,
        writes=question.writes,
    )
    result = run.kept_result(models[0].stem, keep=keep, doubt_passes=inconclusive is Doubt.PASS)
    print_json(result) if as_json else show(result)
    outputs.write(result, run.records)
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

    def kept_result(self, name: str, *, keep: bool, doubt_passes: bool) -> dict[str, Any]:
        """Measure, keep what was measured, and return the result.

        Raises:
            HilError: of every kind that the exit codes name, before anything is measured.
        """
        Rule(None, self.max_time_s).check(self.builds)
        refuse_without_power(self.config, latency_only=self.latency_only)
        created = datetime.now(UTC)
        kept = keeper("gate", name, created, keep=keep)
        try:
            result = self.go(kept, created.isoformat(timespec="seconds"), doubt_passes)
        except InterruptedRunError as error:
            raise _interrupted(kept) from error
        finally:
            kept.clear()
        there = kept.folder is not None and kept.folder.exists()
        result["folder"] = str(kept.folder) if there else None
        if there:
            kept.result(result)
            say(f"kept, with the raw evidence of every run: {result['folder']}")
        return result

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


def first_seed(given: int | None) -> int:
    """Return the seed of a gate: drawn, unless given, so that no two build the same numbers."""
    return given if given is not None else random.SystemRandom().randrange(MOST_BUILD)


def _interrupted(kept: Keeper) -> InterruptedRunError:
    """Say what an interrupted gate left behind; the board was restored on the way out."""
    runs = 0 if kept.folder is None else len(list(kept.folder.glob("*/evidence-*.json.gz")))
    left = f"the raw evidence of {runs} runs is in {kept.folder}" if runs else "nothing was kept"
    return InterruptedRunError(f"interrupted; the board is as it was found, {left}")


def _expected(config: DeviceConfig) -> str:
    """Where figures of a device would come from, for results of a board that cannot be had."""
    return {"emulated": "emulated", "replay": "replayed"}.get(config.driver, "measured")
