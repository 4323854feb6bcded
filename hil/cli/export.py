"""`hil export`: the networks of a run, as files to take away."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from hil.cli.report import RunArgument, read_result
from hil.cli.terminal import say


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("export", help="Copy a run's networks, certificates and generator to a folder.")(
        export
    )


def export(
    run: RunArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.")],
) -> None:
    """Copy a run's networks, certificates and generator to a folder."""
    from hil.cli.artifacts import write_networks, write_report
    from hil.synth.store import RunStore

    with RunStore.open(run, write=False) as store:
        kept = read_result(run)
        output.mkdir(parents=True, exist_ok=True)
        for place in write_networks(store, kept["result"], output):
            say(f"wrote {place}")
        shutil.copyfile(run / "generator.json", output / "generator.json")
        write_report(store, kept["result"], kept["search"], output / "report.html")
    say(f"wrote {output / 'generator.json'} and {output / 'report.html'}")
