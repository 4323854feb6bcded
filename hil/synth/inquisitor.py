"""I(G; theta_I): told what was measured, it answers with beliefs, reasons and the next probes.

`tell` folds in a round: posteriors are fitted, bounds calibrated, and the generator advances if
its successor passes the gate. `ask` changes nothing. All state follows from the observations in
the order told, so a resumed run that tells the same observations asks for the same networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np

from hil.synth.acquisition import PoolRules, Scene, Worlds, grow, propose
from hil.synth.beliefs import believe, relaxation
from hil.synth.design import informative_design
from hil.synth.emission import draw
from hil.synth.fitting import (
    FitRules,
    Gate,
    Standing,
    boltzmann,
    successor,
    uniform_mixture,
    with_mixture,
)
from hil.synth.generator import Generator
from hil.synth.receipts import Insight, Receipt, insights, receipts
from hil.synth.records import (
    ACCURACY,
    Arch,
    FloatArray,
    Limit,
    Observation,
    Proposal,
    Utility,
)
from hil.synth.screen import Screen, excess
from hil.synth.searchspace import Batch, Encoder, SearchSpace, SignalSpace, unique

_PURPOSES = ("design", "pool")
_INCUMBENTS = 6
_LEAST_TRUST = 0.1  # of the trust region, however often successors are refused


@dataclass(frozen=True)
class Setup:
    """Everything the search is told before it starts.

    Attributes:
        limits: the requirements, absolute.
        utility: U.
        stimuli: per variable, harm of each choice by task stimuli (any positive scale, the
            identity's least), or None where the task was not probed.
        seed: of everything the inquisitor draws by itself.
        initial: networks of the initial design, the prototype among them; fewer where
            training-free signals already say what to look at (`signalled`).
        signalled: the same in a space with such signals.
        fit: how generators are fitted.
        pool: how pools are built.
        gate: when a successor is admitted.
        gate_seeds: common seeds of the gate.
        generator_rounds: rounds between two attempts at a successor.
    """

    limits: tuple[Limit, ...]
    utility: Utility
    stimuli: tuple[FloatArray, ...] | None = None
    seed: int = 0
    initial: int = 8
    signalled: int = 2
    fit: FitRules = field(default_factory=FitRules)
    pool: PoolRules = field(default_factory=PoolRules)
    gate: Gate = field(default_factory=Gate)
    gate_seeds: int = 96
    generator_rounds: int = 1


class Inquisitor:
    """The pair's critic, and keeper of the current generator.

    Args:
        space: what may be chosen.
        setup: limits, utility and rules.
    """

    def __init__(self, space: SearchSpace, setup: Setup) -> None:
        self.space, self.setup = space, setup
        self._encoder = Encoder(space)
        self._observed: dict[str, Observation] = {}
        self._round = 0
        self._trust = setup.fit.trust
        self._founded = False
        rng = self._rng("design")
        signals = setup.stimuli is None and isinstance(space, SignalSpace)
        first = min(setup.initial, setup.signalled) if signals else setup.initial
        self._design = informative_design(self._encoder, first, rng)
        sizes = [v.size for v in space.variables]
        screen = Screen(self._encoder, setup.limits, {}, {})
        self.generator = Generator(uniform_mixture(sizes, setup.fit.components), screen)

    @property
    def observations(self) -> tuple[Observation, ...]:
        """All that was told, one per network, in order of first mention."""
        return tuple(self._observed.values())

    def ask(self, n: int, rng: np.random.Generator) -> list[Proposal]:
        """Up to `n` networks worth measuring, none measured before; changes nothing.

        The initial design comes first; after that `rng` decides together with what was told.
        """
        return self.ask_beside(n, (), rng)

    def ask_beside(
        self, n: int, pending: Sequence[Arch], rng: np.random.Generator
    ) -> list[Proposal]:
        """As `ask`, beside networks that are being measured and were not told of yet."""
        taken = {self.space.key(arch) for arch in pending}
        design = unique(self.space, self._design, {*self._observed, *taken})
        # Hardware stimuli are chosen to tell costs apart: measured, and not trained.
        proposals = [Proposal(arch, "design", train=False) for arch in design[:n]]
        if len(proposals) == n or not self.generator.screen.posteriors:
            return proposals
        scene = self._scene(extra=taken | {self.space.key(p.arch) for p in proposals})
        return proposals + propose(scene, n - len(proposals), self.setup.pool, rng)

    def tell(self, observations: Iterable[Observation]) -> None:
        """Fold observations in, round by round; of one network the later one completes the earlier.

        Args:
            observations: in candidate order, rounds ascending.
        """
        for _, group in groupby(observations, key=lambda o: o.round):
            for observation in group:
                self._fold(observation)
            self._advance()

    def insights(self) -> list[Insight]:
        """Predicted effect of every single-variable change of the prototype."""
        return insights(self.generator.screen)

    def receipts(self, arch: Arch) -> list[Receipt]:
        """Why a network is refused: every limit it breaks, and by whose fault."""
        seen = self._observed.get(self.space.key(arch))
        measured = {} if seen is None else {m: v for m, (v, _) in seen.costs.items()}
        if seen is not None and seen.accuracy is not None:
            measured[ACCURACY] = seen.accuracy
        return receipts(self.generator.screen, arch, measured)

    def incumbents(self) -> list[Arch]:
        """Feasible networks by utility; while there are none, the least violating ones."""
        good = [o for o in self.observations if self._utility_of(o) is not None]
        if good:
            good.sort(key=lambda o: -(self._utility_of(o) or 0.0))
            return [o.arch for o in good]
        measured = [o for o in self.observations if o.costs]
        return [o.arch for o in sorted(measured, key=self._violation)]

    def least_violating(self) -> tuple[Arch, float] | None:
        """The measured network nearest to the limits and its total relative excess."""
        measured = [o for o in self.observations if o.costs]
        if not measured:
            return None
        least = min(measured, key=self._violation)
        return least.arch, self._violation(least)

    def _fold(self, observation: Observation) -> None:
        key = self.space.key(observation.arch)
        old = self._observed.get(key)
        if old is not None:
            accuracy = old if observation.accuracy is None else observation
            observation = replace(
                observation,
                costs={**old.costs, **observation.costs},
                accuracy=accuracy.accuracy,
                accuracy_sd=accuracy.accuracy_sd,
            )
        self._observed[key] = observation

    def _advance(self) -> None:
        """End of a round: new beliefs, then perhaps a new generator."""
        self._round += 1
        setup, encoder = self.setup, self._encoder
        screen = believe(encoder, setup.limits, setup.stimuli, self.observations)
        self.generator = replace(self.generator, screen=screen)
        if not screen.posteriors:
            return
        if not self._founded:
            # G_0 comes of the whole first probing; until then it is only made anew.
            first = boltzmann(relaxation(screen, setup.utility), setup.fit)
            self.generator = replace(self.generator, mixture=first)
            self._founded = not unique(self.space, self._design, self._observed)
        if not self._founded or self._round % self.setup.generator_rounds:
            return
        rng = self._rng("pool")
        scene = self._scene()
        worlds = Worlds(screen, self.setup.utility, self.setup.pool.samples, rng)
        pool = grow(scene, worlds, self.setup.pool, rng).batch
        self._succeed(pool)

    def _succeed(self, pool: Batch) -> None:
        certified = [o for o in self.observations if self._utility_of(o) is not None]
        batch = self._encoder.encode([*pool.archs, *(o.arch for o in certified)])
        scores = self._lower_utility(batch)
        prior = self.generator.screen.holds(batch)
        if not prior.any():
            # Nothing is believed to fit: aim at the least violation instead.
            scores, prior = -self.generator.screen.excess(batch), np.ones(len(batch))
        prior = prior.copy()
        # Measured-feasible networks count though a wide bound may doubt them, and count more.
        prior[len(pool) :] = 4.0
        rules = self.setup.fit
        mixture = successor(self.generator.mixture, batch, (scores, prior), rules, self._trust)
        new = with_mixture(self.generator, mixture)
        if self.setup.gate.admits(self._standing(new), self._standing(self.generator)):
            self.generator, self._trust = new, rules.trust
        else:
            self._trust = max(0.5 * self._trust, _LEAST_TRUST * rules.trust)

    def _standing(self, generator: Generator) -> Standing:
        seeds = range(self.setup.gate_seeds)
        screened = generator.first(seeds, 4)
        # A seed without a screened network is judged by its plain draw, and has no utility.
        plain = draw(generator.mixture, seeds, 0)
        archs = [p if s is None else s for s, p in zip(screened, plain, strict=True)]
        batch = self._encoder.encode(archs)
        emitted = np.array([s is not None for s in screened])
        utility = np.where(emitted, self._lower_utility(batch), np.nan)
        return Standing(generator.screen.probability(batch), utility)

    def _lower_utility(self, batch: Batch) -> FloatArray:
        accuracy = np.ones(len(batch))
        screen = self.generator.screen
        if ACCURACY in screen.posteriors:
            accuracy = screen.bound(ACCURACY, batch, "min", 0.25)
        return self.setup.utility(accuracy, batch.macs, batch.params)

    def _scene(self, extra: set[str] | None = None) -> Scene:
        scores = [u for o in self.observations if (u := self._utility_of(o)) is not None]
        return Scene(
            self.generator,
            self.setup.utility,
            tuple(self.incumbents()[:_INCUMBENTS]),
            max(scores, default=None),
            frozenset(self._observed) | (extra or set()),
        )

    def _utility_of(self, observation: Observation) -> float | None:
        """U of a network measured feasible and trained, else None."""
        if observation.verdict != "feasible" or observation.accuracy is None:
            return None
        batch = self._encoder.encode([observation.arch])
        accuracy = np.array([observation.accuracy])
        return float(self.setup.utility(accuracy, batch.macs, batch.params)[0])

    def _violation(self, observation: Observation) -> float:
        """Total relative excess over the limits as measured."""
        batch = self._encoder.encode([observation.arch])
        values = {m: v for m, (v, _) in observation.costs.items()}
        values |= {"macs": float(batch.macs[0]), "params": float(batch.params[0])}
        if observation.accuracy is not None:
            values[ACCURACY] = observation.accuracy
        return sum(
            float(excess(limit, np.array([values[limit.metric]]))[0])
            for limit in self.setup.limits
            if limit.metric in values
        )

    def _rng(self, purpose: str) -> np.random.Generator:
        """Randomness that depends on seed, round and purpose alone."""
        stream = _PURPOSES.index(purpose)
        key = [self.setup.seed, 1 + stream]
        return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, self._round, 0]))
