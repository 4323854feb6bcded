"""How far a power sensor lags behind, from steps of the load, and what that does to a window.

A monitor that averages recursively answers a step as a first-order lag does,

    read(t) = before + (after - before) (1 - exp(-(t - step - dead) / tau)),

and obeys tau read'(t) + read(t) = true(t), so the mean of the true power over a window is the mean
of the reading plus tau (read(end) - read(start)) / length: exact, whatever the power did
(Ljung, System Identification, 1999, section 4.2). Dead time merely shifts the stamps.

Rule of this file: samples and moments of steps in, a time constant out; None where the steps do
not stand out, never a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hil.core.energy import NS_PER_S, PowerSample, Window, energy_j
from hil.core.stats import CONFIDENCE, Estimate
from hil.measure.sources.series import RailTrace

if TYPE_CHECKING:
    from hil.core.evidence import Evidence

Floats = NDArray[np.float64]

BEFORE_S = 2.5
AFTER_S = 10.0
"""What of a step is looked at, unless another step comes sooner."""
LONGEST_TAU_S = 6.0
LONGEST_DEAD_S = 0.3
FEWEST_SAMPLES = 8
# A step must exceed the scatter around the fit by this, or it tells nothing.
CLEAR = 4.0
HUBER = 1.5
ROUNDS = 4
LONGEST_MEMORY = 40


@dataclass(frozen=True)
class Lag:
    """First-order answer of a sensor.

    Attributes:
        tau_s: time constant; an interval that reaches 0 cannot tell it from an instant reading.
        dead_s: pure delay of stamps, in seconds.
        steps: how many steps it is from.
    """

    tau_s: Estimate
    dead_s: float
    steps: int


@dataclass(frozen=True)
class _Piece:
    """Samples around one step: seconds since it, watts, and each one's weight."""

    at_s: Floats
    power_w: Floats
    sign: float
    weight: Floats


def step_lag(trace: RailTrace, steps: Sequence[tuple[int, float]]) -> Lag | None:
    """Estimate time constant and dead time from load steps, all of them at once.

    Least squares with Huber's weights, so that a burst of background work beside a step costs
    little; levels before and after are each step's own. The interval is of the profile of the
    sum of squares, with as many independent residuals as their correlation leaves.

    Args:
        trace: one rail. A counter has no lag to speak of and gives None.
        steps: moment in ns and sign (+1 load on, -1 load off) of each step, in order of time.

    Returns:
        None where no step stands out of the noise.
    """
    if trace.kind != "power":
        return None
    pieces = _pieces(trace.samples, steps)
    fit = None
    for _ in range(ROUNDS):
        if not pieces:
            return None
        fit = _fit(pieces)
        clear = [i for i, piece in enumerate(pieces) if fit.clear(i, piece.sign)]
        # A step that is dropped changes the fit of the others; a burst weighs less next time.
        weights = fit.huber()
        pieces = [replace(pieces[i], weight=weights[i]) for i in clear]
    if fit is None or len(pieces) != len(fit.rests):
        return None
    return Lag(_interval(pieces, fit), fit.dead_s, len(pieces))


def lag_of(evidence: Evidence, rail: str) -> Lag | None:
    """Estimate the lag of one rail from every load step that a run holds.

    Steps are those of a step response (marks `on` and `off`) or the begin and end of an
    ordinary run's load.

    Raises:
        MeasurementError: the power lines cannot be read.
    """
    from hil.measure.trace import read_power

    if not evidence.power:
        return None
    trace = read_power(evidence.power[0]).rails.get(rail)
    return None if trace is None else step_lag(trace, load_steps(evidence))


def load_steps(evidence: Evidence) -> list[tuple[int, float]]:
    """Return moment and sign of each step of the load that a run's marks tell of."""
    if evidence.named("trtexec"):
        return []  # it does not tell when its load began; the marks are where it surely runs
    loads = [(m.start_ns, m.stop_ns) for m in evidence.named("on")]
    if not loads:
        marks = [m for name in ("settle", "block", "tail") for m in evidence.named(name)]
        if not marks:
            return []
        loads = [(min(m.start_ns for m in marks), max(m.stop_ns for m in marks))]
    seen_to_end = bool(evidence.named("idle_after") or evidence.named("off"))
    steps = [(start_ns, 1.0) for start_ns, _ in loads]
    if seen_to_end:
        steps += [(stop_ns, -1.0) for _, stop_ns in loads]
    return sorted(steps)


