"""NumPy arrays: one .npz file, or a folder of .npy files, of uint8 pictures and their answers.

Names that are understood, PART being train, val or test: PART_images, PART_inputs, x_PART with
PART_labels, y_PART (classes) or PART_masks (segmentation); without a part, images or inputs with
labels or masks.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hil.core.errors import ConfigError
from hil.tasks.readers.places import MissingDataError
from hil.tasks.readers.reading import Fault, Pixels, Reading
from hil.tasks.readers.section import Arrays

PARTS = ("train", "val", "test")
PICTURES = ("{}_images", "{}_inputs", "x_{}")
LABELS = ("{}_labels", "y_{}")
MASKS = ("{}_masks",)
Known = Mapping[str, NDArray[np.generic]]


def readings(section: Arrays, root: Path) -> dict[str, Reading]:
    """The parts that are there; `all` where the arrays are not of parts.

    Raises:
        MissingDataError: there is no array of pictures.
        ConfigError: an array cannot be read, or is not what its name says.
    """
    arrays = _opened(root)
    parts = {p: x for p in PARTS if (x := _named(arrays, PICTURES, p)) is not None}
    if not parts:
        whole = next((name for name in ("images", "inputs") if name in arrays), None)
        if whole is None:
            raise MissingDataError(
                f"{root} holds no pictures",
                why=f"its arrays are {', '.join(sorted(arrays)) or 'none'}",
                fix=f"let it hold {section.layout}",
            )
        parts = {"all": whole}
    classes = section.classes
    if classes is None:
        first = "train" if "train" in parts else next(iter(parts))
        classes = _counted(_answers(arrays, first, parts[first])[1], section.void)
    return {part: _reading(section, arrays, (part, name), classes) for part, name in parts.items()}


def _opened(root: Path) -> Known:
    files = sorted(root.glob("*.npy")) if root.is_dir() else [root]
    try:
        if root.is_dir():
            return {p.stem: np.load(p, mmap_mode="r", allow_pickle=False) for p in files}
        with np.load(root, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ConfigError(
                    f"{root} is a single array", fix="name an .npz file, or a folder of .npy files"
                )
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"the arrays of {root} cannot be read", why=str(error)) from error


def _named(arrays: Known, forms: tuple[str, ...], part: str) -> str | None:
    bare = tuple(form.replace("{}_", "") for form in forms if form.startswith("{}_"))
    names = bare if part == "all" else tuple(form.format(part) for form in forms)
    return next((name for name in names if name in arrays), None)


def _answers(arrays: Known, part: str, pictures: str) -> tuple[bool, NDArray[np.generic]]:
    """Whether a part's answers are labels (not masks), and they themselves.

    Raises:
        ConfigError: there is not one of the two, or it does not hold integers.
    """
    labels, masks = _named(arrays, LABELS, part), _named(arrays, MASKS, part)
    if (labels is None) == (masks is None):
        raise ConfigError(
            f"pictures {pictures} have {'no labels' if labels is None else 'labels and masks'}",
            why=f"the arrays are {', '.join(sorted(arrays))}",
            fix=f"let there be one of labels and masks: {Arrays.layout}",
        )
    answers = arrays[labels or masks or ""]
    if answers.dtype.kind not in "iu" or answers.size == 0:
        raise ConfigError(
            f"{labels or masks} is {answers.dtype} of shape {answers.shape}",
            why="answers are integers, classes counted from 0",
        )
    return labels is not None, answers


def _reading(
    section: Arrays, arrays: Known, part: tuple[str, str], classes: tuple[str, ...]
) -> Reading:
    name = part[1]
    pictures = planes(arrays[name], name, section.axes)
    labelled, answers = _answers(arrays, *part)
    shape = (len(pictures),) if labelled else (len(pictures), *pictures.shape[2:])
    if answers.size != np.prod(shape):
        raise ConfigError(
            f"the answers to pictures {name} have shape {answers.shape}",
            why=f"shape {shape} would fit",
        )
    numbers = answers.reshape(shape)
    good, faults = _known(name, numbers, len(classes), section.void)
    return Reading(
        inputs=pictures[good],
        labels=numbers[good].astype(np.int64) if labelled else None,
        masks=None if labelled else numbers[good].astype(np.uint8),
        boxes=None,
        classes=classes,
        void=section.void,
        names=tuple(f"{name}#{i}" for i in np.flatnonzero(good)),
        faults=faults,
    )


def planes(array: NDArray[np.generic], name: str, axes: str | None) -> Pixels:
    """Pictures as `n x c x h x w` with 1 or 3 channels.

    Args:
        array: uint8.
        name: for messages.
        axes: their order; None finds it out.

    Raises:
        ConfigError: they are not uint8, or the order cannot be told.
    """
    if array.dtype != np.uint8:
        raise ConfigError(
            f"pictures {name} are {array.dtype}",
            why="pictures are uint8, 0 to 255",
            fix="convert them, or read them with a function of yours (data.factory)",
        )
    fitting = [
        order
        for order, axis in (("nhw", None), ("nhwc", -1), ("nchw", 1))
        if array.ndim == len(order) and (axis is None or array.shape[axis] in (1, 3))
    ]
    order = axes if axes in fitting else fitting[0] if axes is None and len(fitting) == 1 else None
    if order is None:
        raise ConfigError(
            f"the axes of pictures {name} of shape {array.shape} are not {axes or 'plain'}",
            fix="give data.axes: nhwc, nchw or nhw; channels are 1 or 3",
        )
    if order == "nhw":
        array = array[:, None]
    elif order == "nhwc":
        array = array.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(array).astype(np.uint8, copy=False)


def _counted(numbers: NDArray[np.generic], void: int | None) -> tuple[str, ...]:
    counting = numbers[numbers != void] if void is not None else numbers
    most = int(counting.max()) if counting.size else -1
    return tuple(str(i) for i in range(min(most, 65535) + 1))


def _known(
    name: str, numbers: NDArray[np.generic], classes: int, void: int | None
) -> tuple[NDArray[np.bool_], tuple[Fault, ...]]:
    """Which pictures have known classes only."""
    values = numbers.astype(np.int64)
    wrong = (values < 0) | (values >= classes)
    if void is not None:
        wrong &= values != void
    bad: NDArray[np.bool_] = np.asarray(wrong.reshape(len(values), -1).any(axis=1))
    faults = [
        Fault(f"{name}#{i}", f"class {values[i][wrong[i]].flat[0]} is none of {classes}")
        for i in np.flatnonzero(bad)
    ]
    return ~bad, tuple(faults)
