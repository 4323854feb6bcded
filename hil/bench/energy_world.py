"""True power over board time, and what its sensor reads of it: the board of one scenario.

Time is in seconds from the start of the power source. True power is

    (idle + load(t)) * (1 + warming(t)) + murmur(t) + bursts(t)

with the load switched on at `load_start_s`. Load and bursts are piecewise constant with edges at
any moment and integrated exactly; murmur and warming are constant over cells of 10 ms. The sensor
is a first-order lag, exact over a cell, or the mean over an instant of 0.84 ms; gain, offset and
register steps come after it. All of it is linear up to the registers, so that stopping the load
early only adds a decay: one world serves every length of run.

This is a second implementation of a board: it shares no code with the emulated one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import ndtr

from hil.bench.energy_scenario import Background, Rng, Scenario, Sensor

Floats = NDArray[np.floating[Any]]
CELL_S = 0.01
INSTANT_S = 0.00084
"""One conversion of three channels in triggered mode: 3 x 2 x 140 us."""
BUS_STEP_MV = 8
SUPPLY_OHM = 0.140
LATENCY_SPREAD = 0.003
LATENCY_TAIL = (0.01, 60e-6)
DRAWS = 400
PAUSE_S = 0.0015
"""Between two windows the agent reads the board's state: the engine waits."""


@dataclass(frozen=True)
class Staircase:
    """A piecewise constant power; its integral is exact."""

    edges_s: Floats
    energy_j: Floats

    @classmethod
    def of(cls, edges_s: Floats, levels_w: Floats) -> Staircase:
        """Build from edges and the level after each (the last level lasts)."""
        steps_j = np.diff(edges_s) * levels_w[:-1]
        return cls(edges_s, np.concatenate(([0.0], np.cumsum(steps_j))))

    def joules(self, until_s: Floats) -> Floats:
        """Return the integral up to each moment; constant beyond the last edge."""
        return np.asarray(np.interp(until_s, self.edges_s, self.energy_j))


def murmur(background: Background, cells: int, rng: Rng, cell_s: float = CELL_S) -> Floats:
    """Return both parts of the murmur, one value a cell, from their stationary state."""
    total = np.zeros(cells)
    for spread_w, memory_s in (
        (background.fast_w, background.fast_s),
        (background.slow_w, background.slow_s),
    ):
        kept = np.exp(-cell_s / memory_s)
        drive = rng.standard_normal(cells) * np.sqrt(1 - kept**2)
        drive[0] = rng.standard_normal()
        total += spread_w * lfilter([1.0], [1.0, -kept], drive)
    return total


def bursts(background: Background, length_s: float, rng: Rng) -> Staircase:
    """Return the bursts of a stretch of time, which it enters in their stationary state."""
    events: list[tuple[float, float]] = [(-60.0, 0.0), (length_s + 60.0, 0.0)]
    for kind in background.bursts:
        at_s = -10.0 + (kind.period_s * rng.random() if kind.regular else 0.0)
        if not kind.regular:
            at_s += rng.exponential(kind.period_s)
        while at_s < length_s:
            width_s = rng.uniform(kind.shortest_s, kind.longest_s)
            watts = kind.watts * np.exp(kind.spread * rng.standard_normal() - kind.spread**2 / 2)
            events += [(at_s, watts), (at_s + width_s, -watts)]
            wait_s = kind.period_s * (1 + 0.01 * rng.standard_normal())
            at_s += wait_s if kind.regular else rng.exponential(kind.period_s)
    events.sort()
    edges_s, steps_w = np.array(events).T
    return Staircase.of(edges_s, np.cumsum(steps_w))


def lagged(power_w: Floats, tau_s: float, cell_s: float = CELL_S) -> Floats:
    """Return a lag's output at the start of each cell, from rest at the first cell's power."""
    kept = np.exp(-cell_s / tau_s)
    settled = lfilter([0.0, 1 - kept], [1.0, -kept], power_w, zi=[power_w[0]])[0]
    return np.asarray(settled)


