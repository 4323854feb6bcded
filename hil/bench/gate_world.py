"""Boards of known truth under a gate: what each round of two engines by turns reads.

A sitting is one lease: engines run one after the other as `hil gate` runs them, on one board whose
bursts, murmur, warming and sensor are those of a scenario of the energy benchmark and go on all the
while. True power in a run is (idle + load) * (1 + warming + drift) + murmur + bursts; it is seen
through the sensor's lag and registers, at the printer's pace. Engines built anew differ.

Rule of this file: it knows the truth and decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from hil.bench.energy_scenario import STRATA, Rng, Scenario, draw
from hil.bench.energy_world import (
    LATENCY_SPREAD,
    LATENCY_TAIL,
    Floats,
    bursts,
    lagged,
    murmur,
    registers_mw,
)
from hil.measure.gate import Turn
from hil.measure.interleave import ROUNDS_AT_ONCE, Side, first_sides

CELL_S = 0.02
# The runs of `hil gate`: idle and quiet, settling, three windows of 5 s, tail, quiet and idle.
BEFORE_S, SETTLE_S, LOAD_S, TAIL_S, AFTER_S = 6.5, 3.0, 15.0, 0.5, 6.5
RUN_S = BEFORE_S + SETTLE_S + LOAD_S + TAIL_S + AFTER_S
RUN_LATENCY_SD = 0.002
"""Spread of a run's whole latency distribution: memory falls differently each time."""
USED = ("bursts", "drift", "mixed", "lost_lines", "triggered", "large_load")
"""Strata of the energy benchmark that boards are drawn from, in turn."""


@dataclass(frozen=True)
class World:
    """How engines built anew differ, and how far a board wanders.

    Attributes:
        spread: standard deviation between builds of a network, in energy and latency.
        flips: (share, size): so many builds get a kernel that costs so much more.
        drift: power's relative change an hour, drawn within plus and minus this much.
        power_claimed: whether a true 8 % is claimed to be found here; no false alarm is claimed
            everywhere.
    """

    spread: float
    flips: tuple[float, float] | None = None
    drift: float = 0.05
    power_claimed: bool = True


WORLDS: Mapping[str, World] = {
    "builds alike": World(0.0),
    "builds 0.5 %": World(0.005),
    "builds 1 %": World(0.01, power_claimed=False),
    "builds 2 %": World(0.02, power_claimed=False),
    "one build in ten costs 5 % more": World(0.003, flips=(0.1, 0.05), power_claimed=False),
}


