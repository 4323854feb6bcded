"""What a synthesis cost, as its result says it: measurements, trainings, seconds of each pool."""

from __future__ import annotations

from typing import Any

from hil.synth.loop import Outcome
from hil.synth.store import Step


def cost_fields(outcome: Outcome, wall_s: float) -> dict[str, Any]:
    """What the run took; seconds of pools and of the wall are of this sitting, if resumed."""
    store, searched = outcome.job.store, outcome.candidates
    untrained = [c for c in searched if c.trained is None]
    refused = sum(c.verdict == "infeasible" for c in untrained)
    keys = {outcome.bench.search_space.key(c.arch) for c in (outcome.reference, *searched)}
    # Networks that only another method of a comparison asked for are none of synthesis's cost.
    steps = [s for s in store.steps("measure") if not s.key.startswith("search:") or _of(s) in keys]
    known_s = [step.value["device_s"] for step in steps if "device_s" in step.value]
    finals = sum(step.key.startswith("final:") for step in store.steps("train"))
    busy_s = outcome.job.pools.busy_s
    return {
        "measurements": len(searched),
        "engines_measured": len(steps),
        "trainings": len(searched) - len(untrained) + finals,
        "glances": sum(c.glance is not None for c in searched),
        "refused_before_training": refused,
        "passed_over_after_glance": sum(c.glance is not None for c in untrained),
        "device_seconds": sum(known_s) if known_s else None,
        "training_s": busy_s["trainer"],
        "measuring_s": busy_s["board"],
        "thinking_s": busy_s["thinker"],
        "wall_seconds": wall_s,
        "overlap": wall_s / max(busy_s["trainer"], busy_s["board"], 1e-9) if known_s else None,
    }


def _of(step: Step) -> str:
    """The network that a measurement of the search was of."""
    return step.key.removeprefix("search:").rpartition(":")[0]
