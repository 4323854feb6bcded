"""When a run has been long enough: the interval is as tight as asked, or every limit is decided.

A run is looked at after some of its blocks (`hil.core.sequential.look_schedule`), and what stops it
is settled at the first look that says so: later blocks do not revoke a decision, for it is the
decision at that look whose errors are bounded.

* *Target*: the 95 % interval, corrected for looking, is no wider than asked.
* *Limit*: an interval of higher confidence lies on one side of it. That confidence is constant
  over the looks (Pocock 1977): however often it is looked at, the chance to decide wrongly stays
  under 5 % for each limit even where the truth lies on the limit itself.

Rule of this file: pure. A decision depends on the evidence, the rule and what was known before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from hil.core.errors import ConfigError, MeasurementError
from hil.core.evidence import Evidence
from hil.core.sequential import NoisePrior, difference, inverse
from hil.core.stats import CONFIDENCE, Estimate, block_quantile
from hil.measure.plan import MIN_LOAD_S, SENSOR_TAU_S
from hil.measure.scene import NoSuchRailError, Scene, block_marks, powered_scene
from hil.measure.steady import (
    Steady,
    idle_interval,
    look_blocks,
    noise_prior,
    sampling_floor_w,
    steady_interval,
)

if TYPE_CHECKING:
    from hil.measure.sensors import SensorErrors

Verdict = Literal["feasible", "infeasible", "undecided"]
Outcome = Literal["going", "target", "decided", "undecided"]

ADAPTIVE_WINDOW_S = 2.5
"""Length of a block of a run that decides for itself: just over five sensor time constants."""
FIRST_LOOK_BLOCKS = 4
CAP_S = 120.0
"""Load after which a run gives up, unless told otherwise."""

LIMIT_CONFIDENCE = 0.98
LIMIT_EVENTS = 0.5
"""Unseen bursts that a verdict reckons with, Jeffreys' half: a verdict is never taken back."""
__all__ = ["Decision", "Limit", "Series", "StopRule", "Stopper", "decide", "noise_prior"]

POWERED = ("energy_mj", "energy_net_mj", "power_w", "inferences_per_joule")
LATENCY = "latency_p50_ms"
"""What a run is stopped by where no joules can be had."""
QUANTILES: Mapping[str, float] = {"latency_p50_ms": 0.5, "latency_p99_ms": 0.99}


@dataclass(frozen=True)
class Limit:
    """A bound on one figure: at most, or at least, so much in the figure's unit."""

    figure: str
    at_most: float | None = None
    at_least: float | None = None

    def __post_init__(self) -> None:
        if self.figure not in (*POWERED, *QUANTILES):
            known = ", ".join((*POWERED, *QUANTILES))
            raise ConfigError(f"no limit can be set on {self.figure!r}", fix=f"use one of {known}")
        if (self.at_most is None) == (self.at_least is None):
            raise ConfigError(f"the limit on {self.figure} needs at_most or at_least, and one only")

    def verdict(self, figure: Estimate | None) -> Verdict:
        """Say on which side of the limit a figure's interval lies as a whole."""
        if figure is None:
            return "undecided"
        if self.at_most is not None:
            above, below = figure.low > self.at_most, figure.high <= self.at_most
            return "infeasible" if above else "feasible" if below else "undecided"
        assert self.at_least is not None
        above, below = figure.low >= self.at_least, figure.high < self.at_least
        return "feasible" if above else "infeasible" if below else "undecided"


@dataclass(frozen=True)
class StopRule:
    """What a run is to find out.

    Attributes:
        target_rel: half width of the interval over the figure itself; None: no matter how tight.
        limits: to be decided.
        figure: which one the target is of.
    """

    target_rel: float | None = None
    limits: tuple[Limit, ...] = ()
    figure: str = "energy_mj"

    def __post_init__(self) -> None:
        if self.target_rel is not None and not 0 < self.target_rel < 1:
            raise ConfigError(f"a target of {self.target_rel:g} is no share of the figure")
        if self.figure not in (*POWERED, *QUANTILES):
            raise ConfigError(f"no target can be set on {self.figure!r}")


@dataclass(frozen=True)
class Decision:
    """What the blocks so far say.

    Attributes:
        outcome: `target` or `decided` where the rule is met; `undecided` where it is not and the
            run is over; else `going`.
        verdicts: on each limited figure.
        why: in words, with figures.
        looks: how often the run has been looked at.
        blocks: after how many blocks the outcome was settled.
    """

    go_on: bool
    outcome: Outcome
    verdicts: Mapping[str, Verdict]
    why: str
    looks: int = 0
    blocks: int = 0


