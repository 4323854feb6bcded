"""A gate on a leased board: each network screened, its suspicions confirmed, its answers compared.

Rule of this file: it measures and returns findings; an error that concerns one network leaves the
others measured. Showing and exiting are `gate`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.cli.gate_answers import Labelled, answers
from hil.cli.gate_entry import Entry
from hil.cli.gate_rounds import Builder, GateRounds
from hil.cli.keeping import Keeper
from hil.cli.measuring import Desk, setup_of
from hil.cli.network import Network
from hil.cli.rounds import Rule
from hil.cli.terminal import say
from hil.core.errors import ConfigError, HilError, HostError

if TYPE_CHECKING:
    from hil.device.session import EngineInfo
    from hil.measure.gate import Check, Trial
    from hil.measure.gate_baseline import Conditions, Recorded
    from hil.measure.gate_outcome import Finding
    from hil.measure.interleave import Side

_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass
class Gating:
    """A gate under way.

    Attributes:
        family: how many checks it holds in all.
        max_time_s: board seconds of one network's screening.
        writes: whether a baseline file is to be written.
        told: what results name of each network measured.
        records: what a baseline file would hold of each.
        faults: what kept us from measuring a network.
        stages: rounds of the network at hand, screening first.
    """

    desk: Desk
    keeper: Keeper
    builder: Builder
    family: int
    builds: int
    max_time_s: float
    seed: int
    labelled: Labelled | None = None
    latency_only: bool = False
    writes: bool = False
    told: list[dict[str, Any]] = field(default_factory=list)
    records: dict[str, Recorded] = field(default_factory=dict)
    faults: list[dict[str, Any]] = field(default_factory=list)
    stages: list[GateRounds] = field(default_factory=list)
    board_s: float = 0.0

    def findings(self, entry: Entry) -> tuple[Finding, ...]:
        """Gate one network; what kept us from it becomes the finding of each of its checks.

        Raises:
            ConfigError: unlike would be compared with like.
            HostError: the disk is full.
        """
        from hil.measure.gate_outcome import failed

        name, checks = entry.network.name, self.checks(entry)
        say(f"{name}: {len(checks)} checks")
        try:
            return self._gate(entry, checks)
        except (ConfigError, HostError):
            raise
        except HilError as error:
            say(f"{name}: {error.what}")
            self.faults.append(fault_json(error))
            return failed(checks, error)

    def checks(self, entry: Entry) -> tuple[Check, ...]:
        """Return the checks of one network; margins no finer than the board resolves."""
        from hil.measure.gate_demands import checks_of

        known = self.desk.calibration
        rounds = 0 if known is None else int(self.max_time_s / known.round_s)
        return checks_of(entry.network.name, entry.wanted, known, rounds)

    def _gate(self, entry: Entry, checks: tuple[Check, ...]) -> tuple[Finding, ...]:
        from hil.measure.comparison import FIRST_LOOK_ROUNDS
        from hil.measure.gate import BASELINE_ROUNDS, Trial
        from hil.measure.gate_baseline import Recorded, refuse_unlike, values_of
        from hil.measure.gate_outcome import findings_of

        engines = self._engines(entry)
        now = self.conditions(engines["b"][0])
        if entry.base is not None:
            refuse_unlike(entry.network.name, self.conditions(engines["a"][0]), now)
        if entry.recorded is not None:
            refuse_unlike(entry.network.name, entry.recorded.conditions, now)
        measured = tuple(c for c in checks if c.metric != "accuracy")
        recorded = None if entry.recorded is None else entry.recorded.values
        least = BASELINE_ROUNDS if self.writes else FIRST_LOOK_ROUNDS
        trial = Trial(measured, self.family, recorded=recorded, builds=self.builds, least=least)
        fresh = self._measure(entry, engines, trial)
        own, found = answers(
            self.desk, entry, engines, self.labelled, [c for c in checks if c not in measured]
        )
        name = entry.network.name
        self.records[name] = Recorded(
            onnx_sha256=engines["b"][0].spec.onnx_sha256,
            engines_sha256=tuple(info.engine_sha256 for info in engines["b"]),
            conditions=now,
            values=values_of(trial.turns),
            answers=own,
        )
        self.told.append(self._tell(entry, engines, fresh, now, trial) | self._doubts(entry))
        return (*findings_of(trial), *found)

    def _measure(
        self, entry: Entry, engines: Mapping[Side, list[EngineInfo]], trial: Trial
    ) -> list[str]:
        """Screen, and confirm what is suspected; return the hashes of fresh engines."""
        rounds = self._rounds(entry, "screen", self.builds, trial)
        rounds.rule.check(self.builds)
        self.stages = [rounds]
        try:
            rounds.run(engines, self.seed)
        finally:
            self.board_s += rounds.spent_s
        hashes: list[str] = []
        turns: tuple[Any, ...] = ()
        going = bool(trial.suspects)
        while going:
            from hil.measure.gate import CONFIRM_BUILDS

            names = ", ".join(check.metric for check in trial.suspects)
            say(f"  {names} beyond the bound: {CONFIRM_BUILDS} fresh builds of each side")
            made: dict[Side, list[EngineInfo]] = {
                side: self.builder.fresh(network, CONFIRM_BUILDS)
                for side, network in self._sides(entry).items()
            }
            hashes += [info.engine_sha256 for side in made.values() for info in side]
            batch = trial.fresh_looks
            anew = self._rounds(entry, f"fresh-{batch + 1}", CONFIRM_BUILDS, None)
            self.stages.append(anew)
            try:
                anew.run(made, self.seed + batch + 1)
            finally:
                self.board_s += anew.spent_s
            turns += anew.turns(offset=batch * CONFIRM_BUILDS)
            going = trial.confirm(turns)
        return hashes

    def _rounds(self, entry: Entry, stage: str, builds: int, trial: Trial | None) -> GateRounds:
        from hil.measure.interleave import ROUNDS_AT_ONCE

        figure = "latency_p50_ms" if self.latency_only else "energy_mj"
        limit_s = self.max_time_s if trial is not None else float("inf")
        return GateRounds(
            self.desk,
            self._folder(f"{Path(entry.network.name).stem}-{stage}"),
            Rule(None, limit_s, figure),
            builds,
            alone=entry.base is None,
            trial=trial,
            wanted=ROUNDS_AT_ONCE * builds,
        )

    def _folder(self, name: str) -> Keeper:
        """Return a keeper of its own for one stage: rounds number their files from 1."""
        if self.keeper.folder is None:
            return Keeper(None)
        plain = _PLAIN.sub("-", name).strip("-.") or "network"
        folder, count = self.keeper.folder / plain, 1
        while folder.exists():
            count += 1
            folder = self.keeper.folder / f"{plain}-{count}"
        try:
            folder.mkdir()
        except OSError as error:
            raise HostError(f"cannot make {folder}", why=str(error)) from error
        return Keeper(folder)

    def _sides(self, entry: Entry) -> dict[Side, Network]:
        sides: dict[Side, Network] = {"b": entry.network}
        return sides if entry.base is None else {"a": entry.base, **sides}

    def _engines(self, entry: Entry) -> dict[Side, list[EngineInfo]]:
        return {
            side: self.builder.first(network, self.builds)
            for side, network in self._sides(entry).items()
        }

    def conditions(self, info: EngineInfo) -> Conditions:
        """Return under what an engine is measured here."""
        from hil.measure.gate_baseline import Conditions

        return Conditions(
            setup=setup_of(self.desk.session, self.desk.config),
            runtime=f"{info.spec.runtime} {info.runtime_version}",
            precision=info.spec.precision,
            cuda_graph=info.spec.cuda_graph,
            inputs={tensor.name: tuple(tensor.shape) for tensor in info.inputs},
        )

    def _doubts(self, entry: Entry) -> dict[str, Any]:
        """Return what makes the rounds of a network suspect, and how many were left out."""
        from hil.measure.comparison import compared

        scored = [one for stage in self.stages for one in stage.scored]
        done = compared(scored)
        own = [r for r in done.reasons if entry.base is not None or r.startswith("B: ")]
        return {
            "validity": done.validity,
            "reasons": own,
            "rounds_dropped": done.dropped + sum(stage.spoilt for stage in self.stages),
            "fallbacks": [each.to_json() for each in done.fallbacks],
        }

    def _tell(
        self,
        entry: Entry,
        engines: Mapping[Side, list[EngineInfo]],
        fresh: list[str],
        now: Conditions,
        trial: Trial,
    ) -> dict[str, Any]:
        base: dict[str, Any] | None = None
        if entry.base is not None:
            sha256 = engines["a"][0].spec.onnx_sha256
            base = {"kind": "interleaved", "model": entry.base.name, "onnx_sha256": sha256}
            base["engines_sha256"] = [info.engine_sha256 for info in engines["a"]]
        elif entry.recorded is not None:
            base = {"kind": "file", "onnx_sha256": entry.recorded.onnx_sha256}
        return {
            "name": entry.network.name,
            "onnx_sha256": engines["b"][0].spec.onnx_sha256,
            "engines_sha256": [info.engine_sha256 for info in engines["b"]],
            "fresh_engines_sha256": fresh,
            "baseline": base,
            "conditions": now.flat(),
            "rounds_used": len(trial.turns),
            "looks": trial.looks,
            "fresh_rounds_used": len(trial.fresh),
        }


def fault_json(error: HilError) -> dict[str, Any]:
    """Return an error as a gate's result names it."""
    return {
        "what": error.what,
        "why": error.why,
        "fix": error.fix,
        "exit_code": error.exit_code,
    }
