"""Writes docs/unverified.md from the code: what nobody has checked on a board.

`python -m hil.device.unverified FILE` writes it; `make docs` does that.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hil.device.assumptions import ASSUMPTIONS, Assumption

PACKAGE = Path(__file__).parents[1]
_MARK = re.compile(r"#\s*assumes:\s*(?P<ids>[a-z0-9-]+(?:,\s*[a-z0-9-]+)*)\s*\Z")
_TAGS = {"I": "inferred", "M": "from memory"}
HEAD = """\
# What nobody has checked on a board

Written by `make docs` from the code: a module that relies on one of these says so in a comment,
`# assumes: id`. Do not edit. `hil bringup` settles most of them on the first board that is met;
what it confirms is then marked `verified` in `hil/device/assumed_*.py`, and leaves this page.

"""


def used(package: Path = PACKAGE) -> dict[str, tuple[str, ...]]:
    """Return for each id the modules whose comments name it, sorted."""
    found: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "assumes:" not in text:
            continue
        module = path.relative_to(package.parent).as_posix()
        for name in marks(text):
            found.setdefault(name, set()).add(module)
    return {name: tuple(sorted(modules)) for name, modules in found.items()}


def marks(source: str) -> Iterator[str]:
    """Yield the ids that a module's comments name; text elsewhere is none of them."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        match = _MARK.match(token.string) if token.type == tokenize.COMMENT else None
        if match is not None:
            yield from re.split(r",\s*", match["ids"])


def page(assumptions: Sequence[Assumption], where: Mapping[str, Sequence[str]]) -> str:
    """Return docs/unverified.md."""
    left = [one for one in assumptions if one.verified is None]
    done = len(assumptions) - len(left)
    counts = (
        f"{len(left)} of {len(assumptions)} are open: "
        f"{sum(one.tag == 'I' for one in left)} inferred from recorded logs or published sources, "
        f"{sum(one.tag == 'M' for one in left)} from memory; {done} verified on a board.\n"
    )
    return HEAD + counts + "".join(_entry(one, where.get(one.id, ())) for one in left)


def _entry(one: Assumption, modules: Sequence[str]) -> str:
    settled = f"`hil bringup`, stage {one.stage}" if one.stage else one.settled_else
    rows = (
        ("rests on", f"{one.source} ({_TAGS[one.tag]})"),
        ("used in", ", ".join(f"`{name}`" for name in modules)),
        ("settled by", settled),
        ("if wrong", one.consequence),
    )
    lines = "".join(f"- {name}: {text}\n" for name, text in rows)
    return f"\n## {one.id}\n{one.statement}\n\n{lines}"


def main() -> None:
    """Write the page to the file that is named."""
    Path(sys.argv[1]).write_text(page(ASSUMPTIONS, used()), encoding="utf-8")


if __name__ == "__main__":
    main()
