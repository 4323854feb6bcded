"""The host's half of the work: networks built, trained, scored and exported.

The only file of the synthesis that holds torch. Every result that took time is a step of the
run's store; weights are state dicts, loaded weights-only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hil.core.errors import ConfigError
from hil.net.export import check_parity, export_onnx
from hil.net.factory import load_factory
from hil.net.graph import Trace
from hil.net.materialise import Importance, materialise
from hil.net.quantise import Calibration, answers, evenly, quantise
from hil.net.resolution import example_of, fit, fitted
from hil.net.space import Space
from hil.net.trace import trace
from hil.synth.boardwork import Model
from hil.synth.choosing import space_of
from hil.synth.profile import Profile
from hil.synth.progress import Watcher
from hil.synth.records import Arch, FloatArray
from hil.synth.resampled import Comparison, compare
from hil.synth.samedata import require_same
from hil.synth.seeds import derived_seed
from hil.synth.stimuli import probe
from hil.synth.store import RunStore
from hil.synth.tensors import given_weights, load_weights, plain, save_weights
from hil.synth.traced import TracedSpace, changes
from hil.synth.work import Board, Contender, Stage, Trained
from hil.tasks.augmenting import augment_for
from hil.tasks.checkpoints import Checkpoint
from hil.tasks.data import Data, Inputs, Split
from hil.tasks.inference import marks_of, mean_loss, recalibrate
from hil.tasks.marks import Marks, Right
from hil.tasks.named import task_for
from hil.tasks.readers.opening import open_data
from hil.tasks.readers.section import Factory
from hil.tasks.task import Task
from hil.tasks.training import Augment, Sitting, Teacher, build, finetune, train


@dataclass(frozen=True)
class Workbench:
    """A profile's task and prototype, traced; makes and trains the networks around it.

    Attributes:
        opset: the ONNX operator set the board takes.
        identity: the prototype as trained.
        importance: which channels go last, by task stimuli (None until probed).
        harm: of every choice, by task stimuli (None until probed).
    """

    profile: Profile
    store: RunStore
    seed: int
    opset: int
    data: Data
    task: Task
    trace: Trace
    space: Space
    identity: Trained
    importance: Importance | None = None
    harm: tuple[FloatArray, ...] | None = None

    @cached_property
    def search_space(self) -> TracedSpace:
        """The space as the search sees it."""
        return TracedSpace(self.trace, self.space)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about the data, and what could not be chosen as asked."""
        return (*self.data.notes, *(f"{r.name}: {r.reason}" for r in self.space.remarks))

    def stimuli(self) -> tuple[FloatArray, ...] | None:
        """Harm of every choice, as the prototype answered to task stimuli."""
        return self.harm

    def changes(self, arch: Arch) -> tuple[str, ...]:
        """What an architecture changes in the prototype, in words."""
        return changes(self.trace, self.space, arch)

    @cached_property
    def teacher(self) -> Teacher:
        """The prototype's answers, which every student of this run learns from."""
        shift = self.profile.training.shift_pixels
        table = self.augment is None
        return Teacher(self.trace.prototype, self.task, self.data, shift, table=table)

    @property
    def augment(self) -> Augment | None:
        """What training pictures undergo in place of the recipe's shifts, if anything."""
        training = self.profile.training
        return augment_for(self.task, training.shift_pixels) if training.augment else None

    def network(self, arch: Arch, weights_sha256: str | None = None) -> nn.Module:
        """Build a network with inherited weights, or with those of a finished training."""
        network = materialise(self.trace, self.space, arch, self.importance)
        if weights_sha256 is not None:
            network.load_state_dict(load_weights(self.store.blob(weights_sha256)))
        return network.eval()

    def shown(self, arch: Arch, network: nn.Module) -> nn.Module:
        """A network as it takes pictures of the prototype's size: at its own resolution."""
        return fitted(network, self.space.resolution(arch))

    def fit(self, arch: Arch, inputs: Inputs) -> Inputs:
        """Pictures at the resolution that an architecture takes."""
        resolution = self.space.resolution(arch)
        if resolution is None:
            return inputs
        fitting: Inputs = fit(plain(inputs), resolution.shapes[0][2:]).numpy()
        return fitting

    def glance(self, arch: Arch) -> float:
        """Promise before any training: minus the loss on the search split.

        Weights are inherited, batch-norm statistics renewed on the training pictures (EagleEye).
        Of networks this far from trained most are wrong on most pictures, so that the loss tells
        them apart better than the accuracy: rank correlation with the accuracy after training 0.50
        against 0.33 over the 16 trained networks of one digits run.
        """

        def compute() -> dict[str, Any]:
            student = self.shown(arch, self.network(arch))
            device = self.profile.training.device
            recalibrate(student, self.data.train.inputs, device=device)
            loss = mean_loss(self.task, student, self.data.search, device=device)
            return {"score": -loss}

        return float(self.store.step("glance", self.space.key(arch), compute)["score"])

    def train(self, arch: Arch, stage: Stage) -> Trained:
        """Fine-tune inherited weights by distillation from the prototype, and score them.

        Args:
            arch: the architecture.
            stage: says for how long; one training per network and stage.
        """
        key = f"{stage}:{self.space.key(arch)}"
        training = self.profile.training
        epochs = training.finetune_epochs if stage == "search" else training.final_epochs

        def compute() -> dict[str, Any]:
            student = self.network(arch)
            recipe = training.finetune_recipe(f"network {key[-12:]}")
            shown = self.shown(arch, student)
            sitting = Sitting(
                epochs,
                derived_seed(self.seed, "train", key),
                recipe,
                augment=self.augment,
                checkpoint=self._checkpoint(key),
            )
            finetune(shown, self.task, self.teacher, self.data, sitting)
            return self._scored(arch, student)

        return self._trained(self.store.step("train", key, compute))

    def _checkpoint(self, key: str) -> Checkpoint:
        """Where a training that is cut off goes on."""
        name = hashlib.sha256(key.encode()).hexdigest()[:32]
        return Checkpoint(self.store.path / "training" / f"{name}.pt")

    def export(self, arch: Arch, weights_sha256: str | None) -> Model:
        """Return the network as ONNX, proven in ONNX Runtime to compute the same function.

        For INT8 that is proven of the file before its scales are put in.
        """
        network = self.network(arch, weights_sha256)
        onnx_bytes = self._exported(arch, network)
        for picture in plain(self.fit(arch, self.data.search.inputs[:4])):
            check_parity(network, onnx_bytes, (picture[None],))
        if self._in_int8(arch):
            onnx_bytes = self._quantised(arch, onnx_bytes)
        return Model(onnx_bytes, self.space.precision(arch))

    def _exported(self, arch: Arch, network: nn.Module) -> bytes:
        return export_onnx(network, example_of(self.trace, self.space, arch), opset=self.opset)

    def _in_int8(self, arch: Arch) -> bool:
        return (self.space.precision(arch) or self.profile.precision) == "int8"

    def _quantised(self, arch: Arch, onnx_bytes: bytes) -> bytes:
        told = self.profile.int8
        pictures = self.fit(arch, evenly(self.data.train.inputs, told.pictures))
        return quantise(onnx_bytes, Calibration({"input": pictures}, told.method))

    def _marks(self, arch: Arch, network: nn.Module) -> Marks:
        """How it does on the search split; in INT8 as the quantised file has it."""
        task, search = self.task, self.data.search
        if not self._in_int8(arch):
            shown = self.shown(arch, network)
            return marks_of(task, shown, search, device=self.profile.training.device)
        quantised = self._quantised(arch, self._exported(arch, network))
        portions = list(search.portions(task.portion))
        given = [answers(quantised, self.fit(arch, part.inputs)) for part in portions]
        return task.join([task.mark(a, part) for a, part in zip(given, portions, strict=True)])

    def _scored(self, arch: Arch, network: nn.Module) -> dict[str, Any]:
        weights = self.store.put_blob(save_weights(network.state_dict()))
        return {"weights": weights, **self._kept(self._marks(arch, network))}

    def _kept(self, marks: Marks) -> dict[str, str]:
        """Marks as a step of the journal holds them."""
        if isinstance(marks, Right):
            return {"right": "".join("1" if r else "0" for r in marks.right)}
        return {"marks": self.store.put_blob(marks.to_bytes())}

    def _read(self, step: Mapping[str, Any]) -> Marks:
        if "right" in step:
            return Right(np.array([c == "1" for c in step["right"]], dtype=np.bool_))
        return self.task.read(self.store.blob(step["marks"]))

    def _trained(self, step: Mapping[str, Any]) -> Trained:
        return Trained.answered(step["weights"], self._read(step))

    def compare(self, trained: Trained) -> Comparison:
        """A network against the prototype, picture by picture of the search split."""
        assert self.identity.marks is not None
        assert trained.marks is not None
        return compare(self.identity.marks, trained.marks)

    def examine(
        self,
        contenders: Sequence[Contender],
        board: Board,
        reason: str,
        done: Callable[[str], None],
    ) -> dict[str, Comparison]:
        """Compare engines' own answers on the held-out pictures; opens them, once a run."""
        opened = self.heldout(reason)

        def marks(contender: Contender) -> Marks:
            def compute() -> Mapping[str, str]:
                parts = []
                for part in opened.portions(self.task.portion):
                    answers = board.answers(contender.model, self.fit(contender.arch, part.inputs))
                    parts.append(self.task.mark(answers, part))
                return self._kept(self.task.join(parts))

            step = self.store.step("answers", contender.key, compute)
            done(contender.name)
            return self._read(step)

        answered = {c.name: marks(c) for c in contenders}
        own = answered[contenders[0].name]
        return {name: compare(own, other) for name, other in answered.items()}

    def heldout(self, reason: str) -> Split:
        """Held-out pictures, for finalists only; the opening is recorded."""
        opened = self.data.heldout.open(reason, stage="finalists")
        self.store.step("heldout", "opened", lambda: {"reason": reason, "pictures": len(opened)})
        return opened


