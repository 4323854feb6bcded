"""From what the inquisitor believes to the next generator: theta_G <- theta_G + Delta theta_G.

G_0 is a Boltzmann distribution on single-variable insights whose Lagrange multipliers solve the
dual of the relaxed budget, so it starts centred on the limits. Later generators are mixtures
fitted by weighted expectation-maximisation to q*(a) ~ exp(U_lower(a) / tau) on the architectures
whose bounds hold; tau is as small as diversity allows, the step is bounded in KL divergence, and
`Gate` lets a successor in only on lower bounds over common seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from hil.synth.emission import Mixture, draw
from hil.synth.generator import Generator
from hil.synth.records import FloatArray, IntArray
from hil.synth.searchspace import Batch

_EM_STEPS = 25
_WEIGHT_FLOOR = 0.1
_BISECTIONS = 30
_DOUBLINGS = 6


@dataclass(frozen=True)
class FitRules:
    """How generators are fitted.

    Attributes:
        components: products in the mixture.
        floor: probability that every variable keeps spread evenly over its choices.
        distinct: distinct architectures wanted from `diversity_seeds` seeds.
        diversity_seeds: seeds over which distinctness is counted.
        trust: largest KL divergence of one step, in nats per variable.
    """

    components: int = 8
    floor: float = 0.06
    distinct: int = 100
    diversity_seeds: int = 1000
    trust: float = 0.5


def floored(mixture: Mixture, floor: float) -> Mixture:
    """The mixture with its entropy floor: no choice and no component ever dies out."""
    count = len(mixture.weights)
    weights = (1 - _WEIGHT_FLOOR) * mixture.weights / mixture.weights.sum() + _WEIGHT_FLOOR / count
    tables = tuple(
        (1 - floor) * t / t.sum(axis=1, keepdims=True) + floor / t.shape[1] for t in mixture.tables
    )
    return Mixture(weights, tables)


def uniform_mixture(sizes: Sequence[int], components: int) -> Mixture:
    """The mixture that knows nothing."""
    tables = tuple(np.full((components, size), 1.0 / size) for size in sizes)
    return Mixture(np.full(components, 1.0 / components), tables)


@dataclass(frozen=True)
class Relaxation:
    """The budget problem with every variable on its own.

    Attributes:
        utility: per variable, change of U of each choice against the identity.
        costs: per limit and variable, change of the log cost of each choice.
        budgets: per limit, log of limit over the prototype's cost; negative where it must shrink.
    """

    utility: tuple[FloatArray, ...]
    costs: tuple[tuple[FloatArray, ...], ...]
    budgets: FloatArray

    def multipliers(self, tau: float, guard: float) -> FloatArray:
        """Lagrange multipliers that meet the budgets, lowered by `guard`, in expectation."""
        budgets = self.budgets - guard

        def dual(prices: FloatArray) -> tuple[float, FloatArray]:
            value, gradient = float(prices @ budgets), budgets.copy()
            for j, gains in enumerate(self.utility):
                costs = np.array([c[j] for c in self.costs])
                scores = (gains - prices @ costs) / tau
                top = scores.max()
                expo = np.exp(scores - top)
                value += tau * float(top + np.log(expo.sum()))
                gradient -= costs @ (expo / expo.sum())
            return value, gradient

        start = np.zeros(len(self.budgets))
        bounds = [(0.0, 1e4)] * len(start)
        found = minimize(dual, start, jac=True, method="L-BFGS-B", bounds=bounds)
        return np.asarray(found.x, dtype=np.float64)

    def distributions(self, tau: float, guard: float) -> list[FloatArray]:
        """Boltzmann distribution of each variable at those multipliers."""
        prices = self.multipliers(tau, guard) if len(self.budgets) else np.zeros(0)
        result = []
        for j, gains in enumerate(self.utility):
            paid = sum((p * c[j] for p, c in zip(prices, self.costs, strict=True)), 0.0 * gains)
            expo = np.exp((gains - paid - (gains - paid).max()) / tau)
            result.append(expo / expo.sum())
        return result


def boltzmann(relaxation: Relaxation, rules: FitRules) -> Mixture:
    """theta_0: components differ in temperature and in how far inside the budget they aim."""
    spread = float(np.mean([np.ptp(u) for u in relaxation.utility]))
    rows = []
    for k in range(rules.components):
        share = k / max(1, rules.components - 1)
        tau = max(spread, 1e-6) * (0.3 + 0.7 * share)
        rows.append(relaxation.distributions(tau, guard=0.6 * (1.0 - share)))
    tables = tuple(np.array([row[j] for row in rows]) for j in range(len(relaxation.utility)))
    return floored(Mixture(np.full(len(rows), 1.0 / len(rows)), tables), rules.floor)


def temperature(utilities: FloatArray, prior: FloatArray, distinct: float) -> float:
    """Smallest tau at which exp(utility / tau) * prior spreads over `distinct` architectures."""
    spread = float(np.ptp(utilities)) + 1e-9
    low, high = 1e-3 * spread, 1e3 * spread
    wanted = np.log(min(distinct, 0.9 * len(utilities)))
    for _ in range(_BISECTIONS):
        middle = float(np.sqrt(low * high))
        if _entropy(boltzmann_weights(utilities, prior, middle)) < wanted:
            low = middle
        else:
            high = middle
    return high


def boltzmann_weights(utilities: FloatArray, prior: FloatArray, tau: float) -> FloatArray:
    """Normalised prior * exp(utility / tau)."""
    # The greatest of those that count: beside a better one that does not, all could vanish.
    top = utilities[prior > 0].max()
    weights = np.where(prior > 0, prior * np.exp(np.minimum(utilities - top, 0.0) / tau), 0.0)
    result: FloatArray = weights / weights.sum()
    return result


def _entropy(weights: FloatArray) -> float:
    positive = weights[weights > 0]
    return float(-(positive * np.log(positive)).sum())


def expectation_maximisation(
    choices: IntArray, weights: FloatArray, start: Mixture, floor: float
) -> Mixture:
    """Weighted maximum likelihood of a mixture, entropy floor included.

    Args:
        choices: (N, variables) architectures.
        weights: (N,) target probabilities.
        start: half of what the components begin from; the other half are far-apart architectures.
        floor: see `FitRules`.
    """
    sizes = [t.shape[1] for t in start.tables]
    onehots = [np.eye(size)[choices[:, j]] for j, size in enumerate(sizes)]
    mixture = floored(_spread_start(onehots, weights, start), floor)
    for _ in range(_EM_STEPS):
        joint = mixture.log_joint(choices)
        duties = np.exp(joint - joint.max(axis=1, keepdims=True))
        duties *= (weights / duties.sum(axis=1))[:, None]
        mass = duties.sum(axis=0)
        tables = tuple((duties.T @ h + 1e-9) / (mass[:, None] + 1e-9 * h.shape[1]) for h in onehots)
        mixture = floored(Mixture(mass + 1e-9, tables), floor)
    return mixture


def _spread_start(onehots: Sequence[FloatArray], weights: FloatArray, start: Mixture) -> Mixture:
    """Components pulled towards architectures that are likely and far from one another."""
    distance = np.full(len(weights), np.inf)
    centres: list[int] = []
    for _ in range(len(start.weights)):
        score = weights * np.where(np.isinf(distance), 1.0, distance)
        centres.append(int(np.argmax(score)))
        gap = sum(1.0 - h @ h[centres[-1]] for h in onehots)
        distance = np.minimum(distance, gap)
    tables = tuple(0.5 * t + 0.5 * h[centres] for t, h in zip(start.tables, onehots, strict=True))
    return Mixture(start.weights, tables)


def divergence(new: Mixture, old: Mixture, seeds: Sequence[int]) -> float:
    """KL(new || old) in nats, by draws from `new`."""
    choices = np.array(draw(new, seeds, 0), dtype=np.int64)
    return float(np.mean(new.log_prob(choices) - old.log_prob(choices)))


def blend(old: Mixture, new: Mixture, share: float) -> Mixture:
    """Part of the way from `old` to `new`, parameter by parameter."""
    tables = tuple((1 - share) * a + share * b for a, b in zip(old.tables, new.tables, strict=True))
    return Mixture((1 - share) * old.weights + share * new.weights, tables)


def distinct(mixture: Mixture, count: int) -> int:
    """Distinct unscreened architectures among the first `count` seeds."""
    return len(set(draw(mixture, range(count), 0)))


def successor(
    old: Mixture, batch: Batch, scores: tuple[FloatArray, FloatArray], rules: FitRules, trust: float
) -> Mixture:
    """The next mixture: fitted to q*, diverse enough, within the trust region.

    Args:
        old: theta of G_k.
        batch: the pool.
        scores: utilities and prior weights (zero where a bound fails) of the pool.
        rules: fitting rules.
        trust: largest KL divergence in nats per variable.
    """
    utilities, prior = scores
    tau = temperature(utilities, prior, rules.distinct)

    def fitted_at(tau: float) -> Mixture:
        weights = boltzmann_weights(utilities, prior, tau)
        return expectation_maximisation(batch.choices, weights, old, rules.floor)

    fitted = fitted_at(tau)
    for doubling in range(1, _DOUBLINGS):
        if distinct(fitted, rules.diversity_seeds) >= rules.distinct:
            break
        fitted = fitted_at(tau * 2.0**doubling)
    share, seeds = 1.0, range(256)
    limit = trust * len(old.tables)
    while share > 0.01 and divergence(blend(old, fitted, share), old, seeds) > limit:
        share *= 0.7
    return blend(old, fitted, share)


@dataclass(frozen=True)
class Standing:
    """How a generator stands on common seeds, under one screen.

    Attributes:
        satisfaction: per seed, predictive probability that all limits hold.
        utility: per seed, lower bound of U, NaN where no screened network was found.
    """

    satisfaction: FloatArray
    utility: FloatArray


@dataclass(frozen=True)
class Gate:
    """Lets G_{k+1} replace G_k only on lower bounds.

    Attributes:
        required: satisfaction that counts as enough.
        gain: utility the lower bound must rise by.
        z: one-sided normal quantile of the bounds.
    """

    required: float = 0.5
    gain: float = 0.0
    z: float = 1.28

    def admits(self, new: Standing, old: Standing) -> bool:
        """Whether `new` may replace `old`.

        While the old one satisfies less than `required`, satisfaction itself must rise; then
        utility must, and satisfaction may not fall below what is required or was reached.
        """
        new_low, old_low = self._low(new.satisfaction), self._low(old.satisfaction)
        if old_low < self.required:
            return new_low > old_low
        both = ~np.isnan(new.utility) & ~np.isnan(old.utility)
        if not both.any() or new_low < min(self.required, old_low):
            return False
        return self._low(new.utility[both] - old.utility[both]) > self.gain

    def _low(self, values: FloatArray) -> float:
        spread = float(values.std(ddof=1)) if len(values) > 1 else np.inf
        return float(values.mean()) - self.z * spread / float(np.sqrt(len(values)))


def with_mixture(generator: Generator, mixture: Mixture) -> Generator:
    """The next generation: a new mixture under the same screen."""
    return Generator(
        mixture,
        generator.screen,
        generator.generation + 1,
        generator.attempts,
        generator.edits,
    )
