"""Several ways to search on one job: the same prototype, board, budget and training for all.

Every network is measured and trained once and the journal answers the second time, so methods
differ in what they choose and in nothing else. Figures are those of the search: nothing here is
certified, and one run says little about a method (`hil bench search` repeats it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hil.core.errors import ConfigError
from hil.synth.candidates import Candidate
from hil.synth.inquisitor import Inquisitor
from hil.synth.loop import Job, Start, interrogate, search, setup_of, utility_in
from hil.synth.peers import NAMES, Searcher, make
from hil.synth.pools import PoolName
from hil.synth.searchspace import network_name
from hil.synth.seeds import derived_seed

HIL = "hil"
METHODS = (HIL, *NAMES)
USE_TORCH = frozenset({"scbo"})
"""Methods that draw from torch's one global generator, and so never beside a training."""
Judge = Callable[[Candidate], float]


@dataclass(frozen=True)
class Attempt:
    """What one method made of the budget."""

    method: str
    seed: int
    candidates: tuple[Candidate, ...]

    @property
    def feasible(self) -> tuple[Candidate, ...]:
        """Networks that met every limit on the search split."""
        good = (c for c in self.candidates if c.trained is not None)
        return tuple(c for c in good if c.verdict == "feasible")

    def best(self, judge: Judge) -> Candidate | None:
        """The feasible network of highest U."""
        return max(self.feasible, key=judge, default=None)


def named_methods(text: str) -> tuple[str, ...]:
    """Read names such as "evolution,tpe".

    Raises:
        ConfigError: there is no such method.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise ConfigError(
            f"there is no search method {', '.join(unknown) or text!r}",
            why="synthesis itself always takes part",
            fix=f"choose of {', '.join(NAMES)}",
        )
    return names


def attempt(job: Job, start: Start, method: str, seed: int) -> Attempt:
    """Let one method spend the whole budget."""
    searcher: Searcher
    if method == HIL:
        searcher = interrogate(job, start, seed)
    else:
        own = derived_seed(seed, "peer", method)
        space = start.screening.bench.search_space
        searcher = make(method, space, setup_of(job, start, seed), own)
        searcher.tell([start.reference.observation()])
    thinker: PoolName = "trainer" if method in USE_TORCH else "thinker"
    return Attempt(method, seed, tuple(search(job, start, searcher, seed, thinker=thinker)))


def compare(
    job: Job, start: Start, own: Sequence[Candidate], names: Sequence[str]
) -> tuple[Attempt, ...]:
    """Synthesis, which has searched already, and every other method named, in that order."""
    attempts = [Attempt(HIL, job.seed, tuple(own))]
    attempts += [attempt(job, start, name, job.seed) for name in names]
    return tuple(attempts)


def compare_json(
    job: Job, inquisitor: Inquisitor, reference: Candidate, attempts: Sequence[Attempt]
) -> dict[str, Any] | None:
    """The comparison as a result holds it; None where only synthesis searched.

    `energy_ratio` is a method's least energy at equal accuracy (no less accurate on the search
    split than synthesis's best network by U) over synthesis's own; below 1 the method did better.
    """
    if len(attempts) < 2:
        return None
    judge = utility_in(inquisitor)
    best = attempts[0].best(judge)
    floor = None if best is None or best.trained is None else best.trained.accuracy
    rows = [_row(job, inquisitor, a, judge, floor) for a in attempts]
    prototype = reference.costs.get("energy_mj")
    for row in rows:
        least, own = row["least_energy_mj"], rows[0]["least_energy_mj"]
        row["energy_ratio"] = None if least is None or own is None else least / own
        known = None if least is None or prototype is None else least / prototype.value
        row["energy_ratio_to_prototype"] = known
    return {
        "certified": False,
        "provenance": job.session.provenance,
        "equal_accuracy": None if floor is None else 100 * floor,
        "methods": rows,
        "statement": _statement(rows),
    }


def _row(
    job: Job, inquisitor: Inquisitor, attempt: Attempt, judge: Judge, floor: float | None
) -> dict[str, Any]:
    best = attempt.best(judge)
    energies = [
        c.costs["energy_mj"].value
        for c in attempt.feasible
        if "energy_mj" in c.costs and c.trained is not None and c.trained.accuracy >= (floor or 0.0)
    ]
    return {
        "method": attempt.method,
        "best_u": None if best is None else judge(best),
        "best": None if best is None else network_name(inquisitor.space.key(best.arch)),
        "least_energy_mj": min(energies, default=None),
        "measurements": len(attempt.candidates),
        "trainings": sum(c.trained is not None for c in attempt.candidates),
        "feasible": len(attempt.feasible),
        "device_seconds": _device_s(job, inquisitor, attempt),
    }


def _device_s(job: Job, inquisitor: Inquisitor, attempt: Attempt) -> float | None:
    """Board time of a method's networks, whoever had them measured; None where not recorded."""
    keys = {inquisitor.space.key(c.arch) for c in attempt.candidates}
    steps = [s for s in job.store.steps("measure") if s.key.startswith("search:")]
    mine = [s for s in steps if s.key.removeprefix("search:").rpartition(":")[0] in keys]
    known = [float(s.value["device_s"]) for s in mine if "device_s" in s.value]
    return sum(known) if known else None


def _statement(rows: Sequence[dict[str, Any]]) -> str:
    """Who found the best network, in words, whoever it was."""
    own, others = rows[0], rows[1:]
    found = [row for row in others if row["best_u"] is not None]
    better = [r for r in found if own["best_u"] is None or r["best_u"] > own["best_u"]]
    parts = []
    if better:
        top = max(better, key=lambda r: float(r["best_u"]))
        against = "none" if own["best_u"] is None else f"{own['best_u']:.2f}"
        parts.append(
            f"{top['method']} found a better network than synthesis: U {top['best_u']:.2f} "
            f"against {against}"
        )
    elif own["best_u"] is None:
        parts.append("no method found a network that meets every limit")
    else:
        rest = ", ".join(
            f"{r['method']} {'none' if r['best_u'] is None else format(r['best_u'], '.2f')}"
            for r in others
        )
        parts.append(f"synthesis found the best network: U {own['best_u']:.2f} against {rest}")
    cheaper = [r for r in others if r["energy_ratio"] is not None and r["energy_ratio"] < 1]
    if cheaper:
        top = min(cheaper, key=lambda r: float(r["energy_ratio"]))
        parts.append(
            f"{top['method']} needs {100 * (1 - top['energy_ratio']):.1f} % less energy at equal "
            "accuracy"
        )
    parts.append("by figures of one search each, none of them certified")
    return "; ".join(parts)
