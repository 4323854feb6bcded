"""Scalable constrained Bayesian optimisation (Eriksson and Poloczek 2021) with BoTorch.

The one door to BoTorch. A Gaussian process for U and one for each limit, a trust region around the
best network known, and Thompson sampling under the sampled constraints over networks inside it.
In a space of choices the region is a number of edits, as in Casmopolitan (Wan et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hil.core.errors import ConfigError
from hil.synth.peers.searcher import Peer, Task, Told
from hil.synth.records import Arch, FloatArray
from hil.synth.searchspace import random_archs

_POOL = 1000
_REFERENCE = 256
_REFIT = 8
"""Observations between two fits of kernels; posteriors take every observation at once."""
_FIT_STEPS = 75
_SUCCESSES, _FAILURES = 3, 12


class Scbo(Peer):
    """See the module.

    Args:
        task: what to search; signals become further inputs of every process.
        initial: random networks before the first fit.
    """

    name = "scbo"
    handful = 1

    def __init__(self, task: Task, initial: int = 12) -> None:
        super().__init__(task)
        _import()
        self._initial = initial
        self._radius = len(self.space.variables)
        self._run = 0
        self._asked = 0
        self._best: tuple[int, float] = (0, -np.inf)
        self._states: dict[str, tuple[int, Any]] = {}
        rng = np.random.Generator(np.random.Philox(key=0))
        sample = random_archs(self.space, _REFERENCE, rng)
        self._moments = None if task.signals is None else _moments(task.signals(sample))

    def candidates(self, count: int, rng: np.random.Generator) -> list[Arch]:
        """Thompson samples in the trust region; at random until there is something to fit."""
        self._asked += 1
        if len(self.told) < self._initial:
            return self.fill(count, rng, lambda: None)
        pool = self._pool(rng)
        if len(pool) <= count:
            return pool
        return [pool[i] for i in self._thompson(pool, count)]

    def learn(self, told: Told) -> None:
        """Grow the region after successes, shrink it after failures, start over at its least."""
        better = told.rank > self._best
        self._best = max(self._best, told.rank)
        if len(self.told) <= self._initial:
            return
        self._run = max(self._run, 0) + 1 if better else min(self._run, 0) - 1
        if self._run >= _SUCCESSES:
            self._radius, self._run = min(self._radius + 1, len(self.space.variables)), 0
        elif self._run <= -_FAILURES:
            self._radius, self._run = self._radius - 1, 0
            if self._radius < 1:
                self._radius = len(self.space.variables)

    def _pool(self, rng: np.random.Generator) -> list[Arch]:
        centre = max(self.told.values(), key=lambda t: t.rank).arch
        sizes = np.array([v.size for v in self.space.variables])
        found: dict[str, Arch] = {}
        for _ in range(2 * _POOL):
            edits = int(rng.integers(self._radius)) + 1
            arch = np.array(centre)
            places = rng.choice(len(sizes), size=edits, replace=False)
            arch[places] = np.floor(rng.random(edits) * sizes[places]).astype(int)
            one = tuple(int(c) for c in arch)
            found.setdefault(self.space.key(one), one)
            if len(found) >= _POOL:
                break
        fresh = [arch for arch in found.values() if self.fresh(arch)]
        return fresh or self.fill(32, rng, lambda: None)

    def _thompson(self, pool: Sequence[Arch], count: int) -> list[int]:
        library = _import()
        torch = library["torch"]
        told = list(self.told.values())
        scored = [t for t in told if t.score is not None]
        # Before there is a U to learn, the way into the feasible region is what is learnt.
        aims = [t.score or 0.0 for t in scored] if len(scored) > 2 else [-t.violation for t in told]
        objective = self._model("U", scored if len(scored) > 2 else told, aims)
        names = sorted({name for t in told for name in t.gaps})
        limits = []
        for name in names:
            known = [t for t in told if name in t.gaps]
            gaps = np.array([t.gaps[name] for t in known])
            # Bilog (Eriksson and Poloczek): large violations must not hide small ones.
            limits.append(self._model(name, known, np.sign(gaps) * np.log1p(np.abs(gaps))))
        inputs = torch.as_tensor(self._inputs(pool), dtype=torch.double)
        seed = (self.task.seed * 100_003 + self._asked) % 2**31
        with torch.no_grad(), library["manual_seed"](seed=seed):
            if limits:
                constraints = library["ModelListGP"](*limits)
                rule = library["Constrained"](objective, constraints, replacement=False)
            else:
                rule = library["Plain"](objective, replacement=False)
            picks = rule(inputs, num_samples=count)
        # The rule answers with inputs; which rows they are is found again exactly.
        return [int((inputs == pick).all(dim=1).nonzero()[0, 0]) for pick in picks]

    def _model(self, name: str, told: Sequence[Told], values: Sequence[float] | FloatArray) -> Any:
        library = _import()
        torch = library["torch"]
        inputs = torch.as_tensor(self._inputs([t.arch for t in told]), dtype=torch.double)
        targets = torch.as_tensor(np.asarray(values, dtype=np.float64)[:, None])
        with library["manual_seed"](seed=self.task.seed):
            model = library["SingleTaskGP"](
                inputs, targets, outcome_transform=library["Standardize"](m=1)
            )
            at, state = self._states.get(name, (-_REFIT, None))
            if state is not None:
                model.load_state_dict({**model.state_dict(), **state})
            if len(self.told) - at >= _REFIT:
                mll = library["Likelihood"](model.likelihood, model)
                options = {"options": {"maxiter": _FIT_STEPS}}
                library["fit"](mll, optimizer_kwargs=options)
                kept = {
                    key: value.detach().clone()
                    for key, value in model.state_dict().items()
                    if key.startswith(("covar_module", "mean_module", "likelihood"))
                }
                self._states[name] = (len(self.told), kept)
        model.eval()
        return model

    def _inputs(self, archs: Sequence[Arch]) -> FloatArray:
        """One column an ordered variable, one a choice of any other, then the signals."""
        choices = np.array(archs, dtype=np.int64).reshape(len(archs), -1)
        columns: list[FloatArray] = []
        for j, variable in enumerate(self.space.variables):
            if variable.ordered:
                columns.append(choices[:, [j]] / max(variable.size - 1, 1))
            else:
                columns.append((choices[:, [j]] == np.arange(variable.size)).astype(np.float64))
        if self.task.signals is not None and self._moments is not None:
            location, scale = self._moments
            columns.append((self.task.signals(archs) - location) / scale)
        return np.hstack(columns)


def _moments(signals: FloatArray) -> tuple[FloatArray, FloatArray]:
    scale = signals.std(axis=0)
    # Inputs of these processes are expected within a unit cube, give or take.
    return signals.mean(axis=0), np.where(scale > 0.0, 4.0 * scale, np.inf)


_library: dict[str, Any] = {}


def _import() -> dict[str, Any]:
    """BoTorch's parts by name, loaded when first needed."""
    if _library:
        return _library
    try:
        import torch
        from botorch.fit import fit_gpytorch_mll
        from botorch.generation.sampling import (
            ConstrainedMaxPosteriorSampling,
            MaxPosteriorSampling,
        )
        from botorch.models import ModelListGP, SingleTaskGP
        from botorch.models.transforms import Standardize
        from botorch.utils.sampling import manual_seed
        from gpytorch.mlls import ExactMarginalLogLikelihood
    except ImportError as error:
        raise ConfigError(
            "BoTorch is not installed", fix="install the extra: pip install 'hil[peers]'"
        ) from error
    _library.update(
        torch=torch,
        fit=fit_gpytorch_mll,
        Constrained=ConstrainedMaxPosteriorSampling,
        Plain=MaxPosteriorSampling,
        ModelListGP=ModelListGP,
        SingleTaskGP=SingleTaskGP,
        Standardize=Standardize,
        manual_seed=manual_seed,
        Likelihood=ExactMarginalLogLikelihood,
    )
    return _library
