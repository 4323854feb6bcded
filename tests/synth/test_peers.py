"""Search peers on small spaces of known truth: they find, never repeat, and follow their seed."""

from __future__ import annotations

import itertools
from importlib.util import find_spec

import numpy as np
import pytest

from hil.core.errors import ConfigError
from hil.synth.inquisitor import Setup
from hil.synth.peers import NAMES, make
from hil.synth.peers.evolution import Evolution
from hil.synth.peers.pruning import Choices, Knapsack
from hil.synth.peers.searcher import RandomSearch, Task, ranking
from hil.synth.records import Arch, FloatArray, Limit, Observation
from hil.synth.searchspace import VariableSpec

LIBRARY = {"tpe": "optuna", "nsga2": "optuna", "gp": "optuna", "scbo": "botorch"}
SLOW = ("gp", "scbo")
LEARNING = ("evolution", "tpe", "nsga2", "gp", "scbo")
pytestmark = pytest.mark.filterwarnings("ignore::Warning")


class Additive:
    """Four variables of four choices: every choice costs energy and gives accuracy by itself."""

    def __init__(self, kind: str = "op") -> None:
        rng = np.random.default_rng(5)
        self.variables = tuple(VariableSpec(f"v{j}", kind, 4, 3) for j in range(4))
        self.gain = np.sort(rng.uniform(0.0, 0.1, (4, 4)), axis=1)
        self.energy = np.sort(rng.uniform(0.5, 4.0, (4, 4)), axis=1)
        self.limits = (Limit("energy_mj", 8.0),)

    def key(self, arch: Arch) -> str:
        return str(arch)

    def neighbours(self, arch: Arch) -> list[Arch]:
        return [a for a in self.archs() if sum(x != y for x, y in zip(a, arch, strict=True)) == 1]

    def features(self, arch: Arch) -> FloatArray:
        return np.array(arch, dtype=np.float64)

    def cost(self, arch: Arch) -> tuple[float, float]:
        return 1e6 * (1.0 + sum(arch)), 1e3 * (1.0 + sum(arch))

    def archs(self) -> list[Arch]:
        return list(itertools.product(range(4), repeat=4))

    def accuracy(self, arch: Arch) -> float:
        return 0.5 + sum(float(self.gain[j][c]) for j, c in enumerate(arch))

    def use(self, arch: Arch) -> float:
        return sum(float(self.energy[j][c]) for j, c in enumerate(arch))

    def observe(self, arch: Arch) -> Observation:
        costs = {"energy_mj": (self.use(arch), 0.0)}
        if self.use(arch) > 8.0:
            return Observation(arch, costs, None, "infeasible")
        return Observation(arch, costs, self.accuracy(arch), "feasible")

    def best(self) -> float:
        return max(self.accuracy(a) for a in self.archs() if self.use(a) <= 8.0)

    def signals(self, archs: list[Arch]) -> FloatArray:
        """The second names accuracy, the first misleads."""
        truth = np.array([self.accuracy(a) for a in archs])
        noise = np.array([hash(a) % 97 / 97 for a in archs])
        return np.column_stack([noise, truth])


def accuracy_only(accuracy: FloatArray, macs: FloatArray, params: FloatArray) -> FloatArray:
    return accuracy


def need(name: str) -> None:
    library = LIBRARY.get(name)
    if library is not None and find_spec(library) is None:
        pytest.skip(f"{library} is not installed; pip install 'hil[peers]'")


def asked(name, space, seed=0, count=40, *, batch=1, signals=None, stimuli=None):
    """Observations of a peer, in order."""
    peer = make(name, space, Setup(space.limits, accuracy_only, stimuli), seed, signals)
    told: list[Observation] = []
    while len(told) < count:
        rng = np.random.Generator(np.random.Philox(key=[seed, len(told)]))
        proposals = peer.ask(min(batch, count - len(told)), rng)
        if not proposals:
            break
        new = [space.observe(p.arch) for p in proposals]
        peer.tell(new)
        told += new
    return told


def found(told: list[Observation]) -> float:
    return max((o.accuracy for o in told if o.accuracy is not None), default=0.0)


@pytest.mark.parametrize("name", NAMES)
def test_no_peer_repeats_a_network_or_exceeds_what_was_asked(name):
    need(name)
    space = Additive("width")
    told = asked(name, space, count=13 if name in SLOW else 60, batch=3)

    assert told
    assert len({o.arch for o in told}) == len(told)


@pytest.mark.parametrize("name", NAMES)
def test_a_peer_is_a_function_of_its_seed(name):
    need(name)
    space, count = Additive(), 13 if name in SLOW else 30

    one, again, other = (asked(name, space, seed, count) for seed in (3, 3, 4))

    assert [o.arch for o in one] == [o.arch for o in again]
    if name not in ("uniform", "knapsack", "netadapt"):  # these draw nothing
        assert [o.arch for o in one] != [o.arch for o in other]


@pytest.mark.parametrize("name", LEARNING)
def test_a_peer_that_learns_beats_chance(name):
    """Mean best accuracy after few measurements, over seeds, on 256 networks."""
    need(name)
    runs, count = {"gp": (1, 26), "scbo": (3, 40)}.get(name, (12, 50))
    space, seeds = Additive(), range(runs)

    theirs = np.mean([found(asked(name, space, s, count)) for s in seeds])
    chance = np.mean([found(asked("random", space, s, count)) for s in range(40)])

    assert theirs > chance
    assert space.best() - theirs < 0.5 * (space.best() - chance) + 1e-9


