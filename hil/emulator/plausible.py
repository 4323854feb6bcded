"""Figures of several engines at once over the boards that the public data leave plausible.

What `hil-board plausible` answers. A row is one board and one draw of what the model lacks, and
all engines and both figures of a row belong to that same board, so ratios may be formed row by
row. What the model lacks of energy is drawn apart from what it lacks of latency: the posterior
says nothing of the two together. Where they go together in truth, as is likely, a network keeps
both limits on a greater share of boards than these draws say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hil.emulator.batch import Array, gather, run_all
from hil.emulator.board import Clocks
from hil.emulator.kernels import Kernel
from hil.emulator.posterior import (
    BOARD_DRAWS,
    DISCREPANCY_DRAWS,
    correlated,
    describe,
    load_posterior,
)


@dataclass(frozen=True)
class Joint:
    """Draws of energy on the module's input and of latency, [draws, networks] each.

    Attributes:
        boards: how many boards the draws are of.
    """

    energy_mj: Array
    latency_ms: Array
    boards: int


def joint_draws(
    networks: Sequence[Sequence[Kernel]], clocks: Clocks, *, name: str = "tx2", seed: int = 0
) -> Joint:
    """Draws both figures of one inference of each network, without tactics' or timing noise.

    Args:
        networks: kernels of each.
        clocks: what every plausible board runs at.
        name: a shipped board with a posterior.
        seed: of the draws.

    Raises:
        ConfigError: no posterior is stored for that board.
    """
    posterior = load_posterior(name)
    gathered = gather(networks)
    boards = posterior.boards(posterior.factors(BOARD_DRAWS, seed))
    runs = [run_all(board, gathered, clocks) for board in boards]
    central = {
        "energy": np.array([each.energy_mj for each in runs]),
        "latency": np.array([1e3 * each.latency_s for each in runs]),
    }
    described = describe(gathered)
    drawn = {}
    for number, (figure, values) in enumerate(central.items(), start=1):
        lacking = posterior.discrepancy[figure].covariance(described)
        logs = correlated(lacking, BOARD_DRAWS * DISCREPANCY_DRAWS, seed + number)
        drawn[figure] = np.repeat(values, DISCREPANCY_DRAWS, axis=0) * np.exp(logs)
    return Joint(drawn["energy"], drawn["latency"], BOARD_DRAWS)
