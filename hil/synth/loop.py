"""The synthesis loop: generator and inquisitor around a board, from the prototype to certificates.

    G* = argmax_G U(G(s))   subject to   1_r(G(s)) = 1 for every seed s        (Wong et al. 2019)

Rule of this file: the loop is a deterministic function of the profile, the seed and of what the
journal's steps return. It decides nothing by the clock or by the order of arrival; resuming a run
is running it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from hil.core.errors import MeasurementError
from hil.core.stats import Estimate
from hil.device.session import EngineSpec, Session
from hil.synth.boardwork import BoardWork, Figures
from hil.synth.candidates import COSTS, Candidate, Rounds
from hil.synth.candidates import exact_costs as exact_figures
from hil.synth.finalists import Contender, Final, Finals, check_resolution, choose
from hil.synth.inquisitor import Inquisitor, Setup
from hil.synth.objective import load_objective
from hil.synth.peers import Searcher
from hil.synth.plausible import Doubt, ask, likely
from hil.synth.profile import Profile
from hil.synth.progress import Watcher
from hil.synth.records import ACCURACY, Utility
from hil.synth.requirements import EXACT, Requirement, screens, search_limit
from hil.synth.seeds import derived_seed
from hil.synth.stimuli import probe
from hil.synth.store import RunStore
from hil.synth.workbench import Workbench, open_workbench

TEST_BUILDS = 3
"""Fresh builds of networks that stand in the table without being finalists."""


@dataclass(frozen=True)
class Job:
    """Everything a synthesis is given.

    Attributes:
        rail: what energy is read on; None where the device has no power source.
        opset: the ONNX operator set the board takes.
    """

    profile: Profile
    seed: int
    store: RunStore
    session: Session
    watch: Watcher
    runtime: str
    workspace_mib: int
    power: str
    rail: str | None
    interval_ms: int
    opset: int
    cuda_graph: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a synthesis came to, before it is written down.

    Attributes:
        finals: contenders with their builds: prototype first, then uniform width, then finalists.
        verdicts: the confirmation's rulings by finalist.
        candidates: every network the search measured, in order.
        least: the least violating candidate where nothing feasible was found.
        doubt: how sure an emulated board's figures are, for every contender.
    """

    job: Job
    bench: Workbench
    inquisitor: Inquisitor
    reference: Candidate
    candidates: tuple[Candidate, ...]
    prototype: Final
    uniform: Final | None
    finalists: tuple[Final, ...]
    finals: Finals
    least: Candidate | None
    doubt: Doubt


def synthesize(job: Job) -> Outcome:
    """Run (or continue) a synthesis.

    Raises:
        HilError: see its classes; the run keeps every step that was finished.
    """
    rounds, reference = prepare(job)
    inquisitor = interrogate(job, rounds.bench, reference, job.seed)
    candidates: list[Candidate] = []
    for done in search(job, rounds, inquisitor, job.seed):
        candidates += done
        _record_round(job.store, done[0].round, inquisitor)
    return _finish(job, rounds, inquisitor, (reference, *candidates))


def prepare(job: Job) -> tuple[Rounds, Candidate]:
    """Train, trace and probe the prototype and measure it: what every search starts from."""
    bench = _workbench(job)
    rounds = _rounds(job, bench, _board(job))
    reference = _reference(job, bench, rounds.board, rounds)
    rounds.reference = reference.costs
    rounds.requirements = screened(job.profile, reference)
    return rounds, reference


def _workbench(job: Job) -> Workbench:
    epochs = job.profile.training.epochs
    job.watch.stage("training the prototype", epochs)
    bench = open_workbench(job.profile, job.store, job.seed, lambda *_: job.watch.advance())
    check_resolution(job.profile, len(bench.data.heldout))
    job.watch.stage("probing the prototype with task stimuli", 1)
    reactions = probe(bench)
    job.watch.advance()
    return replace(bench, importance=reactions.importance)


def _board(job: Job) -> BoardWork:
    spec = EngineSpec(
        onnx_sha256="",
        precision=job.profile.precision,
        runtime=job.runtime,
        workspace_mib=job.workspace_mib,
        cuda_graph=job.cuda_graph,
    )
    return BoardWork(job.session, job.store, job.seed, spec, job.power, job.rail)


def _rounds(job: Job, bench: Workbench, board: BoardWork) -> Rounds:
    return Rounds(
        bench=bench,
        board=board,
        plan=job.profile.measure.screening.plan(job.interval_ms),
        opset=job.opset,
        requirements=job.profile.requirements.all(),
        watch=job.watch,
        trainings_left=job.profile.budget.trainings,
    )


