"""Task stimuli as the search takes them: the harm of every choice of every variable.

The harm of a width or a window follows the first-order scores of the channels or taps that it
removes, scaled so that its least choice does the harm that was seen when that choice was really
made (sliced or cropped, norms recalibrated). A branch's harm is the one seen when it was removed, a
resolution's the one seen when the prototype was shown pictures of that size. INT8's is
that of the prototype's quantised file; FP16 and FP32 have none: the engine decides what they do, so
that the host has seen nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hil.net.export import export_onnx
from hil.net.graph import Trace
from hil.net.materialise import Importance, materialise
from hil.net.quantise import Calibration, answers, evenly, quantise
from hil.net.resolution import fitted
from hil.net.space import Space, Variable
from hil.net.stimuli import branch_response, harm_curve, taylor_importance
from hil.net.variables import PRECISIONS
from hil.synth.store import RunStore
from hil.synth.tensors import plain
from hil.tasks.data import Split
from hil.tasks.inference import recalibrate
from hil.tasks.task import Task

PICTURES = 512
"""Training pictures that the stimuli are read on; the search and held-out splits stay unseen."""

_BATCH = 128
_CALIBRATION_PICTURES = 64
_INT8 = PRECISIONS["int8"]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Reactions:
    """What the prototype answered to task stimuli.

    Attributes:
        importance: by width variable, a score per channel; by kernel variable, one per choice.
        harm: per variable, the harm of each choice in units of the loss, the identity's 0.
    """

    importance: Importance
    harm: tuple[FloatArray, ...]


def probe(trace: Trace, space: Space, task: Task, split: Split, store: RunStore) -> Reactions:
    """Send the stimuli; recorded in the journal, so that a resumed run reads the same answers."""
    step = store.step("stimuli", "task", lambda: _measured(trace, space, task, split))
    importance = {name: np.array(scores) for name, scores in step["importance"].items()}
    return Reactions(importance, tuple(np.array(harm) for harm in step["harm"]))


def _measured(trace: Trace, space: Space, task: Task, split: Split) -> dict[str, object]:
    seen = split.pick(np.arange(min(len(split), task.portion or PICTURES)))
    inputs, labels = plain(seen.inputs), task.targets(seen)
    model: nn.Module = trace.prototype
    batches = list(zip(torch.split(inputs, _BATCH), torch.split(labels, _BATCH), strict=True))
    importance = taylor_importance(model, trace, space, batches, task.loss)
    branches = branch_response(model, trace, space, inputs, labels, task.loss, _recalibrate)

    def loss(arch: tuple[int, ...]) -> float:
        network = fitted(materialise(trace, space, arch, importance), space.resolution(arch))
        _recalibrate(network, inputs)
        with torch.no_grad():
            return float(task.loss(network.eval()(inputs), labels))

    reference = loss(space.identity)

    def harm_of(index: int, variable: Variable) -> FloatArray:
        def seen(choice: int) -> float:
            return max(loss(_with(space, index, choice)) - reference, 0.0)

        if variable.kind == "depth":
            return np.array([max(branches[variable.name], 0.0), 0.0])
        if variable.kind == "precision":
            losses = [
                _int8_loss(trace, task, inputs, labels) if bits == _INT8 else reference
                for bits in variable.choices
            ]
            return np.maximum(np.array(losses) - losses[variable.identity], 0.0)
        if variable.kind == "resolution":
            # Nothing but the loss itself tells one size from another; there are few of them.
            return np.array([*map(seen, range(variable.identity)), 0.0])
        return harm_curve(variable, importance[variable.name], seen(0))

    return {
        "importance": {name: scores.tolist() for name, scores in importance.items()},
        "harm": [harm_of(i, variable).tolist() for i, variable in enumerate(space.variables)],
    }


def _int8_loss(trace: Trace, task: Task, inputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Loss of the prototype's file in INT8, its scales found with some of the same pictures."""
    data = export_onnx(trace.prototype, (inputs[:1],))
    samples = inputs.numpy()
    made = quantise(data, Calibration({"input": evenly(samples, _CALIBRATION_PICTURES)}))
    outputs = tuple(torch.from_numpy(given) for given in answers(made, samples))
    return float(task.loss(outputs[0] if len(outputs) == 1 else outputs, labels))


def _with(space: Space, index: int, choice: int) -> tuple[int, ...]:
    """The prototype with one other choice."""
    return (*space.identity[:index], choice, *space.identity[index + 1 :])


def _recalibrate(network: nn.Module, inputs: torch.Tensor) -> None:
    recalibrate(network, inputs.numpy())
