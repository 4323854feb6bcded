"""What a gate is compared with from a file, and under which conditions that may be done.

Rule of this file: pure; unlike is refused, naming what differs.

Format history: hil/gate-baseline@1 (first).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath
from statistics import geometric_mean
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hil.core.errors import ConfigError
from hil.measure.calibration import Setup
from hil.measure.gate import Turn, Values

SCHEMA = "hil/gate-baseline@1"
ENERGY_UNIT = "mJ per inference, idle included"
WORDS: Mapping[str, str] = {
    "device": "device",
    "model": "board",
    "l4t": "L4T release",
    "provenance": "provenance",
    "nvpmodel": "power mode (nvpmodel)",
    "clocks": "pinned clocks",
    "source": "power source",
    "rail": "rail",
    "interval_ms": "sampling interval (ms)",
    "runtime": "runtime release",
    "precision": "precision",
    "cuda_graph": "CUDA graph",
    "inputs": "inputs (batch and shape)",
    "energy_unit": "unit of the energy",
}


@dataclass(frozen=True)
class Conditions:
    """Under what a network was measured; two figures are compared where all of it is equal.

    Attributes:
        setup: the board, its state and its power source.
        runtime: with its release: "tensorrt 8.2.1.8".
        inputs: shape of each, batch first.
    """

    setup: Setup
    runtime: str
    precision: str
    cuda_graph: bool
    inputs: Mapping[str, tuple[int, ...]]
    energy_unit: str = ENERGY_UNIT

    def flat(self) -> dict[str, Any]:
        """Return every field by its name in `WORDS`."""
        own = {name: getattr(self, name) for name in WORDS if hasattr(self, name)}
        return {
            **asdict(self.setup),
            **own,
            "inputs": {name: list(shape) for name, shape in sorted(self.inputs.items())},
        }

    def differences(self, other: Conditions) -> tuple[str, ...]:
        """Say in words where the other's conditions differ; empty where they are the same."""
        mine, theirs = self.flat(), other.flat()
        return tuple(
            f"{words}: {_shown(mine[name])} there, {_shown(theirs[name])} here"
            for name, words in WORDS.items()
            if mine[name] != theirs[name]
        )

    @classmethod
    def from_flat(cls, data: Mapping[str, Any]) -> Self:
        """Read what `flat` wrote.

        Raises:
            KeyError: a field is missing.
        """
        setup = Setup(**{name: data[name] for name in Setup.__dataclass_fields__})
        inputs = {str(name): tuple(map(int, shape)) for name, shape in data["inputs"].items()}
        rest = {name: data[name] for name in ("runtime", "precision", "cuda_graph", "energy_unit")}
        return cls(setup=setup, inputs=inputs, **rest)


@dataclass(frozen=True)
class Answers:
    """Which labelled pictures a network got right.

    Attributes:
        labelled_sha256: of the file of pictures and labels, so that the same are compared.
    """

    labelled_sha256: str
    right: NDArray[np.bool_]

    def to_json(self) -> dict[str, Any]:
        """Return plain data: a bit a picture, as hexadecimal text."""
        packed = np.packbits(self.right).tobytes().hex()
        return {
            "labelled_sha256": self.labelled_sha256,
            "pictures": int(self.right.size),
            "right": packed,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: fewer bits than pictures.
        """
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(data["right"]), dtype=np.uint8))
        if bits.size < int(data["pictures"]):
            raise ValueError("fewer answers than pictures")
        return cls(str(data["labelled_sha256"]), bits[: int(data["pictures"])].astype(np.bool_))


@dataclass(frozen=True)
class Recorded:
    """One network as a baseline file holds it.

    Attributes:
        values: for each metric one figure a unit of replication: builds where there were several,
            else rounds.
        answers: over labelled pictures; None where there were none.
    """

    onnx_sha256: str
    engines_sha256: tuple[str, ...]
    conditions: Conditions
    values: Values
    answers: Answers | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `from_json` gives back an equal record."""
        return {
            "onnx_sha256": self.onnx_sha256,
            "engines_sha256": list(self.engines_sha256),
            "conditions": self.conditions.flat(),
            "values": {name: list(values) for name, values in self.values.items()},
            "answers": None if self.answers is None else self.answers.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            KeyError: a field is missing.
            ValueError: a figure is no positive number.
        """
        values = {str(name): tuple(map(float, told)) for name, told in data["values"].items()}
        if any(not value > 0 for told in values.values() for value in told):
            raise ValueError("a figure is not above zero")
        answers = data["answers"]
        return cls(
            onnx_sha256=str(data["onnx_sha256"]),
            engines_sha256=tuple(map(str, data["engines_sha256"])),
            conditions=Conditions.from_flat(data["conditions"]),
            values=values,
            answers=None if answers is None else Answers.from_json(answers),
        )


@dataclass(frozen=True)
class BaselineFile:
    """Networks as they were measured before, by name."""

    created: str
    models: Mapping[str, Recorded]

    def of(self, model: str) -> Recorded:
        """Return the record of a network: by its path, else by its file name.

        Raises:
            ConfigError: there is none, or there are two of that file name.
        """
        if model in self.models:
            return self.models[model]
        name = PurePath(model).name
        found = [one for path, one in self.models.items() if PurePath(path).name == name]
        if len(found) == 1:
            return found[0]
        raise ConfigError(
            f"the baseline has {'no' if not found else len(found)} networks named {name}",
            why=f"it holds {', '.join(self.models)}",
            fix="write it anew with --write-baseline, or gate by the same paths",
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `from_json` gives back an equal record."""
        kinds = sorted({one.conditions.setup.provenance for one in self.models.values()})
        return {
            "schema": SCHEMA,
            "provenance": ", ".join(kinds),
            "created": self.created,
            "models": {name: one.to_json() for name, one in self.models.items()},
        }

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: another schema, or a field is missing or of another kind.
        """
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ValueError(f"not a baseline file of schema {SCHEMA}")
        try:
            models = {str(k): Recorded.from_json(v) for k, v in data["models"].items()}
            return cls(str(data["created"]), models)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the baseline cannot be read: {error!r}") from error


def values_of(turns: Sequence[Turn]) -> dict[str, tuple[float, ...]]:
    """Return the candidate's figures as a baseline file keeps them."""
    builds = sorted({turn.build for turn in turns})
    names = set.intersection(*(set(turn.candidate) for turn in turns)) if turns else set()
    if len(builds) < 2:
        return {name: tuple(turn.candidate[name] for turn in turns) for name in sorted(names)}
    return {
        name: tuple(
            geometric_mean([t.candidate[name] for t in turns if t.build == build])
            for build in builds
        )
        for name in sorted(names)
    }


def refuse_unlike(model: str, before: Conditions, now: Conditions) -> None:
    """Refuse to compare figures that were measured under other conditions.

    Raises:
        ConfigError: naming each of them.
    """
    differences = before.differences(now)
    if differences:
        raise ConfigError(
            f"{model} and its baseline were not measured alike, and are not compared",
            why="; ".join(differences),
            fix="measure the baseline as this one (--baseline-model), or write its file anew",
        )


def _shown(value: object) -> object:
    if isinstance(value, dict):
        shapes = (f"{name} {'x'.join(map(str, shape))}" for name, shape in value.items())
        return ", ".join(shapes)
    return value
