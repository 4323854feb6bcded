"""What every reader returns: pictures as bytes, what is to be learned of them, and what was broken.

Rule of this file: arrays and words only; it opens nothing. A broken file is a `Fault` with its
name, never a picture that is silently missing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Boxes = NDArray[np.float32]


@dataclass(frozen=True)
class Fault:
    """One thing wrong with one file.

    Attributes:
        file: as the data set names it, relative to its folder.
        what: what is wrong, in words.
        mended: the picture is used all the same, for example without a box of no area; False
            where the picture was left out.
    """

    file: str
    what: str
    mended: bool = False

    def __str__(self) -> str:
        return f"{self.file}: {self.what}" + ("" if self.mended else " (picture left out)")


@dataclass(frozen=True)
class Reading:
    """One part (train, search or held-out) of a data set as read.

    Of labels, masks and boxes one is given, and with it the task is.

    Attributes:
        inputs: uint8, `n x 3 x h x w` (RGB) or `n x 1 x h x w`, all at the size asked for.
        labels: classification: int64, `n`, classes counted from 0.
        masks: segmentation: uint8, `n x h x w`, class of a pixel; `void` where none counts.
        boxes: detection: one float32 array `k x 5` a picture: class, x0, y0, x1, y1 in pixels of
            the resized picture, x1 and y1 exclusive (a box of the whole picture is 0, 0, w, h).
        classes: their names, in the order of their numbers; void is none of them.
        void: value of mask pixels that do not count; None where there is none.
        names: of the pictures, for messages.
        faults: files left out or mended, each with what is wrong.
    """

    inputs: Pixels
    labels: NDArray[np.int64] | None
    masks: Pixels | None
    boxes: tuple[Boxes, ...] | None
    classes: tuple[str, ...]
    void: int | None
    names: tuple[str, ...]
    faults: tuple[Fault, ...]

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together.

        Raises:
            ValueError: naming the first that does not fit.
        """
        n = len(self.inputs)
        if self.inputs.ndim != 4 or self.inputs.dtype != np.uint8:
            raise ValueError(
                f"inputs must be uint8 NCHW, not {self.inputs.dtype} {self.inputs.shape}"
            )
        given = [x for x in (self.labels, self.masks, self.boxes) if x is not None]
        if len(given) != 1:
            raise ValueError(f"one of labels, masks and boxes must be given, not {len(given)}")
        if len(given[0]) != n or len(self.names) != n:
            raise ValueError(f"{n} pictures, {len(given[0])} answers and {len(self.names)} names")
        if self.masks is not None and self.masks.shape[1:] != self.inputs.shape[2:]:
            raise ValueError(f"masks {self.masks.shape} do not cover inputs {self.inputs.shape}")

    def __len__(self) -> int:
        return len(self.names)