@dataclass
class Sitting:
    """One network beside its baseline on one board, in one lease.

    Attributes:
        ratio: true energy of the candidate over the baseline's; half of it (of its logarithm) is
            latency, half is power.
        at_s: how far the lease has come.
    """

    world: World
    scenario: Scenario
    ratio: float
    rng: Rng
    at_s: float = 0.0
    _drift: float = 0.0
    _effects: dict[tuple[Side, int], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._drift = self.world.drift * self.rng.uniform(-1, 1) / 3600.0

    @classmethod
    def drawn(cls, world: World, ratio: float, seed: int, index: int) -> Sitting:
        """Draw the sitting `index` of a benchmark."""
        names = tuple(STRATA)
        wanted = names.index(USED[index % len(USED)])
        scenario = draw(seed, wanted + len(names) * index)
        assert scenario.stratum in USED
        return cls(world, scenario, ratio, np.random.default_rng([seed, index, 77]))

    def rounds(self, count: int, first_build: int = 0, builds: int = 1) -> tuple[Turn, ...]:
        """Run so many rounds by turns, from where the lease stands."""
        starts = list(islice(first_sides(int(self.rng.integers(2**31))), count))
        plan: list[tuple[Side, int]] = []
        for index, first in enumerate(starts):
            build = first_build + index // ROUNDS_AT_ONCE % builds
            plan += [(first, build), ("b" if first == "a" else "a", build)]
        energy, p99 = self._run(plan)
        turns = []
        for index, first in enumerate(starts):
            a, b = (2 * index, 2 * index + 1) if first == "a" else (2 * index + 1, 2 * index)
            turns.append(
                Turn(
                    plan[2 * index][1],
                    first,
                    {"energy_mj": energy[b], "latency_p99_ms": p99[b]},
                    {"energy_mj": energy[a], "latency_p99_ms": p99[a]},
                )
            )
        return tuple(turns)

    def _run(self, plan: Sequence[tuple[Side, int]]) -> tuple[list[float], list[float]]:
        """Return what runs in this order read: energy in mJ, and the p99 of latency in ms."""
        cells = round(len(plan) * RUN_S / CELL_S) + 1
        at_s = CELL_S * np.arange(cells)
        load, background = self.scenario.load, self.scenario.background
        lease_s = self.at_s + at_s
        warm = load.warming * (1 - np.exp(-lease_s / load.warming_s)) + self._drift * lease_s
        power_w = np.full(cells, load.idle_w)
        for index, (side, _) in enumerate(plan):
            begin_s = index * RUN_S + BEFORE_S
            edges = np.array([begin_s, begin_s + SETTLE_S + LOAD_S + TAIL_S]) / CELL_S
            power_w[int(edges[0]) : int(edges[1])] = self._level_w(side)
        ends_s = CELL_S * np.arange(cells + 1)
        burst_w = np.diff(bursts(background, cells * CELL_S, self.rng).joules(ends_s)) / CELL_S
        power_w = power_w * (1 + warm) + burst_w + murmur(background, cells, self.rng, CELL_S)
        tau_s = self.scenario.sensor.tau_s
        seen_w = power_w if tau_s == 0.0 else lagged(power_w, tau_s, CELL_S)
        energy, p99 = [], []
        for index, (side, build) in enumerate(plan):
            mean_ms, slow_ms = self._latency_ms(side, build)
            energy.append(self._read_w(seen_w, index * RUN_S + BEFORE_S + SETTLE_S) * mean_ms)
            p99.append(slow_ms)
        self.at_s += len(plan) * RUN_S
        return energy, p99

    def _level_w(self, side: Side) -> float:
        """Return the level under load; the candidate's mean, bursts and all, is the ratio's."""
        level_w, burst_w = self.scenario.load.high_w, self.scenario.background.burst_w
        return level_w if side == "a" else (level_w + burst_w) * math.sqrt(self.ratio) - burst_w

    def _read_w(self, seen_w: Floats, begin_s: float) -> float:
        """Return the mean of the lines within the windows of one run, in watts."""
        printer = self.scenario.printer
        period_s = printer.interval_s + printer.work_s
        count = int(LOAD_S / period_s)
        at_s = begin_s + period_s * (self.rng.random() + np.arange(count))
        if printer.lost:
            at_s = at_s[self.rng.random(count) >= printer.lost]
        watts = seen_w[np.minimum((at_s / CELL_S).astype(int), len(seen_w) - 1)]
        return float(registers_mw(self.scenario.sensor, watts).mean()) / 1000.0

    def _latency_ms(self, side: Side, build: int) -> tuple[float, float]:
        mean_ms = 1000 * self.scenario.load.latency_s * self._effect(side, build)
        mean_ms *= math.exp(RUN_LATENCY_SD * self.rng.standard_normal())
        if side == "b":
            mean_ms *= math.sqrt(self.ratio)
        count = int(1000 * LOAD_S / mean_ms)
        each_ms = mean_ms * (1 + LATENCY_SPREAD * self.rng.standard_normal(count))
        late = self.rng.random(count) < LATENCY_TAIL[0]
        each_ms[late] += self.rng.exponential(1000 * LATENCY_TAIL[1], int(late.sum()))
        return float(each_ms.mean()), float(np.quantile(each_ms, 0.99, method="inverted_cdf"))

    def _effect(self, side: Side, build: int) -> float:
        """Return what this build of this side costs beside its network's mean."""
        if (side, build) not in self._effects:
            drawn = self.world.spread * self.rng.standard_normal()
            if self.world.flips is not None:
                share, size = self.world.flips
                drawn += math.log1p(size) * (float(self.rng.random() < share) - share)
            self._effects[side, build] = math.exp(drawn)
        return self._effects[side, build]


def quiet(scenario: Scenario) -> Scenario:
    """Return the scenario without background work, for tests that need a still board."""
    background = replace(scenario.background, fast_w=0.0, slow_w=0.0, bursts=())
    return replace(scenario, background=background, load=replace(scenario.load, warming=0.0))
