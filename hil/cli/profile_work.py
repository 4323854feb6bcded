"""The kinds of profile: one engine, several builds, several operating points, beside a reference.

Rule of this file: it measures and returns JSON objects; showing and exiting are `profile`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hil.cli.keeping import EVIDENCE
from hil.cli.measuring import (
    FIRST_LOOK_BLOCKS,
    IDLE_S,
    Desk,
    Looking,
    board_json,
    engine_json,
    run_seconds_around,
)
from hil.cli.network import Network, build
from hil.core.errors import (
    ConfigError,
    DeviceError,
    HilError,
    InterruptedRunError,
    MeasurementError,
)

if TYPE_CHECKING:
    from hil.cli.keeping import Keeper
    from hil.core.evidence import Evidence, RunPlan
    from hil.device.session import EngineInfo
    from hil.measure.stopping import Limit, StopRule
    from hil.measure.sweep import OperatingPoint, PointResult

MOST_BLOCKS = 1000
MOST_LOAD_S = 7200.0
"""What the agent takes in one run; more time than that is cut to it."""
SCHEMA_BUILDS = "hil/builds@1"
SCHEMA_SWEEP = "hil/sweep@1"
Result = dict[str, Any]


@dataclass(frozen=True)
class Wishes:
    """What the person asked for.

    Attributes:
        blocks: None measures until `target` is met, every limit is decided or time is up.
        target: relative half width of the energy's (or the median latency's) 95 % interval.
        max_time_s: board seconds that one result may take, idle included.
    """

    precision: str | None
    blocks: int | None
    target: float | None
    limits: tuple[Limit, ...]
    max_time_s: float
    window_s: float
    rate_hz: float | None
    layers: bool
    trtexec: bool

    def plan(self, interval_ms: int, rate_hz: float | None, power: str) -> RunPlan:
        """Return the plan of one run; latency alone needs no idle.

        Raises:
            ConfigError: the time given does not hold the fewest windows.
        """
        from hil.core.evidence import RunPlan

        rate = self.rate_hz if rate_hz is None else rate_hz
        idle_s = 0.0 if power == "none" else IDLE_S
        common = RunPlan(idle_s, window_s=self.window_s, interval_ms=interval_ms, rate_hz=rate)
        if self.blocks is not None:
            return replace(common, blocks=self.blocks)
        around_s = run_seconds_around(idle_s)
        most = int((self.max_time_s - around_s) / self.window_s)
        most = min(most, MOST_BLOCKS, int(MOST_LOAD_S / self.window_s))
        if most < FIRST_LOOK_BLOCKS:
            least_s = around_s + FIRST_LOOK_BLOCKS * self.window_s
            raise ConfigError(
                f"--max-time {self.max_time_s:g}s is too short",
                why=f"idle before and after, settling and {FIRST_LOOK_BLOCKS} windows of "
                f"{self.window_s:g} s take {least_s:.0f} s",
                fix=f"give it --max-time {least_s:.0f}s or more",
            )
        return replace(common, blocks=FIRST_LOOK_BLOCKS, max_blocks=most)

    def stop(self, power: str) -> StopRule | None:
        """Return when to stop: None for a fixed run without limits."""
        from hil.measure.stopping import StopRule

        if self.blocks is not None and not self.limits:
            return None
        figure = "latency_p50_ms" if power == "none" else "energy_mj"
        return StopRule(target_rel=self.target, limits=self.limits, figure=figure)


@dataclass(frozen=True)
class Work:
    """One profile under way: where, of what, as wished, kept where."""

    desk: Desk
    network: Network
    wishes: Wishes
    keeper: Keeper

    def one(
        self, point: OperatingPoint | None = None, build_index: int = 0, name: str = ""
    ) -> Result:
        """Build one engine and measure it at one operating point.

        Args:
            point: None is as the device file and the options say.
            build_index: k > 0 builds anew.
            name: prefix of the evidence's file, and what the progress calls it.
        """
        from hil.device.trtexec_run import refuse

        desk, wishes = self.desk.at(point.nvpmodel if point else None), self.wishes
        precision = (point.precision if point else None) or wishes.precision
        rate_hz = point.rate_hz if point else None
        plan = wishes.plan(desk.config.power.interval_ms, rate_hz, desk.power)
        info = build(desk.session, self.network, desk.config, precision, build_index, wishes.layers)
        if wishes.layers:
            refuse(info, "layers")  # before minutes are spent on measuring
        evidence_file = f"evidence-{name}.json.gz" if name else EVIDENCE
        result = replace(self, desk=desk)._measured(
            info, plan, evidence_file, f"measuring {name}".strip()
        )
        if wishes.layers:
            told = desk.session.layers(info)
            result["layers"] = [{"name": layer, "time_ms": ms} for layer, ms in told.rows]
            result["device_ms"], result["structure"] = told.device_ms, told.structure
        if wishes.trtexec:
            result["trtexec"] = crosscheck(desk, info, result)
        return result

    def _measured(
        self, info: EngineInfo, plan: RunPlan, evidence_file: str, progress: str
    ) -> Result:
        from hil.measure.run import measure

        desk, stop = self.desk, self.wishes.stop(self.desk.power)
        with Looking(progress) as looking:
            try:
                measurement, evidence = measure(
                    desk.session,
                    info,
                    plan,
                    power=desk.power,
                    rail=desk.rail,
                    stop=stop,
                    sensor=desk.sensor,
                    calibration=desk.calibration,
                    on_look=looking.look,
                )
            except (InterruptedRunError, DeviceError):
                if looking.latest is not None:
                    with suppress(MeasurementError):  # too little to score: the end is what matters
                        self._rescue(info, looking.latest, stop, evidence_file)
                raise
        return self._result(info, measurement.to_json(), evidence, stop, evidence_file)

    def _rescue(
        self, info: EngineInfo, evidence: Evidence, stop: StopRule | None, evidence_file: str
    ) -> None:
        """Keep what a run that ended early had measured: its idle after the load is missing."""
        measurement = self.desk.score(evidence, stop)
        result = self._result(info, measurement.to_json(), evidence, stop, evidence_file)
        if evidence_file == EVIDENCE:  # else it is one of several, whose joint result stands
            self.keeper.result({**result, "interrupted": True})

    def _result(
        self,
        info: EngineInfo,
        figures: Mapping[str, Any],
        evidence: Evidence,
        stop: StopRule | None,
        evidence_file: str,
    ) -> Result:
        desk = self.desk
        sha256 = self.keeper.evidence(evidence, evidence_file)
        limits = judged(self.wishes.limits, figures)
        return {
            **figures,
            **engine_json(self.network, info),
            "state": seen_state(evidence),
            **board_json(desk.session),
            "limits": limits,
            "calibration": desk.calibration_note,
            "evidence": {"sha256": sha256, "file": self.keeper.beside(evidence_file)},
            "scored_with": desk.scored_with(stop),
        }

    def builds(self, count: int) -> Result:
        """Measure several fresh builds of the network, one after the other."""
        results: list[Result] = []
        for k in range(1, count + 1):
            results.append(self.one(build_index=k, name=f"build-{k}"))
            # Kept after each, so that a Ctrl-C or a lost board costs only the build it hits.
            self.keeper.result(joined_builds(results) | {"interrupted": k < count})
        return joined_builds(results)

    def sweep(self, points: Sequence[OperatingPoint], on_point: Callable[[Result], None]) -> Result:
        """Measure at every operating point; each result is handed on as it is known."""
        from hil.measure.sweep import sweep

        rows: list[Result] = []

        def done(point: PointResult[Result]) -> None:
            rows.append(point_json(point))
            on_point(rows[-1])
            self.keeper.result(self._swept(rows))

        sweep(self.desk.session, points, lambda p: self.one(p, name=file_name(p)), done)
        return self._swept(rows)

    def _swept(self, rows: Sequence[Result]) -> Result:
        return {
            "schema": SCHEMA_SWEEP,
            "provenance": self.desk.session.provenance,
            "model": self.network.name,
            **board_json(self.desk.session),
            "points": list(rows),
        }


def seen_state(evidence: Evidence) -> Result | None:
    """Return power mode and clocks as the board told them while it ran; None where it did not."""
    if not evidence.states:
        return None
    first = evidence.states[0]
    return {name: first.get(name) for name in ("nvpmodel", "clocks_pinned", "gpu_hz", "emc_hz")}


def file_name(point: OperatingPoint) -> str:
    """Return a point's name as a file may bear it."""
    return point.name.replace(", ", "-").replace(" ", "-")


