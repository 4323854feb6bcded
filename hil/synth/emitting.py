"""Emission from a finished run: its saved generator and its prototype, nothing of its journal.

The generator's parameters alone decide what a seed becomes; the prototype is needed to say what
the choices mean, and its weights to make the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hil.core.errors import ConfigError
from hil.net.export import export_onnx
from hil.net.factory import load_factory
from hil.net.materialise import materialise
from hil.net.resolution import example_of
from hil.net.trace import trace
from hil.synth.choosing import space_of
from hil.synth.generator import Generator
from hil.synth.profile import load_run_profile
from hil.synth.records import ACCURACY
from hil.synth.store import RunStore
from hil.synth.tensors import load_weights, plain
from hil.synth.traced import TracedSpace, changes
from hil.tasks.readers.opening import open_data


@dataclass(frozen=True)
class Emitter:
    """A saved generator on its prototype's space."""

    generator: Generator
    traced: TracedSpace

    @classmethod
    def open(cls, run: Path) -> Self:
        """Read a finished run's generator.

        Raises:
            ConfigError: no such run, or it has not learned a generator yet.
        """
        path = run / "generator.json"
        if not path.is_file():
            raise ConfigError(
                f"the run at {run} has no learned generator",
                fix=f"finish it with: hil synthesize --resume {run}",
            )
        with RunStore.open(run, write=False) as store:
            profile = load_run_profile(run, store.meta)
        if profile.data is None or profile.prototype is None:
            raise ConfigError(
                f"the networks of the run at {run} are rows of a table",
                why=f"its task is {profile.task}: nothing is made of a seed but choices",
                fix="read generator.json in it, or look at result.json",
            )
        data = open_data(profile.data)
        network = load_factory(profile.prototype.factory)(**profile.prototype.args)
        with RunStore.open(run, write=False) as store:
            trained = store.find("train", "prototype")
            weights = load_weights(store.blob(trained["weights"])) if trained else {}
        traced = trace(network, (plain(data.train.inputs[:1]),)).with_weights(weights)
        space = TracedSpace(traced, space_of(profile, traced))
        text = path.read_text(encoding="utf-8")
        return cls(Generator.from_json(text, space), space)

    def emit(self, seed: int) -> dict[str, Any]:
        """Return what a seed becomes, with the screen's predictions.

        Raises:
            NothingFeasibleError: the generator knows no network that fits for this seed.
        """
        emission = self.generator.emit(seed)
        screen = self.generator.screen
        batch = screen.encoder.encode([emission.arch])
        known = [limit.metric for limit in screen.limits if limit.metric in screen.posteriors]
        macs, params = self.traced.cost(emission.arch)
        return {
            "seed": seed,
            "key": self.traced.key(emission.arch),
            "architecture": list(emission.arch),
            "changes": list(changes(self.traced.trace, self.traced.space, emission.arch)),
            "macs": int(macs),
            "parameters": int(params),
            "repairs": emission.edits,
            "predicted": {
                m: float(screen.mean(m, batch)[0]) * (100 if m == ACCURACY else 1) for m in known
            },
        }

    def onnx(self, arch: list[int]) -> bytes:
        """Return the network with inherited weights, not yet fine-tuned, as ONNX."""
        network = materialise(self.traced.trace, self.traced.space, arch)
        return export_onnx(network, example_of(self.traced.trace, self.traced.space, arch))
