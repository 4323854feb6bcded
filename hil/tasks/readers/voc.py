"""Pascal VOC: an XML file of boxes a picture, and lists of the parts.

Coordinates of the format count pixels from 1 and include the last one (Everingham et al., "The
PASCAL Visual Object Classes Challenge 2007 Development Kit", section 5), hence edges
xmin - 1, ymin - 1, xmax, ymax here. A box whose first pixel is its last in either direction is
taken for one of no area: nobody draws such boxes on purpose.
"""

from __future__ import annotations

from pathlib import Path

from hil.tasks.readers.boxes import Edges, judged
from hil.tasks.readers.listing import Entry, Listing
from hil.tasks.readers.lists import lines
from hil.tasks.readers.places import MissingDataError, found_picture, inside
from hil.tasks.readers.reading import Fault
from hil.tasks.readers.section import Voc
from hil.tasks.readers.xml_boxes import Annotation, BrokenAnnotationError, parse

PARTS = ("train", "val", "test")


def listings(section: Voc, root: Path) -> dict[str, Listing]:
    """The published parts; one named `all` where no list of a part is there.

    Raises:
        MissingDataError: the folder holds no annotations.
    """
    if not (root / "Annotations").is_dir():
        raise MissingDataError(f"{root} has no Annotations", fix=f"put there {section.layout}")
    stems = {
        part: lines(path)
        for part in PARTS
        if (path := root / "ImageSets" / "Main" / f"{part}.txt").is_file()
    }
    if not stems:
        stems = {"all": sorted(path.stem for path in (root / "Annotations").glob("*.xml"))}
    # A list of VOC may hold a second column (class present or not); the first is the name.
    read = {
        part: {stem: _annotation(root, stem) for stem in (line.split()[0] for line in listed)}
        for part, listed in stems.items()
    }
    classes = section.classes or _names(read.get("train") or next(iter(read.values())))
    return {part: _listing(section, root, classes, found) for part, found in read.items()}


def _annotation(root: Path, stem: str) -> Annotation | Fault:
    name = f"Annotations/{stem}.xml"
    path = inside(root, name)
    try:
        if path is None:
            return Fault(name, "it would lie outside the data set")
        return parse(path.read_bytes())
    except FileNotFoundError:
        return Fault(name, "there is no such file")
    except OSError as error:
        return Fault(name, f"it cannot be read ({error.strerror})")
    except BrokenAnnotationError as error:
        return Fault(name, str(error))


def _names(read: dict[str, Annotation | Fault]) -> tuple[str, ...]:
    found = {
        name
        for annotation in read.values()
        if isinstance(annotation, Annotation)
        for name, _ in annotation.objects
    }
    return tuple(sorted(found))


def _listing(
    section: Voc, root: Path, classes: tuple[str, ...], read: dict[str, Annotation | Fault]
) -> Listing:
    numbers = {name: number for number, name in enumerate(classes)}
    entries, faults = [], []
    for stem, annotation in read.items():
        if isinstance(annotation, Fault):
            faults.append(annotation)
            continue
        objects = [
            (name, _edges(written, section.first_pixel)) for name, written in annotation.objects
        ]
        name = found_picture(root, f"JPEGImages/{stem}")
        boxes, wrong = judged(f"Annotations/{stem}.xml", objects, numbers, annotation.size)
        faults += wrong
        entries.append(Entry(name, root / name, boxes=boxes, size=annotation.size))
    return Listing(tuple(entries), classes, faults=tuple(faults))


def _edges(written: Edges, first: int) -> Edges:
    xmin, ymin, xmax, ymax = written
    if xmax <= xmin or ymax <= ymin:
        return written  # of no area, and named as published
    return xmin - first, ymin - first, xmax, ymax
