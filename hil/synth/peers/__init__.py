"""Other ways to choose what to measure, behind the same two calls as the inquisitor."""

from __future__ import annotations

from collections.abc import Callable

from hil.core.errors import ConfigError
from hil.synth.inquisitor import Setup
from hil.synth.peers.evolution import Evolution
from hil.synth.peers.optuna_peers import Gp, Nsga2, Tpe
from hil.synth.peers.pruning import Knapsack, Progressive, UniformWidth
from hil.synth.peers.scbo import Scbo
from hil.synth.peers.searcher import Peer, RandomSearch, Searcher, Signals, Task
from hil.synth.searchspace import SearchSpace

_MAKERS: dict[str, Callable[[Task], Peer]] = {
    "random": RandomSearch,
    "evolution": Evolution,
    "tpe": Tpe,
    "nsga2": Nsga2,
    "gp": Gp,
    "scbo": Scbo,
    "uniform": UniformWidth,
    "netadapt": Progressive,
    "knapsack": Knapsack,
}
NAMES = tuple(_MAKERS)


def make(
    name: str, space: SearchSpace, setup: Setup, rng_seed: int, signals: Signals | None = None
) -> Searcher:
    """A peer by name, told what the inquisitor is told.

    Args:
        name: one of `NAMES`.
        space: what may be chosen.
        setup: limits, utility and stimuli.
        rng_seed: of everything the peer draws by itself.
        signals: training-free signals it may use, or None.

    Raises:
        ConfigError: no such peer, or a library that it needs is not installed.
    """
    if name not in _MAKERS:
        raise ConfigError(f"there is no search method {name}", fix=f"choose of {', '.join(NAMES)}")
    task = Task(space, setup.limits, setup.utility, rng_seed, signals, setup.stimuli)
    return _MAKERS[name](task)


__all__ = ["NAMES", "Searcher", "make"]