def registers_mw(sensor: Sensor, power_w: Floats) -> NDArray[np.int64]:
    """Return what the registers give of a (lagged) power: steps of current times steps of volts."""
    bus_mv = _bus_mv(sensor, power_w)
    current_ma = (1 + sensor.gain) * 1e6 * power_w / bus_mv + sensor.offset_ma
    steps = np.maximum(0, np.rint(current_ma / sensor.lsb_ma))
    told_mv = BUS_STEP_MV * np.rint(bus_mv / BUS_STEP_MV)
    return np.floor(told_mv * steps * sensor.lsb_ma / 1000.0).astype(np.int64)


def expected_w(sensor: Sensor, power_w: Floats, spread_w: float) -> Floats:
    """Return the mean reading at each power under a Gaussian spread around it, in watts.

    The current's rounding is averaged in closed form over the steps within five spreads; the
    voltage is rounded at the mean; cutting to whole milliwatts takes half of one on average.
    """
    bus_mv = _bus_mv(sensor, power_w)
    told_mv = BUS_STEP_MV * np.rint(bus_mv / BUS_STEP_MV)
    steps = ((1 + sensor.gain) * 1e6 * power_w / bus_mv + sensor.offset_ma) / sensor.lsb_ma
    wide = spread_w * 1e6 / sensor.bus_mv / sensor.lsb_ma
    if wide < 1.0:
        near = np.arange(-6, 7) + 0.5
        below = np.floor(steps)
        # E[round(x)] is a sum of the chances to lie above each half step.
        above = (steps - below)[:, None] - near[None, :]
        chances = ndtr(above / wide) if wide > 0 else (above > 0).astype(float)
        steps = below - 6 + chances.sum(axis=1)
    return np.maximum(0.0, told_mv * steps * sensor.lsb_ma / 1e6 - 0.0005)


def _bus_mv(sensor: Sensor, power_w: Floats) -> Floats:
    return sensor.bus_mv - SUPPLY_OHM * 1e6 * power_w / sensor.bus_mv


