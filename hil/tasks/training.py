"""Training, whatever the task: from nothing, or of inherited weights by distillation.

Rules of this file: same seed, same start weights, same machine and thread count: same weights out;
PyTorch's global generator is left as it was found; the number of threads is the caller's business.

Fine-tuning distils: the student follows the prototype's softened answers beside the labels
(G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2).
Batch-norm statistics are renewed last, because those inherited from a wider network are wrong for a
narrow one (B. Li et al., "EagleEye", ECCV 2020).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hil.core.errors import HilError
from hil.tasks.checkpoints import Checkpoint
from hil.tasks.data import Data
from hil.tasks.inference import evaluating, recalibrate
from hil.tasks.pictures import offsets_of, shifted, tensor
from hil.tasks.place import Place
from hil.tasks.recipe import Recipe
from hil.tasks.task import Task

Progress = Callable[[int, int, float], None]
"""Called after every epoch with (epochs done, epochs in all, mean loss of the epoch)."""

Augment = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""Changes pictures (NCHW) and their targets together, at random by the generator alone."""

_TABLE_BYTES = 2**28


@dataclass(frozen=True)
class _Batch:
    """Pictures of one step as the network sees them: which, how far each was moved, targets."""

    picked: Tensor
    offsets: Tensor
    pictures: Tensor
    targets: Tensor


_Loss = Callable[[_Batch, Any], Tensor]


class TrainingError(HilError):
    """Training came to nothing: the loss is no longer a number."""


@dataclass(frozen=True)
class Sitting:
    """How one training is run, apart from what it learns.

    Attributes:
        epochs: passes over the training pictures.
        seed: of all that is drawn.
        recipe: of the fitting.
        on_progress: told after each epoch.
        augment: changes pictures and targets in place of the recipe's shifts.
        checkpoint: where the state is kept, so that a training that was cut off goes on.
    """

    epochs: int
    seed: int
    recipe: Recipe = field(default_factory=Recipe)
    on_progress: Progress | None = None
    augment: Augment | None = None
    checkpoint: Checkpoint | None = None


def train(model: nn.Module, task: Task, data: Data, sitting: Sitting) -> nn.Module:
    """Train a network on the right answers of `data.train`, in place; returned in eval mode.

    Raises:
        TrainingError: the loss is not a finite number.
    """
    smoothing = sitting.recipe.label_smoothing

    def loss(batch: _Batch, outputs: Any) -> Tensor:
        return task.loss(outputs, batch.targets, smoothing)

    with _seeded(sitting.seed):
        _fit(model, task, data, loss, sitting)
    recalibrate(model, data.train.inputs, device=sitting.recipe.device)
    return model.eval()


