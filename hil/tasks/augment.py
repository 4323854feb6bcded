"""Augmentation: what a picture may undergo in training without changing what it shows.

Rule of this file: pure functions on tensors. What is drawn is drawn from the generator given; each
transformation is a function of its own that takes what was drawn, so that pictures, masks and boxes
undergo the same. Nothing here is ever done to search or held-out pictures.

    classification: shifted by some pixels, mirrored
    segmentation:   mirrored, scaled and cropped, picture and mask alike
    detection:      mirrored with the boxes following; brightness, contrast and saturation varied
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""


def drawn_flips(count: int, generator: torch.Generator) -> Tensor:
    """Which of `count` pictures are mirrored: booleans, half of them true on average."""
    return torch.rand(count, generator=generator) < 0.5


def flipped(pictures: Tensor, which: Tensor) -> Tensor:
    """Pictures (`n x c x h x w`) or masks (`n x h x w`), mirrored left to right where told.

    Args:
        pictures: of any type; left as they are.
        which: booleans, `n`.
    """
    chosen = which.reshape(-1, *[1] * (pictures.dim() - 1))
    return torch.where(chosen, pictures.flip(-1), pictures)


def flipped_boxes(boxes: Sequence[Tensor], which: Tensor, width: int) -> tuple[Tensor, ...]:
    """Boxes (`k x 5` a picture: class, x0, y0, x1, y1) of pictures mirrored by `flipped`.

    Args:
        boxes: in pixels, x1 and y1 exclusive.
        which: booleans, one a picture.
        width: of the pictures.
    """
    turned = []
    for rows, turn in zip(boxes, which.tolist(), strict=True):
        kind, x0, y0, x1, y1 = rows.unbind(1)
        turned.append(torch.stack([kind, width - x1, y0, width - x0, y1], 1) if turn else rows)
    return tuple(turned)


def drawn_shifts(count: int, most: int, generator: torch.Generator) -> Tensor:
    """How far each of `count` pictures is moved down and right: `2 x n`, from -most to most."""
    return torch.randint(-most, most + 1, (2, count), generator=generator)


def moved(pictures: Tensor, shifts: Tensor) -> Tensor:
    """Pictures (`n x c x h x w`) moved by whole pixels; zeros come in at the edge.

    Args:
        pictures: of any type.
        shifts: rows down and columns right of each, `2 x n`.
    """
    n, channels, height, width = pictures.shape
    rows = torch.arange(height) - shifts[0][:, None]
    columns = torch.arange(width) - shifts[1][:, None]
    inside = ((rows >= 0) & (rows < height))[:, None, :, None] & (
        (columns >= 0) & (columns < width)
    )[:, None, None, :]
    which, channel = torch.arange(n)[:, None, None, None], torch.arange(channels)[:, None, None]
    taken = pictures[
        which,
        channel,
        rows.clamp(0, height - 1)[:, None, :, None],
        columns.clamp(0, width - 1)[:, None, None, :],
    ]
    return torch.where(inside, taken, torch.zeros((), dtype=pictures.dtype))


def for_classification(pictures: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Pictures moved by up to `most` pixels each way and mirrored, each by its own draw."""
    count = len(pictures)
    shown = moved(pictures, drawn_shifts(count, most, generator))
    return flipped(shown, drawn_flips(count, generator))


