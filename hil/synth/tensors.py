"""Weights as bytes and pictures as tensors: what several files of the synthesis need of torch."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn

from hil.core.errors import ConfigError
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


def given_weights(network: nn.Module, path: Path) -> None:
    """Give a network the weights of a user's file, which may hold tensors and nothing else.

    Raises:
        ConfigError: the file is missing, is no state dict, or is that of another network.
    """
    try:
        state = load_weights(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"the prototype's weights were not found: {path}",
            why=str(error),
            fix="write the path from the folder where hil is started, or an absolute one",
        ) from error
    except (RuntimeError, UnpicklingError, EOFError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ConfigError(
            f"{path} holds no state dict",
            why=f"only tensors by name are read: {reason}",
            fix="write it with torch.save(network.state_dict(), path)",
        ) from error
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"the weights in {path} are not of this prototype",
            why=" ".join(str(error).split()),
            fix="name the factory, and its args, that the weights were trained with",
        ) from error
