"""Weights as bytes and pictures as tensors: what several files of the synthesis need of torch."""

from __future__ import annotations

import io
from collections.abc import Mapping

import torch

from hil.tasks.data import Inputs


def plain(inputs: Inputs) -> torch.Tensor:
    """Return pictures as a tensor in plain NCHW layout.

    One-channel pictures straight from numpy can carry strides that torch takes for channels-last;
    the backward pass of some convolutions in that layout corrupts the heap in torch 2.13.
    """
    return torch.empty(inputs.shape).copy_(torch.from_numpy(inputs))


def save_weights(state: Mapping[str, torch.Tensor]) -> bytes:
    """Return a state dict as bytes that `load_weights` reads."""
    buffer = io.BytesIO()
    torch.save({name: tensor.detach().cpu() for name, tensor in state.items()}, buffer)
    return buffer.getvalue()


def load_weights(data: bytes) -> dict[str, torch.Tensor]:
    """Read a state dict; nothing but tensors is accepted."""
    return dict(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
