"""Pictures beside label pictures, with lists of the parts and of the classes (layout of CamVid).

Source of the layout: V. Badrinarayanan et al., SegNet, 2015 (its copy of CamVid).
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from hil.core.errors import ConfigError
from hil.tasks.readers.listing import Entry, Listing
from hil.tasks.readers.lists import lines
from hil.tasks.readers.places import SUFFIXES, MissingDataError, found_picture, inside
from hil.tasks.readers.reading import Fault
from hil.tasks.readers.section import Pairs

PARTS = ("train", "val", "test")


def listings(section: Pairs, root: Path) -> dict[str, Listing]:
    """The published parts; a file `all.txt` stands for a set that is not split.

    Raises:
        MissingDataError: there is no list of classes, or no list of pictures.
        ConfigError: the list of classes cannot be used.
    """
    if not (root / section.classes).is_file():
        raise MissingDataError(
            f"{root} has no {section.classes}", fix=f"put there {section.layout}"
        )
    classes, void = _classes(lines(root / section.classes), section)
    parts = [part for part in (*PARTS, "all") if (root / f"{part}.txt").is_file()]
    if not parts:
        raise MissingDataError(f"{root} has no train.txt", fix=f"put there {section.layout}")
    return {part: _listing(section, root, part, (classes, void)) for part in parts}


def _listing(
    section: Pairs, root: Path, part: str, known: tuple[tuple[str, ...], int | None]
) -> Listing:
    entries, faults = [], []
    for line in lines(root / f"{part}.txt"):
        name, label = _pair(section, root, part, line)
        path, mask = inside(root, name), inside(root, label)
        if path is None or mask is None:
            faults.append(Fault(name, "it would lie outside the data set"))
        elif not mask.is_file():
            faults.append(Fault(name, f"it has no label picture {label}"))
        else:
            entries.append(Entry(name, path, mask=mask))
    return Listing(tuple(entries), known[0], known[1], tuple(faults))


def _pair(section: Pairs, root: Path, part: str, line: str) -> tuple[str, str]:
    """Names of a picture and its label picture: two on the line, or by the folders' names."""
    words = line.split()
    if len(words) == 2:
        return words[0], words[1]
    pictures, labels = (text.replace("{part}", part) for text in (section.pictures, section.labels))
    name = PurePosixPath(line)
    stem = str(name.with_suffix("")) if name.suffix.lower() in SUFFIXES else line
    picture = f"{pictures}/{line}" if stem != line else found_picture(root, f"{pictures}/{stem}")
    return picture, f"{labels}/{stem}.png"


def _classes(listed: list[str], section: Pairs) -> tuple[tuple[str, ...], int | None]:
    """Names of the classes that count, and the number of void.

    Raises:
        ConfigError: numbers that are not 0, 1, 2, ...; or void is not the last class.
    """
    names = []
    for number, line in enumerate(listed):
        numbered = re.fullmatch(r"(\d+)\s+(.+)", line)
        if numbered and int(numbered[1]) != number:
            raise ConfigError(
                f"line {number + 1} of {section.classes} is class {numbered[1]}",
                why="classes are numbered 0, 1, 2, ... in the order of the lines",
            )
        names.append(numbered[2] if numbered else line)
    void = section.void
    if isinstance(void, str):
        # `Unlabelled (void, ignore)` is known by its first word as well.
        matching = [i for i, name in enumerate(names) if void in (name, name.partition(" (")[0])]
        if len(matching) != 1:
            raise ConfigError(
                f"data.void names {void!r}, which is not a class of {section.classes}",
                why=f"its classes are {', '.join(names)}",
            )
        void = matching[0]
    if void is not None and void < len(names) - 1:
        raise ConfigError(
            f"void is class {void} of {len(names)}",
            why="the classes that count must come before it",
            fix="let void be the last class, or a number beyond them all",
        )
    counting = names if void is None else names[:void]
    return tuple(name.partition(" (")[0] for name in counting), void
