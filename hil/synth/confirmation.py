"""Confirmation of a run's finalists: which builds to measure next, and what follows from them.

The statistics and the argument for them are in `certificate.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from hil.synth.certificate import Finding, Plan, Ruling, accuracy_finding, cost_finding
from hil.synth.paired import Paired
from hil.synth.records import Verdict
from hil.synth.requirements import Requirement, together

SCHEMA = "hil/confirmation@1"
PROTOTYPE = "prototype"


@dataclass(frozen=True)
class Need:
    """One fresh build to measure; `build` counts from 1, since 0 is the search's own."""

    network: str
    build: int


@dataclass
class Confirmation:
    """All finalists of a run, their builds and what follows from them.

    It holds figures only. Every ruling is worked out anew from the first n builds of the network
    and of the prototype at each planned look n, so that it depends neither on the order in which
    figures arrive nor on how often it is asked for.

    Args:
        plan: fixed beforehand.
        networks: names of the finalists, best first.
    """

    plan: Plan
    networks: tuple[str, ...]
    _figures: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    _accuracy: dict[str, Paired] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Hold the finalists to the plan.

        Raises:
            ValueError: more finalists than share alpha, one twice, or one called as the prototype.
        """
        if len(self.networks) > self.plan.finalists:
            raise ValueError(f"{len(self.networks)} finalists; alpha is shared by fewer")
        if len({*self.networks, PROTOTYPE}) != len(self.networks) + 1:
            raise ValueError("finalists need different names, none of them the prototype's")

    def needs_more(self) -> tuple[Need, ...]:
        """Builds to measure before the next look, interleaved; empty when all is decided."""
        open_networks = [n for n in self.networks if self._wants_builds(n)]
        if not open_networks:
            return ()
        next_look = {n: self._next_look(n) for n in open_networks}
        if self.plan.needs_prototype:
            next_look = {PROTOTYPE: max(next_look.values()), **next_look}
        return tuple(
            Need(network, build)
            for build in range(1, self.plan.most_builds + 1)
            for network, upto in next_look.items()
            if build <= upto and build not in self._figures.get(network, {})
        )

    def needs_accuracy(self) -> tuple[str, ...]:
        """Finalists whose answers on the held-out pictures are still to be given."""
        if not self.plan.accuracies:
            return ()
        return tuple(n for n in self.networks if n not in self._accuracy)

    def add(self, network: str, build: int, figures: Mapping[str, float]) -> Ruling | None:
        """Give the figures of one build; a build that could not be measured is measured again.

        Leaving a build out because of its figures would void the certificate, so a failed one
        keeps its number.

        Args:
            network: a finalist, or `PROTOTYPE`.
            build: as in `Need`.
            figures: metric to figure of that build; required metrics must be there.

        Returns:
            The finalist's ruling with this build in; None for the prototype.

        Raises:
            ValueError: an unknown network or build, a build given twice, or a figure missing or
                not positive.
        """
        self._check(network)
        builds = self._figures.setdefault(network, {})
        if not 1 <= build <= self.plan.most_builds or build in builds:
            raise ValueError(f"build {build} of {network} is not wanted")
        metrics = [r.metric for r in self.plan.costs]
        kept = {metric: float(figures[metric]) for metric in metrics if metric in figures}
        wrong = [m for m in metrics if not (m in kept and 0 < kept[m] < math.inf)]
        if wrong:
            raise ValueError(f"build {build} of {network} has no figure of {', '.join(wrong)}")
        builds[build] = kept
        return None if network == PROTOTYPE else self.ruling(network)

    def add_accuracy(self, network: str, paired: Paired) -> Ruling:
        """Give a finalist's comparison with the prototype on the held-out pictures.

        Raises:
            ValueError: an unknown finalist, or one that has been compared before.
        """
        self._check(network)
        if network == PROTOTYPE or network in self._accuracy:
            raise ValueError(f"the accuracy of {network} is not wanted")
        self._accuracy[network] = paired
        return self.ruling(network)

    def ruling(self, network: str) -> Ruling:
        """What follows from all that is known of a finalist.

        Raises:
            ValueError: an unknown finalist.
        """
        self._check(network)
        accuracy = tuple(self._accuracy_findings(network))
        refused = together(tuple(f.verdict for f in accuracy)) == "infeasible"
        costs, builds, verdict = self._costs(network)
        if refused or verdict == "infeasible":
            return self._rule("infeasible", True, builds, (*costs, *accuracy))
        if network in self.needs_accuracy():
            return self._rule("undecided", False, builds, costs)
        final = verdict == "feasible" or builds == self.plan.most_builds
        return self._rule(verdict, final, builds, (*costs, *accuracy))

    def _wants_builds(self, network: str) -> bool:
        _, builds, verdict = self._costs(network)
        undecided = verdict == "undecided" and builds < self.plan.most_builds
        return undecided and not self.ruling(network).final

    def _rule(
        self, verdict: Verdict, final: bool, builds: int, findings: tuple[Finding, ...]
    ) -> Ruling:
        return Ruling(verdict, final, builds, findings, self.plan.provenance)

    def _check(self, network: str) -> None:
        if network not in (*self.networks, PROTOTYPE):
            raise ValueError(f"{network} is no finalist of this run")

    def _costs(self, network: str) -> tuple[tuple[Finding, ...], int, Verdict]:
        """Findings and verdict at the deciding look, or else at the last one there are builds for.

        A later look never overrules an earlier decision: it is not made.
        """
        if not self.plan.costs:
            return (), 0, "feasible"
        findings: tuple[Finding, ...] = ()
        seen = 0
        verdict: Verdict = "undecided"
        for builds in self.plan.looks:
            if not self._complete(network, builds):
                break
            findings = tuple(self._finding(network, r, builds) for r in self.plan.costs)
            seen, verdict = builds, together(tuple(f.verdict for f in findings))
            if verdict != "undecided":
                break
        return findings, seen, verdict

    def _finding(self, network: str, requirement: Requirement, builds: int) -> Finding:
        own = self.series(network, requirement.metric, builds)
        prototype = None
        if requirement.limit.relative:
            prototype = self.series(PROTOTYPE, requirement.metric, builds)
        return cost_finding(requirement, own, prototype, self.plan.spend(builds))

    def _complete(self, network: str, builds: int) -> bool:
        groups = (network, PROTOTYPE) if self.plan.needs_prototype else (network,)
        wanted = range(1, builds + 1)
        return all(k in self._figures.get(group, {}) for group in groups for k in wanted)

    def _next_look(self, network: str) -> int:
        """The first look whose builds are not all there; the last one if none is missing."""
        missing = (n for n in self.plan.looks if not self._complete(network, n))
        return next(missing, self.plan.most_builds)

    def series(self, network: str, metric: str, builds: int | None = None) -> tuple[float, ...]:
        """Figures of a metric by build, of the first so many builds or of all there are."""
        known = sorted(self._figures.get(network, {}).items())[:builds]
        return tuple(figures[metric] for _, figures in known)

    def _accuracy_findings(self, network: str) -> tuple[Finding, ...]:
        paired = self._accuracy.get(network)
        if paired is None:
            return ()
        return tuple(
            accuracy_finding(requirement, paired, self.plan.accuracy_alpha)
            for requirement in self.plan.accuracies
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `from_json` gives back an equal state."""
        return {
            "schema": SCHEMA,
            "plan": self.plan.to_json(),
            "networks": list(self.networks),
            "figures": {
                network: {str(k): dict(figures) for k, figures in sorted(builds.items())}
                for network, builds in self._figures.items()
            },
            "accuracy": {network: p.to_json() for network, p in self._accuracy.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: the schema is not one this version reads.
        """
        if data.get("schema") != SCHEMA:
            raise ValueError(f"confirmation of schema {data.get('schema')!r}; this reads {SCHEMA}")
        self = cls(Plan.from_json(data["plan"]), tuple(data["networks"]))
        for network, builds in data["figures"].items():
            for build, figures in builds.items():
                self.add(network, int(build), figures)
        for network, paired in data["accuracy"].items():
            self.add_accuracy(network, Paired.from_json(paired))
        return self
