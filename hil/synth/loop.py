"""The synthesis loop: generator and inquisitor around a board, from the prototype to certificates.

    G* = argmax_G U(G(s))   subject to   1_r(G(s)) = 1 for every seed s        (Wong et al. 2019)

Rule of this file: the loop is a deterministic function of the profile, the seed and of what the
journal's steps return. It decides nothing by the clock or by the order of arrival; resuming a run
is running it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from hil.core.errors import MeasurementError
from hil.core.stats import Estimate
from hil.synth.boardwork import Figures, Model
from hil.synth.candidates import COSTS, Candidate, Screening
from hil.synth.candidates import exact_costs as exact_figures
from hil.synth.finalists import Final, Finals, check_resolution, choose
from hil.synth.inquisitor import Inquisitor, Setup
from hil.synth.objective import load_objective
from hil.synth.peers import Searcher
from hil.synth.plausible import Doubt, ask, likely
from hil.synth.pools import PoolName, Threads
from hil.synth.profile import Profile
from hil.synth.progress import Watcher
from hil.synth.records import ACCURACY, Utility
from hil.synth.requirements import EXACT, Requirement, screens, search_limit
from hil.synth.searching import Search
from hil.synth.searchspace import identity
from hil.synth.seeds import derived_seed
from hil.synth.store import RunStore
from hil.synth.work import Bench, Board, Contender, Device

TEST_BUILDS = 3
"""Fresh builds of networks that stand in the table without being finalists."""


OpenBench = Callable[[Watcher, Callable[[int], None]], Bench]
"""Makes the bench ready, telling its second argument how many pictures are held out."""


@dataclass(frozen=True)
class Job:
    """Everything a synthesis is given.

    Attributes:
        board: gives figures of networks.
        open_bench: trains, traces and probes the prototype, or finds all that in the journal.
        pools: who does the work.
        interval_ms: period of the board's power source.
    """

    profile: Profile
    seed: int
    store: RunStore
    board: Board
    open_bench: OpenBench
    watch: Watcher
    pools: Threads
    interval_ms: int = 100

    @property
    def session(self) -> Device:
        """Who gives the figures."""
        return self.board.session

    @property
    def rail(self) -> str | None:
        """What energy is read on; None where the device has no power source."""
        return self.board.rail


@dataclass(frozen=True)
class Start:
    """What every search of a job starts from.

    Attributes:
        reference: the prototype, measured.
        notes: what the held-out pictures cannot resolve of what is asked.
    """

    screening: Screening
    reference: Candidate
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a synthesis came to, before it is written down.

    Attributes:
        finals: contenders with their builds: prototype first, then uniform width, then finalists.
        verdicts: the confirmation's rulings by finalist.
        candidates: every network the search measured, in order.
        least: the least violating candidate where nothing feasible was found.
        doubt: how sure an emulated board's figures are, for every contender.
        start: what the search started from.
    """

    job: Job
    bench: Bench
    inquisitor: Inquisitor
    reference: Candidate
    candidates: tuple[Candidate, ...]
    prototype: Final
    uniform: Final | None
    finalists: tuple[Final, ...]
    finals: Finals
    least: Candidate | None
    doubt: Doubt
    start: Start


def synthesize(job: Job) -> Outcome:
    """Run (or continue) a synthesis.

    Raises:
        HilError: see its classes; the run keeps every step that was finished.
    """
    start = prepare(job)
    inquisitor = interrogate(job, start, job.seed)
    candidates = search(
        job, start, inquisitor, job.seed, lambda k: _record_round(job.store, k, inquisitor)
    )
    return _finish(job, start, inquisitor, tuple(candidates))


