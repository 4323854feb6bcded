"""The host's half of the work: networks built, trained, scored and exported.

The only file of the synthesis that holds torch. Every result that took time is a step of the
run's store; weights are state dicts, loaded weights-only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hil.core.errors import ConfigError
from hil.net.export import check_parity, export_onnx
from hil.net.factory import load_factory
from hil.net.graph import Trace
from hil.net.materialise import Importance, materialise
from hil.net.resolution import example_of, fit, fitted
from hil.net.space import Space
from hil.net.trace import trace
from hil.synth.boardwork import Model
from hil.synth.choosing import space_of
from hil.synth.paired import Paired
from hil.synth.profile import Profile
from hil.synth.progress import Watcher
from hil.synth.records import Arch, FloatArray
from hil.synth.samedata import require_same
from hil.synth.seeds import derived_seed
from hil.synth.stimuli import probe
from hil.synth.store import RunStore
from hil.synth.tensors import load_weights, plain, save_weights
from hil.synth.traced import TracedSpace, changes
from hil.synth.work import Board, Contender, Stage, Trained
from hil.tasks import classification as task
from hil.tasks.data import Data, Inputs, Labels
from hil.tasks.readers.opening import open_data
from hil.tasks.readers.section import Factory


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
    def teacher(self) -> task.Teacher:
        """The prototype's answers, which every student of this run learns from."""
        shift = self.profile.training.shift_pixels
        return task.Teacher(self.trace.prototype, self.data, shift)

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
        """Promise before any training: minus the cross-entropy on the search split.

        Weights are inherited, batch-norm statistics renewed on the training pictures (EagleEye).
        Of networks this far from trained most are wrong on most pictures, so that the loss tells
        them apart better than the accuracy: rank correlation with the accuracy after training 0.50
        against 0.33 over the 16 trained networks of one digits run.
        """

        def compute() -> dict[str, Any]:
            student = self.shown(arch, self.network(arch))
            task.recalibrate(student, self.data.train.inputs)
            search = self.data.search
            logits = torch.from_numpy(task.predict(student, search.inputs))
            loss = nn.functional.cross_entropy(logits, torch.from_numpy(search.labels))
            return {"score": -float(loss)}

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
            seed = derived_seed(self.seed, "train", key)
            shown = self.shown(arch, student)
            task.finetune(shown, self.teacher, self.data, epochs=epochs, seed=seed, recipe=recipe)
            return self._scored(student, shown)

        return _trained(self.store.step("train", key, compute))

    def export(self, arch: Arch, weights_sha256: str | None) -> Model:
        """Return the network as ONNX, proven in ONNX Runtime to compute the same function."""
        network = self.network(arch, weights_sha256)
        example = example_of(self.trace, self.space, arch)
        onnx_bytes = export_onnx(network, example, opset=self.opset)
        for picture in plain(self.fit(arch, self.data.search.inputs[:4])):
            check_parity(network, onnx_bytes, (picture[None],))
        return Model(onnx_bytes, self.space.precision(arch))

    def _right(self, network: nn.Module) -> NDArray[np.bool_]:
        search = self.data.search
        return task.correct(task.predict(network, search.inputs), search.labels)

    def _scored(self, network: nn.Module, shown: nn.Module) -> dict[str, Any]:
        right = self._right(shown)
        return {
            "weights": self.store.put_blob(save_weights(network.state_dict())),
            "right": _ones(right),
        }

    def compare(self, trained: Trained) -> Paired:
        """A network against the prototype, picture by picture of the search split."""
        assert self.identity.right is not None
        assert trained.right is not None
        return Paired.count(self.identity.right, trained.right)

    def examine(
        self,
        contenders: Sequence[Contender],
        board: Board,
        reason: str,
        done: Callable[[str], None],
    ) -> dict[str, Paired]:
        """Compare engines' own answers on the held-out pictures; opens them, once a run."""
        inputs, labels = self.heldout(reason)

        def right(contender: Contender) -> NDArray[np.bool_]:
            def compute() -> Mapping[str, str]:
                answers = board.answers(contender.model, self.fit(contender.arch, inputs))
                return {"right": _ones(task.correct(answers, labels))}

            step = self.store.step("answers", contender.key, compute)
            done(contender.name)
            return _read(step["right"])

        answered = {c.name: right(c) for c in contenders}
        own = answered[contenders[0].name]
        return {name: Paired.count(own, right) for name, right in answered.items()}

    def heldout(self, reason: str) -> tuple[Inputs, Labels]:
        """Held-out pictures and labels, for finalists only; the opening is recorded."""
        opened = self.data.heldout.open(reason, stage="finalists")
        self.store.step("heldout", "opened", lambda: {"reason": reason, "pictures": len(opened)})
        return opened.inputs, opened.labels


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
    network = _prototype(profile.prototype, derived_seed(seed, "weights"))
    untrained = trace(network, (plain(data.train.inputs[:1]),))
    space = space_of(profile, untrained)
    if not space.variables:
        frozen = "; ".join(f"{f.name}: {f.reason}" for f in untrained.frozen[:5])
        raise ConfigError("nothing about the prototype can be chosen", why=frozen or None)
    nothing = Trained.answered("", np.zeros(0, bool))
    bench = Workbench(profile, store, seed, opset, data, untrained, space, nothing)

    def compute() -> dict[str, Any]:
        task.train(
            network,
            data,
            epochs=profile.training.epochs,
            seed=derived_seed(seed, "train", "prototype"),
            on_progress=lambda *_: watch.advance(),
            recipe=profile.training.recipe("the prototype"),
        )
        return bench._scored(network, network)

    trained = _trained(store.step("train", "prototype", compute))
    weights = load_weights(store.blob(trained.weights_sha256))
    bench = replace(bench, trace=untrained.with_weights(weights), identity=trained)
    watch.stage("probing the prototype with task stimuli", 1)
    reactions = probe(bench.trace, space, data.train, store)
    watch.advance()
    return replace(bench, importance=reactions.importance, harm=reactions.harm)


def _prototype(factory: Factory, seed: int) -> nn.Module:
    make = load_factory(factory.factory)
    network = task.build(lambda: make(**factory.args), seed=seed)
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"prototype {factory.factory} made a {type(network).__name__}",
            fix="let the factory return a torch.nn.Module",
        )
    return network


def _trained(step: Mapping[str, Any]) -> Trained:
    return Trained.answered(step["weights"], _read(step["right"]))


def _ones(right: NDArray[np.bool_]) -> str:
    return "".join("1" if r else "0" for r in right)


def _read(ones: str) -> NDArray[np.bool_]:
    return np.array([c == "1" for c in ones], dtype=np.bool_)
