"""Pruning as practised: uniform width, progressive simplification, and a knapsack over choices.

Own code after the ideas of NetAdapt (Yang et al. 2018) and HALP (Shen et al. 2022). Both start at
the prototype and weigh, per choice, what it harms against what it saves: the harm by task stimuli
and the saving by measurement. Networks are all a device measures, so the saving of one choice is
read from them by a regression over changes, with the share of MACs a change removes as the prior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hil.synth.peers.evolution import mutated
from hil.synth.peers.searcher import Peer, Task, Told
from hil.synth.records import ACCURACY, Arch, FloatArray
from hil.synth.searchspace import identity, uniform_level

_LEVELS = 64
_PROBES = 6
_PRIOR_SD, _NOISE_SD = 0.25, 0.02
_GRID = 48
"""Steps a resource is divided into by the knapsack; costs are rounded up to whole ones."""
_MARGINS = (0.0, 0.02, -0.02, 0.05, -0.05, 0.1, -0.1, 0.2)


class UniformWidth(Peer):
    """Every width scaled alike: bisects for the widest network that meets the limits."""

    name = "uniform"
    handful = 1

    def candidates(self, count: int, rng: np.random.Generator) -> list[Arch]:  # noqa: ARG002
        """Levels nearest to the middle between the widest that fits and the next that does not."""
        levels = np.linspace(0.0, 1.0, _LEVELS)
        ladder = list(dict.fromkeys(uniform_level(self.space, float(x)) for x in levels))
        fits = [self._fits(arch) for arch in ladder]
        low = max((i for i, fit in enumerate(fits) if fit is True), default=-1)
        above = [i for i, fit in enumerate(fits) if fit is False and i > low]
        middle = 0.5 * (low + min(above, default=len(ladder)))
        order = sorted(range(len(ladder)), key=lambda i: abs(i - middle))
        return [ladder[i] for i in order if self.fresh(ladder[i])][:count]

    def _fits(self, arch: Arch) -> bool | None:
        told = self.told.get(self.space.key(arch))
        return None if told is None else told.violation == 0.0


@dataclass(frozen=True)
class Choices:
    """Harm and saving of every choice, the identity's zero.

    Attributes:
        harm: per variable, of each choice.
        share: per variable, share of the prototype's MACs that each choice removes.
    """

    harm: tuple[FloatArray, ...]
    share: tuple[FloatArray, ...]

    @staticmethod
    def of(task: Task) -> Choices:
        """Read the choices of a task; without stimuli, harm is the share of parameters removed."""
        base = identity(task.space)
        macs, params = task.space.cost(base)
        harm, share = [], []
        for j, variable in enumerate(task.space.variables):
            costs = np.array(
                [task.space.cost((*base[:j], c, *base[j + 1 :])) for c in range(variable.size)]
            )
            share.append(1.0 - costs[:, 0] / max(macs, 1e-300))
            lost = np.maximum(1.0 - costs[:, 1] / max(params, 1e-300), 0.0)
            harm.append(lost if task.stimuli is None else np.asarray(task.stimuli[j], float))
        return Choices(tuple(harm), tuple(share))

    def changes(self, arch: Arch) -> FloatArray:
        """How far each variable is changed: MACs removed relative to its most (variables,)."""
        return np.array([self.step(j)[c] for j, c in enumerate(arch)])

    def step(self, j: int) -> FloatArray:
        """`changes` of one variable's choices; where MACs do not tell, any change is a whole."""
        share = self.share[j]
        most = float(np.abs(share).max())
        return share / most if most > 0.0 else (self.harm[j] != 0.0).astype(np.float64)

    def total(self, arch: Arch) -> float:
        """Harm of all choices together."""
        return float(sum(self.harm[j][c] for j, c in enumerate(arch)))


