"""Confirmation of a run's finalists: which builds to measure next, and what follows from them.

The statistics and the argument for them are in `certificate.py`.

Builds come in rounds. In a round some of the finalists are built and measured once each, and the
prototype beside them where a limit is relative to it; a build's number is its round's. Builds go
where they decide most: to the open finalist of highest U, since which certified network is best
cannot be told without it. Where rounds share the prototype's build the others take part until that
one will probably be certified, for they are cheap there and needed if it falls. Once the best is
known the rest are measured together. One that can hardly be certified any more is given up.

Who takes part in a round follows from the figures of earlier rounds alone. So a pair is chosen
before it is measured (which the certificate needs), and a run that is resumed chooses alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np

from hil.synth import looks
from hil.synth.certificate import (
    Finding,
    Plan,
    Ruling,
    accuracy_finding,
    cost_finding,
    excesses,
)
from hil.synth.records import Verdict
from hil.synth.requirements import Requirement, together
from hil.synth.resampled import Comparison, comparison_from_json

SCHEMA = "hil/confirmation@2"
PROTOTYPE = "prototype"
LIKELY = 0.5
"""Chance of being certified at the last look from which on a finalist is measured alone."""
Policy = Literal["adaptive", "round_robin"]


@dataclass(frozen=True)
class Need:
    """One fresh build to measure; `build` is its round, from 1, since 0 is the search's own."""

    network: str
    build: int


@dataclass(frozen=True)
class _Standing:
    """What a finalist's builds of some rounds come to, before alpha is shared out."""

    followed: looks.Followed
    rounds: tuple[int, ...]
    broken: bool

    @property
    def spent(self) -> float:
        """The least error it could be certified at."""
        return math.inf if self.broken else float(self.followed.spent)