def lag_corrected_energy(samples: Sequence[PowerSample], window: Window, tau_s: float) -> float:
    """Return the energy of a window in joules as a sensor without lag would have given it.

    The lag's own equation integrated: tau times the rise of the reading over the window is added
    to the trapezoids. Over adjacent windows the corrections cancel but for the outer edges.

    Args:
        samples: in order of time.
        window: inside their span.
        tau_s: time constant; 0 adds nothing.

    Raises:
        ValueError: the samples do not cover the window.
    """
    energy = energy_j(samples, window)
    if tau_s == 0:
        return energy
    stamps = np.array([sample.t_ns for sample in samples], dtype=np.int64)
    powers_w = np.array([sample.power_w for sample in samples], dtype=float)
    edges_s = (np.array([window.start_ns, window.stop_ns]) - stamps[0]) / NS_PER_S
    first_w, last_w = np.interp(edges_s, (stamps - stamps[0]) / NS_PER_S, powers_w)
    return energy + tau_s * float(last_w - first_w)


# -- the fit -------------------------------------------------------------------------------------

TAUS_S: Floats = np.concatenate(([0.0], np.geomspace(0.02, LONGEST_TAU_S, 48)))
DEADS_S: Floats = np.linspace(0.0, LONGEST_DEAD_S, 11)
ZOOMS = 6


@dataclass(frozen=True)
class _Fit:
    """One fit: its parameters, and of each piece the residuals and the height of the step.

    `taus_s` and `profile` give the smallest sum of squares at each time constant tried.
    """

    tau_s: float
    dead_s: float
    loss: float
    rests: list[Floats]
    heights_w: list[float]
    taus_s: Floats
    profile: Floats

    @property
    def scale_w(self) -> float:
        """Spread of the residuals, by the median (1.4826 makes it that of a normal law)."""
        return 1.4826 * float(np.median(np.abs(np.concatenate(self.rests))))

    def clear(self, piece: int, sign: float) -> bool:
        """Whether a step stands out and goes the way the load went."""
        rest = self.rests[piece]
        spread_w = max(self.scale_w, float(np.sqrt(np.mean(rest**2))) / 3)
        return self.heights_w[piece] * sign > CLEAR * spread_w

    def huber(self) -> list[Floats]:
        """Return weights that fade beyond some spreads."""
        limit_w = max(HUBER * self.scale_w, 1e-9)
        return [np.minimum(1.0, limit_w / np.maximum(np.abs(rest), 1e-12)) for rest in self.rests]


