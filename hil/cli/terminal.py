"""What people see: messages on stderr, results on stdout, JSON alone on stdout with --json."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

from hil.core.errors import Told

out = Console()
if not out.is_terminal:
    # A log has no width; 80 columns would cut figures off.
    out = Console(width=132)
err = Console(stderr=True, soft_wrap=True)


def say(text: str) -> None:
    """Print one line for people on stderr."""
    err.print(escape(text), highlight=False)


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object alone on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def print_error(error: Told) -> None:
    """Print what happened, why, and what to do next."""
    err.print(f"[bold red]error:[/] {escape(error.what)}", highlight=False)
    if error.why:
        err.print(f"  why:  {escape(error.why)}", highlight=False)
    if error.fix:
        err.print(f"  next: {escape(error.fix)}", highlight=False)