class _Pruner(Peer):
    """What both pruners share: probes of single variables, then a table of savings."""

    handful = 1

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.choices = Choices.of(task)
        self._base = identity(self.space)
        # The variables that may matter most are measured alone, changed as far as they go.
        order = sorted(
            range(len(self._base)), key=lambda j: -float(np.abs(self.choices.share[j]).max())
        )
        self._probes = [self._base, *(self._changed(j) for j in order[:_PROBES])]

    def candidates(self, count: int, rng: np.random.Generator) -> list[Arch]:
        """Probes, then what the pruner makes of them; edits of its best where it has no more."""
        chosen = [arch for arch in self._probes if self.fresh(arch)][:count]
        if len(chosen) < count and any(t.gaps for t in self.told.values()):
            for arch in self.pruned(count - len(chosen), self.savings()):
                if len(chosen) < count and self.fresh(arch, chosen):
                    chosen.append(arch)
        if chosen:
            return chosen
        best = max(self.told.values(), key=lambda t: t.rank).arch
        return self.fill(count, rng, lambda: mutated(self, best, rng))

    def pruned(self, count: int, savings: dict[str, FloatArray]) -> list[Arch]:
        """At least `count` networks, where it knows as many, in order of preference."""
        raise NotImplementedError

    def savings(self) -> dict[str, FloatArray]:
        """By limit: level of the prototype, then the slope of each variable (1 + variables,).

        In units of the limit: at most one where it holds.
        """
        found = {}
        names = {name for t in self.told.values() for name in t.gaps}
        for name in sorted(n for n in names if not n.startswith(ACCURACY)):
            told = [t for t in self.told.values() if name in t.gaps]
            level = np.array([1.0 + t.gaps[name] for t in told])
            top = float(level.max())
            rows = np.array([[1.0, *self.choices.changes(t.arch)] for t in told])
            most = [float(np.abs(share).max()) for share in self.choices.share]
            prior = top * np.array([1.0, *(-0.5 * m for m in most)])
            precision = (_NOISE_SD / _PRIOR_SD) ** 2 * np.eye(len(prior))
            gram = rows.T @ rows + precision
            found[name] = prior + np.linalg.solve(gram, rows.T @ (level - rows @ prior))
        return found

    def levels(self, arch: Arch, savings: dict[str, FloatArray]) -> FloatArray:
        """Predicted use of every limited resource, one where the limit is met exactly."""
        changes = np.array([1.0, *self.choices.changes(arch)])
        return np.array([weights @ changes for weights in savings.values()])

    def _changed(self, j: int) -> Arch:
        choice = int(np.argmax(self.choices.share[j]))
        if choice == self._base[j]:
            choice = int(np.argmax(self.choices.harm[j]))
        return (*self._base[:j], choice, *self._base[j + 1 :])


class Knapsack(_Pruner):
    """The least harm that fits: an exact dynamic programme over rounded resources.

    Margins around the limits, shifted by what the last choices really needed, give several.
    """

    name = "knapsack"

    def pruned(self, count: int, savings: dict[str, FloatArray]) -> list[Arch]:
        """One network a margin."""
        if not savings:
            return []
        tightest = sorted(savings.values(), key=lambda w: -float(w[0]))[:2]
        found: list[Arch] = []
        for margin in _MARGINS:
            arch = self._solve(tightest, 1.0 - margin - self._shift(savings))
            if arch is not None and arch not in found:
                found.append(arch)
            if len(found) >= 2 * count:
                break
        return found

    def _shift(self, savings: dict[str, FloatArray]) -> float:
        """By how much the most promising networks needed more than predicted, on average."""
        last = [t for t in list(self.told.values())[-4:] if t.gaps]
        misses = [self._miss(t, savings) for t in last]
        return float(np.clip(np.mean(misses), -0.1, 0.2)) if misses else 0.0

    def _miss(self, told: Told, savings: dict[str, FloatArray]) -> float:
        predicted = self.levels(told.arch, savings)
        real = np.array([1.0 + told.gaps.get(name, 0.0) for name in savings])
        known = np.array([name in told.gaps for name in savings])
        return float((real - predicted)[known].max()) if known.any() else 0.0

    def _solve(self, weights: list[FloatArray], limit: float) -> Arch | None:
        """Choices of least total harm whose predicted use of one or two resources fits."""
        pair = weights if len(weights) == 2 else [weights[0], weights[0]]
        # Each variable's cost counts from its own cheapest choice, so that none is negative.
        costs, floor = [], [float(w[0]) for w in pair]
        for j in range(len(self._base)):
            raw = [w[1 + j] * self.choices.step(j) for w in pair]
            costs.append([r - r.min() for r in raw])
            floor = [f + float(r.min()) for f, r in zip(floor, raw, strict=True)]
        room = [limit - f for f in floor]
        if min(room) <= 0.0:
            return None
        least = np.full((_GRID + 1, _GRID + 1), np.inf)
        least[0, 0] = 0.0
        taken = []
        for j, cost in enumerate(costs):
            units = [np.ceil(_GRID * c / r - 1e-9) for c, r in zip(cost, room, strict=True)]
            best = np.full_like(least, np.inf)
            pick = np.zeros(least.shape, dtype=np.int64)
            for choice, harm in enumerate(self.choices.harm[j]):
                a, b = (int(min(u[choice], _GRID + 1)) for u in units)
                if max(a, b) > _GRID:
                    continue
                moved = np.full_like(least, np.inf)
                moved[a:, b:] = least[: _GRID + 1 - a, : _GRID + 1 - b] + harm
                pick = np.where(moved < best, choice, pick)
                best = np.minimum(moved, best)
            least = best
            taken.append((pick, units))
        if not np.isfinite(least).any():
            return None
        a, b = (int(i) for i in np.unravel_index(int(np.argmin(least)), least.shape))
        arch: list[int] = []
        for pick, units in reversed(taken):
            choice = int(pick[a, b])
            arch.append(choice)
            a, b = a - int(units[0][choice]), b - int(units[1][choice])
        return tuple(reversed(arch))