class World:
    """One scenario's board, for as long as the longest run.

    Args:
        scenario: what it is.
        load_start_s: when the load comes on.
        windows_s: lengths of the load's phases in order: settling, then every block.
        after_s: how long the board is seen once the load is over.
    """

    def __init__(
        self, scenario: Scenario, load_start_s: float, windows_s: tuple[float, ...], after_s: float
    ) -> None:
        self.scenario = scenario
        self.load_start_s = load_start_s
        self.starts_s, self.phases = self._inferences(windows_s)
        self.load_stop_s = float(self.starts_s[-1])
        self.length_s = self.load_stop_s + after_s
        self._cells_s = CELL_S * np.arange(int(np.ceil(self.length_s / CELL_S)) + 2)
        self._bursts = bursts(scenario.background, self.length_s, scenario.rng(2))
        self._load = self._staircase()

    def _inferences(self, windows_s: tuple[float, ...]) -> tuple[Floats, list[tuple[int, int]]]:
        """Return edges of inferences (a pause is an edge more) and [first, past) of each phase."""
        rng, mean_s = self.scenario.rng(1), self.scenario.load.latency_s
        count = int(sum(windows_s) / mean_s * 1.01) + 8 * len(windows_s) + 8
        latencies = mean_s * (1 + LATENCY_SPREAD * rng.standard_normal(count))
        late = rng.random(count) < LATENCY_TAIL[0]
        latencies[late] += rng.exponential(LATENCY_TAIL[1], int(late.sum()))
        ends_s = self.load_start_s + np.cumsum(latencies)
        pieces, phases = [np.array([self.load_start_s])], []
        first, shift_s = 0, 0.0
        for window_s in windows_s:
            begin_s = self.load_start_s if first == 0 else ends_s[first - 1]
            past = int(np.searchsorted(ends_s, begin_s + window_s)) + 1
            pieces.append(ends_s[first:past] + shift_s)
            at = sum(len(piece) for piece in pieces[:-1])
            phases.append((at - 1, at - 1 + past - first))
            shift_s += PAUSE_S
            pieces.append(np.array([ends_s[past - 1] + shift_s]))
            first = past
        return np.concatenate(pieces[:-1]), phases

    def _staircase(self) -> Staircase:
        """Return the load's power above idle, at cold."""
        load, starts_s = self.scenario.load, self.starts_s
        high_w, low_w = load.high_w - load.idle_w, load.low_w - load.idle_w
        pauses = [past for _, past in self.phases[:-1]]
        if load.high_w == load.low_w:
            edges_s, levels_w = starts_s, np.full(len(starts_s), high_w)
            levels_w[pauses] = 0.0
        elif load.phase_s is None:
            edges_s = np.repeat(starts_s, 2)
            edges_s[1:-1:2] += load.duty * np.diff(starts_s)
            levels_w = np.tile([high_w, low_w], len(starts_s))
            for past in pauses:
                levels_w[2 * past : 2 * past + 2] = 0.0
        else:
            offset_s = self.scenario.rng(3).uniform(0, load.phase_s)
            turns = np.arange(int((starts_s[-1] - starts_s[0]) / load.phase_s) + 2)
            rises_s = starts_s[0] - offset_s + load.phase_s * turns
            edges_s = np.stack([rises_s, rises_s + load.duty * load.phase_s], axis=1).ravel()
            levels_w = np.tile([high_w, low_w], len(rises_s))
            before = int(np.searchsorted(edges_s, starts_s[0], side="right")) - 1
            within = (edges_s > starts_s[0]) & (edges_s < starts_s[-1])
            edges_s = np.concatenate(([starts_s[0]], edges_s[within], [starts_s[-1]]))
            levels_w = np.concatenate(([levels_w[before]], levels_w[within], [0.0]))
        levels_w[-1] = 0.0
        return Staircase.of(edges_s, levels_w)

    # -- true power ------------------------------------------------------------------------------

    def warmth(self, t_s: Floats) -> Floats:
        """Return how far the board has warmed, 0 to 1; it warms until the load would end."""
        since_s = np.clip(t_s - self.load_start_s, 0.0, None)
        return np.asarray(1 - np.exp(-since_s / self.scenario.load.warming_s))

    def _warm(self, t_s: Floats) -> Floats:
        return 1 + self.scenario.load.warming * self.warmth(t_s)

    @cached_property
    def _load_w(self) -> Floats:
        """The load's mean power over each cell, warming of idle included."""
        cold_w = np.diff(self._load.joules(np.append(self._cells_s, self._cells_s[-1] + CELL_S)))
        warm = self._warm(self._cells_s + CELL_S / 2)
        idle_w = self.scenario.load.idle_w
        return np.asarray((idle_w + cold_w / CELL_S) * warm - idle_w)

    @cached_property
    def _other_w(self) -> Floats:
        """Idle, murmur and bursts, mean over each cell."""
        ends_s = np.append(self._cells_s, self._cells_s[-1] + CELL_S)
        burst_w = np.diff(self._bursts.joules(ends_s)) / CELL_S
        rng, background = self.scenario.rng(4), self.scenario.background
        return self.scenario.load.idle_w + burst_w + murmur(background, len(self._cells_s), rng)

    def true_w(self, start_s: float, stop_s: float) -> float:
        """Return the expected true power over a stretch of load.

        Expected over bursts and murmur (which is zero); the load's levels and the warming are
        those of that stretch.
        """
        ends = np.array([start_s, stop_s])
        cold_w = float(np.diff(self._load.joules(ends))[0]) / (stop_s - start_s)
        warm = 1 + self.scenario.load.warming * self._mean_warmth(start_s, stop_s)
        background_w = self.scenario.background.burst_w
        return (self.scenario.load.idle_w + cold_w) * warm + background_w

    def _mean_warmth(self, start_s: float, stop_s: float) -> float:
        """Return the mean warmth over a stretch of load, in closed form."""
        slow_s = self.scenario.load.warming_s
        begin, end = ((at_s - self.load_start_s) / slow_s for at_s in (start_s, stop_s))
        return 1 - float(np.exp(-begin) - np.exp(-end)) * slow_s / (stop_s - start_s)

    def realised_w(self, start_s: float, stop_s: float) -> float:
        """Return the true power that a stretch of load really drew, bursts and murmur as met."""
        ends = np.array([start_s, stop_s])
        other_j = float(np.diff(self._other_joules(ends))[0])
        background_w = other_j / (stop_s - start_s) - self.scenario.load.idle_w
        return self.true_w(start_s, stop_s) + background_w - self.scenario.background.burst_w

    def _other_joules(self, until_s: Floats) -> Floats:
        edges_s = np.append(self._cells_s, self._cells_s[-1] + CELL_S)
        return np.asarray(np.interp(until_s, edges_s, self._other_cumulated_j))

    @cached_property
    def _other_cumulated_j(self) -> Floats:
        return np.concatenate(([0.0], np.cumsum(self._other_w) * CELL_S))

    # -- the sensor ------------------------------------------------------------------------------

    @cached_property
    def _lagged(self) -> tuple[Floats, Floats]:
        tau_s = self.scenario.sensor.tau_s
        return lagged(self._other_w, tau_s), lagged(self._load_w, tau_s)

    def sensed_w(self, at_s: Floats, stop_s: float | None = None) -> Floats:
        """Return the power behind the lag at given moments, where the load stops at `stop_s`.

        A meter on the host gives the mean since the moment before instead.
        """
        if self.scenario.printer.host_s is not None:
            return self._metered_w(at_s, stop_s)
        if self.scenario.sensor.tau_s == 0.0:
            cells = np.minimum((at_s / CELL_S).astype(int), len(self._cells_s) - 1)
            return np.asarray(self._other_w[cells] + self._instant_w(at_s, stop_s))
        other_w = self._follow(self._other_w, self._lagged[0], at_s)
        stopped = np.minimum(at_s, np.inf if stop_s is None else stop_s)
        load_w = self._follow(self._load_w, self._lagged[1], stopped)
        decay = np.exp(-(at_s - stopped) / self.scenario.sensor.tau_s)
        return np.asarray(other_w + load_w * decay)

    def _follow(self, inputs_w: Floats, states_w: Floats, at_s: Floats) -> Floats:
        cells = np.minimum((at_s / CELL_S).astype(int), len(inputs_w) - 1)
        kept = np.exp(-(at_s - self._cells_s[cells]) / self.scenario.sensor.tau_s)
        return np.asarray(inputs_w[cells] + (states_w[cells] - inputs_w[cells]) * kept)

    def _instant_w(self, at_s: Floats, stop_s: float | None) -> Floats:
        """Return the load's mean over the instant before each moment."""
        return self._load_mean_w(at_s - INSTANT_S, at_s, stop_s)

    def _load_mean_w(self, from_s: Floats, to_s: Floats, stop_s: float | None) -> Floats:
        limit_s = np.inf if stop_s is None else stop_s
        low_s, high_s = np.minimum(from_s, limit_s), np.minimum(to_s, limit_s)
        joules = self._load.joules(high_s) - self._load.joules(low_s)
        warm = self._warm(to_s)
        idle_w = self.scenario.load.idle_w
        return np.asarray(joules / (to_s - from_s) * warm + idle_w * (warm - 1))

    def _metered_w(self, at_s: Floats, stop_s: float | None) -> Floats:
        before_s = np.concatenate(([at_s[0] - 0.05], at_s[:-1]))
        other_j = self._other_joules(at_s) - self._other_joules(before_s)
        return other_j / (at_s - before_s) + self._load_mean_w(before_s, at_s, stop_s)

    def spread_w(self) -> float:
        """Return the murmur's standard deviation behind the lag."""
        background, tau_s = self.scenario.background, self.scenario.sensor.tau_s
        return float(
            np.sqrt(
                background.fast_w**2 * background.fast_s / (background.fast_s + tau_s)
                + background.slow_w**2 * background.slow_s / (background.slow_s + tau_s)
            )
        )

    def read_w(self, start_s: float, stop_s: float) -> float:
        """Return the expected reading over a stretch of load, with this sensor's own errors.

        Expected over bursts, murmur, the registers' steps and the phase of sampling.
        """
        return self.as_read_w(self.true_w(start_s, stop_s), self.steps_w(start_s, stop_s))

    def as_read_w(self, mean_w: float, steps_w: float) -> float:
        """Return the mean reading of a mean true power, given what the registers' steps add."""
        return float(_smooth_w(self.scenario.sensor, np.array([mean_w]))[0]) + steps_w

    def steps_w(self, start_s: float, stop_s: float) -> float:
        """Return what the registers' steps add to the mean reading over a stretch of load.

        The mean of true power is exact; the steps are averaged over some hundred moments of the
        stretch with as many states of the bursts, the murmur in closed form. A murmur as wide as
        a step leaves nothing of them (under 1e-6 of one) but the rounding of the voltage.
        """
        if self._dithered:
            return self._steps_w(np.full(1, self.true_w(start_s, stop_s)))
        at_s = self.scenario.rng(5).uniform(start_s, stop_s, DRAWS)
        idle_w = self.scenario.load.idle_w
        return self._steps_w(self._load_sensed_w(at_s) + idle_w + self._burst_states)

    def idle_read_w(self) -> float:
        """Return the expected reading at idle, where no load has been for a while."""
        load, background = self.scenario.load, self.scenario.background
        return self.as_read_w(
            load.idle_w + background.burst_w, self._steps_w(load.idle_w + self._burst_states)
        )

    @property
    def _dithered(self) -> bool:
        sensor = self.scenario.sensor
        return self.spread_w() >= 0.8 * sensor.lsb_ma * sensor.bus_mv / 1e6

    def _steps_w(self, power_w: Floats) -> float:
        """Return what the registers' steps add on average at these powers."""
        sensor = self.scenario.sensor
        if self.scenario.printer.host_s is not None:
            return 0.0
        told_w = expected_w(sensor, power_w, self.spread_w())
        return float((told_w - _smooth_w(sensor, power_w)).mean())

    def _load_sensed_w(self, at_s: Floats) -> Floats:
        if self.scenario.sensor.tau_s == 0.0:
            return self._instant_w(at_s, None)
        return self._follow(self._load_w, self._lagged[1], at_s)

    @cached_property
    def _burst_states(self) -> Floats:
        """Lagged bursts at moments of another stretch of time, as many as there are draws."""
        if not self.scenario.background.bursts:
            return np.zeros(DRAWS)
        cell_s, cells, rng = 0.05, 12000, self.scenario.rng(10)
        apart = bursts(self.scenario.background, cells * cell_s, rng)
        power_w = np.diff(apart.joules(cell_s * np.arange(cells + 1))) / cell_s
        tau_s = self.scenario.sensor.tau_s
        seen_w = power_w if tau_s == 0.0 else lagged(power_w, tau_s, cell_s)
        return np.asarray(rng.choice(seen_w, DRAWS))


def _smooth_w(sensor: Sensor, power_w: Floats) -> Floats:
    """Return what the sensor would read if its registers had no steps."""
    volts = _bus_mv(sensor, power_w) / 1000.0
    return np.asarray((1 + sensor.gain) * power_w + sensor.offset_ma / 1000.0 * volts)


def meter_w(sensor: Sensor, power_w: Floats) -> Floats:
    """Return what a meter on the host makes of power: gain and offset, no steps to speak of."""
    return np.asarray((1 + sensor.gain) * power_w + sensor.offset_ma * sensor.bus_mv / 1e6)
