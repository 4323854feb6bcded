"""How long, how often and how steadily a board must be watched before a figure may be named.

Two floors. Below the lower one there is no figure and the run is refused; below the upper one
there is a figure, and the run is called suspect.
"""

from __future__ import annotations

import math
from dataclasses import replace

from hil.core.errors import ConfigError
from hil.core.evidence import RunPlan

# Recursive average of an INA3221 in continuous mode, 64 x 3 x 2.2 ms; what a TX2 shows agrees
# (after an isolated spike the next sample, a second later, keeps 10 to 25 % of it).
# assumes: running-mode, sensor-lag
SENSOR_TAU_S = 0.42
# After five time constants a step is within 0.7 %: below one register step at 5 W.
LAGS = 5
LAG_S = LAGS * SENSOR_TAU_S

# Two blocks give a t interval 12.7 standard errors wide, three 4.3: fewer is no interval.
MIN_BLOCKS = 3
# A window shorter than the sensor takes to follow is about the load before it.
MIN_POWER_WINDOW_S = LAG_S
# All windows together. The shortest run that an energy benchmark accepts (MLPerf Tiny: 10 s).
MIN_LOAD_S = 10.0
# Six time constants: neighbours share so little that their correlation can be reckoned with.
GOOD_POWER_WINDOW_S = 2.5
# Single samples of a TX2 at steady load spread by 4 %: a hundred tell the mean to about 0.4 %.
GOOD_SAMPLES = 100
# In each window, so that none of them is about its edges.
GOOD_SAMPLES_IN_WINDOW = 10
# What must remain of an idle window once the sensor's lag is cut from it.
MIN_IDLE_S = 1.0
# A window that holds fewer slots than this is about its edges.
MIN_SLOTS = 3


def check_plan(plan: RunPlan, power: str) -> None:
    """Refuse a plan that cannot give a figure, before the board is asked to run it.

    Raises:
        ConfigError: naming every field that is too small.
    """
    wrong = []
    if plan.blocks < MIN_BLOCKS:
        wrong.append(f"blocks is {plan.blocks} and must be {MIN_BLOCKS} or more")
    if plan.max_blocks is not None and plan.max_blocks < plan.blocks:
        wrong.append(f"max_blocks is {plan.max_blocks} and must be blocks ({plan.blocks}) or more")
    if plan.window_s <= 0:
        wrong.append(f"window_s is {plan.window_s:g} and must be greater than 0")
    if plan.rate_hz is not None and not plan.rate_hz * plan.window_s >= MIN_SLOTS:
        wrong.append(f"rate_hz is {plan.rate_hz:g} and must start {MIN_SLOTS} inferences a window")
    if power != "none":
        if plan.window_s < MIN_POWER_WINDOW_S:
            wrong.append(
                f"window_s is {plan.window_s:g} and must be {MIN_POWER_WINDOW_S:g} or more"
            )
        elif plan.blocks >= MIN_BLOCKS and plan.blocks * plan.window_s < MIN_LOAD_S:
            wrong.append(
                f"blocks of {plan.window_s:g} s make {plan.blocks * plan.window_s:g} s of load "
                f"and must make {MIN_LOAD_S:g} or more"
            )
        if plan.interval_ms <= 0 or plan.interval_ms > plan.window_s * 1000 / 2:
            wrong.append(f"interval_ms is {plan.interval_ms} and must fit into window_s twice")
    if wrong:
        raise ConfigError(
            "the measuring plan cannot give a figure",
            why="; ".join(wrong),
            fix=f"use blocks: 4, window_s: 8 (at least {GOOD_POWER_WINDOW_S:g} for a valid result)",
        )


def settled_plan(plan: RunPlan, tau_s: float | None) -> RunPlan:
    """Return the plan with settling and idle long enough for a sensor that is known to be slow.

    Args:
        plan: what was asked for; never shortened.
        tau_s: time constant of the sensor, None where nothing is known of it.
    """
    if tau_s is None or tau_s <= SENSOR_TAU_S:
        return plan
    wait_s = math.ceil(10 * LAGS * tau_s) / 10
    idle_s = plan.idle_s and max(plan.idle_s, wait_s + 2 * tau_s)
    return replace(plan, settle_s=max(plan.settle_s, wait_s), idle_s=idle_s)
