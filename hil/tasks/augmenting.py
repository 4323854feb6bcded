"""What training pictures undergo, by task, as the training loop takes it."""

from __future__ import annotations

import torch
from torch import Tensor

from hil.tasks.augment import (
    drawn_flips,
    flipped,
    flipped_boxes,
    for_classification,
    for_segmentation,
)
from hil.tasks.detection import Detection
from hil.tasks.segmentation import Segmentation
from hil.tasks.task import Task
from hil.tasks.training import Augment


def augment_for(task: Task, shift_pixels: int) -> Augment:
    """Pictures mirrored and moved (classification), scaled and cropped (segmentation), mirrored.

    Pictures of detectors are not relit: by then they are no longer between 0 and 1.
    """
    if isinstance(task, Segmentation):
        return _segmented(task.void)
    return _detected if isinstance(task, Detection) else _classified(shift_pixels)


def _classified(most: int) -> Augment:
    def change(
        pictures: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        return for_classification(pictures, most, generator), targets

    return change


def _segmented(void: int | None) -> Augment:
    def change(
        pictures: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        return for_segmentation(pictures, targets, generator, void=void)

    return change


def _detected(
    pictures: Tensor, targets: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    which = drawn_flips(len(pictures), generator)
    # Rows that fill up have class -1 and stay without a box wherever they are.
    boxes = flipped_boxes(targets, which, pictures.shape[3])  # type: ignore[arg-type]
    return flipped(pictures, which), torch.stack(boxes)
