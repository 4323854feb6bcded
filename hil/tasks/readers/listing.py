"""What a reader finds before any picture is decoded: which files there are and what they mean.

Rule of this file: plain records and their fingerprint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hil.core.errors import ConfigError
from hil.tasks.readers.reading import Fault

Box = tuple[float, float, float, float, float]
"""Class, x0, y0, x1, y1 in pixels of the picture as stored, x1 and y1 exclusive."""

SHOWN = 8
"""Faults that an error names."""


@dataclass(frozen=True)
class Entry:
    """One picture and what is known of it; of label, mask and boxes one is given.

    Attributes:
        name: relative to the data set's folder.
        path: of the picture.
        label: class of the whole picture.
        mask: path of its label picture.
        boxes: what is in it.
        size: height and width that its annotation says it has; None where it says nothing.
    """

    name: str
    path: Path
    label: int | None = None
    mask: Path | None = None
    boxes: tuple[Box, ...] | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Listing:
    """One published part.

    Attributes:
        entries: in the order of the list, or of the names.
        classes: names, in the order of their numbers.
        void: class of pixels that do not count.
        faults: what was wrong before any picture was decoded.
    """

    entries: tuple[Entry, ...]
    classes: tuple[str, ...]
    void: int | None = None
    faults: tuple[Fault, ...] = field(default=())

    @property
    def files(self) -> int:
        """How many pictures there were, those left out counted."""
        gone = {fault.file for fault in self.faults if not fault.mended}
        return len(self.entries) + len(gone - {entry.name for entry in self.entries})


def fingerprint(listing: Listing, size: tuple[int, int] | None, channels: int) -> str:
    """A sha256 over all that decides what decoding gives: files' content, meaning and size asked.

    A file that cannot be read counts as absent; decoding will name it.
    """
    digest = hashlib.sha256()

    def add(part: object) -> None:
        digest.update(json.dumps(part).encode() + b"\0")

    faults = [(fault.file, fault.what, fault.mended) for fault in listing.faults]
    add([1, size, channels, listing.classes, listing.void, faults])
    for entry in listing.entries:
        add([entry.name, entry.label, entry.boxes, entry.size])
        for path in (entry.path, entry.mask):
            add(None if path is None else _sha256(path))
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"


def require_whole(part: str, files: int, faults: Sequence[Fault], at_most: float) -> None:
    """End a run whose data is too broken.

    Args:
        part: as published.
        files: how many there were.
        faults: all that was wrong with them.
        at_most: share of the files that may be broken or mended.

    Raises:
        ConfigError: more were, or none is left; the first of them are named.
    """
    broken = {fault.file for fault in faults}
    left = files - len({fault.file for fault in faults if not fault.mended})
    if left > 0 and len(broken) <= at_most * files:
        return
    first = "; ".join(str(fault) for fault in faults[:SHOWN])
    more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    raise ConfigError(
        f"{len(broken)} of {files} files of part {part} are broken"
        if files
        else f"part {part} holds no picture",
        why=(first + more) or None,
        fix="mend or remove them, or raise data.broken_at_most" if files else "fill it",
    )
