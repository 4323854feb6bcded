"""Decoded pictures kept on disk, named by all that decides what they are.

A folder per part: `pictures.npy` and `masks.npy` (memory-mapped when opened), `boxes.npy`,
`index.json`. The index holds a sha256 of every array; a folder that does not match it is decoded
anew. NumPy's own format without pickle: nothing in the cache can run. A folder appears whole, by
renaming, or not at all; two processes that decode the same part at once do no harm.

Format history: 1 (first).
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hil.core.errors import HostError
from hil.tasks.readers.decoding import Sample, decoded
from hil.tasks.readers.growing import GrowingArray
from hil.tasks.readers.listing import Listing, fingerprint
from hil.tasks.readers.reading import Fault, Reading

INDEX = "index.json"
PICTURES = "pictures.npy"
MASKS = "masks.npy"
BOXES = "boxes.npy"
MAPPED = 1 << 20
"""Bytes from which an array is memory-mapped rather than read."""

_log = logging.getLogger(__name__)


def cache_folder(environ: Mapping[str, str], home: Path) -> Path:
    """Where this user's decoded pictures are kept (XDG base directories)."""
    named = environ.get("XDG_CACHE_HOME", "")
    base = Path(named) if Path(named).is_absolute() else home / ".cache"
    return base / "hil" / "data"


def reading_of(
    listing: Listing, size: tuple[int, int] | None, channels: int, folder: Path
) -> Reading:
    """A part decoded, from the cache where it was decoded before.

    Args:
        listing: which files, and what they mean.
        size: height and width; None keeps that of most pictures.
        channels: 3 or 1.
        folder: of the cache.

    Raises:
        HostError: the cache cannot be written.
    """
    place = folder / fingerprint(listing, size, channels)
    kept = opened(place, listing)
    if kept is not None:
        return kept
    try:
        _write(listing, size, channels, place)
    except OSError as error:
        raise HostError(
            f"decoded pictures cannot be kept at {folder}",
            why=str(error),
            fix="free space there, or let XDG_CACHE_HOME name another folder",
        ) from error
    made = opened(place, listing)
    if made is None:
        raise HostError(
            f"decoded pictures at {place} are not what was just written",
            fix="look for a fault of the disk, or let XDG_CACHE_HOME name another folder",
        )
    return made


def opened(place: Path, listing: Listing) -> Reading | None:
    """What lies in the cache; None where nothing does, or something that is damaged."""
    try:
        index = json.loads((place / INDEX).read_bytes())
        written = {name: index["arrays"].get(name) for name in (PICTURES, MASKS, BOXES)}
        arrays = {name: _checked(place / name, sha) for name, sha in written.items() if sha}
        return _reading(listing, index, arrays)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        _log.warning("decoded pictures at %s are damaged (%s): decoding anew", place, error)
        return None


def _checked(path: Path, sha256: str) -> NDArray[Any]:
    found = _sha256(path)
    if found != sha256:
        raise ValueError(f"{path.name} has sha256 {found[:12]}, {sha256[:12]} was written")
    mode: Literal["r"] | None = "r" if path.stat().st_size >= MAPPED else None
    array: NDArray[Any] = np.load(path, mmap_mode=mode, allow_pickle=False)
    return array


def _reading(listing: Listing, index: Mapping[str, Any], arrays: dict[str, Any]) -> Reading:
    boxes = None
    if BOXES in arrays:
        cuts = np.cumsum(index["boxes"])[:-1]
        boxes = tuple(np.split(np.array(arrays[BOXES]), cuts)) if index["names"] else ()
    labels = None if index["labels"] is None else np.array(index["labels"], dtype=np.int64)
    return Reading(
        inputs=arrays[PICTURES],
        labels=labels,
        masks=arrays.get(MASKS),
        boxes=boxes,
        classes=listing.classes,
        void=listing.void,
        names=tuple(index["names"]),
        faults=tuple(Fault(**fault) for fault in index["faults"]),
    )


def _write(listing: Listing, size: tuple[int, int] | None, channels: int, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="decoding-", dir=place.parent) as name:
        made = Path(name) / "part"
        made.mkdir()
        _fill(made, listing, decoded(listing, size, channels), (channels, *(size or (1, 1))))
        if place.exists():  # damaged: `opened` said so
            shutil.rmtree(place)
        try:
            made.rename(place)
        except OSError:
            if not (place / INDEX).is_file():  # else another process was first
                raise


def _fill(
    made: Path, listing: Listing, samples: Iterator[Sample | Fault], shape: tuple[int, int, int]
) -> None:
    """Write a part's folder.

    Args:
        made: the folder.
        listing: what is decoded.
        samples: the pictures, in order.
        shape: of a picture where there is none.
    """
    masked = any(entry.mask is not None for entry in listing.entries)
    boxed = any(entry.boxes is not None for entry in listing.entries)
    pictures = GrowingArray(made / PICTURES)
    masks = GrowingArray(made / MASKS) if masked else None
    faults = list(listing.faults)
    names: list[str] = []
    labels: list[int | None] = []
    boxes = [np.zeros((0, 5), np.float32)]
    for sample in samples:
        if isinstance(sample, Fault):
            faults.append(sample)
            continue
        pictures.append(sample.pixels)
        if masks is not None and sample.mask is not None:
            masks.append(sample.mask)
        names.append(sample.name)
        labels.append(sample.label)
        boxes += [] if sample.boxes is None else [sample.boxes]
    pictures.close(shape)
    if masks is not None:
        masks.close(shape[1:])
    if boxed:
        np.save(made / BOXES, np.concatenate(boxes), allow_pickle=False)
    index = {
        "names": names,
        "labels": None if masked or boxed else labels,
        "boxes": [len(rows) for rows in boxes[1:]],
        "faults": [asdict(fault) for fault in faults],
        "arrays": {path.name: _sha256(path) for path in sorted(made.glob("*.npy"))},
    }
    (made / INDEX).write_text(json.dumps(index), encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
