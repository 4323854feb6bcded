"""The runs behind a calibration: A against A, the sampler at two periods and none, load steps.

Rule of this file: every figure it returns rests on runs made here and kept; what a board cannot
tell stays unknown with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hil.cli.measuring import Desk, run_seconds_around, setup_of
from hil.cli.network import Network, build
from hil.cli.rounds import RUN_BLOCKS, RUN_IDLE_S, RUN_WINDOW_S, Rounds, Rule
from hil.cli.terminal import say
from hil.core.errors import HilError, MeasurementError
from hil.device.precisions import unquantised

if TYPE_CHECKING:
    from hil.cli.keeping import Keeper
    from hil.core.evidence import Evidence, RunPlan
    from hil.core.stats import Estimate
    from hil.device.session import EngineInfo
    from hil.measure.calibration import Calibration
    from hil.measure.interleave import Round, Side
    from hil.measure.result import Measurement

SEED = 0
SAMPLER_WINDOW_S = 10.0
STEPS = 8
MINUTES = (2.0, 4.0, 10.0, 30.0)
"""Times for which the smallest difference is stated."""


@dataclass
class Calibrating:
    """A calibration under way.

    Attributes:
        rounds: of the engine against itself; the sampler gets half as many pairs of runs.
        slow_ms: the longer of the two sampling intervals.
    """

    desk: Desk
    network: Network
    keeper: Keeper
    rounds: int
    slow_ms: int
    _spent_s: float = 0.0
    _runs: int = 0
    _unknown: dict[str, str] = field(default_factory=dict)

    def go(self, created: str) -> Calibration:
        """Measure and return the calibration.

        Args:
            created: when, in UTC.

        Raises:
            MeasurementError: the engine's own runs are invalid.
        """
        from hil.measure.calibration import Calibration, block_noise
        from hil.measure.comparison import repeatability

        desk = self.desk
        say(f"about {self._minutes():.0f} min on the board")
        info = build(desk.session, self.network, desk.config, unquantised(desk.config.runtime))
        against = self._against_itself(info)
        energy = against.comparison().ratios["energy_mj"]
        latency = against.comparison().ratios["latency_p50_ms"]
        sd, df = repeatability(energy.log_ratios)
        variance, block_df = block_noise(_block_powers(against))
        sampler, latency_with = self._sampler(info), self._sampler_latency(info)
        lag = self._lag(info)
        return Calibration(
            setup=setup_of(desk.session, desk.config),
            log_ratio_sd=sd,
            log_ratio_df=df,
            latency_log_ratio_sd=repeatability(latency.log_ratios)[0],
            round_s=against.spent_s / len(against.scored),
            block_variance_rel=variance,
            block_window_s=against.plan().window_s,
            block_df=block_df,
            sampler_power_w=sampler,
            sampler_latency_ratio=latency_with,
            lag_s=lag,
            minutes=(against.spent_s + self._spent_s) / 60,
            onnx_sha256=info.spec.onnx_sha256,
            engine_sha256=info.engine_sha256,
            evidence=tuple(self.keeper.files.values()),
            created=created,
            unknown=self._unknown,
        )

    def _minutes(self) -> float:
        around_s, steady_s = run_seconds_around(RUN_IDLE_S), RUN_BLOCKS * RUN_WINDOW_S
        sampler_s = 3 * SAMPLER_WINDOW_S
        seconds = 2 * self.rounds * (around_s + steady_s)
        seconds += 2 * self._pair_count() * (around_s + 2 * sampler_s + run_seconds_around(0.0))
        return seconds / 60

    def _pair_count(self) -> int:
        return max(4, self.rounds // 2)

    def detects(self, calibration: Calibration) -> list[dict[str, Any]]:
        """Return the smallest difference told apart in several times."""
        from hil.measure.comparison import detectable_interval

        rows = []
        for minutes in MINUTES:
            rounds = int(60 * minutes / calibration.round_s)
            found = detectable_interval(calibration.log_ratio_sd, calibration.log_ratio_df, rounds)
            if found is not None:
                rows.append(
                    {
                        "minutes": minutes,
                        "rounds": rounds,
                        "energy_fraction": found.value,
                        "energy_fraction_ci95": [found.low, found.high],
                    }
                )
        return rows

    def _against_itself(self, info: EngineInfo) -> Rounds:
        say(f"the engine against itself, {self.rounds} rounds ...")
        rounds = _Counted(self.desk, self.keeper, Rule(None, float("inf")), wanted=self.rounds)
        rounds.run({"a": [info], "b": [info]}, SEED)
        done = rounds.comparison()
        if done.validity == "invalid" or "energy_mj" not in done.ratios:
            raise MeasurementError(
                "the board's runs are invalid, so nothing can be said of it",
                why="; ".join(done.reasons),
                fix="run `hil doctor`, then calibrate again",
            )
        return rounds

    def _sampler(self, info: EngineInfo) -> Estimate | None:
        """What the sampler costs: pairs of runs at two periods, extrapolated to none."""
        from hil.measure.calibration import sampler_power

        fast_ms = self.desk.config.power.interval_ms
        if self.slow_ms <= fast_ms:
            self._unknown["sampler_power_w"] = (
                f"the device's interval of {fast_ms} ms is not shorter than {self.slow_ms} ms"
            )
            return None
        say(f"the sampler at {fast_ms} and {self.slow_ms} ms ...")
        plans = {"a": self._plan(fast_ms), "b": self._plan(self.slow_ms)}
        pairs = self._pairs(lambda side: self._run(info, plans[side], self.desk.power))
        try:
            fast = [_power_w(self.desk.score(one.a)) for one in pairs]
            slow = [_power_w(self.desk.score(one.b)) for one in pairs]
        except MeasurementError as error:
            self._unknown["sampler_power_w"] = str(error)
            return None
        return sampler_power(fast, slow, fast_ms=fast_ms, slow_ms=self.slow_ms, at_ms=fast_ms)

    def _sampler_latency(self, info: EngineInfo) -> Estimate | None:
        """Median latency with the sampler over that without."""
        from hil.measure.calibration import latency_ratio

        say("latency with and without the sampler ...")
        plan = replace(self._plan(self.desk.config.power.interval_ms), idle_s=0.0)
        power: dict[Side, str] = {"a": self.desk.power, "b": "none"}
        pairs = self._pairs(lambda side: self._run(info, plan, power[side]))
        return latency_ratio(
            [_median_ms(one.a) for one in pairs], [_median_ms(one.b) for one in pairs]
        )

    def _lag(self, info: EngineInfo) -> Estimate | None:
        """Time constant of the sensor, from load switched on and off."""
        from hil.measure.lag import lag_of

        say("the sensor's lag, from load steps ...")
        try:
            evidence = self.desk.session.step_response(
                info, self.desk.power, self.desk.config.power.interval_ms, STEPS
            )
            self._keep(evidence)
            lag = lag_of(evidence, self.desk.rail or "")
        except HilError as error:
            self._unknown["lag_s"] = str(error)
            return None
        if lag is None:
            self._unknown["lag_s"] = "the load steps do not stand out of the noise"
            return None
        return lag.tau_s

    def _plan(self, interval_ms: int) -> RunPlan:
        from hil.core.evidence import RunPlan

        return RunPlan(RUN_IDLE_S, window_s=SAMPLER_WINDOW_S, blocks=3, interval_ms=interval_ms)

    def _pairs(self, run: Any) -> tuple[Round, ...]:
        from hil.measure.interleave import by_turns

        wanted = self._pair_count()
        return by_turns(
            lambda side, _build: run(side), seed=SEED, go_on=lambda done: len(done) < wanted
        )

    def _run(self, info: EngineInfo, plan: RunPlan, power: str) -> Evidence:
        evidence = self.desk.session.run(info, plan, power)
        self._keep(evidence)
        return evidence

    def _keep(self, evidence: Evidence) -> None:
        from hil.measure.interleave import run_seconds

        self._runs += 1
        self._spent_s += run_seconds(evidence)
        self.keeper.evidence(evidence, f"evidence-extra-{self._runs:04d}.json.gz")
        self.keeper.check()


@dataclass
class _Counted(Rounds):
    """Rounds of a fixed number: nothing is stopped by what is seen."""

    wanted: int = 0

    def _go_on(self, rounds: Sequence[Round]) -> bool:
        for one in rounds[len(self.scored) :]:
            self.scored.append(self._score(one))
        say(f"  {len(rounds)} of {self.wanted} rounds")
        return len(rounds) < self.wanted


def _block_powers(rounds: Rounds) -> list[list[float]]:
    runs = [m for one in rounds.scored for m in (one.a, one.b)]
    return [[b.power_w for b in run.blocks if b.power_w is not None] for run in runs]


def _power_w(measurement: Measurement) -> float:
    if measurement.power_w is None:
        raise MeasurementError("a run has no power", why=measurement.why("power_w"))
    return measurement.power_w.value


def _median_ms(evidence: Evidence) -> float:
    from hil.core.stats import quantile

    return quantile([ns for block in evidence.latency_ns for ns in block], 0.5) / 1e6
