"""What held-out pictures can show of a paired difference in accuracy (`hil.core.paired`)."""

from __future__ import annotations

from hil.core.errors import ConfigError
from hil.core.paired import Paired, exact_lower, resolvable_margin, score_bound
from hil.synth.requirements import Requirement

__all__ = ["Paired", "exact_lower", "require_resolution", "resolvable_margin", "score_bound"]


TYPICAL_DISAGREEMENT = 0.1
"""Share of pictures that one of two networks alone gets right, before anything is known of them."""


def resolution_note(
    requirement: Requirement,
    pictures: int,
    alpha: float,
    disagreement: float = TYPICAL_DISAGREEMENT,
) -> str | None:
    """Which margin a paired comparison can resolve, where that is wider than the one asked for.

    Args:
        requirement: a demand on accuracy.
        pictures: how many are held out.
        alpha: one-sided error of the bound.
        disagreement: see `resolvable_margin`.

    Returns:
        a sentence; None where the margin asked for can be resolved, or is not a margin.
    """
    if requirement.kind != "lose_at_most":
        return None
    could, asked = resolvable_margin(pictures, alpha, disagreement), requirement.limit.amount
    if asked >= could:
        return None
    best = resolvable_margin(pictures, alpha)
    return (
        f"{pictures:,} held-out pictures cannot resolve the loss of {asked:.3g} points asked for: "
        f"they can tell {could:.2g} points from none where two networks disagree on "
        f"{100 * disagreement:.3g} % of the pictures ({best:.2g} where they hardly do), at "
        f"confidence {1 - alpha:.4g}"
    )


def require_resolution(
    requirement: Requirement, pictures: int, alpha: float, disagreement: float = 0.0
) -> None:
    """Refuse a margin that the held-out pictures cannot resolve even in the case assumed.

    Args:
        requirement: a demand on accuracy whose bound is to bind.
        pictures: how many are held out.
        alpha: one-sided error of the bound.
        disagreement: see `resolvable_margin`.

    Raises:
        ConfigError: naming the smallest margin that could be resolved.
    """
    if requirement.kind == "lose_at_most":
        best, asked = resolvable_margin(pictures, alpha, disagreement), requirement.limit.amount
        if asked >= best:
            return
        demand, could = f"a loss of {asked:.3g} points", f"the smallest margin is {best:.3g} points"
    else:
        best, asked = 100 * exact_lower(pictures, pictures, alpha), requirement.limit.amount
        if asked <= best:
            return
        demand, could = f"an accuracy of {asked:.4g} %", f"the highest is {best:.4g} %"
    raise ConfigError(
        f"{pictures} held-out pictures cannot show {demand} at confidence {1 - alpha:.4g}",
        why=f"{could} with so many pictures",
        fix="widen the margin, hold out more pictures, or remove `confidence` from the profile",
    )