def prepare(job: Job) -> Start:
    """Train, trace and probe the prototype and measure it: what every search starts from."""
    with job.pools.busy("trainer"):
        notes: list[str] = []
        bench = job.open_bench(
            job.watch, lambda heldout: notes.extend(check_resolution(job.profile, heldout))
        )
    screening = Screening(
        bench=bench,
        board=job.board,
        plan=job.profile.measure.screening.plan(job.interval_ms),
        requirements=job.profile.requirements.all(),
    )
    with job.pools.busy("board"):
        reference = _reference(job, screening)
    demands = screened(job.profile, reference)
    known = replace(screening, reference=reference.costs, requirements=demands)
    return Start(known, reference, tuple(notes))


def _reference(job: Job, screening: Screening) -> Candidate:
    """Measure the prototype; limits relative to it are worked out from these figures.

    Raises:
        MeasurementError: the board gives no figure that the requirements need.
    """
    job.watch.stage("measuring the prototype", 1)
    bench = screening.bench
    arch = identity(bench.search_space)
    figures = job.board.measure(
        bench.search_space.key(arch),
        lambda: bench.export(arch, bench.identity.weights_sha256),
        screening.plan,
        stage="search",
    )
    job.watch.advance()
    cost = bench.search_space.cost(arch)
    costs = _costs_needed(job.profile, figures, cost)
    for mode in job.profile.requirements.modes():
        there = job.board.measure(
            bench.search_space.key(arch),
            lambda: bench.export(arch, bench.identity.weights_sha256),
            screening.plan,
            stage="search",
            mode=mode,
        )
        costs |= _costs_in_mode(job.profile, there, mode)
    return Candidate(
        arch, "prototype", 0, (figures,), costs, "undecided", None, bench.identity, 0.0
    )


def _costs_in_mode(profile: Profile, figures: Figures, mode: int) -> dict[str, Estimate]:
    """The prototype's figures in another power mode, by `Requirement.key`."""
    wanted = {r.key: r.metric for r in profile.requirements.all() if r.mode == mode}
    known = {k: figures.estimate(m) if figures.usable else None for k, m in wanted.items()}
    missing = [k for k, e in known.items() if e is None]
    if missing:
        raise MeasurementError(
            f"the prototype gives no figure of {', '.join(missing)}",
            why=figures.refused or "; ".join(figures.result["reasons"]) or None,
            fix="run `hil profile --sweep nvpmodel=...` to see what the board does in that mode",
        )
    return {k: e for k, e in known.items() if e is not None}


def screened(profile: Profile, reference: Candidate) -> tuple[Requirement, ...]:
    """What the search screens by (see `requirements.screens`)."""
    own = {name: estimate.value for name, estimate in reference.costs.items()}
    return screens(profile.requirements.all(), own, own)


def _costs_needed(
    profile: Profile, figures: Figures, cost: tuple[float, float]
) -> dict[str, Estimate]:
    if not figures.usable:
        reasons = figures.refused or "; ".join(figures.result["reasons"])
        raise MeasurementError(
            "the prototype could not be measured on this board",
            why=reasons,
            fix="run `hil doctor` on the device and mend what it names",
        )
    required = {r.metric for r in profile.requirements.all()} - {ACCURACY}
    costs = {m: e for m in sorted({*COSTS, *required}) if (e := figures.estimate(m)) is not None}
    costs |= exact_figures(cost, required & EXACT)
    missing = sorted(required - costs.keys())
    if missing:
        raise MeasurementError(
            f"the requirements limit {', '.join(missing)}, which this device does not give",
            why=str(figures.result.get(f"{missing[0]}_reason")),
            fix="give the device a power source, measure longer, or drop that requirement",
        )
    return costs