def point_json(point: PointResult[Result]) -> Result:
    """Return one operating point with its result or its error."""
    where = {
        "point": point.point.name,
        "nvpmodel": point.point.nvpmodel,
        "rate_hz": point.point.rate_hz,
        "precision": point.point.precision,
    }
    error = point.error
    if error is None:
        return {**where, "result": point.result, "error": None}
    told = {"what": error.what, "why": error.why, "fix": error.fix, "exit_code": error.exit_code}
    return {**where, "result": None, "error": told}


def judged(limits: Sequence[Limit], figures: Mapping[str, Any]) -> list[Result]:
    """Return each limit with its verdict; it bears where figures come from, unless measured."""
    verdicts = (figures.get("stopping") or {}).get("verdicts") or {}
    rows = []
    for limit in limits:
        verdict = verdicts.get(limit.figure, "undecided")
        if verdict != "undecided" and figures["provenance"] != "measured":
            verdict = f"{verdict}_{figures['provenance']}"
        rows.append(
            {
                "figure": limit.figure,
                "at_most": limit.at_most,
                "at_least": limit.at_least,
                "verdict": verdict,
            }
        )
    return rows


def joined_builds(results: Sequence[Result]) -> Result:
    """Return the figures over fresh builds: the build is the unit, its spread stated apart."""
    from hil.core.stats import Estimate
    from hil.measure.comparison import over_builds
    from hil.measure.result import FIGURES

    first = results[0]
    figures: Result = {}
    spread: Result = {}
    for name in FIGURES:
        rows = [(result[name], result[f"{name}_ci95"]) for result in results]
        known = [Estimate(value, *interval) for value, interval in rows if value is not None]
        joined = over_builds(known) if len(known) == len(results) else None
        figures[name] = joined.mean.value if joined else None
        figures[f"{name}_ci95"] = [joined.mean.low, joined.mean.high] if joined else None
        if joined is None:
            reasons = [result.get(f"{name}_reason") for result in results if result[name] is None]
            figures[f"{name}_reason"] = (reasons or ["one build has no spread"])[0]
        else:
            spread[name] = {
                "one_build_ci95": [joined.one_build.low, joined.one_build.high],
                "sd": joined.sd,
                "sd_within_runs": joined.sd_within,
                "sd_between_builds": joined.sd_between,
            }
    worst = max((r["validity"] for r in results), key=["valid", "suspect", "invalid"].index)
    reasons = [f"build {k}: {why}" for k, r in enumerate(results, 1) for why in r["reasons"]]
    kept = (
        "provenance",
        "rail",
        "model",
        "onnx_sha256",
        "precision",
        "quantisation",
        "runtime",
        "device",
        "board",
    )
    return {
        "schema": SCHEMA_BUILDS,
        **{name: first[name] for name in kept},
        "scope": "build",
        **figures,
        "build_to_build": spread,
        "validity": worst,
        "reasons": reasons,
        "fallbacks": [*{one["name"]: one for r in results for one in r["fallbacks"]}.values()],
        "limits": _limits_over_builds(results),
        "builds": list(results),
    }


