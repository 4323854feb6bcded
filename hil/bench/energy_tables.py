"""Shares and errors over judged scenarios; pure arithmetic on records.

Every share stands beside the number it is a share of, and a stratum counts for the worst only with
enough results to be told from chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from hil.bench.energy_peers import PEERS
from hil.bench.energy_record import Fixed, Record
from hil.bench.energy_scenario import NEAR

ENOUGH = 60
"""A stratum of fewer results says too little of its coverage: at 95 % its share spreads by 3 %."""

Triple = tuple[float, float, float]


def summary(records: Sequence[Record], window_s: float) -> dict[str, Any]:
    """Return the benchmark's figures.

    Args:
        records: judged scenarios.
        window_s: length of one block.
    """
    accepted = [r for r in records if r.accepted and r.interval is not None]
    valid = [r for r in accepted if r.validity == "valid"]
    with_figure = [r for r in records if r.interval is not None]
    strata = by_stratum(records)
    decisions = _decisions([r for r in records if is_far(r)])
    fixed = fixed_lengths([r for r in records if is_far(r)], window_s, decisions)
    headline = {
        "bias_fraction": _mean(map(error, valid)),
        "bias_worst_stratum": _worst(strata, "bias_fraction", key=lambda value: -abs(value)),
        "coverage": coverage(accepted),
        "coverage_valid": coverage(valid),
        "coverage_all": coverage(with_figure),
        "coverage_worst_stratum": _worst(strata, "coverage"),
        "u95_coverage": u95_coverage(accepted),
        "u95_coverage_worst_stratum": _worst(strata, "u95_coverage"),
        "net_coverage": net_coverage(accepted),
        "valid_fraction": len(valid) / len(records),
        "valid_fraction_tegrastats": _share(
            r.validity == "valid" for r in records if r.same is not None
        ),
        "invalid_fraction": sum(r.validity == "invalid" for r in records) / len(records),
        "refused_fraction": sum(r.refusal is not None for r in records) / len(records),
        "decision_time_ratio": fixed["decision_time_ratio"],
        "decision_window_ratio": fixed["decision_window_ratio"],
        "decision_board_ratio": fixed["decision_board_ratio"],
        "wrong_decisions": decisions["wrong"],
        "undecided": decisions["undecided"],
    }
    return {
        **headline,
        "decisions": decisions,
        "near_limit": _decisions([r for r in records if r.margin is not None and not is_far(r)]),
        "targets": _targets(accepted),
        "peers": {**{name: _peer(records, name) for name in PEERS}, "fixed_length": fixed},
        "error_ratio": {name: _ratios(accepted, name) for name in PEERS},
        "strata": strata,
        "reasons": _reasons(records),
    }


def is_far(record: Record) -> bool:
    """Whether the truth is 3 % or more away from the record's limit."""
    return record.margin is not None and record.margin >= NEAR


def error(record: Record) -> float:
    """Return the reading's signed relative error against the expected reading."""
    assert record.interval is not None
    return record.interval[0] / record.truth - 1


def coverage(records: Sequence[Record]) -> float | None:
    """Return the share of `ci95` that hold the expected reading."""
    return _share(_holds(r.interval, r.truth) for r in records if r.interval is not None)


def u95_coverage(records: Sequence[Record]) -> float | None:
    """Return the share of `u95_total` that hold the expected true energy."""
    return _share(_holds(r.u95, r.absolute) for r in records if r.u95 is not None)


def net_coverage(records: Sequence[Record]) -> float | None:
    """Return the share of intervals of net energy that hold the expected net reading."""
    return _share(_holds(r.net, r.truth_net) for r in records if r.net is not None)


