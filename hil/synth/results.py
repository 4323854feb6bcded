"""A finished synthesis, written down: the object of `hil synthesize --json` and what reports need.

Rule of this file: figures are combined over fresh builds (the unit of replication) and named;
nothing is measured or decided here.

Format history: hil/synthesis@1 (first); since then with `plausible`, `predicted...` and
`plausible_share` (see `plausible_fields.py`), with receipts of refused finalists, and with
`binding`, `given_up`, `modes` and each proof's `nvpmodel`, `builds` and `looks`, and with `task`,
`accuracy_is` and an entry's `scores`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hil.core.errors import NothingFeasibleError
from hil.core.stats import Estimate, log_ratio, mean_interval
from hil.synth.boardwork import Figures
from hil.synth.candidates import Candidate
from hil.synth.certificate import Finding, Ruling
from hil.synth.comparing import Attempt, compare_json
from hil.synth.cost_fields import cost_fields
from hil.synth.finalists import UNIFORM_LEVELS, Final
from hil.synth.loop import Outcome, exact_costs, utility_in
from hil.synth.plausible_fields import (
    demanded_share,
    over_plausible_boards,
    refused,
    what_was_drawn,
)
from hil.synth.records import ACCURACY
from hil.synth.requirements import Requirement, describe
from hil.synth.searchspace import identity, network_name, uniform_level
from hil.synth.vertices import vertices_json
from hil.synth.work import Contender

SCHEMA = "hil/synthesis@1"
FIGURES = (
    "energy_mj",
    "energy_net_mj",
    "inferences_per_joule",
    "latency_p50_ms",
    "latency_p99_ms",
    "power_w",
)
ACCURACY_IS = {
    "classification": "top-1",
    "segmentation": "mean intersection over union",
    "detection": "mean average precision at overlaps of 0.50 to 0.95",
    "table": "as recorded",
}
RATIOS = ("inferences_per_joule", "latency_p50_ms", "latency_p99_ms")
EMISSION_SEEDS = 1_000_000
"""Seeds of the final emission start here: the search draws far smaller ones."""


def result_json(
    outcome: Outcome, run: str, wall_s: float, attempts: Sequence[Attempt] = ()
) -> dict[str, Any]:
    """Return the final object of the contract.

    Args:
        outcome: of the synthesis.
        run: its folder.
        wall_s: how long this sitting took.
        attempts: of synthesis and of the methods it is compared with, if any.
    """
    job = outcome.job
    prototype = _entry(outcome, outcome.prototype, None)
    demanded = [_requirement(outcome, r) for r in job.profile.requirements.all()]
    ranked = sorted(_finalist_entries(outcome), key=lambda e: -e["netscore"])
    baselines = [_entry(outcome, outcome.uniform, None)] if outcome.uniform else []
    return {
        "schema": SCHEMA,
        "run": run,
        "seed": job.seed,
        "profile": job.profile.name,
        "task": job.profile.task,
        "accuracy_is": ACCURACY_IS[job.profile.task],
        "device": job.session.name,
        "board": _board_text(outcome),
        "rail": job.rail,
        "provenance": job.session.provenance,
        "recorded": _recorded(outcome),
        "requirements": [*demanded, *demanded_share(job.profile.requirements.least_share)],
        "plausible": what_was_drawn(outcome.doubt),
        "prototype": prototype,
        "baselines": baselines,
        "baselines_reason": _baselines_reason(outcome),
        "certified": [e for e in ranked if e["verdict"].startswith("feasible")],
        "not_certified": [e for e in ranked if not e["verdict"].startswith("feasible")],
        "least_violating": _least_entry(outcome),
        "generator": _generator(outcome),
        "vertices": vertices_json(outcome.inquisitor, outcome.bench.changes),
        "compare": compare_json(job, outcome.inquisitor, outcome.reference, attempts),
        "cost": cost_fields(outcome, wall_s),
        "notes": [*outcome.start.notes, *outcome.bench.notes],
    }


def _finalist_entries(outcome: Outcome) -> Iterator[dict[str, Any]]:
    confirmation = outcome.finals.confirmation
    for final in outcome.finalists:
        assert confirmation is not None
        yield refused(outcome, _entry(outcome, final, confirmation.ruling(final.contender.name)))


def _entry(outcome: Outcome, final: Final, ruling: Ruling | None) -> dict[str, Any]:
    contender = final.contender
    entry: dict[str, Any] = {
        "name": contender.name,
        "changes": list(outcome.bench.changes(contender.arch)),
        "architecture": list(contender.arch),
        **_figures(final.figures),
        **_ratios(final.figures, outcome.prototype.figures),
        **_accuracy(final),
        **over_plausible_boards(outcome, final),
        **exact_costs(outcome, contender.arch),
        "memory_mib": _memory(final.figures),
        **_files(contender),
        "engine_sha256": final.figures[0].engine["engine_sha256"],
        "engines_sha256": [f.engine["engine_sha256"] for f in final.figures],
        "builds": len(final.figures),
        "scope": outcome.job.profile.scope,
        "evidence": [f.evidence for f in final.figures],
        "provenance": outcome.job.session.provenance,
        **_validity(final.figures),
        "verdict": ruling.word if ruling else "",
        "proofs": [_proof(f, ruling.provenance) for f in ruling.findings] if ruling else [],
        "binding": _binding(ruling),
        "given_up": bool(ruling and ruling.given_up),
        "modes": _in_modes(outcome, contender.name),
        "receipts": [],
    }
    entry["netscore"] = _score(outcome, contender.arch, entry["accuracy"])
    return entry


def _files(contender: Contender) -> dict[str, Any]:
    """Hashes of the network's files, and the precision they are for where there is a choice."""
    weights = contender.trained.weights_sha256
    if not weights:
        reason = "the network exists as a record only"
        return {"onnx_sha256": None, "onnx_sha256_reason": reason, "weights_sha256": None}
    onnx = hashlib.sha256(contender.model.onnx).hexdigest()
    precision = contender.model.precision
    chosen = {} if precision is None else {"precision": precision}
    return {"onnx_sha256": onnx, "weights_sha256": weights, **chosen}