class Teacher:
    """A trained network's softened answers to the training pictures.

    A picture has (2 shift_pixels + 1)^2 positions; many students share one teacher, so its answers
    to all of them cost less than asking it anew in every step. They are kept where they fit in
    memory (256 MiB), and asked for anew where they do not or where pictures are augmented.

    Args:
        network: taken in evaluation mode; its weights and mode are left as they are.
        task: whose answers they are.
        data: whose training pictures it answers.
        shift_pixels: as in the recipe of the students.
        table: whether answers may be kept at all.
    """

    def __init__(
        self, network: nn.Module, task: Task, data: Data, shift_pixels: int, *, table: bool = True
    ) -> None:
        self.shift_pixels = shift_pixels
        self._task = task
        self._table: tuple[Tensor, ...] | None = None
        inputs = tensor(data.train.inputs)
        side = 2 * shift_pixels + 1
        one = self._asked(network, inputs[:1])
        size = sum(t.numel() * t.element_size() for t in one) * side * side * len(inputs)
        if not table or size > _TABLE_BYTES:
            # A copy, which may go where the students are.
            self._network = copy.deepcopy(network)
            return
        tables = []
        for position in range(side * side):
            place = torch.tensor(divmod(position, side))
            moved = shifted(inputs, place[:, None].expand(2, len(inputs)), shift_pixels)
            tables.append(self._asked(network, moved))
        self._table = tuple(torch.stack(kind) for kind in zip(*tables, strict=True))

    def _asked(self, network: nn.Module, pictures: Tensor) -> tuple[Tensor, ...]:
        with evaluating(network), torch.no_grad():
            parts = [self._task.soften(network(p)) for p in torch.split(pictures, 256)]
        return tuple(torch.cat(kind) for kind in zip(*parts, strict=True))

    def answers(
        self, picked: Tensor, offsets: Tensor, pictures: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Softened answers to `n` pictures at their offsets (`2 x n`).

        Args:
            picked: which training pictures.
            offsets: where each was moved.
            pictures: as they were moved; needed where no answers are kept.
        """
        if self._table is not None:
            position = (offsets[0] * (2 * self.shift_pixels + 1) + offsets[1]).cpu()
            return tuple(kind[position, picked.cpu()] for kind in self._table)
        assert pictures is not None
        return self._asked(self._network.to(pictures.device), pictures)


def finetune(
    student: nn.Module, task: Task, teacher: Teacher, data: Data, sitting: Sitting
) -> nn.Module:
    """Train a student on labels and on the teacher's answers, in place; returned in eval mode.

    The teacher answers for the same changed pictures as the student sees.

    Raises:
        TrainingError: the loss is not a finite number.
        ValueError: the teacher answered for other shifts than the recipe's.
    """
    recipe = sitting.recipe
    if teacher.shift_pixels != recipe.shift_pixels:
        raise ValueError(f"the teacher knows shifts up to {teacher.shift_pixels} pixels only")

    def loss(batch: _Batch, outputs: Any) -> Tensor:
        answers = teacher.answers(batch.picked, batch.offsets, batch.pictures)
        here = [a.to(batch.pictures.device) for a in answers]
        distil = task.distillation(outputs, here)
        hard = task.loss(outputs, batch.targets, recipe.label_smoothing)
        return recipe.distil_weight * distil + (1 - recipe.distil_weight) * hard

    with _seeded(sitting.seed):
        _fit(student, task, data, loss, sitting)
    recalibrate(student, data.train.inputs, device=recipe.device)
    return student.eval()


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


def _cycle_steps(steps: int, recipe: Recipe) -> int:
    """Steps of the schedule: enough that its rise takes more than one, or it divides by zero."""
    return max(steps, math.floor(1 / recipe.rise) + 1)


@dataclass
class _Run:
    """Everything of one training that moves, and so must be kept for it to go on.

    Attributes:
        averaged: the moving average of the weights; None where there is none.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    cycle: torch.optim.lr_scheduler.OneCycleLR
    generator: torch.Generator
    averaged: AveragedModel | None
    epoch: int = 0

    @classmethod
    def start(cls, model: nn.Module, steps: int, sitting: Sitting) -> _Run:
        recipe = sitting.recipe
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=recipe.peak_lr, weight_decay=recipe.weight_decay, fused=True
        )
        # Rises, then falls by a cosine.
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            recipe.peak_lr,
            total_steps=_cycle_steps(steps, recipe),
            pct_start=recipe.rise,
        )
        averaging = get_ema_multi_avg_fn(recipe.ema_decay)  # type: ignore[no-untyped-call]
        averaged = AveragedModel(model, multi_avg_fn=averaging) if recipe.ema_decay else None
        generator = torch.Generator().manual_seed(sitting.seed)
        return cls(model, optimizer, cycle, generator, averaged)

    def state(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "cycle": self.cycle.state_dict(),
            "generator": self.generator.get_state(),
            "torch": torch.get_rng_state(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.epoch = int(state["epoch"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.cycle.load_state_dict(state["cycle"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])

    def step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.cycle.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)

    def finish(self) -> None:
        if self.averaged is not None:
            own = dict(self.model.named_parameters())
            with torch.no_grad():
                for name, value in self.averaged.module.named_parameters():
                    own[name].copy_(value)


def _fit(model: nn.Module, task: Task, data: Data, loss_of: _Loss, sitting: Sitting) -> None:
    """Run the steps of one training."""
    recipe, epochs, kept = sitting.recipe, sitting.epochs, sitting.checkpoint
    if epochs < 1:
        return
    place = Place.named(recipe.device)
    inputs = place.held(tensor(data.train.inputs))
    targets = place.held(task.targets(data.train))
    steps = max(len(targets) // recipe.batch, 1)
    place.take(model)
    run = _Run.start(model, steps * epochs, sitting)
    if kept is not None and (state := kept.load()) is not None:
        run.restore(state)
    model.train()
    while run.epoch < epochs:
        total = 0.0
        order = torch.randperm(len(targets), generator=run.generator)
        # Equal parts, at least as large as asked: a batch of one picture would break batch norm.
        for step, picked in enumerate(order.tensor_split(steps)):
            batch = _batch(task, inputs[picked], targets[picked], picked, run.generator, sitting)
            batch = place.moved(batch)
            with place.precision():
                outputs = model(batch.pictures)
            loss = loss_of(batch, place.exact(outputs))
            total += _finite(loss, recipe.name, run.epoch * steps + step)
            run.step(loss)
        run.epoch += 1
        if sitting.on_progress:
            sitting.on_progress(run.epoch, epochs, total / steps)
        if kept is not None:
            kept.save(run.state, last=run.epoch == epochs)
    run.finish()
    place.release(model)


def _batch(
    task: Task,
    pictures: Tensor,
    targets: Tensor,
    picked: Tensor,
    generator: torch.Generator,
    sitting: Sitting,
) -> _Batch:
    """Pictures changed at random, and their targets alike."""
    if sitting.augment is not None:
        changed, right = sitting.augment(pictures, targets, generator)
        return _Batch(picked, torch.zeros((2, len(picked)), dtype=torch.long), changed, right)
    most = sitting.recipe.shift_pixels
    offsets = offsets_of(len(picked), most, generator)
    moved = shifted(pictures, offsets, most)
    return _Batch(picked, offsets, moved, task.moved(targets, offsets, most))


def _finite(loss: Tensor, name: str, step: int) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingError(
            f"training of {name} broke down at step {step}",
            why=f"the loss is {value}",
            fix="lower training.peak_lr in the profile, or look for bad values in the data",
        )
    return value
