"""CIFAR-10 and CIFAR-100 in the binary version: records of label bytes and three planes.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; layout at
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hil.core.errors import ConfigError
from hil.tasks.readers.lists import lines
from hil.tasks.readers.places import MissingDataError
from hil.tasks.readers.reading import Fault, Pixels, Reading
from hil.tasks.readers.section import Cifar

SIDE = 32
PIXELS = 3 * SIDE * SIDE


@dataclass(frozen=True)
class _Kind:
    """One of the two data sets: its files, label bytes before the pixels, and classes."""

    parts: dict[str, str]
    labels: int
    classes: int
    names: str


_TEN = _Kind({"train": "data_batch_*.bin", "test": "test_batch.bin"}, 1, 10, "batches.meta.txt")
# The second of two label bytes is the fine class.
_HUNDRED = _Kind({"train": "train.bin", "test": "test.bin"}, 2, 100, "fine_label_names.txt")


def readings(section: Cifar, root: Path) -> dict[str, Reading]:
    """The published parts: train and, where its file is there, test.

    Raises:
        MissingDataError: there is no file of training pictures.
        ConfigError: the list of classes is of another length than the data set.
    """
    for kind in (_TEN, _HUNDRED):
        found = {part: sorted(root.glob(pattern)) for part, pattern in kind.parts.items()}
        if found["train"]:
            classes = _classes(root / kind.names, kind.classes)
            return {part: _part(kind, files, classes) for part, files in found.items() if files}
    raise MissingDataError(
        f"{root} holds neither data_batch_*.bin nor train.bin",
        fix=f"put there {section.layout}; "
        f"get it from {section.source or 'https://www.cs.toronto.edu/~kriz/cifar.html'}",
    )


def _classes(path: Path, count: int) -> tuple[str, ...]:
    names = tuple(lines(path)) if path.is_file() else tuple(str(i) for i in range(count))
    if len(names) != count:
        raise ConfigError(f"{path} names {len(names)} classes in place of {count}")
    return names


def _part(kind: _Kind, files: list[Path], classes: tuple[str, ...]) -> Reading:
    pixels: list[Pixels] = []
    labels, names, faults = [], [], []
    for path in files:
        rows, wrong = _records(path, kind.labels + PIXELS)
        label = rows[:, kind.labels - 1].astype(np.int64)
        good = label < kind.classes
        faults += wrong + [
            Fault(f"{path.name}#{i}", f"class {label[i]} is none of 0 to {kind.classes - 1}")
            for i in np.flatnonzero(~good)
        ]
        names += [f"{path.name}#{i}" for i in np.flatnonzero(good)]
        labels.append(label[good])
        pixels.append(rows[good, kind.labels :].reshape(-1, 3, SIDE, SIDE))
    return Reading(
        inputs=np.concatenate(pixels),
        labels=np.concatenate(labels),
        masks=None,
        boxes=None,
        classes=classes,
        void=None,
        names=tuple(names),
        faults=tuple(faults),
    )


def _records(path: Path, length: int) -> tuple[Pixels, list[Fault]]:
    """Whole records of a file, `n x length`, and a fault where it ends within one."""
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read", why=error.strerror) from error
    whole, rest = divmod(len(content), length)
    wrong = f"the file ends within it ({rest} of {length} bytes)"
    faults = [Fault(f"{path.name}#{whole}", wrong)] if rest else []
    return content[: whole * length].reshape(whole, length), faults
