"""Where a training runs: on this machine's cores, or on a GPU in mixed precision.

On a GPU convolutions run in bfloat16 and channels-last; losses and weights stay in float32.
bfloat16 has the range of float32, so that nothing need be scaled (Kalamkar et al., 2019). The
training pictures lie on the GPU where they take less than half of what is free there. On the CPU
nothing is changed: neither pays there for networks this small, and results stay as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from hil.core.errors import ConfigError

_B = TypeVar("_B")


@dataclass(frozen=True)
class Place:
    """One device to train on."""

    device: torch.device

    @classmethod
    def named(cls, name: str) -> Place:
        """The place of a name: cpu, cuda, or auto for a GPU where there is one.

        Raises:
            ConfigError: cuda is asked for and there is none.
        """
        there = torch.cuda.is_available()
        if name == "cuda" and not there:
            raise ConfigError(
                "training.device is cuda, and PyTorch finds no GPU",
                fix="write auto or cpu, or install a PyTorch that matches the GPU's driver",
            )
        return cls(torch.device("cuda" if there and name in ("cuda", "auto") else "cpu"))

    @property
    def on_gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.device.type == "cuda"

    def held(self, pictures: Tensor) -> Tensor:
        """Pictures where they are drawn from: on the GPU if they fit there well."""
        if not self.on_gpu:
            return pictures
        free, _ = torch.cuda.mem_get_info(self.device)
        fits = pictures.numel() * pictures.element_size() < free / 2
        return pictures.to(self.device) if fits else pictures

    def take(self, model: nn.Module) -> None:
        """Bring a network here."""
        if self.on_gpu:
            model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def release(self, model: nn.Module) -> None:
        """Bring a network back to the CPU, in plain layout."""
        if self.on_gpu:
            model.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    @contextmanager
    def hosting(self, model: nn.Module) -> Iterator[None]:
        """Have a network here for a while."""
        self.take(model)
        try:
            yield
        finally:
            self.release(model)

    def sent(self, pictures: Tensor) -> Tensor:
        """Pictures as a network here takes them."""
        if not self.on_gpu:
            return pictures
        layout = torch.channels_last if pictures.dim() == 4 else torch.contiguous_format
        return pictures.to(self.device, memory_format=layout)

    def moved(self, batch: _B) -> _B:
        """A batch (a dataclass of tensors) as the network here takes it."""
        if not self.on_gpu:
            return batch
        held: dict[str, Any] = {k: self.sent(v) for k, v in vars(batch).items()}
        return replace(batch, **held)  # type: ignore[type-var]

    def precision(self) -> AbstractContextManager[Any]:
        """What the network's forward pass runs in."""
        return torch.autocast("cuda", torch.bfloat16) if self.on_gpu else nullcontext()

    def exact(self, outputs: Any) -> Any:
        """Outputs in float32, as losses take them."""
        if not self.on_gpu:
            return outputs
        return tree_map(lambda x: x.float() if isinstance(x, Tensor) else x, outputs)
