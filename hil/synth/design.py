"""The first hardware stimuli: networks whose measurements say most about the space."""

from __future__ import annotations

import numpy as np

from hil.synth.kernels import CONSTANT_VARIANCE, Kernel
from hil.synth.records import Arch, FloatArray
from hil.synth.searchspace import (
    Batch,
    Encoder,
    SearchSpace,
    identity,
    random_archs,
    uniform_level,
    unique,
)

_LEVELS = (0.5, 0.25, 0.75)
_RANDOM_CANDIDATES = 192
# A-priori variances of the terms (kernels.COMPONENTS) and of noise, relative to the constant's.
_VARIANCES = np.array([0.0, 0.3, 1.0, 0.1, 0.05])
_NOISE = 0.01


def initial_design(space: SearchSpace, n: int, rng: np.random.Generator) -> list[Arch]:
    """Up to `n` networks to measure first, best first.

    The prototype, uniform widths at three levels, then those that raise the log determinant of
    the information most (greedy D-optimal), among one-variable changes and random draws.
    """
    return informative_design(Encoder(space), n, rng)


def informative_design(encoder: Encoder, n: int, rng: np.random.Generator) -> list[Arch]:
    """`initial_design` with an encoder that already knows some features."""
    space = encoder.space
    fixed = unique(space, [identity(space), *(uniform_level(space, level) for level in _LEVELS)])
    others = _candidates(space, rng)
    if len(fixed) == 1:
        # No widths to scale: the least network spans the costs instead.
        sums = encoder.encode(others).linear.sum(axis=1)
        fixed.append(others[int(np.argmin(sums))])
    options = unique(space, [*fixed, *others])
    batch = encoder.encode(options)
    chosen = list(range(min(n, len(fixed))))
    while len(chosen) < min(n, len(options)):
        variance = _variance(encoder, batch, chosen)
        variance[chosen] = -np.inf
        chosen.append(int(np.argmax(variance)))
    return [options[i] for i in chosen]


def _candidates(space: SearchSpace, rng: np.random.Generator) -> list[Arch]:
    changed = []
    for base in (identity(space), uniform_level(space, 0.5)):
        for j, variable in enumerate(space.variables):
            for choice in {0, variable.size - 1} - {base[j]}:
                changed.append((*base[:j], choice, *base[j + 1 :]))
    return changed + random_archs(space, _RANDOM_CANDIDATES, rng)


def _variance(encoder: Encoder, batch: Batch, chosen: list[int]) -> FloatArray:
    """A-priori variance of each candidate given measurements of the chosen."""
    variables = encoder.space.variables
    kernel = Kernel(variables, np.full(len(variables), 1.0 / len(variables)), "linear")
    seen = batch.take(chosen)
    none, seen_none = np.zeros(len(batch)), np.zeros(len(seen))
    cross = np.tensordot(_VARIANCES, kernel.components(batch, seen, (none, seen_none)), axes=1)
    cross = cross + CONSTANT_VARIANCE
    gram = cross[chosen] + _NOISE * np.eye(len(chosen))
    prior = _VARIANCES @ kernel.diagonal(batch, none) + CONSTANT_VARIANCE
    result: FloatArray = prior - np.einsum("ij,ji->i", cross, np.linalg.solve(gram, cross.T))
    return result
