"""What to measure next: constrained Thompson sampling and improvement over a grown pool.

Posterior samples are functions, so the pool grows where samples are good: each sample's best
architectures are edited, the edits are read by all samples, and so on. Slots then take turns:
`improve` takes the greatest mean improvement over the incumbent across all samples, which spreads
a batch out by itself; `safe` the same, weighted towards what very likely fits; `thompson` one
sample's constrained optimum, or its least violation. A share is drawn from the generator at
random: the stream that keeps calibration honest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from hil.synth.emission import draw
from hil.synth.generator import Generator
from hil.synth.posterior import Sampler
from hil.synth.records import ACCURACY, EXACT_METRICS, Arch, FloatArray, Proposal, Utility
from hil.synth.screen import Screen, excess
from hil.synth.searchspace import Batch, SearchSpace, random_archs, unique

_PEAK = 1.0 / np.sqrt(2.0 * np.pi)
_CYCLE = ("improve", "safe", "thompson", "safe")


@dataclass(frozen=True)
class PoolRules:
    """Sizes of the pool and of what grows it.

    Attributes:
        generated: draws from the generator.
        edited: edits of the incumbents.
        random: uniform draws.
        samples: posterior samples.
        passes: rounds of growth.
        edits: edits of each sample's best, a pass.
        calibration: share of a batch drawn from the generator at random.
        caution: power of the chance to fit by which a safe choice is weighted.
    """

    generated: int = 256
    edited: int = 256
    random: int = 64
    samples: int = 32
    passes: int = 4
    edits: int = 8
    calibration: float = 0.15
    caution: float = 2.0


@dataclass(frozen=True)
class Scene:
    """Where a batch is chosen.

    Attributes:
        generator: the current generator and, inside, the current beliefs.
        utility: U.
        incumbents: architectures to edit, best first.
        best: U of the best feasible network measured, or None where none is known.
        taken: keys of networks already measured.
    """

    generator: Generator
    utility: Utility
    incumbents: tuple[Arch, ...]
    best: float | None
    taken: frozenset[str]


class Worlds:
    """Joint posterior samples of everything: each is one possible world."""

    def __init__(
        self, screen: Screen, utility: Utility, count: int, rng: np.random.Generator
    ) -> None:
        self._screen, self._utility, self._count = screen, utility, count
        self._samplers: Mapping[str, Sampler] = {
            metric: screen.posteriors[metric].sampler(count, rng)
            for metric in sorted(screen.posteriors)
        }

    def read(self, batch: Batch) -> tuple[FloatArray, FloatArray]:
        """Utility and total excess over the limits in every world, (len(batch), worlds) each."""
        shape = (len(batch), self._count)
        values = {m: s.read(batch) for m, s in self._samplers.items()}
        accuracy = values.get(ACCURACY, np.ones(shape))
        macs, params = batch.macs[:, None], batch.params[:, None]
        over = np.zeros(shape)
        for limit in self._screen.limits:
            if limit.metric in EXACT_METRICS:
                over = over + excess(limit, macs if limit.metric == "macs" else params)
            elif limit.metric in values:
                over = over + excess(limit, values[limit.metric])
        scores = self._utility(
            accuracy, np.broadcast_to(macs, shape), np.broadcast_to(params, shape)
        )
        return np.asarray(scores, dtype=np.float64), over

    def luck(self, batch: Batch) -> FloatArray:
        """Standard deviation of U by the chance of one training, (len(batch),)."""
        if ACCURACY not in self._screen.posteriors:
            return np.zeros(len(batch))
        usual, better = self._screen.posteriors[ACCURACY].spread_of_one(batch)
        usual_u, better_u = (self._utility(a, batch.macs, batch.params) for a in (usual, better))
        return np.maximum(np.asarray(better_u) - np.asarray(usual_u), 0.0)


def edit(space: SearchSpace, arch: Arch, edits: int, rng: np.random.Generator) -> Arch:
    """The architecture with up to `edits` variables drawn anew; ordered ones mostly by one step."""
    changed = list(arch)
    for _ in range(edits):
        j = int(rng.integers(len(changed)))
        variable = space.variables[j]
        if variable.size < 2:
            continue
        if variable.ordered and variable.size > 2 and rng.random() < 0.5:
            step = 1 if rng.random() < 0.5 else -1
            changed[j] = min(max(changed[j] + step, 0), variable.size - 1)
        else:
            shift = 1 + int(rng.integers(variable.size - 1))
            changed[j] = (changed[j] + shift) % variable.size
    return tuple(changed)


def base_pool(scene: Scene, rules: PoolRules, rng: np.random.Generator) -> list[Arch]:
    """Generator draws, edits of incumbents and uniform draws, none measured."""
    space = scene.generator.screen.encoder.space
    seeds = [int(s) for s in rng.integers(0, 2**62, size=rules.generated)]
    archs = draw(scene.generator.mixture, seeds, 0)
    for i in range(rules.edited if scene.incumbents else 0):
        incumbent = scene.incumbents[i % len(scene.incumbents)]
        archs.append(edit(space, incumbent, 1 + int(rng.integers(3)), rng))
    archs += random_archs(space, rules.random, rng)
    return unique(space, archs, scene.taken)


@dataclass(frozen=True)
class Pool:
    """Architectures with their values in every world.

    Attributes:
        luck: standard deviation that one training's chance gives each one's utility.
    """

    batch: Batch
    utility: FloatArray
    over: FloatArray
    luck: FloatArray | float = 0.0

    def gains(self, bar: FloatArray) -> FloatArray:
        """Expected improvement over each world's bar, where all its limits hold, by row.

        The bar is the luckiest look so far; what another look at a network may show beyond it
        has luck in it too. Without, nothing would seem an improvement once one look was lucky.
        """
        gap = self.utility - bar
        sd = np.broadcast_to(np.asarray(self.luck), len(gap))[:, None] + 1e-12
        z = gap / sd
        expected = gap * ndtr(z) + sd * np.exp(-0.5 * z * z) * _PEAK
        result: FloatArray = np.where(self.over <= 0.0, expected, 0.0).mean(axis=1)
        return result

    def merit(self) -> FloatArray:
        """Utility where a world finds all limits held; below all of those, minus the excess."""
        floor = float(self.utility.min()) - 1.0
        result: FloatArray = np.where(self.over <= 0.0, self.utility, floor - self.over)
        return result


def grow(scene: Scene, worlds: Worlds, rules: PoolRules, rng: np.random.Generator) -> Pool:
    """The base pool, grown by edits of every world's best."""
    encoder = scene.generator.screen.encoder
    archs = base_pool(scene, rules, rng)
    utility, over = worlds.read(encoder.encode(archs))
    seen = set(scene.taken) | {encoder.space.key(a) for a in archs}
    for _ in range(rules.passes):
        merit = Pool(encoder.encode(archs), utility, over).merit()
        leaders = sorted({int(i) for i in np.argmax(merit, axis=0)})
        copies = max(rules.edits, rules.edits * merit.shape[1] // len(leaders) // 2)
        edits = [
            edit(encoder.space, archs[i], 1 + int(rng.random() < 0.4), rng)
            for i in leaders
            for _ in range(copies)
        ]
        new = unique(encoder.space, edits, seen)
        if not new:
            break
        seen |= {encoder.space.key(a) for a in new}
        more_utility, more_over = worlds.read(encoder.encode(new))
        archs = archs + new
        utility, over = np.vstack([utility, more_utility]), np.vstack([over, more_over])
    batch = encoder.encode(archs)
    return Pool(batch, utility, over, worlds.luck(batch))


def propose(scene: Scene, n: int, rules: PoolRules, rng: np.random.Generator) -> list[Proposal]:
    """A batch of up to `n` networks to measure, all different, none measured before."""
    worlds = Worlds(scene.generator.screen, scene.utility, rules.samples, rng)
    pool = grow(scene, worlds, rules, rng)
    archs = pool.batch.archs
    slots = min(n, len(archs))
    drawn = int(rules.calibration * slots + rng.random())  # the right share on average
    chance = scene.generator.screen.probability(pool.batch)
    chosen = _slots(pool, chance**rules.caution, scene.best, slots - drawn, len(scene.taken))
    proposals = [Proposal(archs[i], source) for i, source in chosen]
    space = scene.generator.screen.encoder.space
    taken = set(scene.taken) | {space.key(p.arch) for p in proposals}
    return proposals + _calibration(scene.generator, drawn, taken, rng)


def _slots(
    pool: Pool, weight: FloatArray, best: float | None, count: int, turn: int
) -> list[tuple[int, str]]:
    """Rows of the pool, each with the rule that chose it.

    Args:
        pool: what may be chosen.
        weight: that of a safe choice.
        best: U of the best feasible network so far.
        count: rows wanted.
        turn: where in the cycle of rules they begin, so that single rows take turns too.
    """
    merit, open_rows = pool.merit(), np.ones(len(pool.batch), dtype=bool)
    fits = pool.over <= 0.0
    # Where nothing is known to fit, the worst of all is nothing gained, however surely it fits.
    floor = float(pool.utility.min())
    bar = np.full(merit.shape[1], floor if best is None else best)
    chosen: list[tuple[int, str]] = []
    for slot in range(count):
        rule = _CYCLE[(turn + slot) % len(_CYCLE)]
        gains = pool.gains(bar)
        if rule == "safe":
            # Not the share of worlds: among thousands, one that fits in a lucky few would win.
            gains = gains * weight
        if rule == "thompson" or gains[open_rows].max(initial=0.0) <= 0.0:
            gains, rule = merit[:, slot % merit.shape[1]], "thompson"
        row = int(np.argmax(np.where(open_rows, gains, -np.inf)))
        open_rows[row] = False
        bar = np.maximum(bar, np.where(fits[row], pool.utility[row], -np.inf))
        chosen.append((row, rule))
    return chosen


def _calibration(
    generator: Generator, count: int, taken: set[str], rng: np.random.Generator
) -> list[Proposal]:
    """Networks as the generator emits them, screened where it can."""
    space = generator.screen.encoder.space
    found: list[Proposal] = []
    for _ in range(8):
        if len(found) >= count:
            break
        seeds = [int(s) for s in rng.integers(0, 2**62, size=4 * count)]
        screened = [a for a in generator.first(seeds, 4) if a is not None]
        archs = unique(space, screened or draw(generator.mixture, seeds, 0), taken)
        for arch in archs[: count - len(found)]:
            taken.add(space.key(arch))
            # What a bound on cost must hold for is what the generator emits, trained or not.
            found.append(Proposal(arch, "calibration", train=False))
    return found
