"""Operational requirements: what a profile demands, and how an estimate is judged against it.

Rule of this file: it judges a figure with bounds; it never asks where the figure came from. Its
verdicts screen during a search; only `certificate.py` accepts a network.

Units: costs in the unit their name ends in, accuracy in percent, accuracy losses in points.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from hil.core.stats import Estimate
from hil.synth import records
from hil.synth.records import ACCURACY, Verdict

Kind = Literal["at_most", "at_least", "lose_at_most"]

TITLES = {
    "energy_mj": ("energy", "mJ"),
    "energy_net_mj": ("energy less idle", "mJ"),
    "inferences_per_joule": ("inferences per joule", "1/J"),
    "latency_p50_ms": ("p50 latency", "ms"),
    "latency_p90_ms": ("p90 latency", "ms"),
    "latency_p95_ms": ("p95 latency", "ms"),
    "latency_p99_ms": ("p99 latency", "ms"),
    "power_w": ("power", "W"),
    "memory_mib": ("memory", "MiB"),
    "macs": ("MACs", ""),
    "parameters": ("parameters", ""),
    ACCURACY: ("accuracy", "%"),
}
"""Every metric that can be required: its name and unit for people."""
GAINS = frozenset({"inferences_per_joule"})
"""Costs turned round: more is better, so their limit is `at_least`."""
EXACT = frozenset({"macs", "parameters"})
"""What a network has whatever board it is on."""
NOISELESS = EXACT | {"memory_mib"}
"""What no build of a network is unsure of."""
ON_RAIL = frozenset({"energy_mj", "energy_net_mj", "inferences_per_joule", "power_w"})
_IN_SEARCH = {"parameters": "params"}

_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


@dataclass(frozen=True)
class Limit:
    """A limit as written: an amount in the metric's unit, or a share of the prototype's figure.

    Attributes:
        amount: in the metric's unit; a fraction (0.4 for "40 %") where `relative`.
        relative: whether the prototype's figure is the unit.
    """

    amount: float
    relative: bool = False

    @classmethod
    def parse(cls, written: float | str) -> Self:
        """Read a number, or text such as "40 %".

        Raises:
            ValueError: neither of them, or not positive.
        """
        if isinstance(written, str):
            match = _PERCENT.fullmatch(written)
            if not match:
                raise ValueError(
                    f"expected a number or a percentage such as '40 %', got {written!r}"
                )
            limit = cls(float(match[1]) / 100, relative=True)
        else:
            limit = cls(float(written))
        if not (limit.amount > 0 and math.isfinite(limit.amount)):
            raise ValueError(f"a limit must be greater than 0, got {written!r}")
        return limit


@dataclass(frozen=True)
class Requirement:
    """One demand on a network.

    Attributes:
        metric: a key of `TITLES`.
        limit: for `lose_at_most`, points of accuracy below the prototype.
        kind: `at_most` for costs, `at_least` for those of `GAINS`; `at_least` or `lose_at_most` for
            accuracy.
        mode: the power mode (nvpmodel) it is to be kept in: its id, or a name that is still to be
            looked up in the device file; None for the mode the device file pins.
    """

    metric: str
    limit: Limit
    kind: Kind = "at_most"
    mode: int | str | None = None

    def __post_init__(self) -> None:
        """Refuse combinations that mean nothing.

        Raises:
            ValueError: an unknown metric, or a kind the metric does not have.
        """
        if self.metric not in TITLES:
            raise ValueError(f"unknown metric {self.metric!r}; known: {', '.join(TITLES)}")
        kinds = kinds_of(self.metric)
        if self.kind not in kinds:
            raise ValueError(
                f"{self.metric} has no limit of kind {self.kind}; it has {', '.join(kinds)}"
            )
        if self.mode is not None and self.metric in {ACCURACY, *NOISELESS}:
            raise ValueError(f"{self.metric} is the same in every power mode: leave nvpmodel out")

    @property
    def key(self) -> str:
        """The figure it is about: the metric, and the power mode where it names one."""
        return self.metric if self.mode is None else f"{self.metric}@nvpmodel{self.mode}"

    @property
    def sense(self) -> records.Sense:
        """Whether the figure may not exceed the limit ("max") or not fall below it ("min")."""
        return "max" if self.kind == "at_most" else "min"

    @property
    def needs_prototype(self) -> bool:
        """Whether the limit depends on the prototype's figure."""
        return self.limit.relative or self.kind == "lose_at_most"

    def bound(self, prototype: float | None) -> float:
        """The limit in the metric's unit.

        Raises:
            ValueError: it depends on the prototype's figure, which is unknown.
        """
        if not self.needs_prototype:
            return self.limit.amount
        if prototype is None:
            raise ValueError(f"{self.metric}: the limit needs the prototype's figure")
        if self.kind == "lose_at_most":
            return prototype - self.limit.amount
        return prototype * self.limit.amount

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `from_json` gives back an equal record."""
        return {
            "metric": self.metric,
            "kind": self.kind,
            "amount": self.limit.amount,
            "relative": self.limit.relative,
            "nvpmodel": self.mode,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote, now or before there were power modes."""
        limit = Limit(float(data["amount"]), data["relative"])
        return cls(data["metric"], limit, data["kind"], data.get("nvpmodel"))


