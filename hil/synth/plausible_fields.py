"""What a synthesis writes down of an emulated board's uncertainty: fields of hil/synthesis@1.

* `plausible` of the result: `board`, `boards`, `draws`, or `reason` where there are none.
* Of each network: `predicted`, its figures; `predicted_ratio`, its figures over the prototype's;
  `predicted_ratio_to_baseline`, the same over uniform width scaling's; each a metric to `p5`, `p50`
  and `p95` over plausible boards. A ratio claimed is its `p5`. `plausible_share`: on what share of
  them it keeps the energy and latency limits. Null, with `predicted_reason`, on real boards.
"""

from __future__ import annotations

from typing import Any

from hil.synth.finalists import Final
from hil.synth.loop import Outcome
from hil.synth.plausible import (
    REAL,
    SHARE,
    Doubt,
    Entrant,
    predicted,
    predicted_ratio,
    refusal,
    share,
    tail_of,
)

SHARE_TEXT = "energy and latency limits kept on at least {:.4g} % of the plausible boards"


def _entrant(final: Final) -> Entrant:
    return Entrant(final.contender.key, tail_of(final.figures))


def over_plausible_boards(outcome: Outcome, final: Final) -> dict[str, Any]:
    """How sure the emulated board's figures and ratios are; null with a reason elsewhere."""
    shown: dict[str, Any] = {
        "predicted": None,
        "predicted_ratio": None,
        "predicted_ratio_to_baseline": None,
        "plausible_share": None,
        "predicted_reason": outcome.doubt.reason,
    }
    plausible = outcome.doubt.plausible
    if plausible is None:
        return shown
    own, prototype = _entrant(final), _entrant(outcome.prototype)
    shown["predicted"] = predicted(plausible, own)
    if final is not outcome.prototype:
        shown["predicted_ratio"] = predicted_ratio(plausible, own, prototype)
        requirements = outcome.job.profile.requirements.all()
        shown["plausible_share"] = share(plausible, requirements, own, prototype)
    if outcome.uniform is not None and final in outcome.finalists:
        other = _entrant(outcome.uniform)
        shown["predicted_ratio_to_baseline"] = predicted_ratio(plausible, own, other)
    return shown


def refused(outcome: Outcome, entry: dict[str, Any]) -> dict[str, Any]:
    """A finalist's entry with the demand on plausible boards judged, where there is one."""
    demanded = outcome.job.profile.requirements.least_share
    if demanded is None or outcome.doubt.reason == REAL:
        return entry
    receipt = refusal(demanded, entry["plausible_share"], outcome.doubt)
    proof = {
        "metric": SHARE,
        "text": SHARE_TEXT.format(100 * demanded),
        "estimate": entry["plausible_share"],
        "bound": None,
        "limit": demanded,
        "error": None,
        "binds": "estimate",
        "verdict": "infeasible" if receipt else f"feasible_{outcome.job.session.provenance}",
    }
    judged = {**entry, "proofs": [*entry["proofs"], proof]}
    if receipt is None:
        return judged
    return {**judged, "verdict": "infeasible", "receipts": [receipt]}


def demanded_share(demanded: float | None) -> list[dict[str, Any]]:
    """The demand on plausible boards among the requirements of a result, if there is one."""
    if demanded is None:
        return []
    return [
        {
            "metric": SHARE,
            "kind": "at_least",
            "amount": demanded,
            "relative": False,
            "limit": demanded,
            "search_limit": None,
            "text": SHARE_TEXT.format(100 * demanded),
        }
    ]


def what_was_drawn(doubt: Doubt) -> dict[str, Any]:
    """What the intervals over plausible boards are drawn from."""
    draws = None if doubt.plausible is None else doubt.plausible.draws
    return {
        "board": None if draws is None else draws.board,
        "boards": None if draws is None else draws.boards,
        "draws": None if draws is None else len(draws.energy_mj),
        "reason": doubt.reason,
    }
