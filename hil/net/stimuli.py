"""Task stimuli: how much the loss reacts when channels or branches of the prototype are touched.

All of it runs on the host, needs no training, and leaves the model as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hil.net.graph import Kernel, Trace
from hil.net.materialise import group_of, kernel_of, materialise
from hil.net.variables import DROP, Space, Variable

FloatArray = NDArray[np.float64]
Loss = Callable[[Any, Any], Tensor]
"""(outputs, labels) to a scalar: outputs as the network gives them, labels as the task has them."""


def taylor_importance(
    model: nn.Module,
    trace: Trace,
    space: Space,
    batches: Iterable[tuple[Any, Any]],
    loss_fn: Loss,
) -> dict[str, FloatArray]:
    """First-order estimate of how much the loss changes when a channel is removed.

    Removing a channel zeroes what every later layer reads of it. To first order the loss then
    changes by the sum, over those layers' weights on that channel, of gradient times weight
    (Molchanov et al. 2019 give the estimate for one layer; here it is summed over the group,
    with signs, before its absolute value is taken). Cropping a convolution's window zeroes its
    outer taps, with the same estimate. The mean over batches is returned.

    Args:
        model: the traced network or a copy with other weights; module paths must match.
        trace: its trace.
        space: the space of that trace.
        batches: inputs (a tensor, or a tuple of the network's inputs) and labels.
        loss_fn: (outputs, labels) to a scalar.

    Returns:
        By width variable, one score per channel; by kernel variable, one per choice: that of the
        taps which this choice has and the one below has not. In units of the loss.

    Raises:
        ValueError: no batches.
    """
    # What passes a channel on does not count; what matters is who reads it in the end.
    readers = [path for path, used in trace.channels.items() if used.way in ("dense", "tied")]
    windows = [v for v in space.variables if v.kind == "kernel"]
    paths = list(dict.fromkeys([*readers, *(kernel_of(trace, v).module for v in windows)]))
    total, count = np.zeros(trace.class_count), 0
    rings = {v.name: np.zeros(v.size) for v in windows}
    training = model.training
    model.eval()
    try:
        for inputs, labels in batches:
            products = _products(model, paths, loss_fn(_call(model, inputs), labels))
            total += np.abs(_effects(model, trace, {p: products[p] for p in readers}))
            for variable in windows:
                kernel = kernel_of(trace, variable)
                rings[variable.name] += np.abs(_taps(kernel, products[kernel.module]))
            count += 1
    finally:
        model.train(training)
    if count == 0:
        raise ValueError("task stimuli need at least one batch")
    widths = {
        v.name: total[group_of(trace, v).classes] / count
        for v in space.variables
        if v.kind == "width"
    }
    return widths | {name: scores / count for name, scores in rings.items()}


def harm_curve(variable: Variable, scores: FloatArray, reaction: float) -> FloatArray:
    """Harm of each choice of a width or a window, from scores and what was seen at its least.

    Args:
        variable: a width or kernel variable.
        scores: its `taylor_importance`.
        reaction: harm seen when the least choice was really made, in units of the loss.

    Returns:
        One number a choice, `reaction` for the least and 0 for the prototype's.
    """
    if variable.kind == "kernel":
        curve = np.append(np.cumsum(scores[:0:-1])[::-1], 0.0)
        left = np.array(variable.choices, dtype=np.float64) ** 2
    else:
        removed = np.concatenate([[0.0], np.cumsum(np.sort(scores))])
        curve = np.array([removed[len(scores) - width] for width in variable.choices])
        left = np.array(variable.choices, dtype=np.float64)
    if curve[0] <= 0:
        # No first-order effect at all: spread the reaction evenly over what is removed.
        curve = left[-1] - left
    result: FloatArray = curve / curve[0] * reaction
    return result


def branch_response(
    model: nn.Module,
    trace: Trace,
    space: Space,
    inputs: Any,
    labels: Any,
    loss_fn: Loss,
    recalibrate: Callable[[nn.Module, Any], object],
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
    inputs: Any,
    labels: Any,
    loss_fn: Loss,
    recalibrate: Callable[[nn.Module, Any], object],
) -> float:
    recalibrate(module, inputs)
    module.eval()
    with torch.no_grad():
        return float(loss_fn(_call(module, inputs), labels))


def _call(model: nn.Module, inputs: Any) -> Any:
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def _products(model: nn.Module, paths: list[str], loss: Tensor) -> dict[str, Tensor]:
    """Gradient times weight, by module path."""
    weights = [model.get_submodule(path).get_parameter("weight") for path in paths]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
    return {
        path: (gradient * weight).detach().double()
        for path, weight, gradient in zip(paths, weights, gradients, strict=True)
    }


def _effects(model: nn.Module, trace: Trace, products: Mapping[str, Tensor]) -> FloatArray:
    """Signed effect on the loss of each class's weights, up to the common sign."""
    effect = np.zeros(trace.class_count)
    for path, product in products.items():
        module = model.get_submodule(path)
        groups = int(getattr(module, "groups", 1))
        if getattr(module, "transposed", False):
            read = product.sum(tuple(range(1, product.dim())))
        elif groups == 1:
            read = product.sum((0, *range(2, product.dim())))
        else:  # axis 1 of a grouped weight counts the inputs of the group that axis 0 is in
            read = product.reshape(groups, -1, *product.shape[1:]).flatten(3).sum((1, 3)).flatten()
        np.add.at(effect, trace.channels[path].reads, read.cpu().numpy())
    return effect


def _taps(kernel: Kernel, product: Tensor) -> FloatArray:
    """Signed effect on the loss of the taps that each choice has and the one below has not."""
    within = []
    for choice in kernel.choices:
        cuts = [(k - side) // 2 for k, side in zip(kernel.sizes, kernel.sides(choice), strict=True)]
        middle = tuple(slice(cut, k - cut) for cut, k in zip(cuts, kernel.sizes, strict=True))
        within.append(float(product[(slice(None), slice(None), *middle)].sum()))
    return np.diff(np.array(within), prepend=0.0)