@dataclass(frozen=True)
class Series:
    """What is decided on, block by block: plain numbers.

    Attributes:
        energy_mj: energy an inference of each block; empty without power.
        power_w: mean power of each block.
        window_s: mean length of a block.
        tau_s: time constant of the sensor.
        idle_w: short pieces of idle, of `idle_piece_s` each.
        latency_ms: latencies of each block.
        floor_w: standard error of mean power over so many blocks that they do not show.
    """

    energy_mj: Sequence[float] = ()
    power_w: Sequence[float] = ()
    window_s: float = ADAPTIVE_WINDOW_S
    tau_s: float = SENSOR_TAU_S
    idle_w: Sequence[float] = ()
    idle_piece_s: float = 2 * SENSOR_TAU_S
    latency_ms: Sequence[Sequence[float]] = ()
    floor_w: Callable[[int], float] = lambda _: 0.0

    @property
    def blocks(self) -> int:
        """How many there are."""
        return max(len(self.energy_mj), len(self.latency_ms))


def decide(
    evidence: Evidence,
    rail: str | None,
    rule: StopRule,
    prior: NoisePrior | None = None,
    *,
    sensor: SensorErrors | None = None,
) -> Decision:
    """Say whether a run goes on, from its evidence so far.

    Args:
        evidence: blocks that are whole, their power complete; of a run under way or over.
        rail: what energy is read on; may be None where the rule is about latency alone.
        rule: what is to be found out.
        prior: `noise_prior` of a calibration.
        sensor: of the rail; its time constant is used where the run does not tell.

    Raises:
        MeasurementError: as `hil.measure.numbers.measurement`, but for a run that is still short.
    """
    return Stopper(rail, rule, prior, sensor=sensor).decide(evidence)


class Stopper:
    """Decides again and again about one growing run; what it settled once stays settled.

    Its answers are those of `decide` on the same evidence, up to what later blocks tell of the
    sensor's lag.
    """

    def __init__(
        self,
        rail: str | None,
        rule: StopRule,
        prior: NoisePrior | None = None,
        *,
        sensor: SensorErrors | None = None,
    ) -> None:
        self._rail, self._rule, self._prior = rail, rule, prior
        self._tau_s = None if sensor is None else sensor.tau_s
        self._state = _State(rule)

    def decide(self, evidence: Evidence) -> Decision:
        """Say whether the run goes on (see `decide`)."""
        blocks = len(evidence.named("block"))
        due = [n for n in look_blocks(evidence.plan) if self._state.last < n <= blocks]
        if due and not self._state.settled():
            series = self._series(evidence)
            if series is not None:
                for n in due:
                    self._state.look(series, n, evidence.plan.blocks, self._prior)
                    if self._state.settled():
                        break
        most = evidence.plan.max_blocks or evidence.plan.blocks
        return self._state.decision(over=blocks >= most or bool(evidence.named("tail")))

    def _series(self, evidence: Evidence) -> Series | None:
        """Return the blocks' figures; None while the run is too short for joules."""
        if evidence.power_source == "none":
            self._without_power()
        names = {limit.figure for limit in self._rule.limits} | {self._rule.figure}
        latency_ms: Sequence[Sequence[float]] = ()
        if names & set(QUANTILES):
            block_marks(evidence)
            latency_ms = [(np.asarray(b, dtype=float) / 1e6).tolist() for b in evidence.latency_ns]
        if not names & set(POWERED) or evidence.power_source == "none":
            return Series(latency_ms=latency_ms)
        if self._rail is None:
            raise MeasurementError(
                "no rail is named to read energy on",
                fix="set power.rail in the device file to the module's total input",
            )
        marks = evidence.named("block")
        if sum(mark.stop_ns - mark.start_ns for mark in marks) < (MIN_LOAD_S - 1e-6) * 1e9:
            return None
        try:
            scene = powered_scene(evidence, self._rail, self._tau_s)
        except NoSuchRailError:
            self._without_power()
            return Series(latency_ms=[[ns / 1e6 for ns in block] for block in evidence.latency_ns])
        return replace(series_of(scene), latency_ms=latency_ms)

    def _without_power(self) -> None:
        """Stop by latency where no joules can be had, instead of waiting for them for ever."""
        if self._rule.figure in POWERED:
            self._rule = replace(self._rule, figure=LATENCY)
            self._state.rule = self._rule


