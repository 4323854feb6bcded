"""Modules cut down to the channels that are kept."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hil.net.graph import Channels
from hil.net.labels import IntArray

BoolArray = NDArray[np.bool_]


def sliced_axes(module: nn.Module, channels: Channels) -> list[tuple[int, IntArray]]:
    """Axes of the module's weight that follow channels, with the classes along each."""
    transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
    if channels.way == "each":
        return [(0, channels.writes)]
    if channels.way == "blocks":
        return [(0, channels.reads if transposed else channels.writes)]
    groups = int(getattr(module, "groups", 1))
    # One axis of a grouped weight runs over a single group; all groups keep the same positions.
    if transposed:
        return [(0, channels.reads), (1, channels.writes[: len(channels.writes) // groups])]
    return [(0, channels.writes), (1, channels.reads[: len(channels.reads) // groups])]


def slice_module(module: nn.Module, channels: Channels, kept: BoolArray) -> None:
    """Keep the module's rows, columns and statistics of the kept channels, in place."""
    if kept[channels.reads].all() and kept[channels.writes].all():
        return
    weight = getattr(module, "weight", None)
    if weight is not None:
        sliced = weight.detach()
        for axis, classes in sliced_axes(module, channels):
            sliced = _select(sliced, axis, kept[classes])
        module.weight = nn.Parameter(sliced, requires_grad=weight.requires_grad)
    _slice_vectors(module, kept[channels.writes])
    c_in, c_out = int(kept[channels.reads].sum()), int(kept[channels.writes].sum())
    if channels.way == "blocks":
        assert isinstance(module, nn.modules.conv._ConvNd)
        module.groups = c_in // (module.in_channels // module.groups)
    _update_counts(module, c_in, c_out)


def _slice_vectors(module: nn.Module, kept: BoolArray) -> None:
    bias = getattr(module, "bias", None)
    if bias is not None:
        sliced = _select(bias.detach(), 0, kept)
        module.bias = nn.Parameter(sliced, requires_grad=bias.requires_grad)
    for name in ("running_mean", "running_var"):
        statistic = getattr(module, name, None)
        if statistic is not None:
            module.register_buffer(name, _select(statistic, 0, kept))


def _update_counts(module: nn.Module, c_in: int, c_out: int) -> None:
    if isinstance(module, nn.modules.conv._ConvNd):
        module.in_channels, module.out_channels = c_in, c_out
    elif isinstance(module, nn.Linear):
        module.in_features, module.out_features = c_in, c_out
    else:
        count = "num_parameters" if isinstance(module, nn.PReLU) else "num_features"
        setattr(module, count, c_out)


def _select(tensor: Tensor, axis: int, kept: BoolArray) -> Tensor:
    index = torch.from_numpy(np.flatnonzero(kept)).to(tensor.device)
    return tensor.index_select(axis, index)
