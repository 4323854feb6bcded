"""`hil bundle`: a run's networks in one file, with the raw traces that prove what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.terminal import say

RunArgument = Annotated[Path, typer.Argument(help="The run's folder.")]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("bundle", help="Pack a run's networks with the traces that prove their figures.")(
        bundle
    )


def bundle(
    run: RunArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The bundle (default: RUN.hil).")
    ] = None,
) -> None:
    """Pack a run's networks with the traces that prove their figures."""
    from hil.cli.bundling import bundle_files, packed
    from hil.cli.keeping import write_whole

    files = bundle_files(run)
    data = packed(files)
    target = output or Path(f"{run.resolve().name}.hil")
    write_whole(target, data)
    say(f"wrote {target}: {len(files)} files, {len(data) / 2**20:.1f} MiB")
    say(f"check it with: python3 {Path(__file__).parents[1] / 'bundle_checker.py'} {target}")
