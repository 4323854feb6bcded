"""Lines of the agent's own samplers: `name=figures` tokens, each ending in its unit.

A token says its figures whole or not at all: cut anywhere, it has lost its last unit and is no
token. What stands before the cut is right; the damaged line is refused all the same.
"""

from __future__ import annotations

import re


def tokens(line: str, pattern: re.Pattern[str]) -> dict[str, re.Match[str]] | None:
    """Split a line into matches by name.

    Args:
        line: a whole line.
        pattern: what stands after the `=`; it must match to the end.

    Returns:
        None where anything on the line does not fit, a name comes twice, or it is empty.
    """
    found: dict[str, re.Match[str]] = {}
    for word in line.split():
        name, equals, figures = word.partition("=")
        match = pattern.fullmatch(figures)
        if not name or not equals or match is None or name in found:
            return None
        found[name] = match
    return found or None
