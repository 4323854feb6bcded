"""The stages of a first contact that read the idle board: its level, register steps, bursts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median
from typing import Any

from hil.device.bringup import Contact, Found, Outcome, held, judged
from hil.device.bringup_steer import session_of, watched
from hil.measure.trace import read_power

PINNING_RAISES = 1.2
BURST_W = 0.4
"""An idle reading this far over the median belongs to a burst: five register steps or more."""
MOST_BURSTS_A_MINUTE = 8.0
BURST_J = (0.2, 3.0)
BLUR_MW = 10.0
"""Readings closer than this are one step of the current at two voltages (8 mV of 19 V)."""
STEPS_MW = (30.0, 50.0)
"""Register step of VDD_IN: 2 mA at 15 to 25 V."""


def idle(contact: Contact) -> Outcome:
    """Read the idle board as it was found."""
    told = _idle(contact, "idle_free_w")
    steps_mw = told["step_mw"]
    bursts = told["bursts_a_minute"]
    findings = [
        held(
            "shunts",
            None if steps_mw is None else STEPS_MW[0] <= steps_mw <= STEPS_MW[1],
            f"register step of the rail {steps_mw} mW",
        ),
        Found(
            "bursts",
            "unknown" if not told["bursts"] else "holds" if _plain(told) else "differs",
            f"{bursts} a minute, of {told['burst_j']} J in the median, in {told['seconds']} s",
        ),
    ]
    return judged(
        f"{told['median_w']} W, {bursts} bursts a minute",
        findings,
        told,
        "end background work on the board (docs/setup-tx2.md, step 6); see what differs",
    )


def _plain(told: dict[str, Any]) -> bool:
    few = told["bursts_a_minute"] <= MOST_BURSTS_A_MINUTE
    return bool(few and BURST_J[0] <= told["burst_j"] <= BURST_J[1])


def idle_pinned(contact: Contact) -> Outcome:
    """Read the idle board again in the state that it is measured in."""
    session = session_of(contact)
    session.pin()
    told = _idle(contact, "idle_pinned_w")
    free_w = contact.memory.get("idle_free_w")
    pinned = contact.memory.get("may_pin", False) and contact.device.state.clocks
    ratio = None if free_w is None or not pinned else told["median_w"] / free_w
    findings = [
        held(
            "idle-by-clocks",
            None if ratio is None else ratio >= PINNING_RAISES,
            f"{free_w} W free, {told['median_w']} W {'pinned' if pinned else 'not pinned'}",
        )
    ]
    return judged(f"{told['median_w']} W", findings, told, "see what differs below")


def _idle(contact: Contact, name: str) -> dict[str, Any]:
    record = watched(contact, contact.device.power.interval_ms, contact.lengths.idle_s)
    trace = read_power(record)
    rail = contact.device.power.rail or next(iter(trace.rails))
    samples = trace.rails[rail].samples
    watts = [sample.power_w for sample in samples]
    contact.memory[name] = round(median(watts), 4)
    times = [sample.t_ns / 1e9 for sample in samples]
    bursts = _bursts(times, watts)
    seconds = times[-1] - times[0]
    return {
        "rail": rail,
        "median_w": round(median(watts), 4),
        "mean_w": round(fmean(watts), 4),
        "seconds": round(seconds, 3),
        "samples": len(watts),
        "step_mw": _register_step_mw(watts),
        "bursts": len(bursts),
        "bursts_a_minute": round(60 * len(bursts) / seconds, 2),
        "burst_j": round(median(bursts), 4) if bursts else None,
    }


def _register_step_mw(watts: Sequence[float]) -> float | None:
    """Return the distance of neighbouring levels; the voltage's own steps only blur a level."""
    levels = sorted(1000 * value for value in watts)
    gaps = [b - a for a, b in pairwise(levels) if b - a > BLUR_MW]
    return round(median(sorted(gaps)[:3]), 1) if len(gaps) >= 3 else None


def _bursts(times_s: Sequence[float], watts: Sequence[float]) -> list[float]:
    """Return the energy over the median, in J, of each stretch that stands out of it."""
    level_w = median(watts)
    found: list[float] = []
    inside = False
    for (before_s, _), (t_s, value) in pairwise(zip(times_s, watts, strict=True)):
        if value < level_w + BURST_W:
            inside = False
            continue
        if not inside:
            found.append(0.0)
            inside = True
        found[-1] += (value - level_w) * (t_s - before_s)
    return found
