"""From a profile's `data:` to three parts, and to `Data`.

What a network takes is (value / 255 - mean) / std, float32, NCHW, channels red, green, blue. It is
worked out here, once, for the host's training and the board's engine alike; no mean and no
deviation is part of a network. Mean and deviation are the profile's numbers, never taken from the
pictures, so that nothing of the held-out part leaks into them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hil.core.errors import ConfigError
from hil.tasks.data import Data, HeldOut, Split, load_data
from hil.tasks.readers import arrays, cifar, coco, folders, pairs, voc
from hil.tasks.readers.cache import cache_folder, reading_of
from hil.tasks.readers.listing import Listing, require_whole
from hil.tasks.readers.parts import Cut, Parts, three_parts
from hil.tasks.readers.pictures import resized, resized_classes
from hil.tasks.readers.places import find_root
from hil.tasks.readers.reading import Pixels, Reading
from hil.tasks.readers.section import (
    AnyPictures,
    Arrays,
    Cifar,
    Coco,
    Factory,
    Folders,
    Pairs,
    PictureSet,
    Voc,
)


def open_data(section: Factory | AnyPictures, *, seed: int = 0) -> Data:
    """The data of a profile.

    Args:
        section: `data:` of the profile.
        seed: of the automatic split of a function's pictures; the readers have their own.

    Raises:
        ConfigError: the data is missing, too broken or unusable.
    """
    if isinstance(section, Factory):
        return load_data(section.factory, section.args, seed=seed)
    return data_of(open_parts(section), section)


def open_parts(section: AnyPictures, cache: Path | None = None) -> Parts:
    """A data set in three parts, each broken file named in the notes.

    Args:
        section: `data:` of the profile.
        cache: folder of decoded pictures; None is the user's.

    Raises:
        ConfigError: see `open_data`.
        HostError: decoded pictures cannot be kept.
    """
    root = find_root(section.path, section.beside, layout=section.layout, source=section.source)
    published = _published(section, root, cache or cache_folder(os.environ, Path.home()))
    most = section.most.model_dump(exclude_none=True)
    near = section.near_duplicates == "leave_out"
    cut = Cut(section.search, section.heldout, section.seed, most, near)
    return three_parts(published, cut)


def _published(section: AnyPictures, root: Path, cache: Path) -> dict[str, Reading]:
    read = _arrays(section, root)
    if read is None:
        listed = _listings(section, root)
        # Before the work of decoding: what is broken by its list alone.
        for part, listing in listed.items():
            require_whole(part, listing.files, listing.faults, section.broken_at_most)
        read = {
            part: reading_of(listing, section.size, section.channels, cache)
            for part, listing in listed.items()
        }
    for part, reading in read.items():
        files = len(reading) + len({f.file for f in reading.faults if not f.mended})
        require_whole(part, files, reading.faults, section.broken_at_most)
    return read


def _arrays(section: AnyPictures, root: Path) -> dict[str, Reading] | None:
    if isinstance(section, Cifar):
        found = cifar.readings(section, root)
    elif isinstance(section, Arrays):
        found = arrays.readings(section, root)
    else:
        return None
    return {part: _fitted(reading, section) for part, reading in found.items()}


def _listings(section: AnyPictures, root: Path) -> dict[str, Listing]:
    match section:
        case Folders():
            return folders.listings(section, root)
        case Pairs():
            return pairs.listings(section, root)
        case Voc():
            return voc.listings(section, root)
        case Coco():
            return coco.listings(section, root)
    raise TypeError(f"no reader of files: {type(section).__name__}")


def _fitted(reading: Reading, section: PictureSet) -> Reading:
    """Pictures that came as arrays, at the size and with the channels asked for."""
    inputs = _channels(reading.inputs, section.channels)
    size = section.size
    if size is None or inputs.shape[2:] == size:
        return replace(reading, inputs=inputs)
    masks = reading.masks
    return replace(
        reading,
        inputs=np.stack([resized(x, size) for x in inputs]),
        masks=None if masks is None else np.stack([resized_classes(x, size) for x in masks]),
    )


def _channels(inputs: Pixels, channels: int) -> Pixels:
    if inputs.shape[1] == channels:
        return inputs
    if channels == 3:
        return np.repeat(inputs, 3, axis=1)
    # Luma of ITU-R BT.601, as Pillow makes grey of pictures in files.
    weights = np.array([299, 587, 114], dtype=np.float32) / 1000
    grey = np.tensordot(inputs.astype(np.float32), weights, axes=(1, 0))
    rounded: Pixels = np.rint(grey).astype(np.uint8)[:, None]
    return rounded


def normalised(
    pixels: Pixels, mean: Sequence[float] = (0.0,), std: Sequence[float] = (1.0,)
) -> NDArray[np.float32]:
    """What a network takes: (value / 255 - mean) / std.

    Args:
        pixels: uint8, `n x c x h x w`.
        mean: one a channel, or one for all.
        std: likewise.
    """
    centre, spread = (np.asarray(x, dtype=np.float32).reshape(1, -1, 1, 1) for x in (mean, std))
    return (pixels.astype(np.float32) / np.float32(255) - centre) / spread


def contract(section: PictureSet) -> str:
    """What a network takes, in words, for notes."""
    order = "red, green, blue" if section.channels == 3 else "grey"
    mean, std = (", ".join(f"{x:g}" for x in level) for level in (section.mean, section.std))
    return f"a network takes (value / 255 - mean) / std, channels {order}; mean {mean}; std {std}"


def data_of(parts: Parts, section: PictureSet) -> Data:
    """Parts as tasks take them: pictures as networks do, beside their classes, masks or boxes.

    Raises:
        ConfigError: a class of search or held-out is not among the training pictures.
    """
    splits = {}
    for name, part in (
        ("train", parts.train),
        ("search", parts.search),
        ("heldout", parts.heldout),
    ):
        if part.labels is not None:
            strange = np.setdiff1d(part.labels, parts.train.labels)  # type: ignore[arg-type]
            if strange.size:
                shown = ", ".join(part.classes[i] for i in strange)
                raise ConfigError(f"{name} holds classes that train does not: {shown}")
        given = [x for x in (part.labels, part.masks, part.boxes) if x is not None]
        inputs = normalised(part.inputs, section.mean, section.std)
        splits[name] = Split(inputs, given[0], part.void)
    notes = (*parts.notes, contract(section))
    held = HeldOut(splits["heldout"])
    return Data(splits["train"], splits["search"], held, notes, parts.classes)
