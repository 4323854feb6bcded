"""Options of `hil gate`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Doubt(StrEnum):
    """What an inconclusive gate does."""

    FAIL = "fail"
    PASS = "pass"


ModelsArgument = Annotated[list[Path], typer.Argument(help="Networks to gate, ONNX files.")]
BaselineOption = Annotated[
    Path | None, typer.Option(help="Compare with this file, written by --write-baseline.")
]
BaselineModelOption = Annotated[
    list[Path] | None,
    typer.Option(help="Compare with this network by turns; one, or one for each. Repeatable."),
]
BudgetFileOption = Annotated[
    Path | None, typer.Option(help="Budgets and margins (schema hil/gate@1).")
]
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(help="energy_mj=5, or energy_mj=85% of the baseline's. Repeatable."),
]
EnergyOption = Annotated[str | None, typer.Option(help="Short for --budget energy_mj=...")]
LatencyOption = Annotated[str | None, typer.Option(help="Short for --budget latency_p99_ms=...")]
MarginOption = Annotated[
    list[str] | None,
    typer.Option(help="energy_mj=3%: how much worse than the baseline. Repeatable."),
]
LabelledOption = Annotated[
    Path | None, typer.Option(help="An .npz of `inputs` and `labels`, for accuracy.")
]
AccuracyOption = Annotated[float | None, typer.Option(min=0, max=100, help="At least, in %.")]
PointsLostOption = Annotated[
    float | None, typer.Option(min=0, max=100, help="At most, against the baseline.")
]
WriteBaselineOption = Annotated[
    Path | None, typer.Option(help="Write what was measured, to compare with later.")
]
BuildsOption = Annotated[
    int, typer.Option(min=1, help="Engine builds that screening goes through.")
]
InconclusiveOption = Annotated[
    Doubt, typer.Option(help="fail: exit 5; pass: exit 0, and a warning.")
]
JunitOption = Annotated[Path | None, typer.Option(help="JUnit XML.")]
MarkdownOption = Annotated[Path | None, typer.Option(help="A comment for a pull request.")]
SummaryOption = Annotated[
    Path | None, typer.Option(help="Append Markdown here (default: GitHub's step summary).")
]
BencherOption = Annotated[Path | None, typer.Option(help="Bencher Metric Format, JSON.")]
BenchmarkJsonOption = Annotated[
    Path | None, typer.Option(help="github-action-benchmark's customSmallerIsBetter, JSON.")
]
AnnotationsOption = Annotated[
    bool | None,
    typer.Option("--annotations/--no-annotations", help="Of GitHub (default: where it runs)."),
]
SeedOption = Annotated[
    int | None, typer.Option(min=0, help="Of orders and build numbers (default: drawn).")
]
