"""The `data:` of a profile: one model a reader.

Rule of this file: models only; it opens nothing and imports no library that decodes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationInfo,
    model_validator,
)

from hil.core.yamlfile import StrictModel

REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def _is_reference(written: str) -> str:
    if not REFERENCE.fullmatch(written):
        raise ValueError(f"expected module:function, got {written!r}")
    return written


def _sides(written: object) -> object:
    if isinstance(written, int) and not isinstance(written, bool):
        return (written, written)
    return tuple(written) if isinstance(written, list) else written


def _listed(written: object) -> object:
    return tuple(written) if isinstance(written, list) else written


def _share(written: object) -> object:
    """Read a fraction, or a percentage as text."""
    if not isinstance(written, str):
        return written
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", written)
    if not match:
        raise ValueError(f"expected a number or a percentage such as '20 %', got {written!r}")
    return float(match[1]) / 100


Reference = Annotated[str, AfterValidator(_is_reference)]
Side = Annotated[int, Field(ge=1, le=8192)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_sides)]
Share = Annotated[float, BeforeValidator(_share), Field(gt=0, lt=1)]
Limit = Annotated[float, BeforeValidator(_share), Field(ge=0, lt=1)]
Names = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_listed), Field(min_length=1)
]
Count = Annotated[int, Field(ge=1)]
Level = Annotated[tuple[float, ...], BeforeValidator(_listed), Field(min_length=1, max_length=3)]
Spread = Annotated[
    tuple[Annotated[float, Field(gt=0)], ...],
    BeforeValidator(_listed),
    Field(min_length=1, max_length=3),
]


class Factory(StrictModel):
    """A user's function, as `module:function`, and its keyword arguments."""

    factory: Reference
    args: dict[str, Any] = Field(default_factory=dict)


class Most(StrictModel):
    """How many pictures of a part are used at most, drawn at random and class by class.

    None is all of them.
    """

    train: Count | None = None
    search: Count | None = None
    heldout: Count | None = None


class PictureSet(StrictModel):
    """What every reader of pictures takes.

    Attributes:
        path: of the data set: absolute, beside the profile's file, or in the folder that the
            environment variable HIL_DATA names.
        source: where it is to be had; shown where it is missing.
        size: height and width all pictures are resized to; one number for squares; None keeps
            the size they have, which must then be one.
        channels: 3 (RGB) or 1 (grey).
        mean: of each channel, in shares of white; what a network takes is
            (value / 255 - mean) / std, on the host as on a board.
        std: likewise.
        search: share of the training pictures that the search part takes where none is published.
        heldout: share of all pictures that is held out where no test part is published.
        most: pictures of each part.
        broken_at_most: share of the files that may be broken before the run ends.
        near_duplicates: `say` names pictures of one part that another all but holds; `leave_out`
            also leaves them out of training (or, of search and held-out, of search).
        seed: of everything that is drawn to make the parts.
    """

    layout: ClassVar[str] = ""

    path: Annotated[str, Field(min_length=1)]
    source: str | None = None
    size: Size | None = None
    channels: Literal[1, 3] = 3
    mean: Level = (0.0,)
    std: Spread = (1.0,)
    search: Share = 0.2
    heldout: Share = 0.3
    most: Most = Most()
    broken_at_most: Limit = 0.02
    near_duplicates: Literal["say", "leave_out"] = "say"
    seed: Annotated[int, Field(ge=0)] = 0

    _beside: Path | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _know_the_place(self, info: ValidationInfo) -> Self:
        """Remember the folder of the file, which paths may be relative to."""
        folder = (info.context or {}).get("folder")
        self._beside = folder if isinstance(folder, Path) else None
        return self

    @model_validator(mode="after")
    def _levels_of_the_channels(self) -> Self:
        for name in ("mean", "std"):
            given = len(getattr(self, name))
            if given not in (1, self.channels):
                raise ValueError(f"{name}: {given} numbers for {self.channels} channels")
        return self

    @property
    def beside(self) -> Path | None:
        """Folder of the profile's file; None where it did not come from one."""
        return self._beside


class Cifar(PictureSet):
    """CIFAR-10 or CIFAR-100 in the binary layout."""

    layout: ClassVar[str] = (
        "the folder of the binary version: data_batch_*.bin and test_batch.bin (CIFAR-10) or "
        "train.bin and test.bin (CIFAR-100)"
    )

    reader: Literal["cifar"]


