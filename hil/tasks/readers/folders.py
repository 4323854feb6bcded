"""Image folders: a folder a class, for a whole set or inside train, val and test."""

from __future__ import annotations

from pathlib import Path

from hil.tasks.readers.listing import Entry, Listing
from hil.tasks.readers.places import SUFFIXES, MissingDataError
from hil.tasks.readers.reading import Fault
from hil.tasks.readers.section import Folders

NAMED = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def listings(section: Folders, root: Path) -> dict[str, Listing]:
    """The published parts; one named `all` where the folders are classes themselves.

    Files that are no pictures by their suffix are faults, those that begin with a dot are not
    part of the data set. Folders inside a class folder are looked into.

    Raises:
        MissingDataError: there is no folder of a class.
    """
    parts = {
        part: folder
        for part, names in NAMED.items()
        for folder in (root / name for name in names)
        if folder.is_dir()
    }
    if "train" not in parts:
        parts = {"all": root}
    classes = tuple(path.name for path in _folders(parts.get("train", root)))
    if not classes:
        raise MissingDataError(
            f"{parts.get('train', root)} has no folder of a class",
            fix=f"put there {section.layout}",
        )
    return {part: _listing(root, folder, classes) for part, folder in parts.items()}


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _listing(root: Path, folder: Path, classes: tuple[str, ...]) -> Listing:
    numbers = {name: number for number, name in enumerate(classes)}
    entries, faults = [], []
    for kind in _folders(folder):
        for path in sorted(kind.rglob("*")):
            hidden = any(p.startswith(".") for p in path.relative_to(kind).parts)
            if path.is_dir() or hidden:
                continue
            name = path.relative_to(root).as_posix()
            if kind.name not in numbers:
                faults.append(Fault(name, f"class {kind.name} is none of the training part"))
            elif path.suffix.lower() not in SUFFIXES:
                faults.append(Fault(name, f"it is no picture by its name ({path.suffix})"))
            else:
                entries.append(Entry(name, path, label=numbers[kind.name]))
    return Listing(tuple(entries), classes, faults=tuple(faults))
