"""U: what makes one feasible network better than another.

NetScore: A. Wong, "NetScore: Towards Universal Metrics for Large-scale Performance Analysis of
Deep Neural Networks for Practical On-Device Edge Usage", ICIAR 2019 (arXiv 1806.05512).
A user's own function may take its place; requirements are no part of U, they are hard.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from hil.core.errors import ConfigError
from hil.net.factory import load_factory
from hil.synth.records import FloatArray, Utility

NETSCORE = "netscore"


def netscore(
    accuracy_percent: float | FloatArray,
    params_millions: float | FloatArray,
    macs_billions: float | FloatArray,
) -> FloatArray:
    """NetScore in decibels, elementwise: 20 log10(a^2 / (sqrt(p) sqrt(m))).

    The logarithm is base 10 and the units are percent, millions and billions; other units shift
    every score by a constant. No accuracy at all scores minus infinity.

    Raises:
        ValueError: a cost is not positive, or an accuracy is negative.
    """
    accuracy = np.asarray(accuracy_percent, dtype=np.float64)
    costs = np.asarray(params_millions, np.float64) * np.asarray(macs_billions, np.float64)
    if (accuracy < 0).any() or not (costs > 0).all():
        raise ValueError("NetScore needs accuracy >= 0 and positive parameters and MACs")
    with np.errstate(divide="ignore"):
        return cast(FloatArray, 40 * np.log10(accuracy) - 10 * np.log10(costs))


def load_objective(reference: str) -> Utility:
    """U by name: `netscore`, or a user's `module:function`.

    The function takes arrays `accuracy` (a fraction), `macs` and `params` (counts) by these names
    and returns an array of scores of the same length, higher is better.

    Args:
        reference: as written in the profile.

    Raises:
        ConfigError: no such function, or it does not keep to that signature.
    """
    if reference == NETSCORE:
        return _netscore_of_counts
    function = load_factory(reference)
    try:
        inspect.signature(function).bind(accuracy=0, macs=0, params=0)
    except TypeError as error:
        raise ConfigError(
            f"objective '{reference}' cannot be called as hil calls it",
            why=str(error),
            fix="define it as: def utility(accuracy, macs, params)",
        ) from error
    _try_out(reference, function)
    return cast(Utility, function)


def _netscore_of_counts(accuracy: FloatArray, macs: FloatArray, params: FloatArray) -> FloatArray:
    return netscore(100 * np.asarray(accuracy), np.asarray(params) / 1e6, np.asarray(macs) / 1e9)


def _try_out(reference: str, function: Callable[..., Any]) -> None:
    """Call it once on two plausible networks, so that a wrong one fails before the search."""
    sample = {
        "accuracy": np.array([0.9, 0.8]),
        "macs": np.array([2e6, 1e6]),
        "params": np.array([2e5, 1e5]),
    }
    scores = np.asarray(function(**sample))
    if scores.shape == (2,) and scores.dtype.kind in "fiu" and np.isfinite(scores).all():
        return
    raise ConfigError(
        f"objective '{reference}' does not return scores",
        why=f"for two networks it returned {scores!r}",
        fix="return one finite number a network, as an array as long as `accuracy`",
    )