def _limits_over_builds(results: Sequence[Result]) -> list[Result]:
    """A limit holds over builds only if every build keeps it, and is violated if any breaks it."""
    rows = []
    for index, limit in enumerate(results[0]["limits"]):
        verdicts = [result["limits"][index]["verdict"] for result in results]
        broken = [v for v in verdicts if v.startswith("infeasible")]
        open_ones = [v for v in verdicts if v == "undecided"]
        rows.append({**limit, "verdict": (broken or open_ones or verdicts)[0]})
    return rows


def crosscheck(desk: Desk, info: EngineInfo, result: Mapping[str, Any]) -> Result:
    """Run the board's own trtexec on the engine and set its median beside ours."""
    from hil.core.stats import Estimate, quantile
    from hil.measure.latency import agreement

    try:
        run = desk.session.trtexec(info)
    except HilError as error:
        return {"latency_p50_ms": None, "reason": str(error)}
    if run is None:
        return {"latency_p50_ms": None, "reason": "the board has no trtexec"}
    if not run.latency_ms:
        raise MeasurementError("trtexec told no latencies", why=" ".join(run.argv))
    value, ends = result["latency_p50_ms"], result["latency_p50_ms_ci95"]
    held = agreement(None if value is None else Estimate(value, *ends), run.latency_ms)
    ratio = None if held is None else held.ratio
    return {
        "latency_p50_ms": quantile(run.latency_ms, 0.5),
        "latency_p99_ms": quantile(run.latency_ms, 0.99),
        "inferences": len(run.latency_ms),
        "ours_to_trtexec": None if ratio is None else ratio.value,
        "ours_to_trtexec_ci95": None if ratio is None else [ratio.low, ratio.high],
        "verdict": "undecided" if held is None else held.verdict,
        "argv": list(run.argv),
    }
