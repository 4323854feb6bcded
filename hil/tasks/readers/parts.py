"""Published parts to train, search and held-out: nothing in two of them, and all of it said.

Rule of this file: pure; whatever is drawn depends on the seed alone.

A published train, val and test become the three parts. What is not published is drawn from what
is: search from train, held-out from all; for classes, class by class. Copies (pictures whose bytes
are equal) stay in the part that counts most: held-out before search before train.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hil.core.errors import ConfigError
from hil.tasks.readers.near import near_pairs, thumbnails
from hil.tasks.readers.reading import Reading

FEW = 100
"""Pictures below which a part says little: an accuracy near 90 % is known to 6 points at best."""

FEW_OF_A_CLASS = 10
SHOWN = 3

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Cut:
    """How parts are made of what is published (see `PictureSet`)."""

    search: float
    heldout: float
    seed: int
    most: Mapping[str, int]
    leave_out_near: bool = False


@dataclass(frozen=True)
class Parts:
    """A data set in three parts that share no picture.

    Attributes:
        notes: how they came about, and what to know of them.
    """

    train: Reading
    search: Reading
    heldout: Reading
    notes: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their numbers."""
        return self.train.classes


def picked(reading: Reading, places: Places) -> Reading:
    """Some pictures of a reading, in the order of `places`; faults stay with it."""
    if np.array_equal(places, np.arange(len(reading))):
        return reading
    return replace(
        reading,
        inputs=reading.inputs[places],
        labels=None if reading.labels is None else reading.labels[places],
        masks=None if reading.masks is None else reading.masks[places],
        boxes=None if reading.boxes is None else tuple(reading.boxes[i] for i in places),
        names=tuple(reading.names[i] for i in places),
    )


def three_parts(published: Mapping[str, Reading], cut: Cut) -> Parts:
    """Make the three parts.

    Args:
        published: by name: train, val and test, or some of them; `all` for a set without parts.
        cut: see `Cut`.

    Raises:
        ConfigError: a class has too few pictures, or pictures of two parts differ in shape.
    """
    rng = np.random.Generator(np.random.Philox(cut.seed))
    named, how = _three(published, cut, rng)
    _require_one_shape(named)
    named, copies = _without_copies(named)
    named, near = _without_near(named, leave_out=cut.leave_out_near)
    named, fewer = _at_most(named, cut.most, rng)
    empty = [name for name, part in named.items() if not len(part)]
    if empty:
        raise ConfigError(
            f"no picture is left for {' and '.join(empty)}",
            fix="add pictures, or change data.search, data.heldout or data.most",
        )
    notes = (*how, *copies, *near, *fewer, *_sizes(named), *_faults(published), *_few(named))
    return Parts(named["train"], named["search"], named["heldout"], notes)


def _three(
    published: Mapping[str, Reading], cut: Cut, rng: np.random.Generator
) -> tuple[dict[str, Reading], tuple[str, ...]]:
    train = published.get("train", published.get("all"))
    if train is None:
        raise ConfigError(
            "the data set has no training part", why=f"its parts are {', '.join(published)}"
        )
    notes = []
    if "train" not in published:
        train = picked(train, _first_of_copies(train))
    heldout, search = published.get("test"), published.get("val")
    if heldout is None:
        train, heldout = _drawn(train, cut.heldout, rng)
        notes.append(f"no test part is published: {cut.heldout:.3g} of the pictures are held out")
    else:
        notes.append("held-out pictures are the published test part")
    if search is None:
        train, search = _drawn(train, cut.search, rng)
        notes.append(f"no val part is published: {cut.search:.3g} of the rest are for search")
    else:
        notes.append("search pictures are the published val part")
    return {"train": train, "search": search, "heldout": heldout}, tuple(notes)


def _drawn(reading: Reading, share: float, rng: np.random.Generator) -> tuple[Reading, Reading]:
    """What is left, and a share drawn at random, class by class where classes are known."""
    taken = _draw(reading, dict.fromkeys(_labels(reading), share), rng)
    left = np.setdiff1d(np.arange(len(reading)), taken)
    return picked(reading, left), picked(reading, taken)


def _labels(reading: Reading) -> tuple[int, ...]:
    """Classes that occur; one, -1, where pictures have no class."""
    return (-1,) if reading.labels is None else tuple(int(x) for x in np.unique(reading.labels))


def _draw(reading: Reading, share: Mapping[int, float], rng: np.random.Generator) -> Places:
    places = []
    for label, part in share.items():
        whole = np.arange(len(reading))
        members = whole if reading.labels is None else whole[reading.labels == label]
        count = round(part * len(members))
        if not 0 < count < len(members):
            kind = "" if label < 0 else f" of class {reading.classes[label]}"
            raise ConfigError(
                f"there are {len(members)} pictures{kind}, too few to draw {part:.3g} of them",
                fix="add pictures of it, or change data.search or data.heldout",
            )
        places.append(rng.permutation(members)[:count])
    return np.sort(np.concatenate(places))


