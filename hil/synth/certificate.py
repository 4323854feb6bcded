"""The certificate: finalists confirmed on fresh engine builds by a test that may look often.

This file holds the plan and the judging of one look; `looks.py` has the arithmetic and
`confirmation.py` keeps a run's figures. `docs/certificates.md` says it at length, and
`hil bench certificate` shows it.

What is claimed. With probability at least 1 - alpha no network among the finalists of a run is
called feasible while its mean cost over builds (the mean of the logarithm) breaks a limit.

Why it holds:

* A build is the unit of replication. TensorRT picks kernels by timing them, so two builds of one
  network differ; blocks inside a build are correlated and share its kernels. One build gives one
  figure per metric, however many blocks went into it, and nothing is assumed of the blocks.
* A relative limit is judged on pairs: a build of the finalist and one of the prototype, measured
  one after the other. What the board does slowly (heat, a sensor's gain) is in both and cancels,
  and Student's t of the pairs' differences is exact for any ratio of the two spreads.
* A look is refused besides where builds that were not seen could break the limit (see `looks.py`).
* Looks are planned by number of builds. Each spends its share of the error, and the shares add up
  to 1 (union bound): valid under any dependence between looks. A look that is not made, since
  builds went to another finalist or none was worth it, can only lower the error. So builds may be
  given out by whatever the figures say, as long as a pair is chosen before it is measured.
* Finalists share alpha by Holm's procedure: equal shares, and the share of one that is certified
  passes to the others. It holds under any dependence, so they may share the prototype's builds.
* Requirements do not share alpha. A certificate says "all limits are kept"; to give a false one,
  the limit that is really broken must itself be accepted, which happens with probability alpha
  at most, whatever the others do (intersection-union test: R. Berger, Technometrics 24, 1982).
  So each may be accepted at a look of its own.
* Memory, MACs and parameters have no noise: every build must keep the limit.

Assumed: pairs of fresh builds are independent; their logarithms are near normal, or lie no further
than `unseen` beyond those seen. Refusals stop early to save builds; they cannot make a false
certificate.

Accuracy is judged on the held-out pictures by `paired.Paired`, or by `resampled.Resampled` where
the score is no mean over pictures. By default its point estimate
binds: a statement about these pictures, outside alpha. With `confidence` its one-sided bound
binds, at error 1 - confidence shared over finalists.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np

from hil.synth.looks import Design, FloatArray, margin, p_value
from hil.synth.looks import spread as spread_of
from hil.synth.records import ACCURACY, Verdict
from hil.synth.requirements import NOISELESS, Requirement
from hil.synth.resampled import Comparison

Scope = Literal["engine", "build"]
FEWEST_BUILDS = 3
MOST_BUILDS = 16
UNSEEN = 0.05


@dataclass(frozen=True)
class Plan:
    """What is confirmed, fixed before the first build is measured.

    Attributes:
        requirements: every demand on a network.
        finalists: the most networks that may share `alpha`.
        alpha: chance of any false certificate in a run.
        fewest_builds: builds at the first look.
        most_builds: builds at the last look.
        provenance: measured, emulated or replayed; anything but measured is said in the verdict.
        confidence: makes the bound of accuracy binding; None lets the point estimate bind.
        unseen: by what fraction a build may lie beyond all that were seen.
        scope: `build` speaks of the network's fresh builds, `engine` of the one engine that was
            measured again and again.
    """

    requirements: tuple[Requirement, ...]
    finalists: int
    alpha: float = 0.05
    fewest_builds: int = FEWEST_BUILDS
    most_builds: int = MOST_BUILDS
    provenance: str = "measured"
    confidence: float | None = None
    unseen: float = UNSEEN
    scope: Scope = "build"

    def __post_init__(self) -> None:
        """Refuse a plan that could not be argued for.

        Raises:
            ValueError: saying what is wrong.
        """
        if not FEWEST_BUILDS <= self.fewest_builds <= self.most_builds:
            raise ValueError(f"at least {FEWEST_BUILDS} builds are needed, and most >= fewest")
        if self.finalists < 1 or not 0 < self.alpha < 0.5:
            raise ValueError("at least one finalist and an alpha between 0 and 0.5 are needed")
        if not 0 <= self.unseen < 1:
            raise ValueError("a fraction below 1 is needed for what builds not seen may cost")

    @cached_property
    def design(self) -> Design:
        """The looks and the shares they spend."""
        return Design.between(self.fewest_builds, self.most_builds)

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of builds after which a finalist is judged."""
        return self.design.looks

    def spend(self, builds: int, left: int | None = None) -> float:
        """Error that the look at so many builds may make for one finalist.

        Args:
            builds: one of `looks`.
            left: finalists that are not certified yet, itself among them; None for all.
        """
        share = self.design.shares[self.looks.index(builds)]
        return self.alpha / (self.finalists if left is None else left) * share

    def unseen_of(self, requirement: Requirement) -> float:
        """What unseen builds may cost, as a logarithm; both networks of a pair may have some."""
        own = math.log1p(self.unseen)
        return own * math.sqrt(2) if requirement.limit.relative else own

    @property
    def accuracy_alpha(self) -> float | None:
        """One-sided error of a finalist's accuracy bound; None where the point estimate binds."""
        return None if self.confidence is None else (1 - self.confidence) / self.finalists

    @property
    def costs(self) -> tuple[Requirement, ...]:
        """The demands judged on builds."""
        return tuple(r for r in self.requirements if r.metric != ACCURACY)

    @property
    def noisy(self) -> tuple[Requirement, ...]:
        """Of these, those that builds differ in."""
        return tuple(r for r in self.costs if r.metric not in NOISELESS)

    @property
    def accuracies(self) -> tuple[Requirement, ...]:
        """The demands judged on held-out pictures."""
        return tuple(r for r in self.requirements if r.metric == ACCURACY)

    @property
    def needs_prototype(self) -> bool:
        """Whether the prototype has to be built and measured beside the finalists."""
        return any(r.limit.relative for r in self.costs)

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `from_json` gives back an equal plan."""
        fields = {name: getattr(self, name) for name in type(self).__dataclass_fields__}
        return fields | {"requirements": [r.to_json() for r in self.requirements]}

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
        builds: how many the look saw; 0 for accuracy.
        looks: how many looks were made up to this one; 0 for accuracy.
    """

    requirement: Requirement
    verdict: Verdict
    value: float
    bound: float
    limit: float
    error: float | None
    builds: int = 0
    looks: int = 0

    @property
    def slack(self) -> float:
        """By what share of the limit what binds keeps it; below 0 where it does not.

        What binds is the bound, or the value where an accuracy's point estimate does.
        """
        binds = self.bound if self.error is not None else self.value
        least = self.requirement.kind == "at_least"
        apart = binds - self.limit if least else self.limit - binds
        return apart / self.limit if self.limit else apart

    def to_json(self) -> dict[str, Any]:
        """Return plain data for reports."""
        return vars(self) | {"requirement": self.requirement.to_json()}


