"""What every way to choose networks has in common: asked what to measure, told what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from hil.synth.records import (
    ACCURACY,
    EXACT_METRICS,
    Arch,
    FloatArray,
    Limit,
    Observation,
    Proposal,
    Utility,
)
from hil.synth.screen import excess
from hil.synth.searchspace import SearchSpace, random_archs

Signals = Callable[[Sequence[Arch]], FloatArray]
"""Training-free signals of architectures, (N, signals); of the first, more is better."""

HANDFUL = 8
"""Own candidates among which a peer with signals chooses each network it proposes."""
_TRIES = 200
_RIDGE = 1.0


class Searcher(Protocol):
    """Asked what to measure next, told what came of it."""

    def ask(self, n: int, rng: np.random.Generator) -> list[Proposal]:
        """Up to `n` networks, none measured before."""
        ...

    def tell(self, observations: Iterable[Observation]) -> None:
        """Fold in what was measured, in candidate order."""
        ...


def highest_accuracy(accuracy: FloatArray, macs: FloatArray, params: FloatArray) -> FloatArray:  # noqa: ARG001 - a Utility
    """The utility of a search for accuracy alone."""
    return accuracy


@dataclass(frozen=True)
class Task:
    """What a peer is told before it starts.

    Attributes:
        space: what may be chosen.
        limits: the requirements, absolute.
        utility: U.
        seed: of everything the peer draws by itself.
        signals: training-free signals, or None.
        stimuli: harm of each choice by task stimuli (see `Setup`), or None.
    """

    space: SearchSpace
    limits: tuple[Limit, ...]
    utility: Utility = highest_accuracy
    seed: int = 0
    signals: Signals | None = None
    stimuli: tuple[FloatArray, ...] | None = None

    def scores(self, archs: Sequence[Arch], accuracy: FloatArray) -> FloatArray:
        """U of architectures at these accuracies (fractions)."""
        costs = np.array([self.space.cost(arch) for arch in archs]).reshape(len(archs), 2)
        return self.utility(accuracy, costs[:, 0], costs[:, 1])

    def gaps(self, observation: Observation) -> dict[str, float]:
        """By limit, how far beyond it relative to its size, negative within; unknown: absent."""
        values = self._known(observation)
        gaps = {}
        for limit in self.limits:
            if limit.metric in values:
                value, bound = values[limit.metric], limit.bound
                beyond = float(excess(limit, np.array([value]))[0])
                within = abs(value - bound) / max(abs(bound), 1e-300)
                gaps[_name(limit)] = beyond if beyond > 0.0 else -within
        return gaps

    @property
    def limit_names(self) -> tuple[str, ...]:
        """The keys that `gaps` may have."""
        return tuple(_name(limit) for limit in self.limits)

    def allowed(self, arch: Arch) -> bool:
        """Whether the limits that need no measurement hold."""
        exact = [limit for limit in self.limits if limit.metric in EXACT_METRICS]
        if not exact:
            return True
        known = dict(zip(EXACT_METRICS, self.space.cost(arch), strict=True))
        return all(excess(m, np.array([known[m.metric]]))[0] <= 0.0 for m in exact)

    def _known(self, observation: Observation) -> dict[str, float]:
        values = {metric: value for metric, (value, _) in observation.costs.items()}
        values |= dict(zip(EXACT_METRICS, self.space.cost(observation.arch), strict=True))
        if observation.accuracy is not None:
            values[ACCURACY] = observation.accuracy
        return values


@dataclass(frozen=True)
class Told:
    """One network as a peer sees it: `score` is U, None where it is not feasible and trained."""

    arch: Arch
    score: float | None
    gaps: dict[str, float]

    @property
    def violation(self) -> float:
        """Total relative excess over the limits."""
        return sum(max(gap, 0.0) for gap in self.gaps.values())

    @property
    def rank(self) -> tuple[int, float]:
        """Feasible first, then by U; infeasible ones by violation (Deb's rule)."""
        return (0, -self.violation) if self.score is None else (1, self.score)


class Peer:
    """Keeps what was told, never repeats a network, and ranks its own candidates by signals.

    A subclass gives `candidates` and, where it must know, `learn` and `drop`.
    """

    name = "peer"
    handful = HANDFUL

    def __init__(self, task: Task) -> None:
        self.task, self.space = task, task.space
        self.told: dict[str, Told] = {}
        self._observed: dict[str, Observation] = {}

    def candidates(self, count: int, rng: np.random.Generator) -> list[Arch]:
        """Up to `count` different networks that are `fresh`, in order of preference."""
        raise NotImplementedError

    def learn(self, told: Told) -> None:
        """Fold one network in; called again where a later observation completes it."""

    def drop(self, archs: Sequence[Arch]) -> None:
        """These candidates were not proposed after all."""

    def ask(self, n: int, rng: np.random.Generator) -> list[Proposal]:
        """Up to `n` networks, none told before; fewer where no more are found."""
        signals = self.task.signals
        if signals is None or self.handful == 1:
            return [Proposal(arch, self.name) for arch in self.candidates(n, rng)]
        pool = self.candidates(n * self.handful, rng)
        promise = ranking(self.task, list(self._observed.values()))(pool)
        order = np.argsort(-promise, kind="stable")
        self.drop([pool[i] for i in order[n:]])
        return [Proposal(pool[i], self.name) for i in order[:n]]

    def tell(self, observations: Iterable[Observation]) -> None:
        """Fold observations in; of one network the later one completes the earlier."""
        for new in observations:
            key = self.space.key(new.arch)
            old = self._observed.get(key)
            done = new if old is None else _completed(old, new)
            self._observed[key] = done
            score = None
            if done.verdict == "feasible" and done.accuracy is not None:
                score = float(self.task.scores([done.arch], np.array([done.accuracy]))[0])
            self.told[key] = Told(done.arch, score, self.task.gaps(done))
            self.learn(self.told[key])

    def fresh(self, arch: Arch, besides: Iterable[Arch] = ()) -> bool:
        """Whether the network was not told, is none of `besides` and may meet the limits."""
        key = self.space.key(arch)
        taken = key in self.told or any(self.space.key(other) == key for other in besides)
        return not taken and self.task.allowed(arch)

    def fill(
        self,
        count: int,
        rng: np.random.Generator,
        draw: Callable[[], Arch | None],
        besides: Sequence[Arch] = (),
    ) -> list[Arch]:
        """Up to `count` fresh networks of `draw`; where it yields no more, at random."""
        chosen: list[Arch] = []
        misses = 0
        while len(chosen) < count and misses < 2 * _TRIES:
            # One that keeps repeating itself is helped out by chance.
            drawn = draw() if misses < _TRIES else None
            arch = random_archs(self.space, 1, rng)[0] if drawn is None else drawn
            if self.fresh(arch, [*besides, *chosen]):
                chosen.append(arch)
                misses = 0
            else:
                misses += 1
        return chosen


class RandomSearch(Peer):
    """Uniform draws from the space, no network twice."""

    name = "random"

    def __init__(self, task: Task) -> None:
        super().__init__(task)

    def candidates(self, count: int, rng: np.random.Generator) -> list[Arch]:
        """`count` networks drawn at random; fewer where the space is nearly exhausted."""
        return self.fill(count, rng, lambda: None)


def ranking(
    task: Task, observations: Sequence[Observation]
) -> Callable[[Sequence[Arch]], FloatArray]:
    """One score out of several signals, by one fixed rule for every peer.

    Ridge regressions on the standardised signals: of the accuracies told so far, and of each gap
    to a limit. Networks predicted within all limits come first, by predicted accuracy; then the
    others, by predicted violation. Before there are more trainings than signals the first signal
    alone stands for accuracy, and before there are more measurements gaps count for nothing: on
    real cells, regressions of fewer values led into what fits because it computes nothing.
    """
    signals = task.signals
    if signals is None:
        raise ValueError("there are no signals to rank by")
    trained = [o for o in observations if o.accuracy is not None]
    accuracy = _ridge(signals, [(o.arch, o.accuracy or 0.0) for o in trained])
    known = [(o.arch, task.gaps(o)) for o in observations if o.costs]
    gaps = [
        fitted
        for name in task.limit_names
        if not name.startswith(ACCURACY)
        and (fitted := _ridge(signals, [(a, g[name]) for a, g in known if name in g]))
    ]

    def score(archs: Sequence[Arch]) -> FloatArray:
        seen = signals(archs)
        promise = np.asarray(seen[:, 0] if accuracy is None else accuracy(seen), dtype=np.float64)
        over = sum((np.maximum(gap(seen), 0.0) for gap in gaps), np.zeros(len(seen)))
        return np.where(over > 0.0, promise.min(initial=0.0) - 1.0 - over, promise)

    return score


def _ridge(
    signals: Signals, told: Sequence[tuple[Arch, float]]
) -> Callable[[FloatArray], FloatArray] | None:
    """Prediction from signals, None where there are too few values for any."""
    if not told:
        return None
    seen = signals([arch for arch, _ in told])
    if len(told) <= seen.shape[1] + 1:
        return None
    values = np.array([value for _, value in told], dtype=np.float64)
    centre, scale = seen.mean(axis=0), seen.std(axis=0)
    scale = np.where(scale > 0.0, scale, np.inf)
    inputs, level = (seen - centre) / scale, values.mean()
    gram = inputs.T @ inputs + _RIDGE * np.eye(inputs.shape[1])
    weights = np.linalg.solve(gram, inputs.T @ (values - level))
    return lambda rows: np.asarray((rows - centre) / scale @ weights + level, dtype=np.float64)


def _name(limit: Limit) -> str:
    return f"{limit.metric} {limit.sense}"


def _completed(old: Observation, new: Observation) -> Observation:
    source = old if new.accuracy is None else new
    return replace(
        new,
        costs={**old.costs, **new.costs},
        accuracy=source.accuracy,
        accuracy_sd=source.accuracy_sd,
    )
