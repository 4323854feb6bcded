"""Finalists: trained to the end, confirmed on fresh engine builds, judged on held-out pictures.

Uniform width scaling goes through the same training and the same measuring beside them, so that
the table compares like with like; it is no candidate and takes no share of alpha.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from hil.core.errors import MeasurementError
from hil.core.evidence import RunPlan
from hil.core.stats import Estimate
from hil.synth.boardwork import Figures
from hil.synth.candidates import Candidate, Screening, exact_costs
from hil.synth.certificate import Plan
from hil.synth.confirmation import PROTOTYPE, Confirmation, Need
from hil.synth.paired import require_resolution, resolution_note
from hil.synth.pools import Agenda, Task
from hil.synth.profile import Profile
from hil.synth.progress import Watcher
from hil.synth.records import ACCURACY, Arch
from hil.synth.requirements import EXACT
from hil.synth.resampled import Comparison, require_pictures
from hil.synth.searchspace import identity, network_name, uniform_level
from hil.synth.work import Contender, Trained

UNIFORM_LEVELS = (0.25, 0.75)
"""Uniform widths tried, as shares of the way from the narrowest choice to the prototype's."""


@dataclass(frozen=True)
class Final:
    """What was found out about a contender: one entry of `figures` per fresh build."""

    contender: Contender
    figures: tuple[Figures, ...]
    paired: Comparison | None


UNIFORM = "uniform width"
UNIFORM_BUILDS = 3
# The trainer's order, then the board's: what is certified goes before what it is compared with.
_FINALIST, _UNIFORM = range(2)