class Folders(PictureSet):
    """A folder a class, inside train/, val/ and test/ where these exist."""

    layout: ClassVar[str] = (
        "a folder with a folder of pictures a class, or train/, val/, test/ of them"
    )

    reader: Literal["folders"]


class Pairs(PictureSet):
    """Pictures and label pictures of 8 bits, with a list of classes (the layout of CamVid).

    Attributes:
        classes: file with a line a class, in the order of their numbers: `NUMBER NAME` or `NAME`.
        void: name or number of the class that does not count; None where there is none.
        pictures: folder of a part's pictures; `{part}` stands for train, val or test.
        labels: folder of a part's label pictures, named like the pictures with `.png`.
    """

    layout: ClassVar[str] = (
        "a folder with classes.txt, train.txt, val.txt, test.txt (a picture's name a line) and the "
        "folders of pictures and labels that they name"
    )

    reader: Literal["pairs"]
    classes: str = "classes.txt"
    void: str | Annotated[int, Field(ge=0, le=255)] | None = None
    pictures: str = "{part}"
    labels: str = "{part}annot"


class Voc(PictureSet):
    """Pascal VOC: Annotations, ImageSets/Main and JPEGImages.

    Attributes:
        classes: names in the order of their numbers; None takes those of the training part,
            sorted.
        first_pixel: coordinate of the first pixel: 1 in Pascal VOC and most that follow it, where
            xmax is the last pixel inside; with 0, xmax is the first outside.
    """

    layout: ClassVar[str] = (
        "a folder with Annotations/*.xml, JPEGImages/ and ImageSets/Main/{train,val,test}.txt"
    )

    reader: Literal["voc"]
    classes: Names | None = None
    first_pixel: Literal[0, 1] = 1


class Coco(PictureSet):
    """COCO detection: JSON files of annotations beside folders of pictures.

    Attributes:
        annotations: file of a part; `{part}` stands for train, val or test, `*` for anything.
        pictures: folder of a part's pictures, likewise.
        classes: names in the order of their numbers; None takes all categories by their ids.
    """

    layout: ClassVar[str] = (
        "a folder with annotations/instances_train*.json (val, test likewise) and the folders of "
        "pictures train*/, val*/, test*/"
    )

    reader: Literal["coco"]
    annotations: str = "annotations/instances_{part}*.json"
    pictures: str = "{part}*"
    classes: Names | None = None


class Arrays(PictureSet):
    """NumPy arrays of uint8 pictures: one .npz, or a folder of .npy files.

    Attributes:
        axes: order of the pictures' axes; None finds it out where only one order is possible.
        classes: names in the order of their numbers; None counts them.
        void: class that does not count, of masks.
    """

    layout: ClassVar[str] = (
        "an .npz (or a folder of .npy) with train_images, train_labels, test_images, test_labels; "
        "or images and labels; masks in place of labels for segmentation"
    )

    reader: Literal["arrays"]
    axes: Literal["nhwc", "nchw", "nhw"] | None = None
    classes: Names | None = None
    void: Annotated[int, Field(ge=0, le=255)] | None = None


READERS = ("cifar", "folders", "pairs", "voc", "coco", "arrays")


def _kind(written: Any) -> str | None:
    """Which model a section is: by its reader; without one, a function's."""
    if isinstance(written, StrictModel):
        return str(getattr(written, "reader", "function"))
    if not isinstance(written, dict) or "reader" not in written:
        return "function"
    named = written["reader"]
    return named if isinstance(named, str) else None


AnyPictures = Cifar | Folders | Pairs | Voc | Coco | Arrays
DataSection = Annotated[
    Annotated[Factory, Tag("function")]
    | Annotated[Cifar, Tag("cifar")]
    | Annotated[Folders, Tag("folders")]
    | Annotated[Pairs, Tag("pairs")]
    | Annotated[Voc, Tag("voc")]
    | Annotated[Coco, Tag("coco")]
    | Annotated[Arrays, Tag("arrays")],
    Discriminator(
        _kind,
        custom_error_type="unknown_reader",
        custom_error_message=f"reader must be one of {', '.join(READERS)} (or give a factory)",
    ),
]
