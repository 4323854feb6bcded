"""Listings to samples: every picture decoded once, broken ones named, the rest at one size."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hil.tasks.readers.listing import Entry, Listing
from hil.tasks.readers.pictures import (
    BrokenPictureError,
    class_picture,
    picture,
    resized,
    resized_classes,
    stored_size,
)
from hil.tasks.readers.reading import Boxes, Fault, Pixels

Size = tuple[int, int]


@dataclass(frozen=True)
class Sample:
    """One decoded picture at its final size, with what is to be learned of it."""

    name: str
    pixels: Pixels
    label: int | None = None
    mask: Pixels | None = None
    boxes: Boxes | None = None


def decoded(listing: Listing, size: Size | None, channels: int) -> Iterator[Sample | Fault]:
    """Decode a part, in its order, on as many threads as there are cores (four at most).

    Args:
        listing: which files, and what they mean.
        size: height and width asked for; None keeps the size most pictures have, and those of
            another are faults.
        channels: 3 or 1.
    """
    workers = min(4, os.cpu_count() or 1)
    final = size or _commonest(listing.entries)

    def work(entry: Entry) -> Sample | Fault:
        try:
            return _decode(entry, listing, final, channels, resize=size is not None)
        except BrokenPictureError as error:
            return Fault(entry.name, str(error))

    with ThreadPoolExecutor(workers) as pool:
        yield from _in_order(pool, work, listing.entries, 8 * workers)


def _in_order(
    pool: ThreadPoolExecutor,
    work: Callable[[Entry], Sample | Fault],
    entries: tuple[Entry, ...],
    most: int,
) -> Iterator[Sample | Fault]:
    """`pool.map` in bounded memory: at most `most` results wait to be taken."""
    waiting: deque[Future[Sample | Fault]] = deque()
    for entry in entries:
        waiting.append(pool.submit(work, entry))
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _commonest(entries: tuple[Entry, ...]) -> Size | None:
    """The size most pictures have (of several, the first met); None where none can be opened."""
    sizes: Counter[Size] = Counter()
    for entry in entries:
        try:
            sizes[stored_size(_content(entry.path))] += 1
        except BrokenPictureError:
            continue
    return max(sizes, key=lambda size: sizes[size]) if sizes else None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BrokenPictureError(f"there is no such file ({path.name})") from error
    except OSError as error:
        raise BrokenPictureError(f"it cannot be read ({error.strerror})") from error


def _decode(
    entry: Entry, listing: Listing, final: Size | None, channels: int, *, resize: bool
) -> Sample:
    pixels = picture(_content(entry.path), channels)
    stored = pixels.shape[1:]
    if entry.size is not None and entry.size != stored:
        raise BrokenPictureError(
            f"it is {_by(stored)}, and its annotation is for {_by(entry.size)}"
        )
    if final is None or (not resize and stored != final):
        most = "" if final is None else f", most are {_by(final)}: give data.size to resize all"
        raise BrokenPictureError(f"it is {_by(stored)}{most}")
    mask = None if entry.mask is None else _mask(entry.mask, listing, stored, final)
    boxes = None if entry.boxes is None else _scaled(entry.boxes, stored, final)
    return Sample(entry.name, resized(pixels, final), entry.label, mask, boxes)


def _mask(path: Path, listing: Listing, stored: Size, final: Size) -> Pixels:
    try:
        mask = class_picture(_content(path))
    except BrokenPictureError as error:
        raise BrokenPictureError(f"label picture {path.name}: {error}") from error
    if mask.shape != stored:
        raise BrokenPictureError(f"it is {_by(stored)}, and its label picture is {_by(mask.shape)}")
    unknown = [
        int(value)
        for value in np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
        if value >= len(listing.classes) and value != listing.void
    ]
    if unknown:
        raise BrokenPictureError(
            f"label picture {path.name}: class {unknown[0]} is none of the "
            f"{len(listing.classes)} known"
        )
    return resized_classes(mask, final)


def _scaled(boxes: tuple[tuple[float, ...], ...], stored: Size, final: Size) -> Boxes:
    """Boxes in pixels of the resized picture."""
    array = np.array(boxes, dtype=np.float64).reshape(-1, 5)
    across, down = final[1] / stored[1], final[0] / stored[0]
    scale = np.array([1, across, down, across, down])
    scaled: Boxes = (array * scale).astype(np.float32)
    return scaled


def _by(size: tuple[int, ...]) -> str:
    """A height and width as people write them: width x height."""
    return f"{size[1]}x{size[0]}"
