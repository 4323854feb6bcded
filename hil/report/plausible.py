"""How an emulated board's uncertainty is written for people: an interval beside every claim.

Data in, text out. Results written before the uncertainty was known have none of these fields;
they are shown without it, and say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hil.report.figures import number

UNKNOWN = "how sure the model is of it is unknown"


def boards_of(result: Mapping[str, Any]) -> str:
    """Return what the intervals are over, as "plausible TX2s"."""
    board = (result.get("plausible") or {}).get("board")
    return f"plausible {str(board).upper()}s" if board else "plausible boards"


def interval(ratios: Mapping[str, Any] | None, metric: str = "inferences_per_joule") -> str | None:
    """Return "2.80 to 3.40", the 5th to the 95th percentile; None where it is unknown."""
    drawn = (ratios or {}).get(metric)
    return None if drawn is None else f"{drawn['p5']:.2f} to {drawn['p95']:.2f}"


def over_boards(
    result: Mapping[str, Any], network: Mapping[str, Any], field: str = "predicted_ratio"
) -> str:
    """Return how sure a ratio of inferences per joule is; empty on a real board.

    Args:
        result: of the run.
        network: one of its networks.
        field: which of its ratios.
    """
    if result["provenance"] != "emulated":
        return ""
    ratios = network.get(field)
    ends = interval(ratios)
    if ratios is None or ends is None:
        return network.get("predicted_reason") or UNKNOWN
    claim = f"{ratios['inferences_per_joule']['p5']:.2f}x"
    return f"{ends} over {boards_of(result)}, 5th to 95th percentile; to be claimed: {claim}"


def headline(result: Mapping[str, Any]) -> str | None:
    """Return what a run came to in one sentence; None where nothing was certified."""
    if not result["certified"]:
        return None
    best = result["certified"][0]
    ratio = best.get("inferences_per_joule_ratio")
    if ratio is None:
        return None
    words = f"{ratio:.2f}x the inferences per joule of the prototype"
    sure = over_boards(result, best)
    if result["provenance"] == "replayed":
        return f"REPLAYED: {words}"
    return f"EMULATED: {words} ({sure})" if sure else words


def rows(network: Mapping[str, Any]) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the ratio over plausible boards with its ends, and the share that keeps the limits."""
    ratio = (network.get("predicted_ratio") or {}).get("inferences_per_joule")
    share = network.get("plausible_share")
    ends = f"[{ratio['p5']:.2f}, {ratio['p95']:.2f}]" if ratio else ""
    return (
        (f"{ratio['p50']:.2f}" if ratio else "-", ends),
        ("-" if share is None else f"{number(100 * share, 3)} %", ""),
    )


def titles(result: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the headings of `rows`; None where the run has no such figures."""
    if (result.get("plausible") or {}).get("board") is None:
        return None
    return f"inf/J ratio, {boards_of(result)}", f"fits, of {boards_of(result)}"