def series_of(scene: Scene) -> Series:
    """Return what is decided on from a scene; idle is that before the load while it goes on."""
    marks = scene.evidence.named("block")
    idle = scene.idle_pieces_w() or ()
    joules = scene.block_energies_j()
    return Series(
        energy_mj=[1e3 * j / (m.inferences or 1) for j, m in zip(joules, marks, strict=True)],
        power_w=scene.block_powers_w(),
        window_s=float(np.mean([window.duration_s for window in scene.blocks])),
        tau_s=scene.tau_s,
        idle_w=idle,
        idle_piece_s=2 * scene.tau_s,
        floor_w=partial(sampling_floor_w, scene),
    )


def figure_of(
    series: Series,
    name: str,
    blocks: int,
    *,
    looks: int = 1,
    first_look: int | None = None,
    prior: NoisePrior | None = None,
    confidence: float = CONFIDENCE,
    each_side: bool = False,
) -> Estimate | None:
    """Return one figure over the first so many blocks; None where they do not tell it."""
    if name in QUANTILES:
        return block_quantile(series.latency_ms[:blocks], QUANTILES[name], confidence=confidence)
    if not series.energy_mj:
        return None
    values = series.power_w if name == "power_w" else series.energy_mj
    power_w = float(np.mean(series.power_w[:blocks]))
    gross = steady_interval(
        values[:blocks],
        Steady(power_w, series.window_s, series.tau_s, series.floor_w(blocks)),
        looks=looks,
        first_look=first_look,
        prior=prior,
        confidence=confidence,
        each_side=each_side,
    )
    if name == "inferences_per_joule":
        return inverse(gross, 1000.0)
    if name != "energy_net_mj":
        return gross
    if len(series.idle_w) < 2:
        return None
    idle = idle_interval(series.idle_w, series.idle_piece_s, series.tau_s)
    return difference(gross, idle, gross.value / power_w)


@dataclass
class _State:
    """What has been settled by the looks so far."""

    rule: StopRule
    last: int = 0
    looks: int = 0
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    met: bool = False
    figure: Estimate | None = None

    def __post_init__(self) -> None:
        self.verdicts = {limit.figure: "undecided" for limit in self.rule.limits}

    def decided(self) -> bool:
        return bool(self.verdicts) and "undecided" not in self.verdicts.values()

    def settled(self) -> bool:
        return self.met or self.decided()

    def look(self, series: Series, blocks: int, first: int, prior: NoisePrior | None) -> None:
        self.last, self.looks = blocks, self.looks + 1
        strict = replace(prior or NoisePrior(), events=LIMIT_EVENTS)
        for limit in self.rule.limits:
            if self.verdicts[limit.figure] == "undecided":
                figure = figure_of(
                    series,
                    limit.figure,
                    blocks,
                    prior=strict,
                    confidence=LIMIT_CONFIDENCE,
                    each_side=True,
                )
                self.verdicts[limit.figure] = limit.verdict(figure)
        self.figure = figure_of(
            series, self.rule.figure, blocks, looks=self.looks, first_look=first, prior=prior
        )
        if self.rule.target_rel is not None and self.figure is not None:
            half = (self.figure.high - self.figure.low) / 2
            self.met = half <= self.rule.target_rel * abs(self.figure.value)

    def decision(self, *, over: bool) -> Decision:
        outcome: Outcome = "undecided" if over else "going"
        if self.decided():
            outcome = "decided"
        elif self.met:
            outcome = "target"
        return Decision(
            go_on=outcome == "going",
            outcome=outcome,
            verdicts=dict(self.verdicts),
            why=self._why(),
            looks=self.looks,
            blocks=self.last,
        )

    def _why(self) -> str:
        if self.figure is None:
            return "no interval yet"
        half = (self.figure.high - self.figure.low) / 2
        share = 100 * half / abs(self.figure.value) if self.figure.value else math.inf
        text = f"{self.rule.figure} within {share:.2g} %"
        if self.rule.target_rel is not None:
            text += f", {100 * self.rule.target_rel:g} % asked"
        return "; ".join([text, *(f"{name} {said}" for name, said in self.verdicts.items())])
