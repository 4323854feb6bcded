"""Accuracy of a gate: labelled pictures through the engines themselves, right or wrong on each."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hil.cli.terminal import say
from hil.core.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hil.cli.gate_entry import Entry
    from hil.cli.measuring import Desk
    from hil.device.session import EngineInfo
    from hil.measure.gate import Check
    from hil.measure.gate_baseline import Answers
    from hil.measure.gate_outcome import Finding
    from hil.measure.interleave import Side


@dataclass(frozen=True)
class Labelled:
    """Pictures and what they show.

    Attributes:
        sha256: of the file.
        inputs: (N, *sample), as the network takes them.
        labels: (N,), class numbers.
    """

    sha256: str
    inputs: NDArray[np.generic]
    labels: NDArray[np.int64]


def read_labelled(path: Path) -> Labelled:
    """Read an .npz with `inputs` (N, *sample) and `labels` (N integers).

    Raises:
        ConfigError: it cannot be read, or is no such file.
    """
    import numpy as np

    expected = "an .npz with `inputs` (N, *sample) and `labels` (N integers)"
    try:
        data = path.read_bytes()
        with np.load(path, allow_pickle=False) as file:
            inputs, labels = file["inputs"], file["labels"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"{path} holds no labelled pictures", why=str(error), fix=f"give {expected}"
        ) from error
    fits = inputs.ndim > 1 and labels.shape == inputs.shape[:1] and labels.size
    if not fits or not np.issubdtype(labels.dtype, np.integer):
        raise ConfigError(
            f"{path}: inputs {inputs.shape} and labels {labels.shape} do not belong together",
            fix=f"give {expected}",
        )
    return Labelled(hashlib.sha256(data).hexdigest(), inputs, labels.astype(np.int64))


def answers(
    desk: Desk,
    entry: Entry,
    engines: Mapping[Side, Sequence[EngineInfo]],
    labelled: Labelled | None,
    checks: Sequence[Check],
) -> tuple[Answers | None, tuple[Finding, ...]]:
    """Run the pictures through the engines and judge accuracy.

    Returns:
        What the candidate got right (None without pictures), and a finding for each check.

    Raises:
        ConfigError: the baseline of a loss answered other pictures, or none.
    """
    from hil.core.paired import Paired
    from hil.measure.gate_baseline import Answers
    from hil.measure.gate_outcome import accuracy_finding

    if labelled is None:
        return None, ()
    own = _right(desk, engines["b"][0], labelled)
    base = own
    if any(check.kind == "accuracy_loss" for check in checks):
        base = _baseline(desk, entry, engines, labelled)
    paired = Paired.count(base, own)
    found = tuple(accuracy_finding(check, paired) for check in checks)
    return Answers(labelled.sha256, own), found


def _baseline(
    desk: Desk,
    entry: Entry,
    engines: Mapping[Side, Sequence[EngineInfo]],
    labelled: Labelled,
) -> NDArray[np.bool_]:
    if entry.base is not None:
        return _right(desk, engines["a"][0], labelled)
    kept = None if entry.recorded is None else entry.recorded.answers
    if kept is None or kept.labelled_sha256 != labelled.sha256:
        raise ConfigError(
            f"the baseline of {entry.network.name} answered "
            f"{'no' if kept is None else 'other'} labelled pictures",
            why="points lost are counted over the same pictures",
            fix="write the baseline anew with the same --labelled file",
        )
    return kept.right


def _right(desk: Desk, info: EngineInfo, labelled: Labelled) -> NDArray[np.bool_]:
    import numpy as np

    say(f"  {labelled.labels.size} labelled pictures on the engine ...")
    tensor = info.inputs[0]
    if len(info.inputs) != 1 or tuple(tensor.shape[1:]) != labelled.inputs.shape[1:]:
        shapes = ", ".join(f"{one.name} {one.shape}" for one in info.inputs)
        raise ConfigError(
            f"the labelled pictures are {labelled.inputs.shape[1:]} each, the network takes "
            f"{shapes}",
            fix="export the pictures as the network takes them",
        )
    inputs = labelled.inputs.astype(tensor.dtype)
    outputs = desk.session.infer(info, {tensor.name: inputs})
    scores = outputs[info.outputs[0].name].reshape(labelled.labels.size, -1)
    return np.asarray(scores.argmax(axis=1) == labelled.labels)