def setup_of(job: Job, start: Start, seed: int) -> Setup:
    """What any searcher of this job is told before it starts."""
    own = {metric: estimate.value for metric, estimate in start.reference.costs.items()}
    bench = start.screening.bench
    own[ACCURACY] = 100 * bench.identity.accuracy
    demands = screened(job.profile, start.reference)
    return Setup(
        limits=tuple(search_limit(r, own[r.metric]) for r in demands),
        utility=utility_of(job.profile),
        stimuli=bench.stimuli(),
        seed=derived_seed(seed, "inquisitor"),
        initial=min(Setup.initial, max(job.profile.budget.measurements // 3, 2)),
    )


def interrogate(job: Job, start: Start, seed: int) -> Inquisitor:
    """Return an inquisitor that knows the requirements, the stimuli and the prototype."""
    setup = setup_of(job, start, seed)
    inquisitor = Inquisitor(start.screening.bench.search_space, setup)
    inquisitor.tell([start.reference.observation()])
    return inquisitor


def utility_of(profile: Profile) -> Utility:
    """The profile's U, tried out on two networks before anything is spent."""
    return load_objective(profile.objective)


def search(
    job: Job,
    start: Start,
    searcher: Searcher,
    seed: int,
    on_told: Callable[[int], None] = lambda _number: None,
    thinker: PoolName = "thinker",
) -> list[Candidate]:
    """Spend the budget of measurements by a searcher's proposals; every network, in order."""
    budget = job.profile.budget
    job.watch.stage("searching: networks measured, then trained", budget.measurements)
    one = Search(start.screening, searcher, budget, seed, job.watch, on_told, thinker)
    job.pools.run(one.begin)
    return one.candidates


def _record_round(store: RunStore, number: int, inquisitor: Inquisitor) -> None:
    generator = inquisitor.generator
    store.step(
        "round",
        str(number),
        lambda: {
            "generation": generator.generation,
            "generator": store.put_blob(generator.to_json().encode()),
        },
    )


def utility_in(inquisitor: Inquisitor) -> Callable[[Candidate], float]:
    """U of a trained candidate, by its accuracy on the search split."""

    def utility(candidate: Candidate) -> float:
        macs, params = inquisitor.space.cost(candidate.arch)
        accuracy = candidate.trained.accuracy if candidate.trained else 0.0
        values = (np.array([v]) for v in (accuracy, macs, params))
        return float(inquisitor.setup.utility(*values)[0])

    return utility


def _finish(
    job: Job, start: Start, inquisitor: Inquisitor, candidates: tuple[Candidate, ...]
) -> Outcome:
    profile, screening, board = job.profile, start.screening, job.board
    everything = (start.reference, *candidates)
    with job.pools.busy("board"):
        kept = likely(board, profile.requirements, everything)
    chosen = choose(kept, utility_in(inquisitor), profile.budget.finalists)
    plan = profile.measure.confirmation.plan(job.interval_ms)
    finals = Finals(screening, profile, plan, job.watch)
    job.watch.stage("finishing: training, fresh builds, held-out pictures", finals.steps(chosen))
    job.pools.run(partial(finals.begin, chosen=chosen))
    with job.pools.busy("board"):
        paired = finals.judge_answers()
        contenders = [finals.prototype, *finals.others]
        doubt = ask(board, [(c.key, partial(_model, c)) for c in contenders])

        def final(contender: Contender) -> Final:
            figures = finals.builds(contender, TEST_BUILDS)
            return Final(contender, figures, paired.get(contender.name))

        shown = {c.name: final(c) for c in contenders}
    uniform = finals.uniform
    return Outcome(
        job,
        screening.bench,
        inquisitor,
        start.reference,
        candidates,
        shown[finals.prototype.name],
        None if uniform is None else shown[uniform.name],
        tuple(shown[f.name] for f in finals.finalists),
        finals,
        None if chosen else _least(inquisitor, everything),
        doubt,
        start,
    )


def _model(contender: Contender) -> Model:
    return contender.model


def _least(inquisitor: Inquisitor, candidates: tuple[Candidate, ...]) -> Candidate | None:
    nearest = inquisitor.least_violating()
    if nearest is None:
        return None
    key = inquisitor.space.key(nearest[0])
    return next(c for c in candidates if inquisitor.space.key(c.arch) == key)


def exact_costs(outcome: Outcome, arch: tuple[int, ...]) -> Mapping[str, Any]:
    """MACs and parameters of an architecture, as results name them."""
    macs, params = outcome.bench.search_space.cost(arch)
    return {"macs": int(macs), "parameters": int(params)}
