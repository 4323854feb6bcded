"""Image classification: plain training, fine-tuning of inherited weights, and the score.

Rules of this file: same seed, same start weights, same machine and thread count: same weights out;
PyTorch's global generator is left as it was found; the number of threads is the caller's business.

Fine-tuning distils: the student follows the prototype's softened answers beside the labels
(G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2).
Batch-norm statistics are renewed last, because those inherited from a wider network are wrong for a
narrow one (B. Li et al., "EagleEye", ECCV 2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hil.core.errors import HilError
from hil.tasks.data import Data, Inputs, Labels
from hil.tasks.recipe import Recipe

TEMPERATURE = 4.0
"""Softening of both answers in distillation."""

Progress = Callable[[int, int, float], None]
"""Called after every epoch with (epochs done, epochs in all, mean loss of the epoch)."""


@dataclass(frozen=True)
class _Batch:
    """Pictures of one step: which ones, how far each is moved (2 x n), and their labels."""

    picked: Tensor
    offsets: Tensor
    labels: Tensor


_Loss = Callable[[_Batch, Tensor], Tensor]


class TrainingError(HilError):
    """Training came to nothing: the loss is no longer a number."""


def train(
    model: nn.Module,
    data: Data,
    *,
    epochs: int,
    seed: int,
    on_progress: Progress | None = None,
    recipe: Recipe | None = None,
) -> nn.Module:
    """Train a classifier on the labels of `data.train`, in place, and return it in eval mode.

    Raises:
        TrainingError: the loss is not a finite number.
    """
    recipe = recipe or Recipe()

    def loss(batch: _Batch, logits: Tensor) -> Tensor:
        return functional.cross_entropy(
            logits, batch.labels, label_smoothing=recipe.label_smoothing
        )

    with _seeded(seed):
        _fit(model, data, loss, _Schedule(epochs, seed, on_progress, recipe))
    recalibrate(model, data.train.inputs)
    return model.eval()


class Teacher:
    """A trained network's softened answers to the training pictures, each worked out once.

    A picture has (2 shift_pixels + 1)^2 positions; many students share one teacher, so its answers
    to all of them cost less than asking it anew in every step.

    Args:
        network: taken in evaluation mode; its weights and mode are left as they are.
        data: whose training pictures it answers.
        shift_pixels: as in the recipe of the students.
    """

    def __init__(self, network: nn.Module, data: Data, shift_pixels: int) -> None:
        self.shift_pixels = shift_pixels
        inputs = _tensor(data.train.inputs)
        side = 2 * shift_pixels + 1
        positions = [(row, column) for row in range(side) for column in range(side)]
        tables = []
        for position in positions:
            offsets = torch.tensor(position)[:, None].expand(2, len(inputs))
            moved = shifted(inputs, offsets, shift_pixels)
            tables.append(torch.from_numpy(predict(network, moved.numpy())))
        self._softened = functional.softmax(torch.stack(tables) / TEMPERATURE, dim=2)

    def answers(self, picked: Tensor, offsets: Tensor) -> Tensor:
        """Softened answers (`n x classes`) to `n` pictures at their offsets (`2 x n`)."""
        position = offsets[0] * (2 * self.shift_pixels + 1) + offsets[1]
        return self._softened[position, picked]


def finetune(
    student: nn.Module,
    teacher: Teacher,
    data: Data,
    *,
    epochs: int,
    seed: int,
    recipe: Recipe | None = None,
) -> nn.Module:
    """Train a student on labels and on the teacher's answers, in place; returned in eval mode.

    The teacher answers for the same shifted pictures as the student sees.

    Raises:
        TrainingError: the loss is not a finite number.
        ValueError: the teacher answered for other shifts than the recipe's.
    """
    recipe = recipe or Recipe()
    if teacher.shift_pixels != recipe.shift_pixels:
        raise ValueError(f"the teacher knows shifts up to {teacher.shift_pixels} pixels only")

    def loss(batch: _Batch, logits: Tensor) -> Tensor:
        answers = teacher.answers(batch.picked, batch.offsets)
        softened = functional.log_softmax(logits / TEMPERATURE, dim=1)
        # T^2 keeps the gradient's size independent of T (Hinton et al., section 2.1).
        distil = functional.kl_div(softened, answers, reduction="batchmean") * TEMPERATURE**2
        hard = functional.cross_entropy(
            logits, batch.labels, label_smoothing=recipe.label_smoothing
        )
        return recipe.distil_weight * distil + (1 - recipe.distil_weight) * hard

    with _seeded(seed):
        _fit(student, data, loss, _Schedule(epochs, seed, None, recipe))
    recalibrate(student, data.train.inputs)
    return student.eval()


@dataclass(frozen=True)
class _Schedule:
    epochs: int
    seed: int
    on_progress: Progress | None
    recipe: Recipe


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed what layers such as dropout draw from, and put the global generator back after."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def build(factory: Callable[[], nn.Module], *, seed: int) -> nn.Module:
    """Make a network whose random start weights depend on the seed alone."""
    with _seeded(seed):
        return factory()


def _fit(model: nn.Module, data: Data, loss_of: _Loss, schedule: _Schedule) -> None:
    """Run the steps of one training."""
    recipe, epochs = schedule.recipe, schedule.epochs
    if epochs < 1:
        return
    inputs, labels = _tensor(data.train.inputs), torch.from_numpy(data.train.labels)
    steps = max(len(labels) // recipe.batch, 1)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.peak_lr, weight_decay=recipe.weight_decay, fused=True
    )
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.peak_lr, total_steps=max(steps * epochs, 2), pct_start=recipe.rise
    )
    generator = torch.Generator().manual_seed(schedule.seed)
    model.train()
    for epoch in range(epochs):
        total = 0.0
        order = torch.randperm(len(labels), generator=generator)
        # Equal parts, at least as large as asked: a batch of one picture would break batch norm.
        for step, picked in enumerate(order.tensor_split(steps)):
            offsets = _offsets(len(picked), recipe.shift_pixels, generator)
            logits = model(shifted(inputs[picked], offsets, recipe.shift_pixels))
            loss = loss_of(_Batch(picked, offsets, labels[picked]), logits)
            total += _finite(loss, recipe.name, epoch * steps + step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            cycle.step()
        if schedule.on_progress:
            schedule.on_progress(epoch + 1, epochs, total / steps)


def _finite(loss: Tensor, name: str, step: int) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingError(
            f"training of {name} broke down at step {step}",
            why=f"the loss is {value}",
            fix="lower training.peak_lr in the profile, or look for bad values in the data",
        )
    return value


def _offsets(count: int, most: int, generator: torch.Generator) -> Tensor:
    """Random positions, 2 x count, each from 0 to 2 most; `most` leaves a picture in place."""
    if most == 0:
        return torch.zeros((2, count), dtype=torch.long)
    return torch.randint(0, 2 * most + 1, (2, count), generator=generator)


def shifted(pictures: Tensor, offsets: Tensor, most: int) -> Tensor:
    """Pictures (`n x c x h x w`) each moved to its own position; zeros come in at the edge.

    Args:
        pictures: as they are.
        offsets: row and column position, `2 x n`, from 0 to 2 `most`; `most` is in place.
        most: pixels a picture is moved at most.
    """
    if most == 0:
        return pictures
    n, channels, height, width = pictures.shape
    rows = (offsets[0][:, None] + torch.arange(height))[:, None, :, None]
    columns = (offsets[1][:, None] + torch.arange(width))[:, None, None, :]
    padded = functional.pad(pictures, (most, most, most, most))
    # Indexed on all axes at once: the result is plain NCHW (see `_tensor`).
    picture, channel = torch.arange(n)[:, None, None, None], torch.arange(channels)[:, None, None]
    moved: Tensor = padded[picture, channel, rows, columns]
    return moved


def _tensor(inputs: Inputs) -> Tensor:
    """Pictures as a tensor with the strides of plain NCHW.

    Pictures of one channel fit two memory layouts; with odd strides PyTorch takes them for
    channels-last and runs the whole network so. There oneDNN's weight gradient of a strided 1x1
    convolution with fewer than 8 input channels writes beyond its buffer (torch 2.13, AVX2).
    """
    return torch.empty(inputs.shape).copy_(torch.from_numpy(inputs))


def recalibrate(model: nn.Module, inputs: Inputs, *, batch: int = 200) -> nn.Module:
    """Replace all batch-norm statistics by those of these pictures; weights stay untouched.

    Args:
        model: changed in place; its training mode is kept.
        inputs: float32, NCHW; every picture counts once.
        batch: pictures per pass at most.
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
        with torch.no_grad():
            for part in _tensor(inputs).tensor_split(math.ceil(len(inputs) / batch)):
                model(part)
    finally:
        for norm in norms:
            norm.momentum = momenta[norm]
        for module, mode in modes.items():
            module.training = mode
    return model


def predict(model: nn.Module, inputs: Inputs, *, batch: int = 256) -> NDArray[np.float32]:
    """Logits (`n x classes`) of the network in eval mode; its mode is kept."""
    mode = model.training
    model.eval()
    try:
        with torch.no_grad():
            parts = torch.split(_tensor(inputs), batch)
            logits: NDArray[np.float32] = torch.cat([model(part) for part in parts]).numpy()
    finally:
        model.train(mode)
    return logits


def correct(logits: NDArray[np.floating], labels: Labels) -> NDArray[np.bool_]:
    """Which pictures (`n`) a classifier got right; an answer with a NaN in it is wrong.

    Args:
        logits: `n x classes`, from the host's network or from a board's engine.
        labels: `n`.
    """
    sane = ~np.isnan(logits).any(axis=1)
    right: NDArray[np.bool_] = sane & (logits.argmax(axis=1) == labels)
    return right


def accuracy_percent(right: NDArray[np.bool_]) -> float:
    """Share of pictures answered rightly, in percent."""
    return 100.0 * float(np.mean(right))
