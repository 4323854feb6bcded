"""One `hil profile` from the words of the command line to its folder and exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.cli.calibrating import PrecisionWish
from hil.cli.keeping import Keeper, keeper
from hil.cli.measuring import desk, refuse_without_power
from hil.cli.network import Network, read_network
from hil.cli.profile_view import show, show_kept, show_point_line
from hil.cli.profile_work import SCHEMA_SWEEP, Result, Wishes, Work
from hil.cli.referenced import referenced
from hil.cli.terminal import print_json, say
from hil.core.errors import (
    ConfigError,
    DeviceError,
    HilError,
    InterruptedRunError,
    LimitViolatedError,
    MeasurementError,
)
from hil.core.fallbacks import WITHOUT_JOULES

if TYPE_CHECKING:
    from hil.device.config import DeviceConfig
    from hil.measure.sweep import OperatingPoint


@dataclass(frozen=True)
class Asked:
    """What kind of profile, of what, kept and shown how (see the options of the verb)."""

    model: Path
    shapes: tuple[str, ...]
    batch: int | None
    builds: int
    sweep: tuple[str, ...]
    reference: Path | None
    evidence: Path | None
    calibrate: str | None
    method: str
    ranges: tuple[str, ...]
    latency_only: bool
    explain: bool
    keep: bool
    as_json: bool

    def check(self, wishes: Wishes) -> None:
        """Refuse wishes that contradict each other.

        Raises:
            ConfigError: naming the two options.
        """
        kinds = [
            name
            for name, given in (
                ("--builds", self.builds > 1),
                ("--sweep", bool(self.sweep)),
                ("--reference", self.reference is not None),
            )
            if given
        ]
        if len(kinds) > 1:
            raise ConfigError(
                f"{' and '.join(kinds)} cannot be asked for together",
                fix="run them one after the other",
            )
        if wishes.blocks is not None and wishes.target is not None:
            raise ConfigError(
                "--blocks and --target-ci contradict each other",
                why="one fixes the length of the run, the other lets its result decide",
                fix="give one of them",
            )
        if self.reference is not None and (wishes.blocks or wishes.rate_hz or wishes.limits):
            raise ConfigError(
                "--reference goes with --target-ci and --max-time alone",
                why="runs of the network and of the reference alternate, all of one length",
                fix="leave --blocks, --rate and --limit out",
            )
        if self.evidence is not None and kinds:
            raise ConfigError(
                f"--evidence names one file, and {kinds[0]} makes several",
                fix="take them from the folder of the run",
            )
        powered = [limit.figure for limit in wishes.limits if not limit.figure.startswith("lat")]
        if self.latency_only and (powered or self.explain):
            what = powered[0] if powered else "--explain-energy"
            raise ConfigError(f"{what} needs power", fix="leave --latency-only out")


@dataclass(frozen=True)
class ProfileRun:
    """A profile that is about to run."""

    device: str
    config: DeviceConfig
    wishes: Wishes
    asked: Asked
    wait_s: float

    def go(self) -> Result:
        """Measure, keep, show; return the result.

        Raises:
            HilError: of every kind that the exit codes name.
        """
        from hil.measure.sweep import parse_sweep

        asked, config = self.asked, self.config
        refuse_without_power(config, latency_only=asked.latency_only)
        points = parse_sweep(asked.sweep) if asked.sweep else ()
        precisions = {point.precision or self.wishes.precision for point in points}
        wish = PrecisionWish(
            tuple(precisions or {self.wishes.precision}), asked.calibrate, asked.method
        )
        network = read_network(asked.model, config, asked.shapes, asked.batch, wish, asked.ranges)
        other = None
        if asked.reference is not None:
            other = read_network(asked.reference, config, wish=wish)
        power = "none" if asked.latency_only else config.power.source
        self.wishes.plan(config.power.interval_ms, None, power)
        now = datetime.now(UTC)
        kept = keeper("profile", asked.model.stem, now, keep=asked.keep, also=asked.evidence)
        sitting = desk(
            config, self.device, "profile", wait_s=self.wait_s, latency_only=asked.latency_only
        )
        try:
            with sitting as at:
                result = self._work(Work(at, network, self.wishes, kept), points, other)
        except InterruptedRunError as error:
            raise interrupted(kept) from error
        except DeviceError:
            if kept.folder is not None and kept.files:
                say(f"what was measured before it is kept: hil rescore {kept.folder}")
            raise
        finally:
            kept.clear()
        return self._finish(result, kept)

    def _work(
        self, work: Work, points: tuple[OperatingPoint, ...], other: Network | None
    ) -> Result:
        if points:
            return work.sweep(points, _ignore if self.asked.as_json else show_point_line)
        if self.asked.builds > 1:
            return work.builds(self.asked.builds)
        if other is not None:
            return referenced(work, other)
        return work.one()

    def _finish(self, result: Result, kept: Keeper) -> Result:
        # Shown first, so that a disk that filled up meanwhile costs no figure.
        result = {**result, "folder": None if kept.folder is None else str(kept.folder)}
        if self.asked.as_json:
            print_json(result)
        else:
            show(result, explain=self.asked.explain)
        kept.result(result)
        show_kept(result)
        return result


def interrupted(kept: Keeper) -> InterruptedRunError:
    """Say what an interrupted run left behind; the board was restored on the way out."""
    if kept.folder is None or not kept.files:
        return InterruptedRunError(
            "interrupted; the board is as it was found, nothing had been measured yet"
        )
    count = f"{len(kept.files)} run{'s' if len(kept.files) > 1 else ''}"
    return InterruptedRunError(
        f"interrupted; the board is as it was found, {count} kept in {kept.folder}",
        fix=f"figures of what was measured: hil rescore {kept.folder}",
    )


def conclude(result: Mapping[str, Any], *, target_asked: bool) -> None:
    """Turn a result into its exit code; returns where all is good.

    Raises:
        MeasurementError: invalid, undecided, or the interval asked for was not reached.
        LimitViolatedError: a limit is broken.
    """
    if result["schema"] == SCHEMA_SWEEP:
        _conclude_sweep(result["points"])
        return
    if result["validity"] == "invalid":
        why = "; ".join(result["reasons"])
        raise MeasurementError("the measurement is invalid", why=why, fix="run `hil doctor`")
    verdicts = {limit["figure"]: limit["verdict"] for limit in result.get("limits", ())}
    broken = [name for name, verdict in verdicts.items() if verdict.startswith("infeasible")]
    undecided = [name for name, verdict in verdicts.items() if verdict == "undecided"]
    if broken:
        raise LimitViolatedError(f"over the limit: {', '.join(broken)}")
    refused = [one for one in result.get("fallbacks", ()) if one["name"] in WITHOUT_JOULES]
    if refused:
        raise MeasurementError(
            "latency was measured; there are no joules",
            why=refused[0]["reason"],
            fix=refused[0]["next_step"],
        )
    if undecided:
        raise MeasurementError(
            f"undecided: {', '.join(undecided)}",
            why="the interval still holds the limit",
            fix="measure longer: --max-time 30m",
        )
    stopping = result.get("stopping") or {}
    if target_asked and stopping.get("outcome") == "undecided":
        raise MeasurementError(
            "the interval asked for was not reached",
            why=stopping.get("why"),
            fix="measure longer (--max-time 30m), or ask for less (--target-ci 2%)",
        )


def _conclude_sweep(points: Sequence[Mapping[str, Any]]) -> None:
    failed = [point for point in points if point["error"] is not None]
    if failed:
        error = failed[0]["error"]
        raise SweepError(
            f"{len(failed)} of {len(points)} operating points failed; the others stand",
            why=f"{failed[0]['point']}: {error['what']}",
            fix=error["fix"],
            exit_code=error["exit_code"],
        )
    results = [point["result"] for point in points]
    invalid = [point["point"] for point in points if point["result"]["validity"] == "invalid"]
    if invalid:
        raise MeasurementError(f"the measurement is invalid at {'; '.join(invalid)}")
    verdicts = [{limit["verdict"] for limit in result["limits"]} for result in results]
    if any(all(v.startswith("feasible") for v in kinds) for kinds in verdicts):
        return
    if any(not any(v.startswith("infeasible") for v in kinds) for kinds in verdicts):
        raise MeasurementError("no operating point is known to keep every limit")
    raise LimitViolatedError("every operating point breaks a limit")


class SweepError(HilError):
    """Some points of a sweep failed: exits as the first of them would have."""

    def __init__(self, what: str, *, why: str, fix: str | None, exit_code: int) -> None:
        super().__init__(what, why=why, fix=fix)
        self.exit_code = exit_code  # type: ignore[misc]


def _ignore(_row: Result) -> None:
    pass