def _figures(builds: Sequence[Figures]) -> dict[str, Any]:
    """Each figure's mean over builds with its t interval over builds."""
    shown: dict[str, Any] = {}
    for metric in FIGURES:
        known = [e.value for f in builds if (e := f.estimate(metric)) is not None]
        if len(known) < len(builds):
            shown |= {metric: None, f"{metric}_ci95": None}
            shown[f"{metric}_reason"] = builds[0].result.get(f"{metric}_reason")
            continue
        estimate = mean_interval(known)
        shown |= {metric: estimate.value, f"{metric}_ci95": [estimate.low, estimate.high]}
    return shown


def _ratios(builds: Sequence[Figures], reference: Sequence[Figures]) -> dict[str, Any]:
    """Ratios to the prototype with Welch intervals on logarithms, over builds."""
    shown: dict[str, Any] = {}
    for metric in RATIOS:
        pair = [[e.value for f in g if (e := f.estimate(metric))] for g in (builds, reference)]
        if builds is reference or not all(len(values) >= 2 for values in pair):
            continue
        interval: Estimate = log_ratio(*pair).interval()
        shown[f"{metric}_ratio"] = interval.value
        shown[f"{metric}_ratio_ci95"] = [interval.low, interval.high]
    return shown


def _accuracy(final: Final) -> dict[str, Any]:
    paired = final.paired
    if paired is None:
        return {"accuracy": None, "accuracy_reason": "not run on the held-out pictures"}
    low, high = paired.interval()
    return {
        "accuracy": paired.accuracy,
        "accuracy_ci95": [*paired.accuracy_interval()],
        "accuracy_pictures": paired.pictures,
        "accuracy_loss_points": -paired.difference,
        "accuracy_loss_points_ci95": [-high, -low],
        **({"scores": dict(paired.scores)} if paired.scores else {}),
    }


def _memory(builds: Sequence[Figures]) -> float | None:
    known = [e.value for f in builds if (e := f.estimate("memory_mib")) is not None]
    return max(known) if known else None


def _validity(builds: Sequence[Figures]) -> dict[str, Any]:
    words = ("valid", "suspect", "invalid")
    worst = max((str(f.result["validity"]) for f in builds), key=words.index)
    reasons = sorted({reason for f in builds for reason in f.result["reasons"]})
    return {"validity": worst, "reasons": reasons}


def _in_modes(outcome: Outcome, name: str) -> list[dict[str, Any]]:
    """What fresh builds gave in other power modes, one entry a measurement."""
    return [
        {
            "nvpmodel": mode,
            "engine_sha256": figures.engine["engine_sha256"],
            "evidence": figures.evidence,
            **{m: figures.result.get(m) for m in FIGURES},
            **{f"{m}_ci95": figures.result.get(f"{m}_ci95") for m in FIGURES},
        }
        for mode, figures in outcome.finals.in_modes(name)
    ]


def _binding(ruling: Ruling | None) -> dict[str, Any] | None:
    """The limit that comes closest to being broken, or is broken most; None where none is judged.

    `slack` is the distance from what binds to the limit, as a share of the limit.
    """
    if ruling is None or not ruling.findings:
        return None
    closest = min(ruling.findings, key=lambda f: f.slack)
    return {
        "metric": closest.requirement.metric,
        "nvpmodel": closest.requirement.mode,
        "text": describe(closest.requirement),
        "slack": closest.slack,
    }


def _proof(finding: Finding, provenance: str) -> dict[str, Any]:
    emulated = finding.verdict == "feasible" and provenance != "measured"
    return {
        "metric": finding.requirement.metric,
        "nvpmodel": finding.requirement.mode,
        "builds": finding.builds,
        "looks": finding.looks,
        "text": describe(finding.requirement),
        "estimate": finding.value,
        "bound": finding.bound,
        "limit": finding.limit,
        "error": finding.error,
        "binds": "estimate" if finding.error is None else "bound",
        "verdict": f"feasible_{provenance}" if emulated else finding.verdict,
    }