def _pieces(samples: Sequence[PowerSample], steps: Sequence[tuple[int, float]]) -> list[_Piece]:
    if not samples:
        return []
    stamps = np.array([sample.t_ns for sample in samples], dtype=np.int64)
    powers_w = np.array([sample.power_w for sample in samples], dtype=float)
    pieces = []
    for i, (step_ns, sign) in enumerate(steps):
        first_ns = step_ns - round(BEFORE_S * NS_PER_S)
        last_ns = step_ns + round(AFTER_S * NS_PER_S)
        if i > 0:
            first_ns = max(first_ns, (steps[i - 1][0] + step_ns) // 2)
        if i + 1 < len(steps):
            last_ns = min(last_ns, steps[i + 1][0])
        inside = (stamps >= first_ns) & (stamps < last_ns)
        at_s = (stamps[inside] - step_ns) / NS_PER_S
        if int((at_s > 0).sum()) >= FEWEST_SAMPLES and int((at_s <= 0).sum()) >= 2:
            pieces.append(_Piece(at_s, powers_w[inside], sign, np.ones(at_s.size)))
    return pieces


def _losses(pieces: Sequence[_Piece], taus_s: Floats, deads_s: Floats) -> Floats:
    """Return the weighted sum of squares at each pair, levels at their best: (taus, deads)."""
    total = np.zeros((taus_s.size, deads_s.size))
    for piece in pieces:
        shape = _answer(piece.at_s, taus_s[:, None, None], deads_s[None, :, None])
        weight = piece.weight / piece.weight.sum()
        shape = shape - (shape @ weight)[..., None]
        power = piece.power_w - weight @ piece.power_w
        below = shape**2 @ piece.weight
        across = shape @ (piece.weight * power)
        explained = np.divide(across**2, below, out=np.zeros_like(below), where=below > 1e-12)
        total += float(piece.weight @ power**2) - explained
    return np.maximum(total, 0.0)


def _answer(at_s: Floats, tau_s: Floats, dead_s: Floats) -> Floats:
    late_s = np.maximum(at_s - dead_s, 0.0)
    return np.asarray(-np.expm1(-late_s / np.maximum(tau_s, 1e-6)))


def _fit(pieces: Sequence[_Piece]) -> _Fit:
    taus_s, deads_s = TAUS_S, DEADS_S
    seen_s, profile = [], []
    tau_s, dead_s, loss = 0.0, 0.0, 0.0
    for _ in range(ZOOMS):
        losses = _losses(pieces, taus_s, deads_s)
        seen_s.append(taus_s)
        profile.append(losses.min(axis=1))
        at, dead_at = np.unravel_index(int(losses.argmin()), losses.shape)
        tau_s, dead_s, loss = float(taus_s[at]), float(deads_s[dead_at]), float(losses.min())
        taus_s, deads_s = _around(taus_s, int(at)), _around(deads_s, int(dead_at))
    tried_s, found = np.concatenate(seen_s), np.concatenate(profile)
    order = np.argsort(tried_s, kind="stable")
    rests, heights = _rests(pieces, tau_s, dead_s)
    return _Fit(tau_s, dead_s, loss, rests, heights, tried_s[order], found[order])


def _around(grid: Floats, at: int) -> Floats:
    """Return a finer grid around a point of the grid.

    Two neighbours to each side: time constant and dead time stand in for each other a little, and
    the best pair of the finer grid may lie beside the best pair of this one.
    """
    low, high = grid[max(0, at - 2)], grid[min(grid.size - 1, at + 2)]
    return np.linspace(low, high, 13)


def _rests(
    pieces: Sequence[_Piece], tau_s: float, dead_s: float
) -> tuple[list[Floats], list[float]]:
    rests, heights = [], []
    for piece in pieces:
        shape = _answer(piece.at_s, np.array(tau_s), np.array(dead_s))
        weight = piece.weight / piece.weight.sum()
        shape = shape - weight @ shape
        power = piece.power_w - weight @ piece.power_w
        below = float(piece.weight @ shape**2)
        height = float(piece.weight @ (shape * power)) / below if below > 1e-12 else 0.0
        rests.append(power - height * shape)
        heights.append(height)
    return rests, heights


def _interval(pieces: Sequence[_Piece], fit: _Fit) -> Estimate:
    """Return where the profile of the sum of squares stays under its F bound.

    Residuals count as many as their correlation leaves. Noise behind a lag is correlated over its
    time constant, which residuals of few seconds show too little of: that is the least assumed.
    """
    n = sum(rest.size for rest in fit.rests)
    period_s = float(np.median(np.concatenate([np.diff(piece.at_s) for piece in pieces])))
    stretch = max(_stretch(fit.rests), 2 * fit.tau_s / period_s)
    free = max(2.0, n / stretch - 2 * len(fit.rests) - 2)
    t = float(special.stdtrit(free, (1 + CONFIDENCE) / 2))
    bound = fit.loss * (1 + t * t / free)
    best = int(np.searchsorted(fit.taus_s, fit.tau_s))
    low = _crossing(fit.taus_s[best::-1], fit.profile[best::-1], bound)
    high = _crossing(fit.taus_s[best:], fit.profile[best:], bound)
    return Estimate(fit.tau_s, min(low, fit.tau_s), max(high, fit.tau_s))


def _crossing(taus_s: Floats, profile: Floats, bound: float) -> float:
    """Return where a profile first rises over the bound; the last point where it never does."""
    over = np.flatnonzero(profile > bound)
    if not over.size:
        return float(taus_s[-1])
    at = int(over[0])
    if at == 0:
        return float(taus_s[0])
    share = (bound - profile[at - 1]) / (profile[at] - profile[at - 1])
    return float(taus_s[at - 1] + share * (taus_s[at] - taus_s[at - 1]))


def _stretch(rests: Sequence[Floats]) -> float:
    """Return how many residuals tell as much as one independent one, by their correlation."""
    squares = sum(float(rest @ rest) for rest in rests)
    if squares <= 0:
        return 1.0
    time = 1.0
    for lag in range(1, LONGEST_MEMORY):
        pairs = sum(float(rest[lag:] @ rest[:-lag]) for rest in rests if rest.size > lag)
        if pairs <= 0:
            break
        time += 2 * pairs / squares
    return time