def by_stratum(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Return a row of figures for each stratum that a record names."""
    names = dict.fromkeys(name for record in records for name in record.strata)
    return {name: _row([r for r in records if name in r.strata]) for name in names}


def _row(records: Sequence[Record]) -> dict[str, Any]:
    accepted = [r for r in records if r.accepted and r.interval is not None]
    valid = [r for r in accepted if r.validity == "valid"]
    halves = [(r.interval[2] - r.interval[1]) / 2 / r.truth for r in accepted if r.interval]
    return {
        "scenarios": len(records),
        "accepted": len(accepted),
        "valid_fraction": len(valid) / len(records),
        "bias_fraction": _mean(map(error, valid)),
        "coverage": coverage(accepted),
        "u95_coverage": u95_coverage(accepted),
        "net_coverage": net_coverage(accepted),
        "median_abs_error": _median(abs(error(r)) for r in accepted),
        "median_half_width": _median(halves),
        "mean_window_s": _mean(r.window_s for r in records),
    }


def _worst(
    strata: Mapping[str, Mapping[str, Any]],
    figure: str,
    key: Callable[[float], float] = lambda value: value,
) -> dict[str, Any]:
    rows = [
        (key(row[figure]), name, row)
        for name, row in strata.items()
        if row[figure] is not None and row["accepted"] >= ENOUGH
    ]
    if not rows:
        return {"value": None, "stratum": None, "of": 0}
    _, name, row = min(rows, key=lambda one: one[0])
    return {"value": row[figure], "stratum": name, "of": row["accepted"]}


# -- decisions -----------------------------------------------------------------------------------


def _decisions(records: Sequence[Record]) -> dict[str, Any]:
    """Return how limits were decided; an invalid or refused result decides nothing."""
    decided = [r for r in records if r.accepted and r.verdict in ("feasible", "infeasible")]
    wrong = sum(r.verdict != r.right for r in decided)
    n = len(records)
    return {
        "limits": n,
        "wrong": wrong / n if n else None,
        "undecided": (n - len(decided)) / n if n else None,
        "mean_window_s": _mean(r.window_s for r in records),
        "mean_load_s": _mean(r.load_s for r in records),
        "mean_board_s": _mean(r.board_s for r in records),
    }


def fixed_lengths(
    records: Sequence[Record], window_s: float, ours: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the shortest fixed length that errs as rarely as the sequential rule.

    A fixed length decides a limit where the t interval over its blocks lies on one side of it.
    It errs as rarely when its wrong and undecided shares together are no larger.
    """
    if not records:
        return dict.fromkeys(
            ("reached", "decision_time_ratio", "decision_window_ratio", "decision_board_ratio")
        )
    lengths = [one.blocks for one in records[0].fixed]
    rows = [_fixed_row(records, at) for at in range(len(lengths))]
    allowed = ours["wrong"] + ours["undecided"]
    reached = [row for row in rows if row["wrong"] + row["undecided"] <= allowed]
    by_value = [row for row in rows if row["wrong_by_value"] <= allowed]
    chosen = reached[0] if reached else rows[-1]
    windows_s = chosen["blocks"] * window_s
    load_s = windows_s + fmean(r.load_s - r.window_s for r in records)
    board_s = windows_s + fmean(r.board_s - r.window_s for r in records)
    return {
        "blocks": chosen["blocks"],
        "reached": bool(reached),
        "window_s": windows_s,
        "load_s": load_s,
        "board_s": board_s,
        "wrong_decisions": chosen["wrong"],
        "undecided": chosen["undecided"],
        "bias_fraction": chosen["bias_fraction"],
        "coverage": chosen["coverage"],
        "valid_fraction": None,
        "decision_time_ratio": ours["mean_load_s"] / load_s,
        "decision_window_ratio": ours["mean_window_s"] / windows_s,
        "decision_board_ratio": ours["mean_board_s"] / board_s,
        "by_value_alone": None if not by_value else by_value[0],
        "lengths": rows,
    }


def _fixed_row(records: Sequence[Record], at: int) -> dict[str, Any]:
    wrong = undecided = covered = wrong_by_value = 0
    errors = []
    for record in records:
        one = record.fixed[at]
        verdict, by_value, right = _sides(record, one)
        wrong += verdict is not None and verdict != right
        undecided += verdict is None
        wrong_by_value += by_value != right
        covered += abs(one.value - one.truth) <= one.half
        errors.append(one.value / one.truth - 1)
    n = len(records)
    return {
        "blocks": records[0].fixed[at].blocks,
        "wrong": wrong / n,
        "undecided": undecided / n,
        "wrong_by_value": wrong_by_value / n,
        "coverage": covered / n,
        "bias_fraction": fmean(errors),
        "median_abs_error": median(map(abs, errors)),
    }


def _sides(record: Record, one: Fixed) -> tuple[bool | None, bool, bool]:
    """Return on which side of the limit the interval, the value and the truth lie (True: below)."""
    assert record.limit is not None
    below, above = one.value + one.half <= record.limit, one.value - one.half > record.limit
    verdict = True if below else False if above else None
    return verdict, one.value <= record.limit, one.truth <= record.limit


# -- peers ---------------------------------------------------------------------------------------


def _peer(records: Sequence[Record], name: str) -> dict[str, Any]:
    """Return a peer's figures; it judges nothing, so every result counts as valid."""
    rows = [r.peers[name] for r in records if name in r.peers]
    far = [r for r in records if is_far(r) and name in r.peers]
    wrong = [_wrong_side(r, r.peers[name]) for r in far]
    errors = [row[0] / row[3] - 1 for row in rows]
    strata = {
        stratum: _share(
            _holds(r.peers[name][:3], r.peers[name][3]) for r in records if s_in(r, stratum)
        )
        for stratum in dict.fromkeys(r.stratum for r in records)
    }
    return {
        "bias_fraction": _mean(errors),
        "coverage": _share(_holds(row[:3], row[3]) for row in rows),
        "coverage_worst_stratum": min((v for v in strata.values() if v is not None), default=None),
        "u95_coverage": _share(_holds(r.peers[name][:3], r.absolute) for r in records),
        "valid_fraction": 1.0,
        "decision_time_ratio": None,
        "wrong_decisions": sum(wrong) / len(wrong) if wrong else None,
        "median_abs_error": _median(map(abs, errors)),
        "mean_abs_error": _mean(map(abs, errors)),
        "mean_s": _mean(row[5] for row in rows),
    }


def s_in(record: Record, stratum: str) -> bool:
    """Whether a record belongs to a stratum."""
    return stratum in record.strata


def _wrong_side(record: Record, row: Sequence[float]) -> bool:
    assert record.limit is not None
    return (row[0] <= record.limit) != (row[3] <= record.limit)


def _ratios(records: Sequence[Record], name: str) -> dict[str, float | None]:
    """Return a peer's error over ours on the same scenarios.

    `expected`: against the mean reading of endless repetition, which bursts move for everybody.
    `realised`: against what the stretch measured really held, which is what an instrument answers
    for.
    """
    pairs = [(r, r.peers[name]) for r in records if name in r.peers and r.interval is not None]
    found: dict[str, float | None] = {}
    for label, ours, theirs in (
        (
            "expected",
            [abs(error(r)) for r, _ in pairs],
            [abs(row[0] / row[3] - 1) for _, row in pairs],
        ),
        (
            "realised",
            [abs(r.interval[0] / r.realised - 1) for r, _ in pairs if r.interval],
            [abs(row[0] / row[4] - 1) for _, row in pairs],
        ),
    ):
        if not pairs:
            continue
        found[f"{label}_median"] = median(theirs) / median(ours)
        found[f"{label}_mean"] = fmean(theirs) / fmean(ours)
        found[f"{label}_ours_median"] = median(ours)
        found[f"{label}_theirs_median"] = median(theirs)
    return found


# -- small things --------------------------------------------------------------------------------


def _targets(records: Sequence[Record]) -> dict[str, Any]:
    """Return, by target, how often it was met, at what length, with what coverage."""
    rows = {}
    for name in sorted({s for r in records for s in r.strata if s.startswith("rule target")}):
        within = [r for r in records if name in r.strata]
        met = [r for r in within if r.outcome == "target"]
        rows[name.removeprefix("rule ")] = {
            "scenarios": len(within),
            "met": len(met) / len(within),
            "coverage_where_met": coverage(met),
            "mean_window_s": _mean(r.window_s for r in within),
        }
    return rows


def _reasons(records: Sequence[Record], most: int = 12) -> dict[str, int]:
    """Return how often each reason to doubt a result was given, its figures left out."""
    counted: dict[str, int] = {}
    for record in records:
        told = (*record.reasons, *(() if record.refusal is None else (record.refusal,)))
        for reason in {"".join("#" if c.isdigit() else c for c in text) for text in told}:
            counted[reason] = counted.get(reason, 0) + 1
    return dict(sorted(counted.items(), key=lambda item: -item[1])[:most])


def _holds(interval: Sequence[float] | None, truth: float) -> bool:
    return interval is not None and interval[1] <= truth <= interval[2]


def _share(values: Iterable[bool]) -> float | None:
    return _mean(float(value) for value in values)


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return fmean(known) if known else None


def _median(values: Iterable[float]) -> float | None:
    known = list(values)
    return median(known) if known else None
