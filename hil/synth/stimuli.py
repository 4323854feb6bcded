"""Task stimuli as the search takes them: the harm of every choice of every variable.

A width's harm follows the first-order scores of the channels it removes, scaled so that its
narrowest choice does the harm that was seen when that choice was really made (sliced, norms
recalibrated); a branch's harm is the one seen when it was removed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy

from hil.net.graph import Trace
from hil.net.materialise import Importance, materialise
from hil.net.space import Space, Variable
from hil.net.stimuli import branch_response, taylor_importance
from hil.synth.store import RunStore
from hil.synth.tensors import plain
from hil.tasks.classification import recalibrate
from hil.tasks.data import Split

PICTURES = 512
"""Training pictures that the stimuli are read on; the search and held-out splits stay unseen."""

_BATCH = 128
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Reactions:
    """What the prototype answered to task stimuli.

    Attributes:
        importance: by width variable, a score per channel.
        harm: per variable, the harm of each choice in units of the loss, the identity's 0.
    """

    importance: Importance
    harm: tuple[FloatArray, ...]


def probe(trace: Trace, space: Space, split: Split, store: RunStore) -> Reactions:
    """Send the stimuli; recorded in the journal, so that a resumed run reads the same answers."""
    step = store.step("stimuli", "task", lambda: _measured(trace, space, split))
    importance = {name: np.array(scores) for name, scores in step["importance"].items()}
    return Reactions(importance, tuple(np.array(harm) for harm in step["harm"]))


def _measured(trace: Trace, space: Space, split: Split) -> dict[str, object]:
    inputs = plain(split.inputs[:PICTURES])
    labels = torch.from_numpy(split.labels[:PICTURES])
    model: nn.Module = trace.prototype
    batches = list(zip(torch.split(inputs, _BATCH), torch.split(labels, _BATCH), strict=True))
    importance = taylor_importance(model, trace, space, batches, cross_entropy)
    branches = branch_response(model, trace, space, inputs, labels, cross_entropy, _recalibrate)

    def loss(arch: tuple[int, ...]) -> float:
        network = materialise(trace, space, arch, importance)
        _recalibrate(network, inputs)
        with torch.no_grad():
            return float(cross_entropy(network.eval()(inputs), labels))

    reference = loss(space.identity)
    harm = []
    for index, variable in enumerate(space.variables):
        if variable.kind == "depth":
            harm.append(np.array([max(branches[variable.name], 0.0), 0.0]))
            continue
        narrow = list(space.identity)
        narrow[index] = 0
        reaction = max(loss(tuple(narrow)) - reference, 0.0)
        harm.append(_width_harm(variable, importance[variable.name], reaction))
    return {
        "importance": {name: scores.tolist() for name, scores in importance.items()},
        "harm": [row.tolist() for row in harm],
    }


def _width_harm(variable: Variable, scores: FloatArray, reaction: float) -> FloatArray:
    """Harm of each width, from the scores of the channels that go and the reaction at the end."""
    removed = np.concatenate([[0.0], np.cumsum(np.sort(scores))])
    base = len(scores)
    curve = np.array([removed[base - width] for width in variable.choices])
    if curve[0] <= 0:
        # No first-order effect at all: spread the reaction evenly over the channels.
        curve = np.array([float(base - width) for width in variable.choices])
    result: FloatArray = curve / curve[0] * reaction
    return result


def _recalibrate(network: nn.Module, inputs: torch.Tensor) -> None:
    recalibrate(network, inputs.numpy())
