"""One Pascal VOC annotation: names and boxes, from XML that is not trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

EDGES = ("xmin", "ymin", "xmax", "ymax")


class BrokenAnnotationError(Exception):
    """An annotation that says nothing we can use; its text says what is wrong."""


@dataclass(frozen=True)
class Annotation:
    """What one file says.

    Attributes:
        size: height and width of the picture; None where it does not say.
        objects: name, and xmin, ymin, xmax, ymax as written.
    """

    size: tuple[int, int] | None
    objects: tuple[tuple[str, tuple[float, float, float, float]], ...]


def parse(content: bytes) -> Annotation:
    """Read an annotation; a document type or an entity in it is refused.

    Raises:
        BrokenAnnotationError: it is not XML, holds what is refused, or an object has no box.
    """
    try:
        root = fromstring(content, forbid_dtd=True)
    except ParseError as error:
        raise BrokenAnnotationError(f"it is not XML ({error})") from error
    except DefusedXmlException as error:
        raise BrokenAnnotationError("it declares a document type or entities") from error
    except (ValueError, LookupError) as error:  # an encoding there is none of
        raise BrokenAnnotationError(f"it cannot be read ({error})") from error
    objects = tuple((_text(item, "name"), _edges(item)) for item in root.iter("object"))
    return Annotation(_size(root), objects)


def _text(item: Element, tag: str) -> str:
    text = (item.findtext(tag) or "").strip()
    if not text:
        raise BrokenAnnotationError(f"an object has no {tag}")
    return text


def _edges(item: Element) -> tuple[float, float, float, float]:
    box = item.find("bndbox")
    if box is None:
        raise BrokenAnnotationError(f"object {_text(item, 'name')} has no bndbox")
    left, top, right, bottom = (_number(box, edge) for edge in EDGES)
    return left, top, right, bottom


def _number(box: Element, edge: str) -> float:
    text = _text(box, edge)
    try:
        value = float(text)
    except ValueError as error:
        raise BrokenAnnotationError(f"{edge} is {text!r}, not a number") from error
    if not math.isfinite(value):
        raise BrokenAnnotationError(f"{edge} is {text!r}, not a number")
    return value


def _size(root: Element) -> tuple[int, int] | None:
    texts: Sequence[str | None] = [root.findtext("size/height"), root.findtext("size/width")]
    try:
        height, width = (int(text or 0) for text in texts)
    except ValueError as error:
        raise BrokenAnnotationError(f"its size is {texts}, not two numbers") from error
    return (height, width) if height > 0 and width > 0 else None
