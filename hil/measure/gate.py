"""Whether one network keeps its budgets and got no worse: what is measured, and when it is enough.

Rule of this file: pure. It is told rounds and says whether to go on; who asks the board is others'
business, so that the benchmark on boards of known truth runs the shipped decision.

Each check bounds a ratio: of the candidate's figure to the baseline's, or of its figure to a limit.

1. *Screening.* Rounds of one engine (or of a few), the baseline's by turns, and the 95 % interval
   that `hil compare` tells of them. Wholly below the bound it passes; wholly beyond it is a
   suspicion and no failure yet: it speaks about these engines. Else more rounds.
2. *Confirmation.* Engines of both sides built anew; the pair of builds is the unit, so that an
   unlucky choice of kernels is not taken for the network. Each suspicion gets a p-value from
   Student's t over builds, times k (k + 1) at the k-th look, never from what raised it.
3. *Holm* over all checks of all networks (`hil.measure.gate_outcome`): the chance of any false
   alarm in a whole gate is at most `FALSE_ALARM`, whatever the screening lets through.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from hil.core.sequential import block_interval
from hil.core.stats import Estimate, Spread, combine, spread
from hil.measure.comparison import (
    ALPHA,
    COMPARED,
    FIRST_LOOK_ROUNDS,
    LOOKED,
    MIN_ROUNDS,
    Scored,
    detectable,
    paired_ratio,
    spent,
)
from hil.measure.interleave import ROUNDS_AT_ONCE, Side

METRICS = COMPARED
"""What can be gated: less is better in each of them."""
FALSE_ALARM = 0.01
"""Chance of any false alarm in one gate, over all networks and metrics."""
CONFIRM_BUILDS = 6
"""Fresh builds of either side at a time."""
CONFIRM_LOOKS = 3
BASELINE_ROUNDS = 8
"""Fewest rounds of a network whose figures go into a baseline file: 7 degrees of freedom."""
UNITS: Mapping[str, str] = {
    "energy_mj": "mJ",
    "energy_net_mj": "mJ",
    "power_w": "W",
    "latency_p50_ms": "ms",
    "latency_p99_ms": "ms",
    "accuracy": "%",
}
Kind = Literal["limit", "ratio", "accuracy", "accuracy_loss"]
Purpose = Literal["budget", "regression"]
Standing = Literal["below", "beyond", "open"]
Values = Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Check:
    """One bound on one figure of one network.

    Attributes:
        model: the network's name, as given.
        metric: one of `METRICS`, or accuracy.
        kind: limit bounds the figure in its unit, ratio bounds it over the baseline's; accuracy is
            the least percentage, accuracy_loss the most points lost against the baseline.
        bound: what is allowed: 5.0 mJ, 1.03 of the baseline, 91.0 %, 1.0 points.
        purpose: a budget is an agreement, a regression a change for the worse.
        note: what a person should know of the bound, such as that it was raised.
    """

    model: str
    metric: str
    kind: Kind
    bound: float
    purpose: Purpose = "budget"
    note: str | None = None

    @property
    def asked(self) -> str:
        """The bound in words."""
        unit = UNITS[self.metric]
        if self.kind == "limit":
            return f"at most {self.bound:.6g} {unit}"
        if self.kind == "accuracy":
            return f"at least {self.bound:.6g} %"
        if self.kind == "accuracy_loss":
            return f"at most {self.bound:.6g} points lost"
        if self.purpose == "regression":
            return f"at most {100 * (self.bound - 1):+.3g} % of the baseline's"
        return f"at most {100 * self.bound:.6g} % of the baseline's"

    @property
    def name(self) -> str:
        """The check among those of its network, for programs."""
        return f"{self.metric} {self.purpose}"


@dataclass(frozen=True)
class Turn:
    """One round as checks read it.

    Attributes:
        build: the engine build that ran; no two builds share a number.
        first: the side that ran first; b is the candidate.
        candidate: its figures in their units; one that is unknown or not above zero is left out.
        base: the baseline's; None where the candidate ran alone.
        unknown: for each figure left out, why.
    """

    build: int
    first: Side
    candidate: Mapping[str, float]
    base: Mapping[str, float] | None
    unknown: Mapping[str, str] = field(default_factory=dict)


def turns_of(rounds: Sequence[Scored], *, alone: bool = False, offset: int = 0) -> tuple[Turn, ...]:
    """Read rounds that are usable; builds are numbered from `offset`.

    Args:
        rounds: scored; their side b is the candidate.
        alone: side a is the same run: there is no baseline.
        offset: added to the builds' numbers.
    """
    turns = []
    for one in rounds:
        if not one.usable:
            continue
        unknown: dict[str, str] = {}
        sides: dict[Side, dict[str, float]] = {"a": {}, "b": {}}
        for name in METRICS:
            for side in ("a", "b"):
                estimate = one.of(side).figure(name)
                if estimate is None:
                    unknown[name] = one.of(side).why(name) or "not told"
                elif estimate.value <= 0:
                    unknown[name] = f"{name} is {estimate.value:.4g} in a run: no ratio holds of it"
                else:
                    sides[side][name] = estimate.value
        base = None if alone else sides["a"]
        turns.append(Turn(one.build + offset, one.first, sides["b"], base, unknown))
    return tuple(turns)


@dataclass(frozen=True)
class Screen:
    """What screening says of one check.

    Attributes:
        standing: of the whole interval against the bound at the look that decided, or open.
        ratio: candidate over baseline (of kind ratio) or over the limit, as `hil compare` tells it.
        look: at which it was decided, or the last one.
    """

    standing: Standing
    ratio: Estimate
    look: int


@dataclass(frozen=True)
class Confirmed:
    """What fresh builds say of one suspicion.

    Attributes:
        p: one-sided, corrected for looking, before Holm.
        below: whether their whole interval lies within the bound.
        ratio: with its 95 % interval over builds.
        builds: fresh builds of either side.
    """

    p: float
    below: bool
    ratio: Estimate
    builds: int


@dataclass
class Trial:
    """One network under its checks: told rounds as they come.

    Attributes:
        checks: all of one network, of kinds limit and ratio.
        family: how many checks the whole gate holds; what Holm starts from.
        recorded: the baseline's runs from a file, for each metric; None where it runs by turns, or
            where there is none.
        builds: engine builds that screening goes through.
        least: rounds before anybody looks; more where a baseline is to be written.
    """

    checks: tuple[Check, ...]
    family: int
    recorded: Values | None = None
    builds: int = 1
    least: int = FIRST_LOOK_ROUNDS
    screens: dict[Check, Screen] = field(default_factory=dict)
    confirmations: dict[Check, Confirmed] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()
    fresh: tuple[Turn, ...] = ()
    looks: int = 0
    fresh_looks: int = 0

    @property
    def cycle(self) -> int:
        """Rounds between two looks of the screening."""
        return ROUNDS_AT_ONCE * self.builds

    def due(self, rounds: int) -> bool:
        """Whether so many rounds are to be looked at."""
        return rounds >= self.least and rounds % self.cycle == 0

    def look(self, turns: Sequence[Turn]) -> bool:
        """Look at all usable rounds so far; return whether more of them could decide anything."""
        self.turns, self.looks = tuple(turns), self.looks + 1
        for check in self.checks:
            before = self.screens.get(check)
            if before is not None and before.standing != "open":
                continue
            found = screened(check, self.turns, self.looks, self.recorded)
            if found is not None:
                self.screens[check] = found
        return any(screen.standing == "open" for screen in self.screens.values())

    @property
    def suspects(self) -> tuple[Check, ...]:
        """Checks whose whole interval lay beyond their bound."""
        return tuple(c for c, screen in self.screens.items() if screen.standing == "beyond")

    def confirm(self, turns: Sequence[Turn]) -> bool:
        """Take rounds of all fresh builds so far; return whether further builds could matter."""
        self.fresh, self.fresh_looks = tuple(turns), self.fresh_looks + 1
        for check in self.suspects:
            found = confirmed(
                check,
                self.fresh,
                self.fresh_looks,
                self.recorded,
                before=self.confirmations.get(check),
            )
            if found is not None:
                self.confirmations[check] = found
        undecided = [
            one
            for one in self.confirmations.values()
            if not one.below and one.p > FALSE_ALARM / self.family
        ]
        return bool(undecided) and self.fresh_looks < CONFIRM_LOOKS

    def why_unknown(self, check: Check) -> str | None:
        """Return why a check has no figure at all; None where it has one."""
        if check in self.screens:
            return None
        for turn in self.turns:
            if check.metric in turn.unknown:
                return turn.unknown[check.metric]
        if self.recorded is not None and check.kind == "ratio":
            return f"the baseline file holds no {check.metric} of this network"
        return f"{len(self.turns)} usable rounds carry no interval"


def screened(
    check: Check, turns: Sequence[Turn], look: int, recorded: Values | None = None
) -> Screen | None:
    """Hold one check against the rounds so far; None where they carry no interval."""
    if len(turns) < MIN_ROUNDS:
        return None
    ratio = _interval(check, turns, recorded, look)
    if ratio is None:
        return None
    bound = 1.0 if check.kind == "limit" else check.bound
    standing: Standing = "open"
    if ratio.high < bound:
        standing = "below"
    elif ratio.low > bound:
        standing = "beyond"
    return Screen(standing, ratio, look)


def confirmed(
    check: Check,
    fresh: Sequence[Turn],
    look: int,
    recorded: Values | None = None,
    *,
    before: Confirmed | None = None,
) -> Confirmed | None:
    """Hold a suspicion against fresh builds; None where they carry no interval.

    Args:
        check: the suspicion.
        fresh: rounds of fresh builds alone, all so far.
        look: how often they have been looked at, this time included.
        recorded: the baseline's runs from a file.
        before: what the look before this one said.
    """
    logs = _logs(check, fresh, recorded)
    units = [] if logs is None else _by_build(logs, fresh)
    if len(units) < MIN_ROUNDS:
        return None
    over = _against(spread(units), check, recorded)
    bound = math.log(1.0 if check.kind == "limit" else check.bound)
    # Bonferroni over looks: the k-th spends 1 / (k (k + 1)) of any error.
    p = min(1.0, over.chance_below(bound) / spent(1.0, look))
    log = over.interval(1 - ALPHA)
    strict = over.interval(1 - spent(ALPHA, look))
    return Confirmed(
        p=p if before is None else min(p, before.p),
        below=strict.high < bound,
        ratio=Estimate(math.exp(log.value), math.exp(log.low), math.exp(log.high)),
        builds=len(units),
    )


def figures(turns: Sequence[Turn], metric: str) -> tuple[Estimate | None, Estimate | None]:
    """Return the mean figure of candidate and baseline over rounds, in the metric's unit."""
    sides = []
    for told in ([t.candidate for t in turns], [t.base for t in turns]):
        values = [side[metric] for side in told if side is not None and metric in side]
        sides.append(block_interval(values) if len(values) >= MIN_ROUNDS else None)
    return sides[0], sides[1]


