"""Networks the search looks at: measured before anything is trained, then judged."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hil.core.evidence import RunPlan
from hil.core.stats import Estimate
from hil.synth.boardwork import Figures, Model
from hil.synth.certificate import accuracy_finding
from hil.synth.records import ACCURACY, Arch, Observation, Proposal, Verdict
from hil.synth.requirements import EXACT, Requirement, excess, judge, together
from hil.synth.work import Bench, Board, Trained

COSTS = ("energy_mj", "latency_p50_ms", "latency_p99_ms", "power_w")
SECOND_LOOK = 1
"""Number of the second engine, asked for where the first (0) cannot decide."""


@dataclass(frozen=True)
class Candidate:
    """A network the search looked at, and all that came of it.

    Attributes:
        figures: one entry per engine measured, the first from build 0.
        costs: metric to figure with interval, over the engines measured.
        verdict: of the cost limits, then of all limits once trained.
        glance: its promise before any training (`Bench.glance`), None where nobody looked. It
            decides who is trained, and nothing is learned from it.
        trained: None where the board refused it, others promised more, or the trainings ran out.
        loss_points: accuracy lost against the prototype on the search split.
    """

    arch: Arch
    source: str
    round: int
    figures: tuple[Figures, ...]
    costs: Mapping[str, Estimate]
    verdict: Verdict
    glance: float | None = None
    trained: Trained | None = None
    loss_points: float | None = None

    def observation(self) -> Observation:
        """What the inquisitor is told of it."""
        accuracy = None if self.trained is None else self.trained.accuracy
        spread = None
        if accuracy is not None and self.trained is not None:
            # Agresti and Coull's shrinkage keeps a perfect score from claiming no error at all.
            n = self.trained.pictures + 4
            share = (accuracy * (n - 4) + 2) / n
            spread = math.sqrt(share * (1 - share) / n)
            known = self.trained.accuracy_sd
            # Two networks alike on every picture seen are not alike on all there are.
            spread = spread if known is None else max(known, 1 / n)
        return Observation(
            arch=self.arch,
            costs={m: (e.value, max((e.high - e.low) / 4, 1e-9)) for m, e in self.costs.items()},
            accuracy=accuracy,
            verdict=self.verdict,
            round=self.round,
            accuracy_sd=spread,
        )


@dataclass
class Screening:
    """Looks at networks for one synthesis.

    Attributes:
        reference: the prototype's costs on this board, as the search measured them.
    """

    bench: Bench
    board: Board
    plan: RunPlan
    requirements: tuple[Requirement, ...]
    reference: Mapping[str, Estimate] = field(default_factory=dict)

    def file(self, arch: Arch) -> Model | None:
        """The network as the board takes it; None where the journal answers for the board."""
        if self.board.known(self.bench.search_space.key(arch), stage="search"):
            return None
        return self.bench.export(arch, None)

    def measured(self, proposal: Proposal, number: int, file: Model | None) -> Candidate:
        """Measure a network, twice where once cannot decide; `file` is what `file` returned."""
        key = self.bench.search_space.key(proposal.arch)

        def model() -> Model:
            # Only a first look that is not in the journal needs the file; `file` made it then.
            return file or figures[0].model(self.board.store)

        def look(build: int) -> Figures:
            return self.board.measure(key, model, self.plan, stage="search", build=build)

        figures = [look(0)]
        costs, verdict = self._costs(figures, proposal.arch)
        if verdict == "undecided":
            figures.append(look(SECOND_LOOK))
            costs, verdict = self._costs(figures, proposal.arch)
        return Candidate(proposal.arch, proposal.source, number, tuple(figures), costs, verdict)

    def _costs(self, figures: Sequence[Figures], arch: Arch) -> tuple[dict[str, Estimate], Verdict]:
        """Figures over the engines measured, and the verdict on the cost limits."""
        usable = [f for f in figures if f.usable]
        if not usable:
            return {}, "infeasible"
        wanted = {*COSTS, *(r.metric for r in self.requirements)} - {ACCURACY, *EXACT}
        costs = {m: e for m in sorted(wanted) if (e := _mean(usable, m)) is not None}
        exact = {r.metric for r in self.requirements} & EXACT
        costs |= exact_costs(self.bench.search_space.cost(arch), exact)
        limits = [r for r in self.requirements if r.metric != ACCURACY]
        return costs, together(
            tuple(judge(r, costs[r.metric], self.reference.get(r.metric)) for r in limits)
        )

    def judged(self, candidate: Candidate, trained: Trained) -> Candidate:
        """A network once it is trained, judged by point estimates: this certifies nothing."""
        verdict, loss = self.accuracy_verdict(trained)
        costs_kept = all(
            excess(r, candidate.costs[r.metric].value, self._reference(r.metric)) <= 0
            for r in self.requirements
            if r.metric != ACCURACY
        )
        both = together((verdict, "feasible" if costs_kept else "infeasible"))
        return replace(candidate, verdict=both, trained=trained, loss_points=loss)

    def accuracy_verdict(self, trained: Trained) -> tuple[Verdict, float]:
        """The verdict on accuracy on the search split, and the points lost there."""
        paired = self.bench.compare(trained)
        demands = [r for r in self.requirements if r.metric == ACCURACY]
        verdicts = tuple(accuracy_finding(r, paired, None).verdict for r in demands)
        return together(verdicts), -paired.difference

    def _reference(self, metric: str) -> float | None:
        known = self.reference.get(metric)
        return None if known is None else known.value


def exact_costs(cost: tuple[float, float], wanted: Collection[str]) -> dict[str, Estimate]:
    """MACs and parameters as figures without doubt, those that are wanted."""
    known = dict(zip(("macs", "parameters"), cost, strict=True))
    return {m: Estimate(v, v, v) for m, v in known.items() if m in wanted}


def _mean(figures: Sequence[Figures], metric: str) -> Estimate | None:
    """A figure over engines: the mean, with the widest half-interval of the two.

    Two builds say too little about their spread for an interval of their own; this one only
    screens.
    """
    known = [e for f in figures if (e := f.estimate(metric)) is not None]
    if len(known) != len(figures):
        return None
    value = sum(e.value for e in known) / len(known)
    low = max(e.value - e.low for e in known)
    high = max(e.high - e.value for e in known)
    return Estimate(value, value - low, value + high)