def drawn_windows(
    count: int,
    size: tuple[int, int],
    scales: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Which part of each picture fills its place: top, left, height, width in pixels, `n x 4`.

    Args:
        count: pictures.
        size: their height and width.
        scales: by how much a picture is enlarged, from and to; logarithms are uniform. Below 1 the
            window is larger than the picture, which then lies somewhere inside it.
        generator: of what is drawn.
    """
    low, high = (torch.log(torch.tensor(float(scale))) for scale in scales)
    enlarged = torch.exp(low + (high - low) * torch.rand(count, generator=generator))
    sides = torch.tensor([float(size[0]), float(size[1])])[None, :] / enlarged[:, None]
    room = torch.tensor([float(size[0]), float(size[1])])[None, :] - sides
    corners = room * torch.rand((count, 2), generator=generator)
    return torch.cat([corners, sides], dim=1)


def cropped(pictures: Tensor, windows: Tensor, size: tuple[int, int]) -> Tensor:
    """Windows of pictures, each enlarged to `size`, bilinear; zeros where a window oversteps.

    Args:
        pictures: floating point, `n x c x h x w`.
        windows: see `drawn_windows`.
        size: height and width of what comes out.
    """
    height, width = pictures.shape[2:]
    rows, columns = _places(windows, size)
    down = (2 * rows / height - 1)[:, :, None].expand(-1, -1, size[1])
    across = (2 * columns / width - 1)[:, None, :].expand(-1, size[0], -1)
    grid = torch.stack([across, down], dim=3).to(pictures.dtype)
    # The border is continued and then cut, so that a picture ends where its mask does.
    shown = functional.grid_sample(
        pictures, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return torch.where(_inside(rows, columns, (height, width))[:, None], shown, 0.0)


def cropped_masks(
    masks: Tensor, windows: Tensor, size: tuple[int, int], void: int | None
) -> Tensor:
    """Windows of masks (`n x h x w`): the class of the nearest pixel, void where one oversteps.

    Args:
        masks: classes, of an integer type.
        windows: those of the pictures.
        size: height and width of what comes out.
        void: class that does not count; None only where no window oversteps.

    Raises:
        ValueError: a window oversteps and there is no void.
    """
    height, width = masks.shape[1:]
    rows, columns = _places(windows, size)
    inside = _inside(rows, columns, (height, width))
    rows, columns = rows.floor().long(), columns.floor().long()
    if void is None and not bool(inside.all()):
        raise ValueError("a window oversteps its mask, and there is no void to fill it with")
    which = torch.arange(len(masks))[:, None, None]
    taken = masks[
        which, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]
    ]
    return torch.where(inside, taken, torch.tensor(void or 0, dtype=masks.dtype))


def _inside(rows: Tensor, columns: Tensor, size: tuple[int, int]) -> Tensor:
    """Which places, `n x h x w`, lie in a picture of that height and width."""
    down, across = (rows >= 0) & (rows < size[0]), (columns >= 0) & (columns < size[1])
    return down[:, :, None] & across[:, None, :]


def _places(windows: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Where the centres of the pixels that come out lie in the source: rows and columns."""
    top, left, height, width = windows.unbind(1)
    down, across = ((torch.arange(side) + 0.5) / side for side in size)
    return (
        top[:, None] + height[:, None] * down[None, :],
        left[:, None] + width[:, None] * across[None, :],
    )


def for_segmentation(
    pictures: Tensor,
    masks: Tensor,
    generator: torch.Generator,
    *,
    void: int | None,
    scales: tuple[float, float] = (0.75, 1.5),
    size: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Pictures and their masks, mirrored, scaled and cropped alike.

    Args:
        pictures: floating point, `n x c x h x w`.
        masks: classes, `n x h x w`.
        generator: of what is drawn.
        void: class that does not count; None keeps windows inside, so nothing is made smaller.
        scales: see `drawn_windows`.
        size: height and width of what comes out; None is that of the pictures.
    """
    count, whole = len(pictures), (int(pictures.shape[2]), int(pictures.shape[3]))
    if void is None:
        scales = (max(scales[0], 1.0), max(scales[1], 1.0))
    which = drawn_flips(count, generator)
    windows = drawn_windows(count, whole, scales, generator)
    size = size or whole
    shown = cropped(flipped(pictures, which), windows, size)
    return shown, cropped_masks(flipped(masks, which), windows, size, void)


def drawn_light(count: int, strength: float, generator: torch.Generator) -> Tensor:
    """Factors of brightness, contrast and saturation, `n x 3`, within 1 - and 1 + strength."""
    return 1 + strength * (2 * torch.rand((count, 3), generator=generator) - 1)


def relit(pictures: Tensor, factors: Tensor) -> Tensor:
    """Pictures (`n x c x h x w`) with brightness, contrast and saturation multiplied.

    Args:
        pictures: floating point, 0 (black) to 1 (white), before any mean is taken off; what
            comes out lies between 0 and 1 as well.
        factors: see `drawn_light`; saturation changes nothing in pictures of one channel.
    """
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(1)
    shown = pictures * brightness
    centre = _grey(shown).mean(dim=(1, 2, 3), keepdim=True)
    shown = centre + contrast * (shown - centre)
    if shown.shape[1] == 3:
        grey = _grey(shown)
        shown = grey + saturation * (shown - grey)
    return shown.clamp(0, 1)


def _grey(pictures: Tensor) -> Tensor:
    if pictures.shape[1] != 3:
        return pictures.mean(dim=1, keepdim=True)
    weights = torch.tensor(LUMA, dtype=pictures.dtype)[None, :, None, None]
    return (pictures * weights).sum(dim=1, keepdim=True)


def for_detection(
    pictures: Tensor,
    boxes: Sequence[Tensor],
    generator: torch.Generator,
    *,
    strength: float = 0.2,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Pictures relit and mirrored, their boxes following.

    Args:
        pictures: floating point, `n x c x h x w`, 0 to 1.
        boxes: `k x 5` a picture: class, x0, y0, x1, y1 in pixels, x1 and y1 exclusive.
        generator: of what is drawn.
        strength: of the light's variation (see `drawn_light`).
    """
    count, width = len(pictures), int(pictures.shape[3])
    which = drawn_flips(count, generator)
    shown = flipped(relit(pictures, drawn_light(count, strength, generator)), which)
    return shown, flipped_boxes(boxes, which, width)
