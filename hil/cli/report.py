"""`hil report`: a run's page again, from what the run kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from hil.cli.terminal import say
from hil.core.errors import ConfigError

RunArgument = Annotated[Path, typer.Argument(help="The run's folder.")]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("report", help="Write the page of a finished run.")(report)


def report(
    run: RunArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("report.html"),
) -> None:
    """Write the page of a finished run."""
    from hil.cli.artifacts import write_report
    from hil.synth.store import RunStore

    with RunStore.open(run, write=False) as store:
        kept = read_result(run)
        write_report(store, kept["result"], kept["search"], output)
    say(f"wrote {output}")


def read_result(run: Path) -> dict[str, Any]:
    """Read what a finished run wrote.

    Raises:
        ConfigError: the run is not finished, or its result is damaged.
    """
    path = run / "result.json"
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
