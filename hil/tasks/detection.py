"""Object detection: boxes with a class, scored by COCO's average precision.

Detectors answer as `decoding.py` says. Losses follow Tian et al., "FCOS" (ICCV 2019), without
centre-ness, and Li et al., "Generalized focal loss" (NeurIPS 2020): the class's target at a cell
that answers for a box is how well the box it gives overlaps the true one, so that confidence ranks
by quality; the box's loss is the generalised IoU (Rezatofighi et al., CVPR 2019).

Which cells answer for a box: those whose centre lies inside it and within 1.5 cells of its centre,
on the level whose cells fit its size; of two boxes the smaller. The cell that holds the box's
centre always does, however small the box.

Distillation: the divergence of every cell's class answers, and where the teacher is sure of
something (above 0.3) the distances it gives, by their logarithms, and the generalised IoU of both
boxes. Features are not imitated: a student's have other widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hil.tasks.data import Split
from hil.tasks.decoding import FARTHEST, centres, decode
from hil.tasks.marks import Marks
from hil.tasks.precision import Hits, hits
from hil.tasks.task import Answers

RADIUS_CELLS = 1.5
REACH_CELLS = 4.0
"""A level answers for boxes whose farthest side is up to so many of its cells away."""
SURE = 0.3
_NO_BOX = -1.0


class Detection:
    """The task of `hil.tasks.task.Task` for pictures with boxes.

    Args:
        classes: how many there are.
        size: height and width of the pictures, whose pixels boxes are in.
    """

    name = "detection"
    portion: int | None = 32

    def __init__(self, classes: int, size: tuple[int, int]) -> None:
        self.classes, self.size = classes, size

    def targets(self, split: Split) -> Tensor:
        """Boxes, `n x most x 5`; rows of class -1 fill up pictures with fewer."""
        most = max(1, *(len(b) for b in split.boxes))
        held = np.full((len(split), most, 5), _NO_BOX, dtype=np.float32)
        for row, boxes in zip(held, split.boxes, strict=True):
            row[: len(boxes)] = boxes
        return torch.from_numpy(held)

    def moved(self, targets: Tensor, offsets: Tensor, most: int) -> Tensor:
        """Boxes moved with their pictures and cut at the edge; one that is gone answers no more."""
        if most == 0:
            return targets
        by = (most - offsets.flip(0)).T.to(targets)
        corners = targets[..., 1:] + torch.cat([by, by], dim=1)[:, None]
        limit = torch.tensor([self.size[1], self.size[0]] * 2).to(targets)
        corners = torch.minimum(corners.clamp(min=0), limit)
        gone = (corners[..., 2:] <= corners[..., :2]).any(dim=-1, keepdim=True)
        label = torch.where(gone, torch.full_like(targets[..., :1], _NO_BOX), targets[..., :1])
        return torch.cat([label, corners], dim=-1)

    def loss(self, outputs: Sequence[Tensor], targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """Quality focal loss of classes plus generalised IoU of boxes, by boxes answered for."""
        cells = _cells(outputs, self.size)
        label, true = _assigned(targets, cells)
        answering = label >= 0
        count = answering.sum().clamp(min=1)
        overlap, generalised = _overlaps(cells.boxes[answering], true[answering])
        wanted = torch.zeros_like(cells.logits)
        quality = functional.one_hot(label[answering], self.classes) * overlap.detach()[:, None]
        wanted[answering] = quality * (1 - smoothing)
        focal = _cross(cells.logits, wanted) * (cells.logits.sigmoid() - wanted).square()
        return (focal.sum() + (1 - generalised).sum()) / count

    def soften(self, outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The outputs themselves."""
        return tuple(outputs)

    def distillation(self, outputs: Sequence[Tensor], softened: Sequence[Tensor]) -> Tensor:
        """Divergence of class answers, and distance of boxes where the teacher is sure."""
        own = _cells(outputs, self.size)
        pairs = zip(softened, outputs, strict=True)
        teacher = _cells([_at_size_of(t, o) for t, o in pairs], self.size)
        right = teacher.logits.sigmoid()
        sure = right.amax(dim=-1) > SURE
        # Weighted as the focal loss weighs cells: by how far the answers are apart.
        apart = (own.logits.sigmoid() - right).square()
        divergence = (_cross(own.logits, right) - _cross(teacher.logits, right)) * apart
        _, generalised = _overlaps(own.boxes[sure], teacher.boxes[sure])
        distance = (own.distances[sure] - teacher.distances[sure]).abs().mean(dim=-1)
        both = (1 - generalised).sum() + distance.sum()
        return (divergence.sum() + both) / sure.sum().clamp(min=1)

    def mark(self, answers: Answers, split: Split) -> Hits:
        """Detections matched with the true boxes."""
        return hits(decode(answers, self.size), split.boxes, self.classes)

    def join(self, parts: Sequence[Marks]) -> Hits:
        """All pictures of the portions."""
        return Hits.joined([p for p in parts if isinstance(p, Hits)])

    def read(self, data: bytes) -> Hits:
        """Marks from their bytes."""
        return Hits.from_bytes(data)


