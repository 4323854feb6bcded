"""Where a device or profile named on the command line lives: a path, ./devices, or the package.

Rule of this file: it finds files and lists names; it reads none of them.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from hil.core.errors import ConfigError

Kind = Literal["devices", "profiles"]

SHIPPED = Path(__file__).parents[1] / "shipped"
SUFFIX = ".yaml"


def resolve(name: str, kind: Kind, *, cwd: Path, shipped: Path = SHIPPED) -> Path:
    """Return the file a name stands for; `.yaml` may be left off.

    Tried in order: the name as a path, `cwd`/`kind`, the copies shipped in the package.

    Raises:
        ConfigError: there is no such file; the error lists the names that exist.
    """
    for candidate in _candidates(name, kind, cwd, shipped):
        if os.path.isfile(candidate):  # unlike Path.is_file, False for names no path can have
            return candidate
    known = available(kind, cwd=cwd, shipped=shipped)
    singular = kind.removesuffix("s")
    close = get_close_matches(Path(name).name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ConfigError(
        f"there is no {singular} {name!r}",
        why=f"it is neither a file nor one of: {', '.join(known) or 'none'}",
        fix=f"{hint}name a YAML file, or put one into ./{kind}/",
    )


def available(kind: Kind, *, cwd: Path, shipped: Path = SHIPPED) -> tuple[str, ...]:
    """Return the file names that `resolve` knows without a path, sorted, each once."""
    folders = (cwd / kind, shipped / kind)
    return tuple(sorted({path.name for folder in folders for path in _yaml_files(folder)}))


def _candidates(name: str, kind: Kind, cwd: Path, shipped: Path) -> Iterable[Path]:
    names = (name,) if name.endswith(SUFFIX) else (name, name + SUFFIX)
    yield from (cwd / os.path.expanduser(n) for n in names)
    for folder in (cwd / kind, shipped / kind):
        yield from (folder / n for n in names)


def _yaml_files(folder: Path) -> Iterable[Path]:
    return folder.glob(f"*{SUFFIX}") if folder.is_dir() else ()
