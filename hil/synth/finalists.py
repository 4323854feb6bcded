"""Finalists: trained to the end, confirmed on fresh engine builds, judged on held-out pictures.

Uniform width scaling goes through the same training and the same measuring beside them, so that
the table compares like with like; it is no candidate and takes no share of alpha.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hil.core.errors import MeasurementError
from hil.core.evidence import RunPlan
from hil.core.stats import Estimate
from hil.synth.boardwork import BoardWork, Figures
from hil.synth.candidates import Candidate, Rounds, exact_costs
from hil.synth.certificate import Plan
from hil.synth.confirmation import PROTOTYPE, Confirmation
from hil.synth.paired import Paired, require_resolution
from hil.synth.profile import Profile
from hil.synth.progress import Watcher
from hil.synth.records import ACCURACY, Arch
from hil.synth.requirements import EXACT
from hil.synth.searchspace import uniform_level
from hil.synth.workbench import Trained, Workbench
from hil.tasks.classification import correct

UNIFORM_LEVELS = (0.25, 0.75)
"""Uniform widths tried, as shares of the way from the narrowest choice to the prototype's."""


@dataclass(frozen=True)
class Contender:
    """A network that goes into the final table, with final weights.

    Attributes:
        name: as people see it.
        key: identity of its figures in the journal: the network and its final weights.
    """

    name: str
    arch: Arch
    trained: Trained
    key: str
    onnx: bytes


@dataclass(frozen=True)
class Final:
    """What was found out about a contender: one entry of `figures` per fresh build."""

    contender: Contender
    figures: tuple[Figures, ...]
    paired: Paired | None


@dataclass
class Finals:
    """Runs the last stage of one synthesis.

    Attributes:
        judge: makes the confirmation that decides what is certified.
    """

    bench: Workbench
    board: BoardWork
    plan: RunPlan
    opset: int
    rounds: Rounds
    watch: Watcher
    judge: Callable[[Plan, tuple[str, ...]], Confirmation] = Confirmation
    confirmation: Confirmation | None = None
    _modes: dict[tuple[str, int], dict[int | str, Figures]] = field(default_factory=dict)
    _figures: dict[str, dict[int, Figures]] = field(default_factory=dict)

    def contender(self, name: str, arch: Arch, best: Trained | None) -> Contender:
        """Train an architecture to the end and export it.

        The better of its weights on the search split stays: training on never costs anything.
        """
        trained = self._trained(arch)
        if best is not None and best.accuracy > trained.accuracy:
            trained = best
        return self.ready(name, arch, trained)

    def prototype(self) -> Contender:
        """The prototype as trained."""
        return self.ready(PROTOTYPE, self.bench.space.identity, self.bench.identity)

    def ready(self, name: str, arch: Arch, trained: Trained) -> Contender:
        """Export a trained architecture; not while another thread trains (torch's exporter)."""
        key = f"{self.bench.space.key(arch)}:{trained.weights_sha256[:16]}"
        onnx = self.bench.export(arch, trained.weights_sha256, opset=self.opset)
        return Contender(name, arch, trained, key, onnx)

    def train_uniform(self) -> tuple[Arch, Trained] | None:
        """Train the narrowest uniform width scaling that keeps the accuracy demanded, if any."""
        for level in UNIFORM_LEVELS:
            arch = uniform_level(self.bench.search_space, level)
            if arch == self.bench.space.identity:
                continue
            trained = self._trained(arch)
            if self.rounds.accuracy_verdict(trained)[0] == "feasible":
                return arch, trained
        return None

    def _trained(self, arch: Arch) -> Trained:
        epochs = self.bench.profile.training.final_epochs
        return self.bench.train(arch, epochs=epochs, stage="final")

    def confirm(self, prototype: Contender, finalists: Sequence[Contender]) -> Confirmation:
        """Measure fresh builds until every finalist is decided or the plan is spent.

        Args:
            prototype: measured beside the finalists where a limit is relative to it.
            finalists: highest U first.
        """
        plan = self.bench.profile.confirmation_plan(self.board.session.provenance)
        confirmation = self.judge(plan, tuple(f.name for f in finalists))
        entrants = {c.name: c for c in (prototype, *finalists)}
        while needs := confirmation.needs_more():
            for need in needs:
                values = self._values(entrants[need.network], need.build, plan)
                confirmation.add(need.network, need.build, values)
        self.confirmation = confirmation
        return confirmation

    def build(self, contender: Contender, number: int) -> Figures:
        """Measure one fresh build of a contender.

        Raises:
            MeasurementError: it could not be measured in several tries.
        """
        figures = self._measured(contender, number, None)
        self._figures.setdefault(contender.name, {})[number] = figures
        self.watch.advance(f"{contender.name}, build {number}")
        return figures

    def _values(self, contender: Contender, number: int, plan: Plan) -> dict[str, float]:
        """The figures of one build by `Requirement.key`, other power modes measured on its engine.

        The board is in the device file's mode again afterwards.
        """
        there: dict[int | str | None, Figures] = {None: self.build(contender, number)}
        for mode in self.bench.profile.requirements.modes():
            there[mode] = self._measured(contender, number, mode)
            names = {f.engine["engine_sha256"] for f in (there[None], there[mode])}
            if len(names) > 1:
                raise MeasurementError(
                    f"build {number} of {contender.name} is another engine in power mode {mode}",
                    why="the board no longer has the engine that was measured before",
                    fix="start a new run, and leave the board's engines alone until it is done",
                )
        self._modes[contender.name, number] = {m: f for m, f in there.items() if m is not None}
        exact = exact_costs(self.bench.search_space.cost(contender.arch), EXACT)
        known = {r.key: exact.get(r.metric) or there[r.mode].estimate(r.metric) for r in plan.costs}
        return _complete(known, there[None])

    def _measured(self, contender: Contender, number: int, mode: int | None) -> Figures:
        figures = self.board.measure(
            contender.key,
            lambda: contender.onnx,
            self.plan,
            stage="confirm",
            build=number,
            mode=mode,
            same_engine=self.bench.profile.scope == "engine",
        )
        if not figures.usable:
            reasons = figures.refused or "; ".join(figures.result["reasons"])
            raise MeasurementError(
                f"fresh build {number} of {contender.name} could not be measured",
                why=reasons,
                fix="run `hil doctor` on the device, then continue the run with --resume",
            )
        return figures

    def in_modes(self, name: str) -> tuple[tuple[int | str, Figures], ...]:
        """A contender's measurements in other power modes, by build."""
        return tuple(
            (mode, figures)
            for (owner, _), there in sorted(self._modes.items())
            for mode, figures in there.items()
            if owner == name
        )

    def builds(self, contender: Contender, least: int) -> tuple[Figures, ...]:
        """All fresh builds measured of a contender, at least so many."""
        for number in range(1, least + 1):
            if number not in self._figures.get(contender.name, {}):
                self.build(contender, number)
        return tuple(figures for _, figures in sorted(self._figures[contender.name].items()))

    def judge_answers(self, prototype: Contender, others: Sequence[Contender]) -> dict[str, Paired]:
        """Compare engines' own answers on the held-out pictures; opens them, once a run."""
        names = ", ".join(c.name for c in others) or prototype.name
        inputs, labels = self.bench.heldout(f"final accuracy of {names}")

        def right(contender: Contender) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
            def compute() -> Mapping[str, str]:
                answers = self.board.answers(contender.onnx, inputs)
                return {"right": "".join("1" if r else "0" for r in correct(answers, labels))}

            step = self.bench.store.step("answers", contender.key, compute)
            self.watch.advance(f"{contender.name}, held-out pictures")
            return np.array([c == "1" for c in step["right"]], dtype=np.bool_)

        own = right(prototype)
        paired = {c.name: Paired.count(own, right(c)) for c in others}
        return {prototype.name: Paired.count(own, own), **paired}