def kinds_of(metric: str) -> tuple[Kind, ...]:
    """The kinds of limit a metric has."""
    if metric == ACCURACY:
        return ("at_least", "lose_at_most")
    return ("at_least",) if metric in GAINS else ("at_most",)


def judge(requirement: Requirement, figure: Estimate, prototype: Estimate | None = None) -> Verdict:
    """Feasible where the whole interval keeps the limit, infeasible where none of it does.

    For a limit relative to the prototype the interval is that of the ratio (costs) or of the
    difference (accuracy), found from both intervals by the method of variance estimates recovery
    (Donner and Zou, "Closed-form confidence intervals for functions of the normal mean and
    standard deviation", 2012), on logarithms for ratios.

    Raises:
        ValueError: the limit needs the prototype's figure and there is none.
    """
    bound = requirement.bound(prototype.value if prototype else None)
    low, high = figure.low, figure.high
    if prototype is not None and requirement.needs_prototype:
        low, high = _interval_against(requirement, figure, prototype)
    if requirement.kind == "at_most":
        return "feasible" if high <= bound else "infeasible" if low > bound else "undecided"
    return "feasible" if low >= bound else "infeasible" if high < bound else "undecided"


def _interval_against(
    requirement: Requirement, figure: Estimate, prototype: Estimate
) -> tuple[float, float]:
    """The figure's interval widened by what is not known of the prototype's figure."""
    if requirement.kind == "lose_at_most":
        down = math.hypot(figure.value - figure.low, prototype.high - prototype.value)
        up = math.hypot(figure.high - figure.value, prototype.value - prototype.low)
        return figure.value - down, figure.value + up
    down = math.hypot(_log(figure.value, figure.low), _log(prototype.high, prototype.value))
    up = math.hypot(_log(figure.high, figure.value), _log(prototype.value, prototype.low))
    return figure.value * math.exp(-down), figure.value * math.exp(up)


def _log(above: float, below: float) -> float:
    """Logarithm of a ratio; infinite where an interval reaches down to nothing."""
    return math.log(above / below) if below > 0 else math.inf


def together(verdicts: tuple[Verdict, ...]) -> Verdict:
    """One verdict over several demands: one broken demand breaks all."""
    if "infeasible" in verdicts:
        return "infeasible"
    return "undecided" if "undecided" in verdicts else "feasible"


def excess(requirement: Requirement, value: float, prototype: float | None = None) -> float:
    """How far a figure lies beyond the limit, as a logarithm of their ratio; below 0 it is kept.

    The common currency of costs and accuracy, by which the least violating network is found.
    """
    bound = requirement.bound(prototype)
    good, bad = (bound, value) if requirement.kind == "at_most" else (value, bound)
    if good <= 0:
        return math.inf
    return math.log(bad / good) if bad > 0 else -math.inf


