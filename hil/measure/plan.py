"""How long, how often and how steadily a board must be watched before a figure may be named.

Two floors. Below the lower one there is no figure and the run is refused; below the upper one
there is a figure, and the run is called suspect.
"""

from __future__ import annotations

from hil.core.errors import ConfigError
from hil.core.evidence import RunPlan

# Recursive average of an INA3221 in continuous mode, 64 x 3 x 2.2 ms; what a TX2 shows agrees
# (after an isolated spike the next sample, a second later, keeps 10 to 25 % of it).
SENSOR_TAU_S = 0.42
# After five time constants a step is within 0.7 %: below one register step at 5 W.
LAG_S = 5 * SENSOR_TAU_S

# Two blocks give a t interval 12.7 standard errors wide, three 4.3: fewer is no interval.
MIN_BLOCKS = 3
# A window shorter than the sensor takes to follow is about the load before it.
MIN_POWER_WINDOW_S = LAG_S
# Twelve time constants: what leaks over an edge is under 1 % even where the edges differ by 10 %.
GOOD_POWER_WINDOW_S = 5.0
# Single samples of a TX2 at steady load spread by 4 %; of thirty the mean is good to under 1 %.
GOOD_SAMPLES = 30
# What must remain of an idle window once the sensor's lag is cut from it.
MIN_IDLE_S = 1.0


def check_plan(plan: RunPlan, power: str) -> None:
    """Refuse a plan that cannot give a figure, before the board is asked to run it.

    Raises:
        ConfigError: naming every field that is too small.
    """
    wrong = []
    if plan.blocks < MIN_BLOCKS:
        wrong.append(f"blocks is {plan.blocks} and must be {MIN_BLOCKS} or more")
    if plan.window_s <= 0:
        wrong.append(f"window_s is {plan.window_s:g} and must be greater than 0")
    if power != "none":
        if plan.window_s < MIN_POWER_WINDOW_S:
            wrong.append(
                f"window_s is {plan.window_s:g} and must be {MIN_POWER_WINDOW_S:g} or more"
            )
        if plan.interval_ms <= 0 or plan.interval_ms > plan.window_s * 1000 / 2:
            wrong.append(f"interval_ms is {plan.interval_ms} and must fit into window_s twice")
    if wrong:
        raise ConfigError(
            "the measuring plan cannot give a figure",
            why="; ".join(wrong),
            fix=f"use blocks: 4, window_s: 8 (at least {GOOD_POWER_WINDOW_S:g} for a valid result)",
        )
