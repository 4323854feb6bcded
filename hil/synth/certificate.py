"""The certificate: finalists confirmed on fresh engine builds by a test that may look often.

This file holds the plan and the judging of one look; `confirmation.py` keeps a run's figures.

What is claimed. With probability at least 1 - alpha no network among the finalists of a run is
called feasible while its mean cost over builds (the mean of the logarithm) breaks a limit.

Why it holds:

* A build is the unit of replication. TensorRT picks kernels by timing them, so two builds of one
  network differ; blocks inside a build are correlated and share its kernels. One build gives one
  figure per metric, however many blocks went into it, and nothing is assumed of the blocks.
* A limit is judged by a one-sided t bound on logarithms. Relative to the prototype, the difference
  of mean logarithms has Welch's standard error; the degrees of freedom are those of the smaller
  group, which bounds the error for every ratio of the two variances (P. Hsu 1938; M. Mickey and
  M. Brown, Ann. Math. Stat. 37, 1966). Satterthwaite's larger number is an approximation that
  oversteps far out in the tail: twice the error asked for at three builds.
* Looks are planned: after 3, 4, ... builds. Each spends its share of alpha, later looks more since
  they decide the close cases, and the shares add up to alpha (union bound): valid under any
  dependence between looks. Between looks nothing is judged.
* Finalists share alpha equally (Bonferroni), so they may share the prototype's builds, and one
  that is given up early leaves its share unused.
* Requirements do not share alpha. A certificate says "all limits are kept"; to give a false one,
  the limit that is really broken must itself be accepted, which happens with probability alpha
  at most, whatever the others do (intersection-union test: R. Berger, Technometrics 24, 1982).
* Memory is what the engine asks for, without noise: every build must keep the limit.

Assumed: figures of fresh builds are independent and their logarithms near normal. Refusals (the
whole bound beyond the limit) stop early to save builds; they cannot make a false certificate.

Accuracy is judged on the held-out pictures by `paired.Paired`. By default its point estimate
binds: a statement about these pictures, outside alpha. With `confidence` its one-sided bound
binds, at error 1 - confidence shared over finalists.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from hil.core.stats import Spread, spread
from hil.synth.paired import Paired
from hil.synth.records import ACCURACY, Verdict
from hil.synth.requirements import Requirement

SCOPE = "build"
FEWEST_BUILDS = 3
NOISELESS = frozenset({"memory_mib"})
# Equal figures from a few builds show the instrument's resolution, not builds that are all alike.
_LEAST_SPREAD = 0.001


@dataclass(frozen=True)
class Plan:
    """What is confirmed, fixed before the first build is measured.

    Attributes:
        requirements: every demand on a network.
        finalists: how many networks share `alpha`; no more can be confirmed.
        alpha: chance of any false certificate in a run.
        fewest_builds: builds at the first look.
        most_builds: builds at the last look.
        provenance: measured, emulated or replayed; anything but measured is said in the verdict.
        confidence: makes the bound of accuracy binding; None lets the point estimate bind.
    """

    requirements: tuple[Requirement, ...]
    finalists: int
    alpha: float = 0.05
    fewest_builds: int = FEWEST_BUILDS
    most_builds: int = 8
    provenance: str = "measured"
    confidence: float | None = None

    def __post_init__(self) -> None:
        """Refuse a plan that could not be argued for.

        Raises:
            ValueError: saying what is wrong.
        """
        if not FEWEST_BUILDS <= self.fewest_builds <= self.most_builds:
            raise ValueError(f"at least {FEWEST_BUILDS} builds are needed, and most >= fewest")
        if self.finalists < 1 or not 0 < self.alpha < 0.5:
            raise ValueError("at least one finalist and an alpha between 0 and 0.5 are needed")

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of builds after which a finalist is judged."""
        return tuple(range(self.fewest_builds, self.most_builds + 1))

    def spend(self, builds: int) -> float:
        """Error that the look at so many builds may make, for one finalist."""
        return self.alpha / self.finalists * builds / sum(self.looks)

    @property
    def accuracy_alpha(self) -> float | None:
        """One-sided error of a finalist's accuracy bound; None where the point estimate binds."""
        return None if self.confidence is None else (1 - self.confidence) / self.finalists

    @property
    def costs(self) -> tuple[Requirement, ...]:
        """The demands judged on builds."""
        return tuple(r for r in self.requirements if r.metric != ACCURACY)

    @property
    def accuracies(self) -> tuple[Requirement, ...]:
        """The demands judged on held-out pictures."""
        return tuple(r for r in self.requirements if r.metric == ACCURACY)

    @property
    def needs_prototype(self) -> bool:
        """Whether the prototype has to be built and measured as often as the finalists."""
        return any(r.limit.relative for r in self.costs)

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `from_json` gives back an equal plan."""
        return vars(self) | {"requirements": [r.to_json() for r in self.requirements]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        requirements = tuple(Requirement.from_json(r) for r in data["requirements"])
        return cls(**{**data, "requirements": requirements})


@dataclass(frozen=True)
class Finding:
    """One demand as judged at one look.

    Attributes:
        value: the figure in the limit's terms: the metric's unit, a fraction of the prototype's
            where the limit is relative, points lost where the limit is a loss of accuracy.
        bound: the one-sided bound on the side of the limit, same terms.
        limit: same terms.
        error: one-sided error of `bound`; None where the point estimate binds or there is no noise.
    """

    requirement: Requirement
    verdict: Verdict
    value: float
    bound: float
    limit: float
    error: float | None

    def to_json(self) -> dict[str, Any]:
        """Return plain data for reports."""
        return vars(self) | {"requirement": self.requirement.to_json()}


@dataclass(frozen=True)
class Ruling:
    """What is known of one finalist.

    Attributes:
        verdict: of all demands together.
        final: whether no further build will change it; undecided and final is a rejection.
        builds: number of builds the last look saw, 0 before the first.
        findings: by demand, at the last look.
        provenance: of the figures.
    """

    verdict: Verdict
    final: bool
    builds: int
    findings: tuple[Finding, ...]
    provenance: str

    @property
    def word(self) -> str:
        """The verdict as it may be shown: feasible without a board is never called feasible."""
        measured = self.provenance == "measured" or self.verdict != "feasible"
        return self.verdict if measured else f"{self.verdict}_{self.provenance}"

    def to_json(self) -> dict[str, Any]:
        """Return plain data for reports."""
        return {
            "verdict": self.word,
            "final": self.final,
            "scope": SCOPE,
            "builds": self.builds,
            "findings": [finding.to_json() for finding in self.findings],
            "provenance": self.provenance,
        }


def cost_finding(
    requirement: Requirement,
    own: tuple[float, ...],
    prototype: tuple[float, ...] | None,
    error: float,
) -> Finding:
    """Judge a cost at one look.

    Args:
        requirement: a demand on a cost.
        own: the finalist's figure of each build.
        prototype: the prototype's, needed where the limit is relative.
        error: one-sided error this look may make, in either direction.
    """
    other = prototype if requirement.limit.relative else None
    limit = requirement.limit.amount
    if requirement.metric in NOISELESS:
        worst = max(own) / (min(other) if other else 1.0)
        kept: Verdict = "feasible" if worst <= limit else "infeasible"
        return Finding(requirement, kept, worst, worst, limit, None)
    logs = log_spread(own, other)
    low, high = logs.lower(1 - error), logs.upper(1 - error)
    verdict: Verdict = "undecided"
    if high <= math.log(limit):
        verdict = "feasible"
    elif low > math.log(limit):
        verdict = "infeasible"
    bound = low if verdict == "infeasible" else high
    return Finding(requirement, verdict, math.exp(logs.mean), math.exp(bound), limit, error)


def log_spread(own: tuple[float, ...], other: tuple[float, ...] | None = None) -> Spread:
    """Mean logarithm over builds, or its difference to another network's, with standard error.

    Degrees of freedom are those of the smaller group (see the module's docstring).
    """
    groups = [_floored(spread(np.log(group))) for group in (own, other) if group is not None]
    error = math.hypot(*(group.standard_error for group in groups))
    mean = groups[0].mean - (groups[1].mean if len(groups) == 2 else 0.0)
    return Spread(mean, error, min(group.df for group in groups))


def _floored(logs: Spread) -> Spread:
    least = _LEAST_SPREAD / math.sqrt(logs.df + 1)
    return Spread(logs.mean, max(logs.standard_error, least), logs.df)


def accuracy_finding(requirement: Requirement, paired: Paired, alpha: float | None) -> Finding:
    """Judge accuracy on held-out pictures; there are no further pictures to wait for.

    Args:
        requirement: a demand on accuracy.
        paired: what the finalist and the prototype got right.
        alpha: one-sided error of the bound where it binds; None lets the point estimate bind.
    """
    shown = 0.025 if alpha is None else alpha
    if requirement.kind == "lose_at_most":
        value, bound = -paired.difference, -paired.lower(shown)
        limit = requirement.limit.amount
        kept = _at_most(value if alpha is None else bound, limit)
    else:
        value, bound = paired.accuracy, paired.accuracy_lower(shown)
        limit = requirement.limit.amount
        kept = _at_most(limit, value if alpha is None else bound)
    verdict: Verdict = "feasible" if kept else "infeasible"
    return Finding(requirement, verdict, value, bound, limit, alpha)


def _at_most(value: float, limit: float) -> bool:
    """Compare percentages of whole pictures, which binary fractions only come close to."""
    return value <= limit + 1e-9
