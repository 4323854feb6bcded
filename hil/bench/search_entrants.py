"""Who takes part in the search benchmark, and how each is set up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hil.bench.search_table import World
from hil.core.errors import ConfigError
from hil.synth import peers
from hil.synth.acquisition import PoolRules
from hil.synth.cells import Cells
from hil.synth.inquisitor import Inquisitor, Setup
from hil.synth.peers.searcher import highest_accuracy
from hil.synth.records import Arch, FloatArray

OURS = "ours"
SIGNALS = "+signals"
OURS_BATCH = 4
"""Networks ours asks for between two fits; peers are told after every single one."""
_SLOW = {"gp": 3, "scbo": 3}
_CHEAP = ("random", "evolution", "tpe", "nsga2")
DEFAULT = (OURS, *_CHEAP, *(name + SIGNALS for name in _CHEAP))


@dataclass(frozen=True)
class Entrant:
    """A method that takes part.

    Attributes:
        name: as reported.
        seeds: most seeds it runs unless asked for by name.
        batch: networks it asks for at once.
    """

    name: str
    seeds: int | None
    batch: int

    def searcher(self, world: World, seed: int) -> peers.Searcher:
        """The method, new, on a world."""
        # Four measurements a training: what may not fit costs little to try.
        pool = PoolRules(caution=1.0)
        setup = Setup(world.limits, highest_accuracy, seed=seed, pool=pool, generator_rounds=4)
        if self.name == OURS:
            return Inquisitor(world.space, setup)
        name, _, signals = self.name.partition("+")
        return peers.make(name, world.space, setup, seed, Signals(world.space) if signals else None)


class Signals:
    """What costs no training, of cells: what ours reads, log MACs and log parameters.

    Args:
        cells: the space.
    """

    def __init__(self, cells: Cells) -> None:
        self._cells = cells

    def __call__(self, archs: Sequence[Arch]) -> FloatArray:
        """(N, signals); the first is depth, of which more is better."""
        logs = np.log(self._cells.costs_of(archs))
        return np.hstack([self._cells.signals_of(archs), logs])


def entrants(names: Sequence[str]) -> tuple[Entrant, ...]:
    """The methods named, or the default ones.

    Raises:
        ConfigError: no such method.
    """
    known = (OURS, *(p + s for s in ("", SIGNALS) for p in peers.NAMES))
    wrong = [name for name in names if name not in known]
    if wrong:
        raise ConfigError(
            f"there is no search method {', '.join(wrong)}", fix=f"choose of {', '.join(known)}"
        )
    chosen = tuple(dict.fromkeys(names)) or DEFAULT
    return tuple(
        Entrant(name, _SLOW.get(name.partition("+")[0]), OURS_BATCH if name == OURS else 1)
        for name in chosen
    )
