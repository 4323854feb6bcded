"""What a gate is asked, put together from options and files, and refused where it contradicts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hil.cli.gate_entry import Entry
from hil.cli.network import read_networks
from hil.core.errors import ConfigError

if TYPE_CHECKING:
    from hil.device.config import DeviceConfig
    from hil.measure.gate_baseline import BaselineFile
    from hil.measure.gate_demands import Asked


@dataclass(frozen=True)
class Question:
    """Options of the verb that say what is asked, and of what."""

    models: tuple[Path, ...]
    baseline: Path | None
    baseline_models: tuple[Path, ...]
    budget_file: Path | None
    budgets: tuple[str, ...]
    margins: tuple[str, ...]
    at_least: float | None
    lose_at_most: float | None
    labelled: bool
    latency_only: bool
    writes: bool


def asked_of(question: Question) -> Asked:
    """Return what is asked of the networks.

    Raises:
        ConfigError: options that contradict each other, or nothing that is asked.
    """
    from hil.measure.gate_demands import Asked, from_options, load_gate_file

    if question.baseline is not None and question.baseline_models:
        raise ConfigError(
            "--baseline and --baseline-model contradict each other",
            why="one is a file of figures, the other a network that is measured by turns",
            fix="give one of them; the network where you have it",
        )
    names = [str(model) for model in question.models]
    if len(set(names)) < len(names):
        raise ConfigError("a network is named twice", fix="name each once")
    if len(question.baseline_models) not in (0, 1, len(names)):
        raise ConfigError(
            f"{len(question.baseline_models)} baselines do not belong to {len(names)} networks",
            fix="give one --baseline-model for all, or one for each in the same order",
        )
    options = from_options(
        question.budgets, question.margins, question.at_least, question.lose_at_most
    )
    given = bool(question.baseline or question.baseline_models)
    if question.budget_file is None:
        asked = Asked(options, baseline=given, latency_only=question.latency_only)
    else:
        file = load_gate_file(question.budget_file)
        asked = Asked(options, file, file.models, given, question.latency_only)
        if strangers := asked.strangers(names):
            raise ConfigError(
                f"{question.budget_file} asks something of {strangers[0]}, which is not gated",
                why=f"networks given: {', '.join(names)}",
                fix="name it on the command line, or take it out of the file",
            )
    _refuse_empty(question, asked, names)
    return asked


def _refuse_empty(question: Question, asked: Asked, names: list[str]) -> None:
    wanted = [asked.of(name) for name in names]
    accurate = [w for w in wanted if (w.accuracy.at_least, w.accuracy.lose_at_most) != (None, None)]
    if accurate and not question.labelled:
        raise ConfigError(
            "accuracy is asked for, and there are no labelled pictures",
            fix="give them: --labelled held-out.npz (arrays `inputs` and `labels`)",
        )
    if not question.writes and not all(w.budgets or w.margins or w in accurate for w in wanted):
        raise ConfigError(
            "nothing is asked of a network, so nothing could fail",
            fix="give --budget energy_mj=5, --baseline-model BEFORE.onnx, or --write-baseline FILE",
        )


def entries_of(
    question: Question,
    asked: Asked,
    config: DeviceConfig,
    shapes: tuple[str, ...],
    batch: int | None,
) -> list[Entry]:
    """Read all networks, and what each is compared with.

    Raises:
        ConfigError: a file that cannot be read, or holds no such network.
        ExportError: an operator or opset that the board's TensorRT lacks.
    """
    file = None if question.baseline is None else read_baseline(question.baseline)
    before = question.baseline_models
    if len(before) == 1:
        before = before * len(question.models)
    read = read_networks((*question.models, *before), config, shapes, batch)
    own, bases = read[: len(question.models)], read[len(question.models) :]
    return [
        Entry(
            network,
            asked.of(network.name),
            base=bases[index] if bases else None,
            recorded=None if file is None else file.of(network.name),
        )
        for index, network in enumerate(own)
    ]


def read_baseline(path: Path) -> BaselineFile:
    """Read a baseline file.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    from hil.measure.gate_baseline import BaselineFile

    try:
        return BaselineFile.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} is no baseline that can be compared with",
            why=str(error),
            fix="write one: hil gate MODEL.onnx --device D --write-baseline FILE",
        ) from error