@dataclass(frozen=True)
class Ruling:
    """What is known of one finalist.

    Attributes:
        verdict: of all demands together.
        final: whether no further build of its own is wanted; undecided and final is a rejection,
            unless another's certificate leaves it a larger share of alpha.
        builds: number of builds the last look saw, 0 before the first.
        findings: by demand, each at the look that decided it, or at the last.
        provenance: of the figures.
        scope: see `Plan`.
        given_up: whether it was left because a certificate had become too unlikely.
    """

    verdict: Verdict
    final: bool
    builds: int
    findings: tuple[Finding, ...]
    provenance: str
    scope: Scope = "build"
    given_up: bool = False

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
            "scope": self.scope,
            "builds": self.builds,
            "given_up": self.given_up,
            "findings": [finding.to_json() for finding in self.findings],
            "provenance": self.provenance,
        }


def excesses(
    requirement: Requirement, own: Sequence[float], prototype: Sequence[float] | None
) -> FloatArray:
    """By how much each build breaks a limit, as `looks.py` takes it: above 0 it is broken.

    Args:
        requirement: a demand on a cost.
        own: the finalist's figure of each build.
        prototype: that of the prototype's build beside each, needed where the limit is relative.
    """
    logs = np.log(np.asarray(own, dtype=np.float64)) - math.log(requirement.limit.amount)
    if requirement.limit.relative:
        assert prototype is not None
        logs = logs - np.log(np.asarray(prototype, dtype=np.float64))
    return np.asarray(-logs if requirement.kind == "at_least" else logs, dtype=np.float64)


def cost_finding(
    requirement: Requirement,
    own: Sequence[float],
    prototype: Sequence[float] | None,
    error: float,
    unseen: float = 0.0,
) -> Finding:
    """Judge a cost at one look.

    Args:
        requirement: a demand on a cost.
        own: the finalist's figure of each build.
        prototype: the prototype's, pair by pair, needed where the limit is relative.
        error: one-sided error this look may make, in either direction.
        unseen: what builds not seen may cost, as a logarithm (`Plan.unseen_of`).
    """
    limit, count = requirement.limit.amount, len(own)
    if requirement.metric in NOISELESS:
        return _noiseless(requirement, own, prototype)
    beyond = excesses(requirement, own, prototype)
    mean = float(beyond.mean())
    half = float(margin(spread_of(beyond), count, error, unseen))
    verdict: Verdict = "undecided"
    if float(p_value(beyond, unseen)) <= error:
        verdict = "feasible"
    elif float(p_value(-beyond, unseen)) <= error:
        verdict = "infeasible"
    sign = -1.0 if requirement.kind == "at_least" else 1.0
    bound = mean - half if verdict == "infeasible" else mean + half
    value, edge = (limit * math.exp(sign * log) for log in (mean, bound))
    return Finding(requirement, verdict, value, edge, limit, error, count)


def _noiseless(
    requirement: Requirement, own: Sequence[float], prototype: Sequence[float] | None
) -> Finding:
    other = min(prototype) if prototype and requirement.limit.relative else 1.0
    worst, limit = max(own) / other, requirement.limit.amount
    kept: Verdict = "feasible" if worst <= limit else "infeasible"
    return Finding(requirement, kept, worst, worst, limit, None, len(own))


def accuracy_finding(requirement: Requirement, paired: Comparison, alpha: float | None) -> Finding:
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
