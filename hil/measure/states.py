"""Clocks, power mode and throttling, as the board's kernel told them between phases of a run.

A state is {t_ns, nvpmodel, gpu_hz, emc_hz, cpu_hz, clocks_pinned, temps_c, throttle}; what the
board does not tell is None and judged by nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hil.core.energy import Window
from hil.core.evidence import Evidence
from hil.measure.scene import LOAD_MARKS

# Cores at one pinned clock read 2033 to 2035 MHz; the steps of a TX2's GPU are 5 % and more apart.
CLOCK_TOLERANCE = 1.02
CLOCKS = (("gpu_hz", "GPU"), ("emc_hz", "memory"))

States = Sequence[Mapping[str, Any]]


def broken(evidence: Evidence) -> Iterable[str]:
    """Say what makes the run one of another board state than the one it stands for."""
    modes = [_mode(state["nvpmodel"]) for state in evidence.states if state.get("nvpmodel")]
    if len(set(modes)) > 1:
        yield f"the power mode changed during the run: {', '.join(dict.fromkeys(modes))}"
    pinned = _told(evidence.states, "clocks_pinned")
    if True in pinned and False in pinned:
        yield "the clocks were pinned for a part of the run only"
    if set(pinned) == {True}:
        yield from _moved(evidence.states)
    slowed = sorted(
        {name for state in _under_load(evidence) for name in state.get("throttle") or ()}
    )
    if slowed:
        yield f"the board slowed itself down under load: {', '.join(slowed)}"


def doubtful(evidence: Evidence) -> Iterable[str]:
    """Say what leaves the board's state in doubt."""
    pinned = _told(evidence.states, "clocks_pinned")
    if set(pinned) == {False}:
        yield "the clocks are not pinned: idle and load may run at different ones"
        yield from _moved(_under_load(evidence))


def within(evidence: Evidence, window: Window) -> States:
    """Return the states told within a window, both ends included."""
    return [s for s in evidence.states if window.start_ns <= s["t_ns"] <= window.stop_ns]


def _moved(states: States) -> Iterable[str]:
    for key, name in CLOCKS:
        clocks = _told(states, key)
        if clocks and max(clocks) > CLOCK_TOLERANCE * min(clocks):
            low, high = min(clocks) / 1e6, max(clocks) / 1e6
            yield f"the {name} clock moved between {low:.0f} and {high:.0f} MHz"


def _told(states: States, key: str) -> list[Any]:
    return [state[key] for state in states if state.get(key) is not None]


def _under_load(evidence: Evidence) -> States:
    marks = [mark for mark in evidence.marks if mark.name in LOAD_MARKS]
    start_ns, stop_ns = min(m.start_ns for m in marks), max(m.stop_ns for m in marks)
    return within(evidence, Window(start_ns, stop_ns))


def _mode(nvpmodel: Mapping[str, Any]) -> str:
    return f"{nvpmodel.get('id')} ({nvpmodel.get('name')})"
