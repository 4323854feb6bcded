"""COCO detection: one JSON file a part, boxes as x, y, width, height in pixels counted from 0.

Source: https://cocodataset.org/#format-data. Boxes of crowds (`iscrowd: 1`) mark regions that are
neither object nor background; they are left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hil.core.errors import ConfigError
from hil.tasks.readers.boxes import Edges, judged
from hil.tasks.readers.listing import Entry, Listing
from hil.tasks.readers.places import MissingDataError, inside
from hil.tasks.readers.reading import Fault
from hil.tasks.readers.section import Coco

PARTS = ("train", "val", "test")
Objects = dict[Any, list[tuple[str, Edges]]]


def listings(section: Coco, root: Path) -> dict[str, Listing]:
    """The published parts that have annotations.

    Raises:
        MissingDataError: there is no file of annotations.
        ConfigError: one is not COCO, or several fit a part.
    """
    files = {part: _only(root, section.annotations, part) for part in PARTS}
    read = {part: _json(path) for part, path in files.items() if path is not None}
    if not read:
        raise MissingDataError(
            f"{root} has no {section.annotations.replace('{part}', 'train')}",
            fix=f"put there {section.layout}",
        )
    names = _categories(read.get("train") or next(iter(read.values())))
    classes = section.classes or tuple(names[key] for key in sorted(names))
    return {part: _listing(section, root, part, data, classes) for part, data in read.items()}


def _only(root: Path, pattern: str, part: str) -> Path | None:
    written = pattern.replace("{part}", part)
    if inside(root, written.replace("*", "_")) is None or Path(written).is_absolute():
        raise ConfigError(f"{written} would lie outside {root}", fix="name a path inside it")
    found = sorted(root.glob(written))
    if len(found) > 1:
        raise ConfigError(
            f"several paths fit {written}",
            why=", ".join(str(path.relative_to(root)) for path in found),
            fix="name the one that is meant in data.annotations or data.pictures",
        )
    return found[0] if found else None


def _json(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read", why=error.strerror) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON", why=str(error)) from error
    keys = ("images", "annotations", "categories")
    if not isinstance(data, dict) or not all(_rows(data.get(key)) for key in keys):
        raise ConfigError(
            f"{path} is not a COCO file", why=f"it must hold the lists {', '.join(keys)}"
        )
    return data


def _rows(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _categories(data: Mapping[str, Any]) -> dict[Any, str]:
    """Names by id.

    Raises:
        ConfigError: a category has no number or no name.
    """
    rows = data["categories"]
    if not all(isinstance(r.get("id"), int) and isinstance(r.get("name"), str) for r in rows):
        raise ConfigError("a category of a COCO file has no id or no name")
    return {row["id"]: row["name"] for row in rows}


def _listing(
    section: Coco, root: Path, part: str, data: Mapping[str, Any], classes: tuple[str, ...]
) -> Listing:
    folder = _only(root, section.pictures, part)
    if folder is None:
        raise MissingDataError(
            f"{root} has no folder {section.pictures.replace('{part}', part)}",
            fix=f"put there {section.layout}",
        )
    objects, faults = _objects(part, data)
    numbers = {name: number for number, name in enumerate(classes)}
    entries = []
    for number, row in enumerate(data["images"]):
        file = row.get("file_name")
        path = inside(root, f"{folder.name}/{file}") if isinstance(file, str) else None
        boxed = objects.pop(row.get("id"), [])
        if path is None:
            faults.append(Fault(f"{part}: picture {number}", "its file_name cannot be used"))
            continue
        name = f"{folder.name}/{file}"
        size = _size(row)
        boxes, wrong = judged(name, boxed, numbers, size)
        faults += wrong
        entries.append(Entry(name, path, boxes=boxes, size=size))
    for key, left in objects.items():
        faults.append(
            Fault(f"{part}: picture {key}", f"{len(left)} boxes are of no picture", mended=True)
        )
    return Listing(tuple(entries), classes, faults=tuple(faults))


def _size(row: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = row.get("height"), row.get("width")
    known = isinstance(height, int) and isinstance(width, int) and min(height, width) > 0
    return (height, width) if known else None  # type: ignore[return-value]


def _objects(part: str, data: Mapping[str, Any]) -> tuple[Objects, list[Fault]]:
    """Boxes by the id of their picture."""
    names = _categories(data)
    found: Objects = {}
    faults = []
    for number, row in enumerate(data["annotations"]):
        if row.get("iscrowd") == 1:
            continue
        edges = _edges(row.get("bbox"))
        picture = row.get("image_id")
        if edges is None or not isinstance(picture, int | str):
            what = f"bbox {row.get('bbox')!r:.60} of picture {picture!r:.40} cannot be used"
            faults.append(Fault(f"{part}: annotation {number}", what, mended=True))
            continue
        category = row.get("category_id")
        name = names.get(category) if isinstance(category, int) else None
        found.setdefault(picture, []).append((name or f"category {category!r:.40}", edges))
    return found, faults


def _edges(bbox: object) -> Edges | None:
    numbers = isinstance(bbox, list) and len(bbox) == 4
    if not numbers or not all(
        isinstance(x, int | float) and math.isfinite(x)
        for x in bbox  # type: ignore[attr-defined]
    ):
        return None
    x, y, width, height = (float(value) for value in bbox)  # type: ignore[attr-defined]
    return x, y, x + width, y + height
