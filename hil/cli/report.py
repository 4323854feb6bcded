"""`hil report`: the page, Markdown or CSV of what was kept: a run, a profile, a comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from hil.cli.keeping import RESULT, write_whole
from hil.cli.terminal import say
from hil.core.errors import ConfigError

PathArgument = Annotated[
    Path,
    typer.Argument(
        metavar="PATH", help="A folder that synthesize, profile or compare kept, or its result.json"
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="The page; report.html unless only other forms are asked for."
    ),
]
MarkdownOption = Annotated[Path | None, typer.Option("--markdown", help="The tables, Markdown.")]
CsvOption = Annotated[Path | None, typer.Option("--csv", help="The figures, a line each.")]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("report", help="Write the page of a run, a profile or a comparison.")(report)


def report(
    path: PathArgument,
    output: OutputOption = None,
    markdown: MarkdownOption = None,
    csv: CsvOption = None,
) -> None:
    """Write what was kept for people to read."""
    if output is None and markdown is None and csv is None:
        output = Path("report.html")
    folder = path.parent if path.name == RESULT and path.is_file() else path
    if (folder / "run.sqlite").is_file():
        _of_run(folder, output, markdown, csv)
    else:
        _of_result(folder, output, markdown, csv)
    for written in (output, markdown, csv):
        if written is not None:
            say(f"wrote {written}")


def _of_run(run: Path, page: Path | None, markdown: Path | None, csv: Path | None) -> None:
    from hil.cli.artifacts import generations_told, write_report
    from hil.report.document import to_csv, to_markdown
    from hil.report.run_tables import document
    from hil.synth.store import RunStore

    with RunStore.open(run, write=False) as store:
        kept = read_result(run)
        if page is not None:
            write_report(store, kept["result"], kept["search"], page)
        tables = document(kept["result"], kept["search"], generations_told(store))
    if markdown is not None:
        write_whole(markdown, to_markdown(tables).encode())
    if csv is not None:
        write_whole(csv, to_csv(tables).encode())


def _of_result(folder: Path, page: Path | None, markdown: Path | None, csv: Path | None) -> None:
    from hil.cli.reporting import kept_document
    from hil.report.document import to_csv, to_html, to_markdown

    made = kept_document(folder)
    for target, form in ((page, to_html), (markdown, to_markdown), (csv, to_csv)):
        if target is not None:
            write_whole(target, form(made).encode())


def read_result(run: Path) -> dict[str, Any]:
    """Read what a finished run wrote.

    Raises:
        ConfigError: the run is not finished, or its result is damaged.
    """
    path = run / RESULT
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ConfigError(
            f"the run at {run} is not finished",
            fix=f"finish it with: hil synthesize --resume {run}",
        ) from error
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path} is damaged",
            why=str(error),
            fix=f"write it anew: hil synthesize --resume {run}",
        ) from error
