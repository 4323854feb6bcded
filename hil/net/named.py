"""A torch network named on the command line, exported and held to its own outputs."""

from __future__ import annotations

import torch

from hil.core.errors import ConfigError
from hil.net.export import check_parity, export_onnx
from hil.net.factory import load_factory


def export_named(reference: str, shape: tuple[int, ...], opset: int, open_batch: bool) -> bytes:
    """Return the ONNX file of the network that a function gives.

    Args:
        reference: `module:function`, without arguments, returning a torch.nn.Module.
        shape: of its one input, batch first.
        opset: ONNX operator set.
        open_batch: leave the batch open in the file.

    Raises:
        ConfigError: there is no such function, or it gives something else.
        ExportError: the network cannot be exported.
        ParityError: the file computes something else.
    """
    module = load_factory(reference)()
    if not isinstance(module, torch.nn.Module):
        raise ConfigError(
            f"{reference} gives a {type(module).__name__}, not a torch.nn.Module",
            fix="name a function without arguments that returns the network",
        )
    example = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    data = export_onnx(module, (example,), opset=opset, batch=None if open_batch else shape[0])
    check_parity(module, data, (example,))
    return data