def use_one_thread() -> None:
    """Let torch use one thread from here on.

    The board's process and the trainer share the cores, and what a training yields must not
    depend on how many of them were free.
    """
    torch.set_num_threads(1)


def open_workbench(
    profile: Profile,
    store: RunStore,
    seed: int,
    opset: int,
    watch: Watcher,
    check: Callable[[int], None] = lambda _pictures: None,
) -> Workbench:
    """Load the data, train (or find) the prototype, trace it, probe it.

    Args:
        profile: of a task with pictures.
        store: the run's journal.
        seed: of everything that is drawn.
        opset: the ONNX operator set the board takes.
        watch: told how far it is.
        check: told the number of held-out pictures before anything is trained.

    Raises:
        ConfigError: the prototype or the data cannot be used.
        ExportError: the prototype cannot be traced.
    """
    assert profile.data is not None
    assert profile.prototype is not None
    watch.stage("training the prototype", profile.training.epochs)
    data = open_data(profile.data)
    require_same(data, store)
    check(len(data.heldout))
    task = task_for(profile.task, data)
    network = _prototype(profile.prototype, derived_seed(seed, "weights"))
    untrained = trace(network, (plain(data.train.inputs[:1]),))
    space = space_of(profile, untrained)
    if not space.variables:
        frozen = "; ".join(f"{f.name}: {f.reason}" for f in untrained.frozen[:5])
        raise ConfigError("nothing about the prototype can be chosen", why=frozen or None)
    nothing = Trained("", 0.0, 0)
    bench = Workbench(profile, store, seed, opset, data, task, untrained, space, nothing)

    def compute() -> dict[str, Any]:
        if profile.prototype is not None and profile.prototype.weights is not None:
            given_weights(network, Path(profile.prototype.weights))
            return bench._scored(space.identity, network)
        sitting = Sitting(
            profile.training.epochs,
            derived_seed(seed, "train", "prototype"),
            profile.training.recipe("the prototype"),
            on_progress=lambda *_: watch.advance(),
            augment=bench.augment,
            checkpoint=bench._checkpoint("prototype"),
        )
        train(network, task, data, sitting)
        return bench._scored(space.identity, network)

    trained = bench._trained(store.step("train", "prototype", compute))
    weights = load_weights(store.blob(trained.weights_sha256))
    bench = replace(bench, trace=untrained.with_weights(weights), identity=trained)
    watch.stage("probing the prototype with task stimuli", 1)
    reactions = probe(bench.trace, space, task, data.train, store)
    watch.advance()
    return replace(bench, importance=reactions.importance, harm=reactions.harm)


def _prototype(factory: Factory, seed: int) -> nn.Module:
    make = load_factory(factory.factory)
    network = build(lambda: make(**factory.args), seed=seed)
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"prototype {factory.factory} made a {type(network).__name__}",
            fix="let the factory return a torch.nn.Module",
        )
    return network