def _at_most(
    named: Mapping[str, Reading], most: Mapping[str, int], rng: np.random.Generator
) -> tuple[dict[str, Reading], tuple[str, ...]]:
    """Parts of at most so many pictures, classes kept in proportion."""
    kept, notes = dict(named), []
    for name, limit in most.items():
        part = named[name]
        if len(part) <= limit:
            continue
        # Fractions are rounded so that the total is what was asked for.
        order = rng.permutation(len(part))
        if part.labels is not None:
            labels = part.labels[order]
            rank = np.empty(len(order))
            for label in np.unique(labels):
                mine = np.flatnonzero(labels == label)
                rank[mine] = (np.arange(len(mine)) + 0.5) / len(mine)
            order = order[np.argsort(rank, kind="stable")]
        kept[name] = picked(part, np.sort(order[:limit]))
        notes.append(f"{name}: {limit:,} of {len(part):,} pictures are used (data.most)")
    return kept, tuple(notes)


def content_ids(reading: Reading) -> tuple[str, ...]:
    """One sha256 a picture, over its bytes."""
    return tuple(
        hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest() for x in reading.inputs
    )


def _first_of_copies(reading: Reading) -> Places:
    """Places of pictures that are no copy of an earlier one."""
    _, first = np.unique(np.array(content_ids(reading)), return_index=True)
    return np.sort(first)


def _without_copies(
    named: Mapping[str, Reading],
) -> tuple[dict[str, Reading], tuple[str, ...]]:
    seen: set[str] = set()
    kept, notes = {}, []
    for name in ("heldout", "search", "train"):
        ids = content_ids(named[name])
        places = np.array([i for i, x in enumerate(ids) if x not in seen], dtype=np.int64)
        kept[name] = picked(named[name], places)
        if len(places) < len(ids):
            gone = [named[name].names[i] for i, x in enumerate(ids) if x in seen]
            notes.append(
                f"{len(gone)} pictures of {name} are copies of pictures of a part that counts "
                f"more and were left out ({_some(gone)})"
            )
        seen.update(ids)
    return kept, tuple(notes)


def _without_near(
    named: Mapping[str, Reading], *, leave_out: bool
) -> tuple[dict[str, Reading], tuple[str, ...]]:
    kept, notes = dict(named), []
    drawn = {name: thumbnails(part.inputs) for name, part in named.items()}
    gone: dict[str, set[int]] = {name: set() for name in named}
    for judged, other in (("heldout", "train"), ("heldout", "search"), ("search", "train")):
        pairs = near_pairs(drawn[other], drawn[judged])
        if not pairs:
            continue
        names = [
            f"{named[other].names[p.first]} like {named[judged].names[p.second]}" for p in pairs
        ]
        gone[other].update(pair.first for pair in pairs)
        done = "left out" if leave_out else "kept (data.near_duplicates: leave_out drops them)"
        notes.append(
            f"{len(pairs)} pictures of {other} are near duplicates of {judged} pictures and were "
            f"{done}: {_some(names)}"
        )
    if leave_out:
        for name, places in gone.items():
            left = np.setdiff1d(np.arange(len(named[name])), np.array(sorted(places), np.int64))
            kept[name] = picked(named[name], left)
    return kept, tuple(notes)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _require_one_shape(named: Mapping[str, Reading]) -> None:
    shapes = {name: part.inputs.shape[1:] for name, part in named.items()}
    if len(set(shapes.values())) > 1:
        raise ConfigError(
            "pictures of the parts differ in shape",
            why=", ".join(f"{name} {shape}" for name, shape in shapes.items()),
            fix="give data.size to resize all of them",
        )


def _sizes(named: Mapping[str, Reading]) -> tuple[str, ...]:
    sizes = ", ".join(f"{name} {len(named[name]):,}" for name in ("train", "search", "heldout"))
    return (f"pictures: {sizes}",)


def _faults(published: Mapping[str, Reading]) -> tuple[str, ...]:
    faults = [fault for part in published.values() for fault in part.faults]
    if not faults:
        return ()
    gone = len({fault.file for fault in faults if not fault.mended})
    files = len({fault.file for fault in faults})
    words = "; ".join(str(fault) for fault in faults[:SHOWN])
    more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return (f"{files} files had faults, {gone} pictures were left out: {words}{more}",)


def _few(named: Mapping[str, Reading]) -> tuple[str, ...]:
    notes = []
    for name in ("search", "heldout"):
        part = named[name]
        if len(part) < FEW:
            notes.append(f"{name} has {len(part)} pictures only: its figures are rough")
        if part.labels is None:
            continue
        counts = np.bincount(part.labels, minlength=len(part.classes))
        few = [f"{part.classes[i]} {counts[i]}" for i in np.flatnonzero(counts < FEW_OF_A_CLASS)]
        if few:
            notes.append(f"{name} has few pictures of some classes: {_some(few)}")
    return tuple(notes)