def test_the_knapsack_finds_the_optimum_of_an_additive_space_by_few_measurements():
    """Stimuli that tell the harm exactly: what remains is the budget, and that is measured."""
    space = Additive("width")
    stimuli = tuple(gain[3] - gain for gain in space.gain)

    told = asked("knapsack", space, count=30, stimuli=stimuli)

    assert found(told) == pytest.approx(space.best())


def test_the_knapsacks_programme_agrees_with_trying_everything():
    space = Additive("width")
    stimuli = tuple(gain[3] - gain for gain in space.gain)
    knapsack = Knapsack(Task(space, space.limits, stimuli=stimuli))
    knapsack.tell([space.observe(arch) for arch in space.archs()[::3]])
    savings = knapsack.savings()

    (arch,) = [a for a in [knapsack._solve(list(savings.values()), 1.0)] if a is not None]

    fits = [a for a in space.archs() if knapsack.levels(a, savings)[0] <= 1.0]
    least = min(fits, key=knapsack.choices.total)
    # Rounding costs up to whole steps may miss the least, never the limit.
    assert knapsack.levels(arch, savings)[0] <= 1.0
    assert knapsack.choices.total(arch) <= knapsack.choices.total(least) + 0.02


def test_uniform_width_bisects_to_the_widest_that_fits():
    space = Additive("width")
    told = asked("uniform", space)
    ladder = [tuple([c] * 4) for c in range(4)]
    widest = max((a for a in ladder if space.use(a) <= 8.0), default=None)

    assert {o.arch for o in told} <= set(ladder)
    assert widest in [o.arch for o in told if o.verdict == "feasible"]


def test_simplifying_step_by_step_meets_the_limit_and_gives_back_what_fits():
    space = Additive("width")
    stimuli = tuple(gain[3] - gain for gain in space.gain)

    told = asked("netadapt", space, count=40, stimuli=stimuli)

    assert told[0].arch == (3, 3, 3, 3)
    assert found(told) >= np.quantile(
        [space.accuracy(a) for a in space.archs() if space.use(a) <= 8.0], 0.95
    )


def test_signals_are_weighed_by_what_was_trained_and_before_that_by_the_first():
    space = Additive()
    task = Task(space, (), signals=space.signals)
    archs = space.archs()
    trained = [space.observe(a) for a in archs if space.use(a) <= 8.0][:20]

    untaught, taught = ranking(task, [])(archs), ranking(task, trained)(archs)

    assert np.array_equal(untaught, space.signals(archs)[:, 0])
    assert np.corrcoef(taught, [space.accuracy(a) for a in archs])[0, 1] > 0.95


def test_signals_put_networks_predicted_within_the_limits_first():
    space = Additive()
    task = Task(space, space.limits, signals=lambda archs: np.array(archs, dtype=np.float64))
    told = [space.observe(arch) for arch in space.archs()[::5]]

    score = ranking(task, told)(space.archs())

    best = [space.archs()[i] for i in np.argsort(-score)[:20]]
    assert np.mean([space.use(arch) <= 8.0 for arch in best]) > 0.7
    assert np.mean([space.use(arch) <= 8.0 for arch in space.archs()]) < 0.5


def test_evolution_lets_the_oldest_go():
    """A parent is always among the last `population` told, however good an older one was."""
    space = Additive()
    peer = Evolution(Task(space, (), seed=0), population=4, sample=4, initial=2)
    archs = [(3, 3, 3, 3), (0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0), (0, 1, 0, 0)]
    peer.tell([Observation(a, {}, 0.99 if a == archs[0] else 0.5, "feasible") for a in archs])
    rng = np.random.Generator(np.random.Philox(key=1))

    children = [p.arch for p in peer.ask(6, rng)]

    near = [
        min(sum(x != y for x, y in zip(c, a, strict=True)) for a in archs[1:]) for c in children
    ]
    assert near == [1] * 6


def test_limits_that_need_no_measurement_are_never_broken():
    space = Additive()
    limits = (*space.limits, Limit("macs", 6e6))
    peer = RandomSearch(Task(space, limits))

    drawn = [p.arch for p in peer.ask(40, np.random.default_rng(0))]

    assert len(drawn) == 40
    assert all(space.cost(a)[0] <= 6e6 for a in drawn)


def test_gaps_are_relative_and_signed_and_unknown_is_absent():
    space = Additive()
    task = Task(space, (Limit("energy_mj", 8.0), Limit("accuracy", 0.6, "min")))

    gaps = task.gaps(Observation((0, 0, 0, 0), {"energy_mj": (10.0, 0.0)}, None, "infeasible"))
    within = task.gaps(Observation((0, 0, 0, 0), {"energy_mj": (6.0, 0.0)}, 0.7, "feasible"))

    assert gaps == {"energy_mj max": pytest.approx(0.25)}
    assert within["energy_mj max"] == pytest.approx(-0.25)
    assert within["accuracy min"] < 0.0


def test_a_space_that_is_used_up_ends_the_search():
    space = Additive()
    told = asked("random", space, count=400)

    assert len(told) > 250
    assert len({o.arch for o in told}) == len(told) <= 256


def test_harm_without_stimuli_is_the_share_of_parameters_removed():
    choices = Choices.of(Task(Additive("width"), ()))

    assert choices.harm[0].tolist() == pytest.approx([3 / 13, 2 / 13, 1 / 13, 0.0])


def test_an_unknown_peer_is_named():
    space = Additive()
    with pytest.raises(ConfigError, match="no search method annealing"):
        make("annealing", space, Setup(space.limits, accuracy_only), 0)