def _reference(job: Job, bench: Workbench, board: BoardWork, rounds: Rounds) -> Candidate:
    """Measure the prototype; limits relative to it are worked out from these figures.

    Raises:
        MeasurementError: the board gives no figure that the requirements need.
    """
    job.watch.stage("measuring the prototype", 1)
    arch = bench.space.identity
    weights = bench.identity.weights_sha256
    figures = board.measure(
        bench.space.key(arch),
        lambda: bench.export(arch, weights, opset=job.opset),
        rounds.plan,
        stage="search",
    )
    job.watch.advance()
    costs = _costs_needed(job.profile, figures, bench.search_space.cost(arch))
    for mode in job.profile.requirements.modes():
        there = board.measure(
            bench.space.key(arch),
            lambda: bench.export(arch, weights, opset=job.opset),
            rounds.plan,
            stage="search",
            mode=mode,
        )
        costs |= _costs_in_mode(job.profile, there, mode)
    return Candidate(arch, "prototype", 0, (figures,), costs, "undecided", bench.identity, 0.0)


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


def interrogate(job: Job, bench: Workbench, reference: Candidate, seed: int) -> Inquisitor:
    """Return an inquisitor that knows the requirements, the stimuli and the prototype."""
    own = {metric: estimate.value for metric, estimate in reference.costs.items()}
    own[ACCURACY] = 100 * bench.identity.accuracy
    limits = tuple(search_limit(r, own[r.metric]) for r in screened(job.profile, reference))
    setup = Setup(
        limits=limits,
        utility=utility_of(job.profile),
        stimuli=probe(bench).harm,
        seed=derived_seed(seed, "inquisitor"),
        initial=min(Setup.initial, max(job.profile.budget.measurements // 3, 2)),
    )
    inquisitor = Inquisitor(bench.search_space, setup)
    inquisitor.tell([reference.observation()])
    return inquisitor


def utility_of(profile: Profile) -> Utility:
    """The profile's U, tried out on two networks before anything is spent."""
    return load_objective(profile.objective)


def search(job: Job, rounds: Rounds, searcher: Searcher, seed: int) -> Iterator[list[Candidate]]:
    """Spend the budget of measurements, a round at a time; yields each round's candidates."""
    budget = job.profile.budget
    job.watch.stage("searching: networks measured, then trained", budget.measurements)
    left, number = budget.measurements, 0
    while left > 0:
        number += 1
        rng = np.random.Generator(np.random.Philox(derived_seed(seed, "ask", str(number))))
        proposals = searcher.ask(min(budget.batch, left), rng)
        if not proposals:
            return
        done = rounds.run(proposals, number)
        searcher.tell([c.observation() for c in done])
        left -= len(done)
        yield done


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
    job: Job, rounds: Rounds, inquisitor: Inquisitor, candidates: tuple[Candidate, ...]
) -> Outcome:
    profile, bench = job.profile, rounds.bench
    kept = likely(rounds.board, profile.requirements, candidates)
    chosen = choose(kept, utility_in(inquisitor), profile.budget.finalists)
    plan = profile.measure.confirmation.plan(job.interval_ms)
    finals = Finals(bench, rounds.board, plan, job.opset, rounds, job.watch)
    builds = profile.measure.confirmation.builds
    # Finalists and the prototype take so many builds at most, the comparison the fewest.
    total = (2 + builds.at_most) * (len(chosen) + 1) + 1 + builds.at_least
    job.watch.stage("finishing: training, fresh builds, held-out pictures", total)
    prototype = finals.prototype()
    finalists = []
    for candidate in chosen:
        name = f"net-{bench.space.key(candidate.arch)[:6]}"
        finalists.append(finals.contender(name, candidate.arch, candidate.trained))
        job.watch.advance(f"{name} trained to the end")
    with ThreadPoolExecutor(max_workers=1) as trainer:
        # The board measures the finalists while the comparison is still being trained.
        training = trainer.submit(finals.train_uniform)
        finals.confirm(prototype, finalists)
        scaled = training.result()
    uniform = None if scaled is None else finals.ready("uniform width", *scaled)
    others = [*([uniform] if uniform else []), *finalists]
    paired = finals.judge_answers(prototype, others)
    for name, comparison in paired.items():
        if finals.confirmation and name in finals.confirmation.needs_accuracy():
            finals.confirmation.add_accuracy(name, comparison)

    contenders = (prototype, *others)
    doubt = ask(rounds.board, [(c.key, partial(_onnx, c)) for c in contenders])

    def final(contender: Contender) -> Final:
        figures = finals.builds(contender, TEST_BUILDS)
        return Final(contender, figures, paired.get(contender.name))

    return Outcome(
        job,
        bench,
        inquisitor,
        candidates[0],
        candidates[1:],
        final(prototype),
        final(uniform) if uniform else None,
        tuple(final(f) for f in finalists),
        finals,
        None if chosen else _least(inquisitor, candidates),
        doubt,
    )


def _onnx(contender: Contender) -> bytes:
    return contender.onnx


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
