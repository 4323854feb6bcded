"""Task stimuli: how much the loss reacts when channels or branches of the prototype are touched.

All of it runs on the host, needs no training, and leaves the model as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hil.net.graph import Trace
from hil.net.materialise import group_of, materialise
from hil.net.space import DROP, Space

FloatArray = NDArray[np.float64]
Loss = Callable[[Tensor, Tensor], Tensor]
_READERS = (nn.modules.conv._ConvNd, nn.Linear)


def taylor_importance(
    model: nn.Module,
    trace: Trace,
    space: Space,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss_fn: Loss,
) -> dict[str, FloatArray]:
    """First-order estimate of how much the loss changes when a channel is removed.

    Removing a channel zeroes what every later layer reads of it. To first order the loss then
    changes by the sum, over those layers' weights on that channel, of gradient times weight
    (Molchanov et al. 2019 give the estimate for one layer; here it is summed over the group,
    with signs, before its absolute value is taken). The mean over batches is returned.

    Args:
        model: the traced network or a copy with other weights; module paths must match.
        trace: its trace.
        space: the space of that trace.
        batches: inputs and labels.
        loss_fn: (outputs, labels) to a scalar.

    Returns:
        By width variable, one score per channel, in units of the loss.

    Raises:
        ValueError: no batches.
    """
    readers = [path for path in trace.channels if _reads_densely(model.get_submodule(path))]
    total, count = np.zeros(trace.class_count), 0
    training = model.training
    model.eval()
    try:
        for inputs, labels in batches:
            total += np.abs(_effects(model, trace, readers, loss_fn(_call(model, inputs), labels)))
            count += 1
    finally:
        model.train(training)
    if count == 0:
        raise ValueError("task stimuli need at least one batch")
    return {
        v.name: total[group_of(trace, v).classes] / count
        for v in space.variables
        if v.kind == "width"
    }


def branch_response(
    model: nn.Module,
    trace: Trace,
    space: Space,
    inputs: Tensor,
    labels: Tensor,
    loss_fn: Loss,
    recalibrate: Callable[[nn.Module, Tensor], object],
) -> dict[str, float]:
    """Loss after one residual branch is removed, minus the loss of the whole network.

    Args:
        model: the traced network or a copy with other weights.
        trace: its trace.
        space: the space of that trace.
        inputs: calibration inputs, on which norms are recalibrated and the loss is taken.
        labels: their labels.
        loss_fn: (outputs, labels) to a scalar.
        recalibrate: refreshes the norms' statistics of a network in place.

    Returns:
        By depth variable, in units of the loss.
    """
    current = trace.with_weights(model.state_dict())
    whole = space.identity
    # The whole network is recalibrated too, so that only the branch makes the difference.
    reference = _loss_of(materialise(current, space, whole), inputs, labels, loss_fn, recalibrate)
    response = {}
    for i, variable in enumerate(space.variables):
        if variable.kind == "depth":
            without = (*whole[:i], DROP, *whole[i + 1 :])
            module = materialise(current, space, without)
            loss = _loss_of(module, inputs, labels, loss_fn, recalibrate)
            response[variable.name] = loss - reference
    return response


def _loss_of(
    module: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    loss_fn: Loss,
    recalibrate: Callable[[nn.Module, Tensor], object],
) -> float:
    recalibrate(module, inputs)
    module.eval()
    with torch.no_grad():
        return float(loss_fn(_call(module, inputs), labels))


def _call(model: nn.Module, inputs: Tensor) -> Tensor:
    outputs: Tensor = model(inputs)
    return outputs


def _reads_densely(module: nn.Module) -> bool:
    # A depthwise layer passes the channel on; what matters is who reads it in the end.
    return isinstance(module, _READERS) and getattr(module, "groups", 1) == 1


def _effects(model: nn.Module, trace: Trace, readers: list[str], loss: Tensor) -> FloatArray:
    """Signed effect on the loss of each class's weights, up to the common sign."""
    weights = [model.get_submodule(path).get_parameter("weight") for path in readers]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
    effect = np.zeros(trace.class_count)
    for path, weight, gradient in zip(readers, weights, gradients, strict=True):
        product = (gradient * weight).detach().double()
        axis = 0 if getattr(model.get_submodule(path), "transposed", False) else 1
        others = tuple(i for i in range(product.dim()) if i != axis)
        np.add.at(effect, trace.channels[path].reads, product.sum(others).cpu().numpy())
    return effect