def _complete(known: Mapping[str, Estimate | None], figures: Figures) -> dict[str, float]:
    missing = [key for key, estimate in known.items() if estimate is None]
    if missing:
        raise MeasurementError(
            f"a build gave no figure of {', '.join(missing)}",
            why="; ".join(str(figures.result.get(f"{m}_reason")) for m in missing),
            fix="lengthen measure.confirmation in the profile, then continue with --resume",
        )
    return {m: e.value for m, e in known.items() if e is not None}


def choose(
    candidates: Sequence[Candidate], utility: Callable[[Candidate], float], most: int
) -> list[Candidate]:
    """The feasible candidates that are worth fresh builds, best U first.

    Where there is room for more than one, one of them is the one that lost least accuracy on the
    search split (of several, the least compressed). What U likes best lies at the edge of the
    accuracy limit, was chosen for looking good there, and is the first to fall on held-out
    pictures; a run should not rest on such networks alone.
    """
    good = [c for c in candidates if c.verdict == "feasible" and c.trained is not None]
    ranked = sorted(good, key=lambda c: -utility(c))
    if len(ranked) > 1:
        rest = ranked[1:]
        safest = min(rest, key=lambda c: (c.loss_points or 0.0, utility(c)))
        rest.remove(safest)
        ranked = [ranked[0], safest, *rest]
    return sorted(ranked[:most], key=lambda c: -utility(c))


def check_resolution(profile: Profile, heldout: int) -> None:
    """Refuse, before the search starts, a margin the held-out pictures cannot resolve.

    Raises:
        ConfigError: with the smallest margin they could.
    """
    if profile.confidence is None:
        return
    for requirement in profile.requirements.all():
        if requirement.metric == ACCURACY:
            alpha = (1 - profile.confidence) / profile.budget.finalists
            require_resolution(requirement, heldout, alpha)