@dataclass(frozen=True)
class _Cells:
    """A detector's answers, cell by cell over all levels.

    Attributes:
        logits: `n x cells x classes`.
        distances: logarithms of distances in cells, `n x cells x 4`.
        boxes: corners in pixels, `n x cells x 4`.
        middle: centre of each cell in pixels, `cells x 2`.
        pixels: width and height of each cell, `cells x 2`.
        reach: distances in pixels that its level answers for, above the first up to the second,
            `cells x 2`.
    """

    logits: Tensor
    distances: Tensor
    boxes: Tensor
    middle: Tensor
    pixels: Tensor
    reach: Tensor


def _cells(outputs: Sequence[Tensor], size: tuple[int, int]) -> _Cells:
    device = outputs[0].device
    sides = [(size[1] / o.shape[3], size[0] / o.shape[2]) for o in outputs]
    most = [REACH_CELLS * max(side) for side in sides]
    reach = list(zip([0.0, *most[:-1]], [*most[:-1], np.inf], strict=True))
    flat = torch.cat([o.flatten(2) for o in outputs], dim=2).transpose(1, 2)
    counts = [o.shape[2] * o.shape[3] for o in outputs]

    def each(values: Sequence[tuple[float, float]]) -> Tensor:
        repeated = np.repeat(np.array(values, np.float32), counts, axis=0)
        return torch.from_numpy(repeated).to(device)

    grid = np.concatenate([centres(o.shape[2], o.shape[3], size) for o in outputs])
    middle, pixels = torch.from_numpy(grid).to(device), each(sides)
    distances = flat[..., -4:].clamp(max=FARTHEST)
    apart = distances.exp() * pixels.repeat(1, 2)
    boxes = torch.cat([middle - apart[..., :2], middle + apart[..., 2:]], dim=-1)
    return _Cells(flat[..., :-4], distances, boxes, middle, pixels, each(reach))


def _assigned(targets: Tensor, cells: _Cells) -> tuple[Tensor, Tensor]:
    """The class (`n x cells`, -1 for none) and the box (`n x cells x 4`) that each answers for."""
    low, high = targets[:, None, :, 1:3], targets[:, None, :, 3:]
    middle, pixels = cells.middle[:, None], cells.pixels[:, None]
    sides = torch.cat([middle - low, high - middle], dim=-1)  # n x cells x boxes x 4
    gap = ((middle - (low + high) / 2) / pixels).abs().amax(dim=-1)
    farthest = sides.amax(dim=-1)
    own_level = (farthest > cells.reach[:, :1]) & (farthest <= cells.reach[:, 1:])
    near = ((sides.amin(dim=-1) > 0) & (gap < RADIUS_CELLS)) | (gap <= 0.5)
    area = (high - low).prod(dim=-1).expand_as(gap)
    free = area.masked_fill(~(own_level & near & (targets[:, None, :, 0] >= 0)), np.inf)
    least, which = free.min(dim=-1)
    rows = torch.arange(len(targets), device=targets.device)[:, None]
    chosen = targets[rows, which]
    label = torch.where(least < np.inf, chosen[..., 0].long(), torch.full_like(which, -1))
    return label, chosen[..., 1:]


def _overlaps(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """IoU, and generalised IoU, of boxes pair by pair (`k x 4` each)."""
    low = torch.maximum(boxes[:, :2], others[:, :2])
    high = torch.minimum(boxes[:, 2:], others[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=1)
    areas = [(b[:, 2:] - b[:, :2]).clamp(min=0).prod(dim=1) for b in (boxes, others)]
    union = (areas[0] + areas[1] - shared).clamp(min=1e-6)
    around = torch.maximum(boxes[:, 2:], others[:, 2:]) - torch.minimum(boxes[:, :2], others[:, :2])
    hull = around.prod(dim=1).clamp(min=1e-6)
    overlap = shared / union
    return overlap, overlap - (hull - union) / hull


def _cross(logits: Tensor, wanted: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")


def _at_size_of(level: Tensor, other: Tensor) -> Tensor:
    """A level's answers at the size of another's; distances are in cells, which then differ."""
    if level.shape == other.shape:
        return level
    at_size = functional.interpolate(
        level, size=other.shape[2:], mode="bilinear", align_corners=False
    )
    ratio = [other.shape[3] / level.shape[3], other.shape[2] / level.shape[2]] * 2
    scale = torch.tensor(ratio, device=level.device).log()[:, None, None]
    return torch.cat([at_size[:, :-4], at_size[:, -4:] + scale], dim=1)
