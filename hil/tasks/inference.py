"""Networks in evaluation: their norms renewed, their answers, and how these do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from hil.net.export import tensors_of
from hil.tasks.data import Inputs, Split
from hil.tasks.marks import Marks
from hil.tasks.pictures import tensor
from hil.tasks.place import Place
from hil.tasks.task import Answers, Task


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Hold a network in evaluation mode."""
    mode = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(mode)


def recalibrate(
    model: nn.Module, inputs: Inputs, *, batch: int = 200, device: str = "cpu"
) -> nn.Module:
    """Replace all batch-norm statistics by those of these pictures; weights stay untouched.

    Args:
        model: changed in place; its training mode is kept.
        inputs: float32, NCHW; every picture counts once.
        batch: pictures per pass at most.
        device: where it is done (see `Place.named`).
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [m for m in norms if m.track_running_stats]
    if not norms:
        return model
    modes = {module: module.training for module in model.modules()}
    momenta = {norm: norm.momentum for norm in norms}
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average over passes
        norm.train()
    try:
        place = Place.named(device)
        with place.hosting(model), torch.no_grad():
            for part in tensor(inputs).tensor_split(math.ceil(len(inputs) / batch)):
                model(place.sent(part))
    finally:
        for norm in norms:
            norm.momentum = momenta[norm]
        for module, mode in modes.items():
            module.training = mode
    return model


def predict(model: nn.Module, inputs: Inputs, *, batch: int = 256, device: str = "cpu") -> Answers:
    """A network's outputs in eval mode, one array each, pictures first; its mode is kept."""
    place = Place.named(device)
    parts = []
    with evaluating(model), place.hosting(model), torch.no_grad():
        for part in torch.split(tensor(inputs), batch):
            parts.append([output.cpu() for output in tensors_of(model(place.sent(part)))])
    return tuple(torch.cat(kind).numpy() for kind in zip(*parts, strict=True))


def marks_of(task: Task, model: nn.Module, split: Split, *, device: str = "cpu") -> Marks:
    """How a network does on the pictures of a split."""
    portions = split.portions(task.portion)
    return task.join([task.mark(predict(model, p.inputs, device=device), p) for p in portions])


def mean_loss(task: Task, model: nn.Module, split: Split, *, device: str = "cpu") -> float:
    """Loss of a network on the pictures of a split, in eval mode."""
    total = 0.0
    for part in split.portions(task.portion):
        outputs = [torch.from_numpy(a) for a in predict(model, part.inputs, device=device)]
        loss = task.loss(outputs[0] if len(outputs) == 1 else tuple(outputs), task.targets(part))
        total += float(loss) * (len(part) / len(split))
    return total