@dataclass
class Finals:
    """Runs the last stage of one synthesis: the board measures what is trained already.

    Attributes:
        judge: makes the confirmation that decides what is certified.
    """

    screening: Screening
    profile: Profile
    plan: RunPlan
    watch: Watcher
    judge: Callable[[Plan, tuple[str, ...]], Confirmation] = Confirmation
    confirmation: Confirmation | None = None
    uniform: Contender | None = None
    _names: tuple[str, ...] = ()
    _ready: dict[str, Contender] = field(default_factory=dict)
    _needs: list[Need] = field(default_factory=list)
    _asked: set[Need] = field(default_factory=set)
    _modes: dict[tuple[str, int], dict[int | str, Figures]] = field(default_factory=dict)
    _figures: dict[str, dict[int, Figures]] = field(default_factory=dict)

    def steps(self, chosen: Sequence[Candidate]) -> int:
        """Pieces of work, about: finalists and the prototype take so many builds at most."""
        builds = self.profile.measure.confirmation.builds
        return (2 + builds.at_most) * (len(chosen) + 1) + 1 + builds.at_least

    @property
    def prototype(self) -> Contender:
        """The prototype as trained."""
        return self._ready[PROTOTYPE]

    @property
    def finalists(self) -> list[Contender]:
        """The finalists, best first."""
        return [self._ready[name] for name in self._names]

    @property
    def others(self) -> list[Contender]:
        """Everything the prototype is compared with."""
        return [*([self.uniform] if self.uniform else []), *self.finalists]

    def begin(self, agenda: Agenda, chosen: Sequence[Candidate]) -> None:
        """Put the whole stage on the agenda."""
        space = self.screening.bench.search_space
        self._judge(tuple(network_name(space.key(c.arch)) for c in chosen))

        def add(order: tuple[int, int], name: str, work: Callable[[], Contender | None]) -> None:
            then = partial(self._arrived, agenda)
            agenda.add(Task(order, "trainer", ("final", name), work, then))

        add((_FINALIST, 0), PROTOTYPE, self._prototype)
        for i, (name, candidate) in enumerate(zip(self._names, chosen, strict=True), 1):
            work = partial(self.contender, name, candidate.arch, candidate.trained)
            add((_FINALIST, i), name, work)
        add((_UNIFORM, 0), UNIFORM, self.train_uniform)

    def contest(self, agenda: Agenda, prototype: Contender, finalists: Sequence[Contender]) -> None:
        """Put the confirmation of contenders that are trained already on the agenda.

        Args:
            agenda: of the pools that do the work.
            prototype: measured beside the finalists where a limit is relative to it.
            finalists: highest U first.
        """
        self._judge(tuple(f.name for f in finalists))
        self._ready.update({c.name: c for c in (prototype, *finalists)})
        self._confirm(agenda)

    def _judge(self, names: tuple[str, ...]) -> None:
        self._names = names
        plan = self.profile.confirmation_plan(self.screening.board.session.provenance)
        self.confirmation = self.judge(plan, names)

    def _arrived(self, agenda: Agenda, contender: Contender | None) -> None:
        if contender is None:
            return
        if contender.name == UNIFORM:
            self.uniform = contender
            for build in range(1, UNIFORM_BUILDS + 1):
                work = partial(self.build, contender, build)
                self._board(agenda, (_UNIFORM, build, 0), UNIFORM, work, lambda _figures: None)
            return
        self._ready[contender.name] = contender
        self.watch.advance(f"{contender.name} trained to the end")
        self._confirm(agenda)

    def _confirm(self, agenda: Agenda) -> None:
        """Ask for the builds that are due of networks that are there, interleaved by build."""
        assert self.confirmation is not None
        if not self._needs:
            # Asked only between rounds of builds, so that it is not told half of one.
            self._needs = list(self.confirmation.needs_more())
        due = min((need.build for need in self._needs), default=0)
        for order, need in enumerate(self._needs):
            contender = self._ready.get(need.network)
            # No build of a network is made before all others have theirs of the one before: what
            # a real board's temperature does in the meantime then meets all of them alike.
            if contender is not None and need.build == due and need not in self._asked:
                self._asked.add(need)
                work = partial(self._values, contender, due, self.confirmation.plan)
                then = partial(self._built, agenda, need)
                self._board(agenda, (_FINALIST, due, order), contender.name, work, then)

    def _built(self, agenda: Agenda, need: Need, values: dict[str, float]) -> None:
        assert self.confirmation is not None
        self._needs.remove(need)
        self.confirmation.add(need.network, need.build, values)
        self._confirm(agenda)

    def _board(
        self,
        agenda: Agenda,
        order: tuple[int, int, int],
        name: str,
        work: Callable[[], object],
        then: Callable[..., None],
    ) -> None:
        agenda.add(Task(order, "board", ("build", name, str(order[1])), work, then))

    def contender(self, name: str, arch: Arch, best: Trained | None) -> Contender:
        """Train an architecture to the end and export it.

        The better of its weights on the search split stays: training on never costs anything.
        """
        trained = self.screening.bench.train(arch, "final")
        if best is not None and best.accuracy > trained.accuracy:
            trained = best
        return self._exported(name, arch, trained)

    def _prototype(self) -> Contender:
        bench = self.screening.bench
        return self._exported(PROTOTYPE, identity(bench.search_space), bench.identity)

    def _exported(self, name: str, arch: Arch, trained: Trained) -> Contender:
        bench = self.screening.bench
        key = f"{bench.search_space.key(arch)}:{trained.weights_sha256[:16]}"
        return Contender(name, arch, trained, key, bench.export(arch, trained.weights_sha256))

    def train_uniform(self) -> Contender | None:
        """Train the narrowest uniform width scaling that keeps the accuracy demanded, if any."""
        bench = self.screening.bench
        for level in UNIFORM_LEVELS:
            arch = uniform_level(bench.search_space, level)
            if arch == identity(bench.search_space):
                continue
            trained = bench.train(arch, "final")
            if self.screening.accuracy_verdict(trained)[0] == "feasible":
                return self._exported(UNIFORM, arch, trained)
        return None

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
        for mode in self.profile.requirements.modes():
            there[mode] = self._measured(contender, number, mode)
            names = {f.engine["engine_sha256"] for f in (there[None], there[mode])}
            if len(names) > 1:
                raise MeasurementError(
                    f"build {number} of {contender.name} is another engine in power mode {mode}",
                    why="the board no longer has the engine that was measured before",
                    fix="start a new run, and leave the board's engines alone until it is done",
                )
        self._modes[contender.name, number] = {m: f for m, f in there.items() if m is not None}
        exact = exact_costs(self.screening.bench.search_space.cost(contender.arch), EXACT)
        known = {r.key: exact.get(r.metric) or there[r.mode].estimate(r.metric) for r in plan.costs}
        return _complete(known, there[None])

    def _measured(self, contender: Contender, number: int, mode: int | None) -> Figures:
        figures = self.screening.board.measure(
            contender.key,
            lambda: contender.model,
            self.plan,
            stage="confirm",
            build=number,
            mode=mode,
            same_engine=self.profile.scope == "engine",
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

    def judge_answers(self) -> Mapping[str, Comparison]:
        """Compare answers on the held-out pictures, opened once a run; the finalists are ruled."""
        names = ", ".join(c.name for c in self.others) or self.prototype.name
        paired = self.screening.bench.examine(
            [self.prototype, *self.others],
            self.screening.board,
            f"final accuracy of {names}",
            lambda name: self.watch.advance(f"{name}, held-out pictures"),
        )
        if self.confirmation is not None:
            for name in self.confirmation.needs_accuracy():
                self.confirmation.add_accuracy(name, paired[name])
        return paired


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


USUAL_CONFIDENCE = 0.95
"""Of what is said of margins where a profile makes no bound binding."""


def check_resolution(profile: Profile, heldout: int) -> tuple[str, ...]:
    """Refuse, before the search starts, a margin the held-out pictures cannot resolve at all.

    Returns:
        what to know of a margin that they can resolve only where networks hardly differ.

    Raises:
        ConfigError: the bound is to bind and cannot; with the smallest margin that could.
    """
    if profile.task in ("segmentation", "detection"):
        # Which margin pictures resolve depends on the networks; how many there must be does not.
        if profile.confidence is not None:
            require_pictures(heldout)
        return ()
    confidence = profile.confidence or USUAL_CONFIDENCE
    alpha = (1 - confidence) / profile.budget.finalists
    asked = [r for r in profile.requirements.all() if r.metric == ACCURACY]
    if profile.confidence is not None:
        for requirement in asked:
            require_resolution(requirement, heldout, alpha)
    notes = (resolution_note(requirement, heldout, alpha) for requirement in asked)
    return tuple(note for note in notes if note)
