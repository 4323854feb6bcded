"""Where a data set lies: beside the profile, in the working folder, or in the folder of real data.

Rule of this file: it looks for folders and names; it reads no file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hil.core.errors import ConfigError

DATA = "HIL_DATA"
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm")
"""Of picture files, in lower case."""

DEFAULT_DATA = "../shared/data"


class MissingDataError(ConfigError):
    """A data set, or a file that makes it one, is not where it was looked for."""


def candidates(path: str, beside: Path | None, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where a data set may lie, first choice first.

    Args:
        path: as a profile writes it; an absolute one is taken as it is.
        beside: folder of the profile's file.
        environ: environment variables; HIL_DATA names the folder of data sets.
    """
    given = Path(path).expanduser()
    if given.is_absolute():
        return (given,)
    folders = [] if beside is None else [beside]
    folders += [Path(environ.get(DATA) or DEFAULT_DATA)]
    return tuple(folder / given for folder in folders)


def find_root(path: str, beside: Path | None, *, layout: str, source: str | None = None) -> Path:
    """The folder or file of a data set.

    Args:
        path: see `candidates`.
        beside: likewise.
        layout: what is expected there, in words.
        source: where it is to be had.

    Raises:
        MissingDataError: it is in none of the places; the error says where to put it and how to
            get it.
    """
    tried = candidates(path, beside, os.environ)
    for place in tried:
        if place.exists():
            return place
    raise MissingDataError(
        f"there is no data set at {path}",
        why="looked for " + " and ".join(str(place.absolute()) for place in tried),
        fix=f"put there {layout}"
        + (f"; get it from {source}" if source else "")
        + f"; or set {DATA} to the folder that holds it",
    )


def found_picture(root: Path, stem: str) -> str:
    """Name of the picture file of a stem, whatever its suffix; that of a JPEG where there is none.

    Args:
        root: folder of the data set.
        stem: relative path without suffix.
    """
    names = [f"{stem}{suffix}" for suffix in SUFFIXES]
    return next((name for name in names if (root / name).is_file()), names[0])


def inside(root: Path, name: str) -> Path | None:
    """The path of a file that a list of a data set names, or None where it would lie outside.

    Args:
        root: folder the file must lie in, links followed.
        name: relative path.
    """
    try:
        path = (root / name).resolve()
    except (OSError, ValueError):  # names no path can have
        return None
    return path if path.is_relative_to(root.resolve()) else None