@dataclass
class Confirmation:
    """All finalists of a run, their builds and what follows from them.

    It holds figures only; every ruling is worked out anew from the first n pairs at each planned
    look n, so that it depends neither on the order in which figures arrive nor on how often it is
    asked for.

    Args:
        plan: fixed beforehand.
        networks: names of the finalists, highest U first.
        policy: how builds are shared out; `round_robin` treats open finalists alike.
    """

    plan: Plan
    networks: tuple[str, ...]
    policy: Policy = "adaptive"
    _figures: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    _accuracy: dict[str, Comparison] = field(default_factory=dict)
    _known: dict[tuple[str, tuple[int, ...]], _Standing] = field(default_factory=dict, repr=False)

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
        """Builds to measure now: what is missing of the present round; empty when all is decided.

        A call after each of them gives the rest; the next round comes when they are all there.
        """
        last = max((max(f, default=0) for f in self._figures.values()), default=0)
        for number in (last, last + 1):
            members = self._members(number) if number else ()
            missing = tuple(
                Need(n, number) for n in members if number not in self._figures.get(n, {})
            )
            if missing:
                return missing
        return ()

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
            figures: by `Requirement.key`; all required ones must be there.

        Returns:
            The finalist's ruling with this build in; None for the prototype.

        Raises:
            ValueError: an unknown network or build, a build given twice, or a figure missing or
                not positive.
        """
        self.add_figures(network, build, figures)
        return None if network == PROTOTYPE else self.ruling(network)

    def add_figures(self, network: str, build: int, figures: Mapping[str, float]) -> None:
        """Give the figures of one build (see `add`) and ask for no ruling yet."""
        self._check(network)
        builds = self._figures.setdefault(network, {})
        full = network != PROTOTYPE and len(builds) == self.plan.most_builds
        if not 1 <= build <= self.plan.most_builds * len(self.networks) or build in builds or full:
            raise ValueError(f"build {build} of {network} is not wanted")
        keys = [r.key for r in self.plan.costs]
        kept = {key: float(figures[key]) for key in keys if key in figures}
        wrong = [k for k in keys if not (k in kept and 0 < kept[k] < math.inf)]
        if wrong:
            raise ValueError(f"build {build} of {network} has no figure of {', '.join(wrong)}")
        builds[build] = kept

    def add_accuracy(self, network: str, paired: Comparison) -> Ruling:
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
        standing, kept = self._standing(network), self._certified(None)[network]
        findings = (*self._findings(network, standing), *accuracy)
        followed = standing.followed
        refused = standing.broken or bool(followed.refused) or self._inaccurate(network)
        given_up = bool(followed.given_up) and not kept
        verdict: Verdict = "infeasible" if refused else "feasible" if kept else "undecided"
        if verdict == "feasible" and network in self.needs_accuracy():
            verdict = "undecided"
        awaited = network in self.needs_accuracy() and not refused
        final = not awaited and not self._open(network, None)
        plan, builds = self.plan, int(followed.builds)
        return Ruling(verdict, final, builds, findings, plan.provenance, plan.scope, given_up)

    def wants_builds(self, network: str) -> bool:
        """Whether a finalist is still open, so that further builds of it may be asked for."""
        return self._open(network, None)

    def certified(self) -> tuple[str, ...]:
        """Finalists whose costs are certified, whatever their accuracy."""
        kept = self._certified(None)
        return tuple(n for n in self.networks if kept[n])

    def _members(self, number: int) -> tuple[str, ...]:
        """Who takes part in a round, by the figures of the rounds before it."""
        members = [n for n in self.networks if self._open(n, number)]
        if not members:
            return ()
        if self.policy == "adaptive" and not self._best_known(number):
            # The first one's verdict is needed whatever the others' are.
            shared = self.plan.needs_prototype and not self._likely(members[0], number)
            members = members if shared else members[:1]
        return (PROTOTYPE, *members) if self.plan.needs_prototype else tuple(members)

    def best_known(self) -> bool:
        """Whether no further build can change which certified finalist has the highest U."""
        return self._best_known(None)

    def _best_known(self, before: int | None) -> bool:
        kept = self._certified(before)
        first = next((n for n in self.networks if kept[n] or self._open(n, before)), None)
        return first is None or kept[first]

    def _open(self, network: str, before: int | None) -> bool:
        """Whether further builds of a finalist could still tell something."""
        standing = self._standing(network, before)
        followed = standing.followed
        decided = standing.broken or bool(followed.refused) or bool(followed.given_up)
        if decided or self._inaccurate(network) or self._certified(before)[network]:
            return False
        builds = len(self._complete(network, before))
        return builds < self.plan.most_builds and bool(self.plan.costs)

    def _likely(self, network: str, before: int) -> bool:
        """Whether a finalist will probably be certified; unknown before its first look."""
        rounds = self._complete(network, before)
        if len(rounds) < self.plan.fewest_builds:
            return False
        last, beyond = self.plan.most_builds, self._excesses(network, rounds)
        error = self.plan.spend(last, len(self.networks))
        return bool((looks.chance(beyond, last, error, self._unseen) >= LIKELY).all())

    def _standing(self, network: str, before: int | None = None) -> _Standing:
        there = self._complete(network, before)
        # Builds beyond the last look change nothing until the next one.
        rounds = there[: max((n for n in self.plan.looks if n <= len(there)), default=0)]
        key = (network, rounds)
        if key not in self._known:
            plan = self.plan
            error, last = plan.alpha / max(1, len(self.networks)), plan.alpha
            beyond = self._excesses(network, rounds)
            followed = looks.follow(beyond, plan.design, self._unseen, error, last)
            self._known[key] = _Standing(followed, rounds, self._breaks_exactly(network, rounds))
        return self._known[key]

    def _certified(self, before: int | None) -> dict[str, bool]:
        """Whose costs are certified, alpha shared among all finalists."""
        if not self.plan.costs:
            return dict.fromkeys(self.networks, True)
        spent = [
            math.inf if self._inaccurate(n) else self._standing(n, before).spent
            for n in self.networks
        ]
        seen = [int(self._standing(n, before).followed.builds) > 0 for n in self.networks]
        kept = looks.certified(np.array(spent), self.plan.alpha) if spent else np.zeros(0, bool)
        return {n: bool(k) and s for n, k, s in zip(self.networks, kept, seen, strict=True)}

    @property
    def _unseen(self) -> looks.FloatArray:
        return np.array([self.plan.unseen_of(r) for r in self.plan.noisy])

    def _excesses(self, network: str, rounds: tuple[int, ...]) -> looks.FloatArray:
        """(noisy requirements, rounds)."""
        rows = [excesses(r, *self._series(network, r, rounds)) for r in self.plan.noisy]
        return np.array(rows, dtype=np.float64).reshape(len(self.plan.noisy), len(rounds))

    def _breaks_exactly(self, network: str, rounds: tuple[int, ...]) -> bool:
        exact = [r for r in self.plan.costs if r not in self.plan.noisy]
        if not rounds:
            return False
        found = [cost_finding(r, *self._series(network, r, rounds), 1.0) for r in exact]
        return any(finding.verdict == "infeasible" for finding in found)

    def _findings(self, network: str, standing: _Standing) -> tuple[Finding, ...]:
        """Each demand on a cost at the look that decided it, or at the last one made."""
        seen = int(standing.followed.builds)
        made = [n for n in self.plan.looks if n <= seen]
        left = max(1, sum(not k for k in self._certified(None).values()))
        # A certified one was certified when it was among those still to be.
        left += self._certified(None)[network]
        found = []
        for requirement in self.plan.costs:
            finding = None
            for count, builds in enumerate(made, 1):
                figures = self._series(network, requirement, standing.rounds[:builds])
                error = self.plan.spend(builds, min(left, len(self.networks)))
                one = cost_finding(requirement, *figures, error, self.plan.unseen_of(requirement))
                finding = _at_look(one, count)
                if one.verdict != "undecided" and requirement in self.plan.noisy:
                    break
            found += [finding] if finding else []
        return tuple(found)

    def _series(
        self, network: str, requirement: Requirement, rounds: tuple[int, ...]
    ) -> tuple[tuple[float, ...], tuple[float, ...] | None]:
        def of(name: str) -> tuple[float, ...]:
            return tuple(self._figures[name][k][requirement.key] for k in rounds)

        return of(network), of(PROTOTYPE) if requirement.limit.relative else None

    def _complete(self, network: str, before: int | None) -> tuple[int, ...]:
        """Rounds in which all is there that the finalist is judged on."""
        own = self._figures.get(network, {})
        other = self._figures.get(PROTOTYPE, {})
        pairs = (k for k in own if not self.plan.needs_prototype or k in other)
        return tuple(sorted(k for k in pairs if before is None or k < before))

    def _check(self, network: str) -> None:
        if network not in (*self.networks, PROTOTYPE):
            raise ValueError(f"{network} is no finalist of this run")

    def _inaccurate(self, network: str) -> bool:
        return together(tuple(f.verdict for f in self._accuracy_findings(network))) == "infeasible"

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
            "policy": self.policy,
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
        self = cls(Plan.from_json(data["plan"]), tuple(data["networks"]), data["policy"])
        for network, builds in data["figures"].items():
            for build, figures in builds.items():
                self.add_figures(network, int(build), figures)
        self._accuracy = {n: comparison_from_json(p) for n, p in data["accuracy"].items()}
        return self


def _at_look(finding: Finding, count: int) -> Finding:
    return Finding(**{**vars(finding), "looks": count})
