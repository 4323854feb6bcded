"""Which rule proves which operation. An operation that is not listed here is never guessed."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from hil.net import rules, views
from hil.net.rules import Rule
from hil.net.wiring import UnprovenError, Value, Walk


def apply_rule(walk: Walk, node: fx.Node) -> Value:
    """The node's value; where no rule proves it, the channels that touch it are frozen."""
    kind, rule = _find(walk, node)
    walk.kinds[node] = kind
    try:
        return rule(walk, node)
    except UnprovenError as error:
        return walk.leave_alone(node, f"{rules.title(walk, node)}: {error}")


def _find(walk: Walk, node: fx.Node) -> tuple[str, Rule]:
    unknown: tuple[str, Rule] = ("other", rules.unknown)
    if node.op == "call_module":
        return _MODULES.get(type(walk.called(node)), unknown)
    if node.op == "call_method":
        return _METHODS.get(str(node.target), unknown)
    if node.op == "call_function":
        return _FUNCTIONS.get(node.target, unknown)
    return ("constant", rules.constant)


def _table(kind: str, rule: Rule, keys: Iterable[Any]) -> dict[Any, tuple[str, Rule]]:
    return dict.fromkeys(keys, (kind, rule))


def _functions(names: Iterable[str]) -> list[Any]:
    found = [getattr(space, n, None) for space in (torch, functional) for n in names]
    # Some names are dtypes in torch's namespace (torch.float).
    return [f for f in found if callable(f)]


def _modules(names: Iterable[str]) -> list[Any]:
    return [getattr(nn, name) for name in names if hasattr(nn, name)]


def _by_axes(pattern: str, kinds: str) -> list[str]:
    return [pattern.format(kind=kind, axes=axes) for kind in kinds.split() for axes in (1, 2, 3)]


# One name a word; a name that the installed torch lacks is passed over.
_ACTIVATION_MODULES = """
    ReLU ReLU6 LeakyReLU Sigmoid Tanh Hardswish Hardsigmoid Hardtanh SiLU GELU ELU SELU CELU
    Softplus Mish LogSigmoid Softsign Tanhshrink Threshold
"""
_ACTIVATIONS = """
    relu relu6 leaky_relu sigmoid tanh hardswish hardsigmoid hardtanh silu gelu elu selu celu
    softplus mish logsigmoid softsign tanhshrink threshold relu_ relu6_ leaky_relu_ hardtanh_ elu_
    silu_ hardswish_ hardsigmoid_ sigmoid_ tanh_ clamp clamp_ clamp_min clamp_max clip abs neg exp
    exp_ sqrt rsqrt square log log1p reciprocal sign floor ceil round float half double to
"""
_BINARY = "add sub mul div multiply subtract add_ sub_ mul_ div_ maximum minimum pow"
_BINARY_OPERATORS = "add sub mul truediv pow iadd isub imul itruediv"
_REDUCTIONS = "mean sum amax amin"
_NOTHING_MODULES = "Identity Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout"
_NOTHING = "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout"
_UPSAMPLES = "Upsample UpsamplingNearest2d UpsamplingBilinear2d"
_POOL_MODULES = _by_axes("{kind}Pool{axes}d", "Max Avg AdaptiveAvg AdaptiveMax LP")
_POOLS = _by_axes("{kind}_pool{axes}d", "max avg adaptive_avg adaptive_max lp")
_PADS = _by_axes("{kind}Pad{axes}d", "Zero Constant Reflection Replication Circular")
_NORMS = _by_axes("{kind}Norm{axes}d", "Batch Instance")

_MODULES: dict[Any, tuple[str, Rule]] = {
    **_table("conv", rules.convolve, (nn.Conv1d, nn.Conv2d, nn.Conv3d)),
    **_table("deconv", rules.convolve, _modules(_by_axes("{kind}{axes}d", "ConvTranspose"))),
    **_table("linear", rules.apply_linear, (nn.Linear,)),
    **_table("norm", rules.normalise, _modules(_NORMS)),
    **_table("norm", rules.mix_channels, (nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)),
    **_table("pointwise", rules.apply_prelu, (nn.PReLU,)),
    **_table("pointwise", rules.keep_channels, _modules(_ACTIVATION_MODULES.split())),
    **_table("view", rules.keep_channels, _modules(_NOTHING_MODULES.split())),
    **_table("view", views.flatten, (nn.Flatten,)),
    **_table("pool", rules.over_space, _modules(_POOL_MODULES)),
    **_table("resize", rules.over_space, (*_modules(_UPSAMPLES.split()), *_modules(_PADS))),
}
_FUNCTIONS: dict[Any, tuple[str, Rule]] = {
    **_table("pointwise", rules.keep_channels, _functions(_ACTIVATIONS.split())),
    **_table("pointwise", rules.combine, _functions(_BINARY.split())),
    **_table("pointwise", rules.combine, [getattr(operator, n) for n in _BINARY_OPERATORS.split()]),
    **_table("pool", rules.over_space, _functions(_POOLS)),
    **_table("pool", rules.reduce_space, _functions(_REDUCTIONS.split())),
    **_table("resize", rules.over_space, _functions(("interpolate", "upsample"))),
    **_table("resize", rules.pad_space, (functional.pad,)),
    **_table("concat", rules.concatenate, _functions(("cat", "concat", "concatenate"))),
    **_table("view", rules.keep_channels, _functions(_NOTHING.split())),
    **_table("view", views.split, _functions(("chunk", "split"))),
    **_table("view", views.reshape, (torch.reshape,)),
    **_table("view", views.flatten, (torch.flatten,)),
    **_table("view", views.change_axes, (torch.squeeze, torch.unsqueeze)),
    **_table("view", views.take_item, (operator.getitem,)),
    **_table("view", views.take_attribute, (getattr,)),
}
_METHODS: dict[str, tuple[str, Rule]] = {
    **_table("pointwise", rules.keep_channels, _ACTIVATIONS.split()),
    **_table("pointwise", rules.combine, _BINARY.split()),
    **_table("pool", rules.reduce_space, _REDUCTIONS.split()),
    **_table("view", rules.keep_channels, ("contiguous", "clone", "detach")),
    **_table("view", views.flatten, ("flatten",)),
    **_table("view", views.reshape, ("view", "reshape")),
    **_table("view", views.expand, ("expand",)),
    **_table("view", views.expand_as, ("expand_as",)),
    **_table("view", views.split, ("chunk", "split")),
    **_table("view", views.change_axes, ("squeeze", "unsqueeze")),
    **_table("view", views.take_size, ("size",)),
    **_table("view", rules.nothing, ("dim",)),
}