def resolved(log_sd: float, rounds: int) -> float | None:
    """Return the smallest margin a board can hold in so many rounds, from its A/A calibration.

    Args:
        log_sd: standard deviation of the log ratio of one round of an engine against itself.
        rounds: the most that a gate may take.

    Returns:
        A fraction, such as 0.018; None for fewer than two rounds.
    """
    return detectable(log_sd, rounds, alpha=ALPHA)


def _interval(
    check: Check, turns: Sequence[Turn], recorded: Values | None, looks: int
) -> Estimate | None:
    """Return the ratio that a check bounds, with the 95 % interval that looking leaves."""
    logs = _logs(check, turns, recorded)
    if logs is None:
        return None
    builds = [turn.build for turn in turns]
    if check.kind == "ratio" and recorded is not None:
        units = _by_build(logs, turns) if len(set(builds)) > 1 else logs
        error = ALPHA * (1.0 if looks < 2 else LOOKED)
        log = _against(spread(units), check, recorded).interval(1 - error)
        return Estimate(math.exp(log.value), math.exp(log.low), math.exp(log.high))
    firsts = [turn.first for turn in turns]
    return paired_ratio(logs, logs, firsts, builds, looks=looks).ratio


def _logs(check: Check, turns: Sequence[Turn], recorded: Values | None) -> list[float] | None:
    """Return the logarithm of what is bounded, for each round; None where one does not know it."""
    logs = []
    for turn in turns:
        value = turn.candidate.get(check.metric)
        if value is None:
            return None
        if check.kind == "limit":
            logs.append(math.log(value / check.bound))
        elif recorded is not None:
            if len(recorded.get(check.metric, ())) < MIN_ROUNDS:
                return None
            logs.append(math.log(value))
        else:
            base = None if turn.base is None else turn.base.get(check.metric)
            if base is None:
                return None
            logs.append(math.log(value / base))
    return logs


def _against(own: Spread, check: Check, recorded: Values | None) -> Spread:
    """Return the spread of what is bounded: less the recorded baseline where that is its base."""
    if check.kind != "ratio" or recorded is None:
        return own
    base = spread([math.log(value) for value in recorded[check.metric]])
    return combine((1.0, own), (-1.0, base))


def _by_build(logs: Sequence[float], turns: Sequence[Turn]) -> list[float]:
    groups: dict[int, list[float]] = {}
    for value, turn in zip(logs, turns, strict=True):
        groups.setdefault(turn.build, []).append(value)
    return [fmean(group) for group in groups.values()]