def _score(outcome: Outcome, arch: tuple[int, ...], accuracy: float | None) -> float | None:
    if accuracy is None:
        return None
    macs, params = outcome.bench.search_space.cost(arch)
    values = (np.array([v]) for v in (accuracy / 100, macs, params))
    return float(outcome.inquisitor.setup.utility(*values)[0])


def _requirement(outcome: Outcome, requirement: Requirement) -> dict[str, Any]:
    own = None
    if requirement.metric == ACCURACY:
        own = 100 * outcome.bench.identity.accuracy
    elif requirement.key in outcome.reference.costs:
        own = outcome.reference.costs[requirement.key].value
    bound = requirement.bound(own)
    shown = None if requirement.metric == ACCURACY else own
    return {
        **requirement.to_json(),
        "limit": bound,
        "search_limit": bound if requirement.metric == ACCURACY else None,
        "text": describe(requirement, shown, outcome.job.rail),
    }


def _least_entry(outcome: Outcome) -> dict[str, Any] | None:
    least = outcome.least
    if least is None:
        return None
    accuracy = None if least.trained is None else 100 * least.trained.accuracy
    shown: dict[str, Any] = {}
    for metric in FIGURES:
        estimate = least.figures[0].estimate(metric) if least.figures[0].usable else None
        shown[metric] = None if estimate is None else estimate.value
        shown[f"{metric}_ci95"] = None if estimate is None else [estimate.low, estimate.high]
    return {
        "name": f"{_name(outcome, least)} (least violating)",
        "changes": list(outcome.bench.changes(least.arch)),
        "architecture": list(least.arch),
        **shown,
        **exact_costs(outcome, least.arch),
        "accuracy": accuracy,
        "netscore": _score(outcome, least.arch, accuracy),
        "verdict": least.verdict,
        "proofs": [],
        "receipts": [r.to_json() for r in outcome.inquisitor.receipts(least.arch)],
        "onnx_sha256": least.figures[0].onnx_sha256 or None,
        "engine_sha256": least.figures[0].engine.get("engine_sha256"),
        "provenance": outcome.job.session.provenance,
        "validity": least.figures[0].result.get("validity", "invalid"),
    }


def _generator(outcome: Outcome) -> dict[str, Any]:
    """What the learned generator emits from fresh seeds, refusals counted."""
    generator, space = outcome.inquisitor.generator, outcome.bench.search_space
    seen = {space.key(o.arch) for o in outcome.inquisitor.observations}
    count = outcome.job.profile.generator.emit
    keys, refused = [], 0
    for seed in range(EMISSION_SEEDS, EMISSION_SEEDS + count):
        try:
            keys.append(space.key(generator.emit(seed).arch))
        except NothingFeasibleError:
            refused += 1
    return {
        "generation": generator.generation,
        "sha256": outcome.job.store.put_blob(generator.to_json().encode()),
        "seeds": count,
        "emitted": len(keys),
        "refused": refused,
        "distinct": len(set(keys)),
        "never_proposed": len(set(keys) - seen),
    }


def _baselines_reason(outcome: Outcome) -> str | None:
    """Why there is no uniform width scaling to compare with."""
    if outcome.uniform is not None:
        return None
    space = outcome.bench.search_space
    if all(uniform_level(space, level) == identity(space) for level in UNIFORM_LEVELS):
        return "this space has no widths to scale"
    return "no uniform width scaling that was tried keeps the accuracy demanded"


def _recorded(outcome: Outcome) -> str | None:
    """What replayed figures are a record of; None where they are none."""
    session = outcome.job.session
    if session.provenance != "replayed":
        return None
    return "emulated" if session.board.emulated else "measured"


def _board_text(outcome: Outcome) -> str:
    board = outcome.job.session.board
    parts = [board.model or "unknown board", f"L4T {board.l4t}" if board.l4t else ""]
    return ", ".join(p for p in (*parts, f"TensorRT {board.tensorrt or '-'}") if p)


def search_rows(outcome: Outcome) -> list[Mapping[str, Any]]:
    """Every network measured, in order, as the report's scatter plot takes them."""
    certified = {f.contender.arch for f in outcome.finalists}
    utility = utility_in(outcome.inquisitor)
    return [
        {
            "name": f"{_name(outcome, c)} ({c.source})",
            "architecture": list(c.arch),
            "energy_mj": _value(c, "energy_mj"),
            "latency_p50_ms": _value(c, "latency_p50_ms"),
            "latency_p99_ms": _value(c, "latency_p99_ms"),
            "accuracy": None if c.trained is None else 100 * c.trained.accuracy,
            "verdict": c.verdict,
            "round": c.round,
            "utility": utility(c) if c.trained else None,
            "finalist": c.arch in certified,
            "receipts": [] if c.verdict != "infeasible" else [
                r.to_json() for r in outcome.inquisitor.receipts(c.arch)
            ],
        }
        for c in outcome.candidates
    ]  # fmt: skip


def _name(outcome: Outcome, candidate: Candidate) -> str:
    return network_name(outcome.bench.search_space.key(candidate.arch))


def _value(candidate: Candidate, metric: str) -> float | None:
    known = candidate.costs.get(metric)
    return None if known is None else known.value
