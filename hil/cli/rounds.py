"""Interleaved rounds of two engines in one lease: shared by compare, calibrate and --reference.

Rule of this file: it measures, keeps and scores rounds as they come; nothing is shown here but
progress.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from hil.cli.measuring import Desk, run_seconds_around
from hil.cli.terminal import err, say
from hil.core.errors import ConfigError

if TYPE_CHECKING:
    from hil.cli.keeping import Keeper
    from hil.core.evidence import Evidence, RunPlan
    from hil.device.session import EngineInfo
    from hil.measure.comparison import Comparison, Scored
    from hil.measure.interleave import Round, Side

RUN_IDLE_S = 4.0
"""Idle beside each run: 2.1 s for the sensor to forget the load, the rest to be read."""
RUN_WINDOW_S = 5.0
RUN_BLOCKS = 3


@dataclass(frozen=True)
class Rule:
    """When rounds are enough.

    Attributes:
        target: relative half width of the ratio's 95 % interval; None goes on to the cap.
        max_time_s: board seconds for all rounds.
        figure: whose ratio it is.
    """

    target: float | None
    max_time_s: float
    figure: str = "energy_mj"

    def check(self, builds: int) -> None:
        """Refuse a time that does not hold the fewest rounds.

        Raises:
            ConfigError: it does not.
        """
        from hil.measure.comparison import FIRST_LOOK_ROUNDS

        rounds = max(FIRST_LOOK_ROUNDS, 2 * builds)
        least_s = 2 * rounds * (run_seconds_around(RUN_IDLE_S) + RUN_BLOCKS * RUN_WINDOW_S)
        if self.max_time_s < least_s:
            raise ConfigError(
                f"--max-time {self.max_time_s:g}s is too short",
                why=f"{rounds} rounds of two runs take about {least_s:.0f} s",
                fix=f"give it --max-time {least_s:.0f}s or more",
            )


@dataclass
class Rounds:
    """Rounds so far, scored as they come.

    Attributes:
        looks: how often the ratio was looked at with the option to stop.
        outcome: going, then target or undecided.
    """

    desk: Desk
    keeper: Keeper
    rule: Rule
    builds: int = 1
    scored: list[Scored] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    looks: int = 0
    outcome: str = "going"
    why: str = ""
    spent_s: float = 0.0
    _zero_ns: int | None = None
    _runs: int = 0

    def plan(self) -> RunPlan:
        """Return the plan of one run."""
        from hil.core.evidence import RunPlan

        return RunPlan(
            RUN_IDLE_S,
            window_s=RUN_WINDOW_S,
            blocks=RUN_BLOCKS,
            interval_ms=self.desk.config.power.interval_ms,
        )

    def run(self, engines: Mapping[Side, Sequence[EngineInfo]], seed: int) -> None:
        """Measure rounds until the rule is met."""
        from hil.measure.interleave import interleave

        self.rule.check(self.builds)
        interleave(
            self.desk.session,
            engines,
            self.plan(),
            self.desk.power,
            seed=seed,
            go_on=self._go_on,
            on_run=self._keep,
        )

    def comparison(self) -> Comparison:
        """Compare over all rounds so far."""
        from hil.measure.comparison import compared

        return compared(self.scored, looks=self.looks or None)

    def _keep(self, side: Side, evidence: Evidence) -> None:
        if self._zero_ns is None and evidence.marks:
            self._zero_ns = min(mark.start_ns for mark in evidence.marks)
        self._runs += 1
        name = f"evidence-{self._runs:04d}-{side}.json.gz"
        file_row = {"side": side, "file": name, "sha256": self.keeper.evidence(evidence, name)}
        self.keeper.check()
        self.rows.append(file_row)
        if evidence.marks:
            last_ns = max(mark.stop_ns for mark in evidence.marks)
            self.spent_s = (last_ns - (self._zero_ns or 0)) / 1e9

    def _go_on(self, rounds: Sequence[Round]) -> bool:
        from hil.measure.comparison import FIRST_LOOK_ROUNDS
        from hil.measure.interleave import ROUNDS_AT_ONCE

        for one in rounds[len(self.scored) :]:
            self.scored.append(self._score(one))
        cycle = ROUNDS_AT_ONCE * self.builds
        if len(rounds) % cycle or len(rounds) < FIRST_LOOK_ROUNDS:
            return True
        self.looks += 1
        done = self.comparison()
        ratio = done.ratios.get(self.rule.figure)
        reached = None if ratio is None else half_width(asdict(ratio.ratio))
        self.why = (
            done.unknown.get(self.rule.figure, "")
            if reached is None
            else f"ratio of {self.rule.figure} to within {100 * reached:.2g} %"
        )
        say(f"  {len(rounds)} rounds: {self.why}")
        if reached is not None and self.rule.target is not None and reached <= self.rule.target:
            self.outcome = "target"
            return False
        if self.spent_s * (1 + cycle / len(rounds)) > self.rule.max_time_s:
            self.outcome = "undecided" if self.rule.target is not None else "done"
            return False
        return True

    def _score(self, one: Round) -> Scored:
        from hil.measure.comparison import Scored
        from hil.measure.numbers import require_joules

        start_ns = min(m.start_ns for m in (*one.a.marks, *one.b.marks))
        at_s = (start_ns - (self._zero_ns or 0)) / 1e9
        a, b = self.desk.score(one.a), self.desk.score(one.b)
        if not self.rule.figure.startswith("latency"):
            a, b = require_joules(a), require_joules(b)
        return Scored(one.build, one.first, at_s, a, b)

    def to_json(self) -> dict[str, Any]:
        """Return what a result keeps of the rounds: their order, builds and files."""
        files = {"a": [r for r in self.rows if r["side"] == "a"]}
        files["b"] = [r for r in self.rows if r["side"] == "b"]
        return {
            "looks": self.looks,
            "stopped": {"outcome": self.outcome, "why": self.why, "board_s": self.spent_s},
            "rounds": [
                {
                    "build": one.build,
                    "first": one.first,
                    "at_s": one.at_s,
                    "a": {**_short(one, "a"), **_file(files["a"][index])},
                    "b": {**_short(one, "b"), **_file(files["b"][index])},
                }
                for index, one in enumerate(self.scored)
            ],
        }


def _file(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"file": row["file"], "sha256": row["sha256"]}


def _short(one: Scored, side: Side) -> dict[str, Any]:
    from hil.measure.comparison import COMPARED

    measurement = one.of(side)
    figures: dict[str, Any] = {"validity": measurement.validity}
    for name in COMPARED:
        estimate = measurement.figure(name)
        figures[name] = None if estimate is None else estimate.value
    return figures


def half_width(estimate: Mapping[str, float]) -> float:
    """Return half an interval relative to its value; infinite at zero."""
    value = abs(estimate["value"])
    return (estimate["high"] - estimate["low"]) / 2 / value if value else float("inf")


def comparison_json(done: Comparison) -> dict[str, Any]:
    """Return the figures of a comparison as JSON: ratios are B over A."""
    from hil.measure.comparison import COMPARED

    figures: dict[str, Any] = {}
    for name in COMPARED:
        paired = done.ratios.get(name)
        ratio = None if paired is None else paired.ratio
        key = f"{name}_ratio"
        figures[key] = None if ratio is None else ratio.value
        figures[f"{key}_ci95"] = None if ratio is None else [ratio.low, ratio.high]
        if paired is None:
            figures[f"{key}_reason"] = done.unknown[name]
            continue
        figures[f"{key}_drift_per_run"] = paired.drift_per_run
        figures[f"{key}_builds_log_sd"] = paired.builds_log_sd
    sides: dict[str, Any] = {}
    for side, means in (("a", done.means["a"]), ("b", done.means["b"])):
        sides[side] = {}
        for name, mean in means.items():
            sides[side][name] = mean.value
            sides[side][f"{name}_ci95"] = [mean.low, mean.high]
    return {
        "scope": done.scope,
        "rounds_used": done.rounds,
        "rounds_dropped": done.dropped,
        **figures,
        **sides,
        "validity": done.validity,
        "reasons": list(done.reasons),
        "fallbacks": [each.to_json() for each in done.fallbacks],
    }


def quiet_line(text: str) -> None:
    """Print one line on stderr without colours."""
    err.print(text, highlight=False, markup=False)
