"""Pictures as tensors, and moved at random."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hil.tasks.data import Inputs


def offsets_of(count: int, most: int, generator: torch.Generator) -> Tensor:
    """Random positions, 2 x count, each from 0 to 2 most; `most` leaves a picture in place."""
    if most == 0:
        return torch.zeros((2, count), dtype=torch.long)
    return torch.randint(0, 2 * most + 1, (2, count), generator=generator)


def shifted(pictures: Tensor, offsets: Tensor, most: int, value: float = 0) -> Tensor:
    """Pictures (`n x c x h x w`) each moved to its own position; `value` comes in at the edge.

    Args:
        pictures: as they are.
        offsets: row and column position, `2 x n`, from 0 to 2 `most`; `most` is in place.
        most: pixels a picture is moved at most.
        value: of what comes in.
    """
    if most == 0:
        return pictures
    n, channels, height, width = pictures.shape
    rows = (offsets[0][:, None] + torch.arange(height))[:, None, :, None]
    columns = (offsets[1][:, None] + torch.arange(width))[:, None, None, :]
    padded = functional.pad(pictures, (most, most, most, most), value=value)
    # Indexed on all axes at once: the result is plain NCHW (see `tensor`).
    picture, channel = torch.arange(n)[:, None, None, None], torch.arange(channels)[:, None, None]
    moved: Tensor = padded[picture, channel, rows, columns]
    return moved


def tensor(inputs: Inputs) -> Tensor:
    """Pictures as a tensor with the strides of plain NCHW.

    Pictures of one channel fit two memory layouts; with odd strides PyTorch takes them for
    channels-last and runs the whole network so. There oneDNN's weight gradient of a strided 1x1
    convolution with fewer than 8 input channels writes beyond its buffer (torch 2.13, AVX2).
    """
    return torch.empty(inputs.shape).copy_(torch.from_numpy(inputs))