def search_limit(requirement: Requirement, prototype: float | None = None) -> records.Limit:
    """The demand as the search takes it: absolute, accuracy as a fraction."""
    bound = requirement.bound(prototype)
    metric = _IN_SEARCH.get(requirement.metric, requirement.metric)
    if requirement.metric == ACCURACY:
        # Refuses only what is 80 % sure to miss: accuracy after fine-tuning is the least certain
        # prediction, and a strict screen would refuse everything near the limit, where U is best.
        return records.Limit(ACCURACY, bound / 100, "min", alpha=0.8)
    return records.Limit(metric, bound, requirement.sense)


def screens(
    requirements: Sequence[Requirement], in_mode: Mapping[str, float], default: Mapping[str, float]
) -> tuple[Requirement, ...]:
    """What the search screens by: limits of other power modes carried over to the default one.

    A network is measured in one mode during the search; measuring it in all would multiply the
    board time. So a limit of another mode is taken as one of the default mode, moved by as much as
    the prototype's own figure moves between the two. That predicts, and a prediction may rank and
    reject: fresh builds, measured in that mode, accept.

    Args:
        requirements: every demand, of any mode.
        in_mode: the prototype's figures in other modes, by `Requirement.key`.
        default: its figures in the default mode, by metric.
    """
    moved = []
    for requirement in requirements:
        limit = requirement.limit
        if requirement.mode is not None and not limit.relative:
            factor = default[requirement.metric] / in_mode[requirement.key]
            limit = replace(limit, amount=limit.amount * factor)
        one = replace(requirement, limit=limit, mode=None)
        moved += [] if one in moved else [one]
    return tuple(moved)


def describe(
    requirement: Requirement, prototype: float | None = None, rail: str | None = None
) -> str:
    """The demand in words, with the limit worked out where the prototype's figure is known.

    Args:
        requirement: the demand.
        prototype: the prototype's figure in the metric's unit.
        rail: power rail that energy is read on.
    """
    title, unit = TITLES[requirement.metric]
    read = f", as read on {rail}" if rail and requirement.metric in ON_RAIL else ""
    if requirement.mode is not None:
        read = f" in power mode {requirement.mode}{read}"
    kind, unit = requirement.kind.replace("_", " "), f" {unit}" if unit else ""
    amount = f"{requirement.limit.amount:.4g}"
    if requirement.kind == "lose_at_most":
        words = f"{title} at most {amount} points below the prototype's"
    elif requirement.limit.relative:
        words = f"{title} {kind} {100 * requirement.limit.amount:.4g} % of the prototype's"
    else:
        return f"{title} {kind} {amount}{unit}{read}"
    if prototype is None:
        return words + read
    return f"{words} {prototype:.4g}{unit} = {requirement.bound(prototype):.4g}{unit}{read}"


def unreachable(
    requirement: Requirement,
    best: Estimate,
    prototype: Estimate | None = None,
    *,
    rail: str | None = None,
) -> str | None:
    """Why no network can meet a demand, or None where the best figure does not rule it out.

    Args:
        requirement: the demand.
        best: the figure of the network that does best by this metric alone: the smallest of the
            space for costs, the prototype for accuracy.
        prototype: the prototype's figure.
        rail: power rail that energy is read on.
    """
    if judge(requirement, best, prototype) != "infeasible":
        return None
    base = prototype.value if prototype else None
    unit = TITLES[requirement.metric][1]
    who = "the smallest network" if requirement.kind == "at_most" else "the best network"
    share = ""
    if base and requirement.limit.relative:
        share = f", {100 * best.value / base:.3g} % of the prototype's"
    return (
        f"nothing can meet: {describe(requirement, base, rail)}; "
        f"{who} of this space has {best.value:.4g} {unit}{share}"
    )