class Progressive(_Pruner):
    """NetAdapt's loop: simplify a step, keep the alternative that stays most accurate, repeat.

    A step must remove a share of the prototype's excess. Alternatives change one variable each;
    those that harm least are measured and, where the device accepts them, trained. The next step
    starts from the most accurate, or while none is trained from the one of least harm. Once within
    the limits it goes on from its best, giving back what may still fit.
    """

    name = "netadapt"
    steps, alternatives = 6, 3

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._here = self._base
        self._asked: list[Arch] = []

    def pruned(self, count: int, savings: dict[str, FloatArray]) -> list[Arch]:  # noqa: ARG002
        """The alternatives of the present step."""
        if not savings:
            return []
        if self._asked and not any(self.fresh(arch) for arch in self._asked):
            self._here = max(self._asked, key=self._standing)
            self._asked = []
        for _ in range(2 * len(self._base)):
            if not self._asked:
                self._asked = self._alternatives(savings)
            if not self._asked or any(self.fresh(arch) for arch in self._asked):
                break
            self._here, self._asked = self._asked[0], []
        return self._asked

    def _standing(self, arch: Arch) -> tuple[int, float]:
        told = self.told.get(self.space.key(arch))
        if told is not None and told.score is not None:
            return 1, told.score
        return 0, -self.choices.total(arch)

    def _alternatives(self, savings: dict[str, FloatArray]) -> list[Arch]:
        top = self._excess(self._base, savings)
        best = max(self.told.values(), key=lambda t: t.rank)
        if best.score is not None:
            back = [
                arch
                for arch in self._edits(best.arch)
                if self.choices.total(arch) < self.choices.total(best.arch) and self.fresh(arch)
            ]
            return sorted(back, key=lambda a: self._excess(a, savings))[: self.alternatives]
        now = self._excess(self._here, savings)
        # Where the prediction sees no excess but the device does, any step down will do.
        wanted = min(now - top / self.steps, 0.99 * now) if now > 0.0 else np.inf
        down = [
            arch
            for arch in self._edits(self._here)
            if self.choices.total(arch) > self.choices.total(self._here)
            and self._excess(arch, savings) <= wanted
        ]
        if not down:
            down = sorted(self._edits(self._here), key=lambda a: self._excess(a, savings))[:1]
        return sorted(down, key=self.choices.total)[: self.alternatives]

    def _excess(self, arch: Arch, savings: dict[str, FloatArray]) -> float:
        return float(np.maximum(self.levels(arch, savings) - 1.0, 0.0).sum())

    def _edits(self, arch: Arch) -> list[Arch]:
        return [
            (*arch[:j], c, *arch[j + 1 :])
            for j, v in enumerate(self.space.variables)
            for c in range(v.size)
            if c != arch[j]
        ]
