"""What becomes of each check once everything is measured: passed, violated, inconclusive, error.

Rule of this file: pure. Holm's procedure (Holm, Scandinavian Journal of Statistics 6, 1979) over
all checks of all networks: a check that raised no suspicion counts in the family with p = 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hil.core.errors import ExitCode, Told
from hil.core.paired import Paired
from hil.core.stats import Estimate
from hil.measure.comparison import ALPHA
from hil.measure.gate import FALSE_ALARM, UNITS, Check, Confirmed, Screen, Trial, figures

Status = Literal["passed", "violated", "inconclusive", "error"]
LONGER = "measure longer (--max-time 1h), or allow a wider margin"
BUILDS_DIFFER = "TensorRT builds differ: look at both with `hil compare --builds 4`, or gate again"


@dataclass(frozen=True)
class Finding:
    """What was found of one check, before Holm.

    Attributes:
        standing: what is known without a correction: below is good, beyond is a suspicion, open is
            neither, error is no measurement.
        p: that the bound is kept, in the face of fresh builds; 1 without a confirmed suspicion.
        value: the candidate's figure in the metric's unit, with its 95 % interval.
        base: the baseline's; None without one.
        ratio: candidate over baseline (over the limit for a limit); points for accuracy.
        reason: in words, for standing error and open.
        next_step: what a person can do about it.
        exit_code: of the error.
    """

    check: Check
    standing: Literal["below", "beyond", "open", "error"]
    p: float = 1.0
    value: Estimate | None = None
    base: Estimate | None = None
    ratio: Estimate | None = None
    reason: str = ""
    next_step: str | None = None
    exit_code: int = ExitCode.GOOD
    rounds: int = 0
    fresh_builds: int = 0


@dataclass(frozen=True)
class Outcome:
    """One check, decided.

    Attributes:
        exit_code: what it asks for: 0, 1, 5, or that of the error.
    """

    finding: Finding
    status: Status
    reason: str
    next_step: str | None
    exit_code: int

    @property
    def check(self) -> Check:
        """What was asked."""
        return self.finding.check

    @property
    def change(self) -> Estimate | None:
        """Candidate less baseline in the metric's unit, from the ratio and the candidate's mean."""
        found = self.finding
        if self.check.kind == "accuracy_loss":
            return found.ratio
        if self.check.kind != "ratio" or found.value is None or found.ratio is None:
            return None
        base = found.value.value / found.ratio.value
        ends = (found.ratio.value, found.ratio.low, found.ratio.high)
        return Estimate(*(base * (end - 1) for end in ends))

    def to_json(self) -> dict[str, Any]:
        """Return plain data: figures with their 95 % intervals, units in the field `unit`."""
        found, check = self.finding, self.check
        return {
            "model": check.model,
            "metric": check.metric,
            "unit": UNITS[check.metric],
            "purpose": check.purpose,
            "kind": check.kind,
            "bound": check.bound,
            "asked": check.asked,
            "status": self.status,
            **_json("value", found.value),
            **_json("baseline", found.base),
            **_json("ratio", None if check.kind.startswith("acc") else found.ratio),
            **_json("change", self.change),
            "rounds": found.rounds,
            "fresh_builds": found.fresh_builds,
            "p": found.p,
            "reason": self.reason,
            "next_step": self.next_step,
            "note": check.note,
            "exit_code": self.exit_code,
        }


def holm(p_values: Sequence[float], error: float = FALSE_ALARM) -> tuple[bool, ...]:
    """Return which hypotheses are rejected at a family-wise error."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    rejected = [False] * len(p_values)
    for place, index in enumerate(order):
        if p_values[index] > error / (len(p_values) - place):
            break
        rejected[index] = True
    return tuple(rejected)


def outcomes(findings: Sequence[Finding]) -> tuple[Outcome, ...]:
    """Decide all checks of a gate together."""
    rejected = holm([finding.p for finding in findings])
    return tuple(_outcome(f, shown) for f, shown in zip(findings, rejected, strict=True))


def findings_of(trial: Trial) -> tuple[Finding, ...]:
    """Return what a network's rounds say of its checks."""
    return tuple(_finding(trial, check) for check in trial.checks)


def failed(checks: Iterable[Check], error: Told) -> tuple[Finding, ...]:
    """Return checks that an error left without a measurement."""
    reason = error.what if error.why is None else f"{error.what}, because {error.why}"
    return tuple(
        Finding(check, "error", reason=reason, next_step=error.fix, exit_code=error.exit_code)
        for check in checks
    )


