"""The error budget of a measurement as rows, for `hil profile --explain-energy`."""

from __future__ import annotations

from dataclasses import dataclass

from hil.measure.result import Measurement

TOTAL = "total (u95_total)"
UNITS = {"energy_mj": "mJ", "energy_net_mj": "mJ"}


@dataclass(frozen=True)
class Row:
    """One line of the budget.

    Attributes:
        figure: the figure's JSON name.
        unit: of `half_width`.
        term: what errs, or `TOTAL`.
        half_width: 95 % half width; None where unknown.
        relative: the same over the figure.
        share: of the total variance, None for a term that is unknown or told only.
        note: why a term is told and not added, or why the total is unknown.
        source: where the number comes from.
        reducible_by: what would make it smaller.
    """

    figure: str
    unit: str
    term: str
    half_width: float | None
    relative: float | None
    share: float | None
    note: str
    source: str
    reducible_by: str


def explain(measurement: Measurement) -> list[Row]:
    """Return the budget's rows: for each figure its terms, largest first, then the total."""
    rows: list[Row] = []
    for figure, unit in UNITS.items():
        terms = [term for term in measurement.error_budget if term.figure == figure]
        estimate = measurement.figure(figure)
        if estimate is None or not terms:
            continue

        def over(half: float | None, value: float = estimate.value) -> float | None:
            return None if half is None or value == 0 else half / abs(value)

        terms.sort(key=lambda term: (term.share is None, -(term.share or 0.0)))
        rows += [
            Row(
                figure=figure,
                unit=unit,
                term=term.name,
                half_width=term.half_width,
                relative=over(term.half_width),
                share=term.share,
                note="" if term.part_of is None else _note(term.part_of),
                source=term.source,
                reducible_by=term.reducible_by,
            )
            for term in terms
        ]
        whole = measurement.total(figure)
        half = None if whole is None else (whole.high - whole.low) / 2
        why = measurement.why(f"{figure}_u95_total") or ""
        told = "convolution of the terms (GUM supplement 1)"
        rows.append(
            Row(figure, unit, TOTAL, half, over(half), None if half is None else 1.0, why, told, "")
        )
    return rows


def _note(part_of: str) -> str:
    return part_of if " " in part_of else f"held by {part_of}"
