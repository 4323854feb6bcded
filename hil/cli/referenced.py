"""`hil profile --reference`: a network between runs of another, whose drift is divided out.

The reference never changes, so what its energy does over the run is the board's doing. The
network's figures are its ratio to the reference, round by round, times the reference's own mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hil.cli.measuring import Looking, board_json, engine_json
from hil.cli.network import Network, build
from hil.cli.profile_work import Result, Work
from hil.cli.rounds import Rounds, Rule, comparison_json
from hil.core.errors import InterruptedRunError

if TYPE_CHECKING:
    from hil.measure.comparison import Comparison, Scored

SCHEMA = "hil/referenced@1"
SEED = 0


def referenced(work: Work, other: Network) -> Result:
    """Measure a network and a reference by turns; return the network's figures, drift divided out.

    Args:
        work: the profile under way; its wishes' target is that of the ratio.
        other: the reference.
    """
    desk, wishes = work.desk, work.wishes
    figure = "latency_p50_ms" if desk.power == "none" else "energy_mj"
    rule = Rule(wishes.target, wishes.max_time_s, figure)
    rule.check(1)
    info = build(desk.session, work.network, desk.config, wishes.precision)
    reference = build(desk.session, other, desk.config, wishes.precision)
    rounds = Rounds(desk, work.keeper, rule)

    def result() -> Result:
        done = rounds.comparison()
        return {
            "schema": SCHEMA,
            "provenance": desk.session.provenance,
            "rail": desk.rail,
            **divided(done),
            **comparison_json(done),
            **engine_json(work.network, info),
            **board_json(desk.session),
            "reference": {
                **engine_json(other, reference),
                "drift": drift(rounds.scored, figure),
            },
            **rounds.to_json(),
            "limits": [],
            "calibration": desk.calibration_note,
            "scored_with": desk.scored_with(),
        }

    with Looking("measuring beside the reference"):
        try:
            rounds.run({"a": [reference], "b": [info]}, SEED)
        except InterruptedRunError:
            if len(rounds.scored) >= 2:
                work.keeper.result({**result(), "interrupted": True})
            raise
    return result()


def divided(done: Comparison) -> dict[str, Any]:
    """Return the network's figures with the reference's drift divided out.

    The interval is the ratio's: it is about the network at the reference's mean level of this run.
    """
    figures: dict[str, Any] = {}
    for name, paired in done.ratios.items():
        level = math.exp(sum(paired.log_bases) / len(paired.log_bases))
        ratio = paired.ratio
        figures[name] = level * ratio.value
        figures[f"{name}_ci95"] = [level * ratio.low, level * ratio.high]
        own = done.means["b"][name]
        figures[f"{name}_undivided"] = own.value
        figures[f"{name}_undivided_ci95"] = [own.low, own.high]
    for name, why in done.unknown.items():
        figures[name] = figures[f"{name}_ci95"] = None
        figures[f"{name}_reason"] = why
    return figures


def drift(scored: list[Scored], figure: str) -> list[Mapping[str, Any]]:
    """Return the reference's figure in each round, relative to its mean over the run."""
    known = [(one.at_s, estimate) for one in scored if (estimate := one.a.figure(figure))]
    if not known:
        return []
    mean = sum(estimate.value for _, estimate in known) / len(known)
    return [
        {"at_s": at_s, figure: estimate.value, "relative": estimate.value / mean - 1}
        for at_s, estimate in known
    ]