def accuracy_finding(check: Check, paired: Paired) -> Finding:
    """Judge accuracy over labelled pictures that both engines answered (or the candidate alone).

    No engine is built anew for it: the same engine gives the same answers.
    """
    value = Estimate(paired.accuracy, *paired.exact_interval(1 - ALPHA))
    points: Estimate | None = None
    if check.kind == "accuracy":
        low, p = value.low, paired.chance_of_accuracy(check.bound)
        below, beyond = low >= check.bound, value.high < check.bound
        shown = f"{value.value:.2f} % of {paired.pictures} pictures, [{low:.2f}, {value.high:.2f}]"
    else:
        low, high = paired.interval(1 - ALPHA)
        points = Estimate(paired.difference, low, high)
        below, beyond = low >= -check.bound, high < -check.bound
        p = paired.chance_of_losing_at_most(check.bound)
        shown = (
            f"{paired.difference:+.2f} points over {paired.pictures} pictures, "
            f"[{low:+.2f}, {high:+.2f}]"
        )
    return Finding(
        check,
        "below" if below else "beyond" if beyond else "open",
        p=p if beyond else 1.0,
        value=value,
        base=None if points is None else _exactly(paired.prototype_accuracy),
        ratio=points,
        reason=shown,
        next_step=None if below else "more labelled pictures make the interval narrower",
        rounds=0,
    )


def exit_code(found: Sequence[Outcome], *, inconclusive: int = ExitCode.MEASUREMENT) -> int:
    """Return the exit code of a gate: a violation counts most, then an error, then doubt."""
    for status in ("violated", "error"):
        codes = [one.exit_code for one in found if one.status == status]
        if codes:
            return codes[0]
    return inconclusive if any(one.status == "inconclusive" for one in found) else ExitCode.GOOD


def _finding(trial: Trial, check: Check) -> Finding:
    screen = trial.screens.get(check)
    if screen is None:
        return Finding(
            check,
            "error",
            reason=f"no figure: {trial.why_unknown(check)}",
            next_step="run `hil doctor` on the device",
            exit_code=ExitCode.MEASUREMENT,
            rounds=len(trial.turns),
        )
    done = trial.confirmations.get(check)
    turns = trial.turns if done is None else trial.fresh
    value, base = figures(turns, check.metric)
    ratio = screen.ratio if done is None else done.ratio
    standing, reason = _standing(check, screen, done)
    return Finding(
        check,
        standing,
        p=1.0 if done is None else done.p,
        value=value,
        base=base,
        ratio=ratio,
        reason=reason,
        next_step=_next_step(screen, done),
        rounds=len(turns),
        fresh_builds=0 if done is None else done.builds,
    )


def _standing(
    check: Check, screen: Screen, done: Confirmed | None
) -> tuple[Literal["below", "beyond", "open"], str]:
    what = "of the limit" if check.kind == "limit" else "of the baseline's"
    shown = _percent(screen.ratio if done is None else done.ratio, what)
    if screen.standing == "below":
        return "below", shown
    if screen.standing == "open":
        return "open", f"{shown}: the interval holds the bound"
    if done is None:
        return "open", f"{shown}: beyond the bound, and fresh builds could not be measured"
    if done.below:
        return "below", f"{shown} on {done.builds} fresh builds; one engine had looked worse"
    return "beyond", f"{shown} on {done.builds} fresh builds"


def _next_step(screen: Screen, done: Confirmed | None) -> str | None:
    if screen.standing == "open":
        return LONGER
    if screen.standing == "beyond" and (done is None or not done.below):
        return BUILDS_DIFFER
    return None


def _outcome(finding: Finding, rejected: bool) -> Outcome:
    if finding.standing == "error":
        return Outcome(finding, "error", finding.reason, finding.next_step, finding.exit_code)
    if finding.standing == "below":
        return Outcome(finding, "passed", finding.reason, None, ExitCode.GOOD)
    if finding.standing == "beyond" and rejected:
        step = f"find what made it so: hil compare BASELINE {finding.check.model}"
        return Outcome(finding, "violated", finding.reason, step, ExitCode.LIMIT_VIOLATED)
    reason = finding.reason
    if finding.standing == "beyond":
        reason += f": beyond the bound, but not surely enough (p {finding.p:.2g})"
    return Outcome(finding, "inconclusive", reason, finding.next_step, ExitCode.MEASUREMENT)


def _percent(ratio: Estimate, what: str) -> str:
    return f"{100 * ratio.value:.4g} % {what}, [{100 * ratio.low:.4g}, {100 * ratio.high:.4g}]"


def _exactly(value: float) -> Estimate:
    return Estimate(value, value, value)


def _json(name: str, estimate: Estimate | None) -> Mapping[str, Any]:
    ends = None if estimate is None else [estimate.low, estimate.high]
    return {name: None if estimate is None else estimate.value, f"{name}_ci95": ends}
