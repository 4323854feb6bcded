"""Command files of the emulated board: shell scripts that start a program of the emulator."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

PACKAGE_PARENT = Path(__file__).resolve().parents[2]
STANDINS = Path(__file__).resolve().parent / "standins"


def program(module: str) -> str:
    """The command line of a program that needs neither the board's time nor its packages."""
    start = (
        f"import sys; sys.path.insert(0, {str(PACKAGE_PARENT)!r}); "
        f"from hil.emulator.programs.{module} import main; sys.exit(main())"
    )
    return f'exec {shlex.quote(sys.executable)} -S -E -B -c {shlex.quote(start)} "$@"'


def python() -> str:
    """The command line of the board's Python."""
    path = f"{STANDINS}:{PACKAGE_PARENT}"
    return (
        f'export PYTHONPATH={shlex.quote(path)}"${{PYTHONPATH:+:$PYTHONPATH}}"\n'
        f"export PYTHONDONTWRITEBYTECODE=1\n"
        f'exec {shlex.quote(sys.executable)} "$@"'
    )


def board_python(module: str) -> str:
    """A program that lives in the board's time, as Python programs of the board do."""
    start = f"import sys; from hil.emulator.programs.{module} import main; sys.exit(main())"
    return python().replace('"$@"', f'-B -c {shlex.quote(start)} "$@"')


def launcher(path: Path, command: str, environment: Mapping[str, str]) -> None:
    """Writes a command; the board's variables are in it, so a cleared environment does no harm."""
    exports = "\n".join(
        f"export {name}={shlex.quote(value)}"
        for name, value in environment.items()
        if name.startswith("HIL_BOARD_")
    )
    path.write_text(f"#!/bin/sh\n{exports}\n{command}\n")
    path.chmod(0o755)
