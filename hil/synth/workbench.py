"""The host's half of the work: networks built, trained, scored and exported.

The only file of the synthesis that holds torch. Every result that took time is a step of the
run's store; weights are state dicts, loaded weights-only.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from hil.net.space import Space, build_space
from hil.net.trace import trace
from hil.synth.profile import Profile
from hil.synth.records import Arch
from hil.synth.seeds import derived_seed
from hil.synth.store import RunStore
from hil.synth.traced import TracedSpace
from hil.tasks import classification as task
from hil.tasks.data import Data, Inputs, Labels, load_data

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Trained:
    """A network with weights, and which pictures of the search split it got right."""

    weights_sha256: str
    right: NDArray[np.bool_]

    @property
    def accuracy(self) -> float:
        """Fraction right on the search split."""
        return float(self.right.mean())


@dataclass(frozen=True)
class Workbench:
    """A profile's task and prototype, traced; makes and trains the networks around it.

    Attributes:
        identity: the prototype as trained.
        importance: which channels go last, by task stimuli (None until probed).
    """

    profile: Profile
    store: RunStore
    seed: int
    data: Data
    trace: Trace
    space: Space
    identity: Trained
    importance: Importance | None = None

    @property
    def search_space(self) -> TracedSpace:
        """The space as the search sees it."""
        return TracedSpace(self.trace, self.space)

    @cached_property
    def teacher(self) -> task.Teacher:
        """The prototype's answers, which every student of this run learns from."""
        shift = self.profile.training.shift_pixels
        return task.Teacher(self.trace.prototype, self.data, shift)

    @property
    def example(self) -> torch.Tensor:
        """One picture, batch 1: what networks are traced and exported with."""
        return plain(self.data.train.inputs[:1])

    def network(self, arch: Arch, weights_sha256: str | None = None) -> nn.Module:
        """Build a network with inherited weights, or with those of a finished training."""
        network = materialise(self.trace, self.space, arch, self.importance)
        if weights_sha256 is not None:
            network.load_state_dict(load_weights(self.store.blob(weights_sha256)))
        return network.eval()

    def train(self, arch: Arch, *, epochs: int, stage: str) -> Trained:
        """Fine-tune inherited weights by distillation from the prototype, and score them.

        Args:
            arch: the architecture.
            epochs: passes over the training split.
            stage: names the step in the journal; one training per network and stage.
        """
        key = f"{stage}:{self.space.key(arch)}"

        def compute() -> dict[str, Any]:
            student = self.network(arch)
            recipe = self.profile.training.finetune_recipe(f"network {key[-12:]}")
            seed = derived_seed(self.seed, "train", key)
            task.finetune(student, self.teacher, self.data, epochs=epochs, seed=seed, recipe=recipe)
            return self._scored(student)

        return _trained(self.store.step("train", key, compute))

    def export(self, arch: Arch, weights_sha256: str | None, *, opset: int) -> bytes:
        """Return the network as ONNX, proven in ONNX Runtime to compute the same function."""
        network = self.network(arch, weights_sha256)
        onnx_bytes = export_onnx(network, (self.example,), opset=opset)
        pictures = plain(self.data.search.inputs[:4])
        for picture in pictures:
            check_parity(network, onnx_bytes, (picture[None],))
        return onnx_bytes

    def _scored(self, network: nn.Module) -> dict[str, Any]:
        search = self.data.search
        right = task.correct(task.predict(network, search.inputs), search.labels)
        return {
            "weights": self.store.put_blob(save_weights(network.state_dict())),
            "right": "".join("1" if r else "0" for r in right),
        }

    def heldout(self, reason: str) -> tuple[Inputs, Labels]:
        """Held-out pictures and labels, for finalists only; the opening is recorded."""
        opened = self.data.heldout.open(reason, stage="finalists")
        self.store.step("heldout", "opened", lambda: {"reason": reason, "pictures": len(opened)})
        return opened.inputs, opened.labels


def plain(inputs: Inputs) -> torch.Tensor:
    """Return pictures as a tensor in plain NCHW layout.

    One-channel pictures straight from numpy can carry strides that torch takes for channels-last;
    the backward pass of some convolutions in that layout corrupts the heap in torch 2.13.
    """
    return torch.empty(inputs.shape).copy_(torch.from_numpy(inputs))


def use_one_thread() -> None:
    """Let torch use one thread from here on.

    The board's process and the trainer share the cores, and what a training yields must not
    depend on how many of them were free.
    """
    torch.set_num_threads(1)


def open_workbench(
    profile: Profile, store: RunStore, seed: int, on_progress: Progress | None = None
) -> Workbench:
    """Load the data, train (or find) the prototype, trace it.

    Raises:
        ConfigError: the prototype or the data cannot be used.
        ExportError: the prototype cannot be traced.
    """
    data = load_data(profile.data.factory, profile.data.args)
    make = load_factory(profile.prototype.factory)
    network = task.build(lambda: make(**profile.prototype.args), seed=derived_seed(seed, "weights"))
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"prototype {profile.prototype.factory} made a {type(network).__name__}",
            fix="let the factory return a torch.nn.Module",
        )
    example = plain(data.train.inputs[:1])
    untrained = trace(network, (example,))
    space = build_space(untrained)
    if not space.variables:
        frozen = "; ".join(f"{f.name}: {f.reason}" for f in untrained.frozen[:5])
        raise ConfigError("nothing about the prototype can be chosen", why=frozen or None)
    bench = Workbench(profile, store, seed, data, untrained, space, Trained("", np.zeros(0, bool)))

    def compute() -> dict[str, Any]:
        report = (lambda done, total, _loss: on_progress(done, total)) if on_progress else None
        task.train(
            network,
            data,
            epochs=profile.training.epochs,
            seed=derived_seed(seed, "train", "prototype"),
            on_progress=report,
            recipe=profile.training.recipe("the prototype"),
        )
        return bench._scored(network)

    trained = _trained(store.step("train", "prototype", compute))
    weights = load_weights(store.blob(trained.weights_sha256))
    return Workbench(profile, store, seed, data, untrained.with_weights(weights), space, trained)


def _trained(step: Mapping[str, Any]) -> Trained:
    return Trained(step["weights"], np.array([c == "1" for c in step["right"]], dtype=bool))


def save_weights(state: Mapping[str, torch.Tensor]) -> bytes:
    """Return a state dict as bytes that `load_weights` reads."""
    buffer = io.BytesIO()
    torch.save({name: tensor.detach().cpu() for name, tensor in state.items()}, buffer)
    return buffer.getvalue()


def load_weights(data: bytes) -> dict[str, torch.Tensor]:
    """Read a state dict; nothing but tensors is accepted."""
    return dict(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
