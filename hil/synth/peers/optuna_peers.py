"""Optuna's samplers behind ask and tell: TPE, NSGA-II and Gaussian processes under constraints.

The one door to Optuna. Constraints go in as `Trial.set_constraint` has them since Optuna 5: at
most zero where a limit holds.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from hil.core.errors import ConfigError
from hil.synth.peers.evolution import mutated
from hil.synth.peers.searcher import Peer, Task, Told
from hil.synth.records import Arch
from hil.synth.searchspace import random_archs


class OptunaPeer(Peer):
    """A study in memory; every proposal is an asked trial, told when it was measured.

    A network that the device refused was never trained and so has no U. Its trial completes with
    its constraint values and the mean U told so far, which says nothing for or against it.

    Args:
        task: what to search.
        sampler: an Optuna sampler.
    """

    tries = 12

    def __init__(self, task: Task, sampler: Any) -> None:
        super().__init__(task)
        self._optuna, self._sampler = _optuna(), sampler
        self._states = self._optuna.trial.TrialState
        self._study = self._optuna.create_study(direction="maximize", sampler=sampler)
        self._open: dict[str, Any] = {}
        distributions = self._optuna.distributions
        self._distributions: dict[str, Any] = {
            v.name: distributions.IntDistribution(0, v.size - 1)
            if v.ordered
            else distributions.CategoricalDistribution(tuple(range(v.size)))
            for v in self.space.variables
        }

    def candidates(self, count: int, rng: np.random.Generator) -> list[Arch]:
        """What the sampler suggests; where it repeats itself, edits of its last suggestion."""
        chosen: list[Arch] = []
        last: Arch | None = None
        for _ in range(self.tries * count):
            if len(chosen) == count:
                break
            last = self._suggest(chosen)
        if len(chosen) < count:
            walk = [last or random_archs(self.space, 1, rng)[0]]

            def step() -> Arch | None:
                walk[0] = mutated(self, walk[0], rng) or walk[0]
                return walk[0]

            for arch in self.fill(count - len(chosen), rng, step, chosen):
                self._study.enqueue_trial(self._params(arch))
                self._suggest(chosen)
        return chosen

    def drop(self, archs: Sequence[Arch]) -> None:
        """Trials of candidates that are not measured fail: Optuna learns nothing from them."""
        for arch in archs:
            trial = self._open.pop(self.space.key(arch), None)
            if trial is not None:
                self._study.tell(trial, state=self._states.FAIL)

    def learn(self, told: Told) -> None:
        """Complete the network's trial; one it never proposed is added."""
        trial = self._open.pop(self.space.key(told.arch), None)
        value = told.score if told.score is not None else self._mean()
        # All trials must have all constraints; one that nobody measured is neither kept nor broken.
        gaps = dict.fromkeys(self.task.limit_names, 0.0) | told.gaps
        if trial is not None:
            for name, gap in gaps.items():
                trial.set_constraint(name, gap)
            self._study.tell(trial, value)
            return
        self._study.add_trial(
            self._optuna.trial.create_trial(
                value=value,
                params=self._params(told.arch),
                distributions=self._distributions,
                constraints=gaps,
            )
        )

    def _suggest(self, chosen: list[Arch]) -> Arch:
        """Ask for one trial; append it to `chosen` and keep it open, or fail it."""
        trial = self._study.ask(self._distributions)
        arch = tuple(int(trial.params[v.name]) for v in self.space.variables)
        if self.fresh(arch, chosen):
            self._open[self.space.key(arch)] = trial
            chosen.append(arch)
        else:
            self._study.tell(trial, state=self._states.FAIL)
        return arch

    def _params(self, arch: Arch) -> dict[str, int]:
        return {v.name: c for v, c in zip(self.space.variables, arch, strict=True)}

    def _mean(self) -> float:
        scores = [t.score for t in self.told.values() if t.score is not None]
        return float(np.mean(scores)) if scores else 0.0


class Tpe(OptunaPeer):
    """Multivariate tree-structured Parzen estimators (constraints: Watanabe and Hutter 2023)."""

    name = "tpe"

    def __init__(self, task: Task, **options: Any) -> None:
        settings = {"multivariate": True, "seed": task.seed, **options}
        with _experimental():
            super().__init__(task, _optuna().samplers.TPESampler(**settings))


class Nsga2(OptunaPeer):
    """NSGA-II on the one objective U, constraints by constrained domination."""

    name = "nsga2"

    def __init__(self, task: Task, population: int = 20, **options: Any) -> None:
        settings = {"population_size": population, "seed": task.seed, **options}
        super().__init__(task, _optuna().samplers.NSGAIISampler(**settings))


class Gp(OptunaPeer):
    """Gaussian processes with the constrained expected improvement of Optuna's GPSampler."""

    name = "gp"
    tries = 3
    handful = 2

    def __init__(self, task: Task, **options: Any) -> None:
        super().__init__(task, _optuna().samplers.GPSampler(seed=task.seed, **options))
        self._scored = False

    def learn(self, told: Told) -> None:
        """As all of Optuna's, but refused networks are told anew once a U is known at all.

        What stood for their unknown U until then is on no scale, and this sampler fits it.
        """
        super().learn(told)
        if told.score is None or self._scored or self._open:
            return
        self._scored = True
        trials = self._study.get_trials(states=(self._states.COMPLETE,))
        self._study = self._optuna.create_study(direction="maximize", sampler=self._sampler)
        for trial in trials:
            trial.value = told.score
        self._study.add_trials(trials)


def _optuna() -> ModuleType:
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(
            "Optuna is not installed", fix="install the extra: pip install 'hil[peers]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    module: ModuleType = optuna
    return module


@contextmanager
def _experimental() -> Iterator[None]:
    """Multivariate sampling is what Optuna recommends and calls experimental: say nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", _optuna().exceptions.ExperimentalWarning)
        yield
