"""`hil compare`: two networks by turns in one lease, and the ratio of what they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.cli.calibrating import CalibrateOption, MethodOption, PrecisionWish
from hil.cli.compare_view import show
from hil.cli.keeping import Keeper, keeper
from hil.cli.measuring import Desk, board_json, desk, engine_json, refuse_without_power
from hil.cli.network import Network, build, check_precision, read_networks
from hil.cli.options import (
    BatchOption,
    DeviceOption,
    HostOption,
    JsonOption,
    KeepOption,
    LatencyOnlyOption,
    MaxTimeOption,
    PrecisionOption,
    ShapeOption,
    TargetOption,
    WaitOption,
    fraction,
    load_device,
    seconds,
)
from hil.cli.profile_run import interrupted
from hil.cli.profile_view import show_kept
from hil.cli.rounds import Rounds, Rule, comparison_json
from hil.cli.terminal import print_json
from hil.core.errors import InterruptedRunError, MeasurementError

if TYPE_CHECKING:
    from hil.device.session import EngineInfo
    from hil.measure.interleave import Side

SCHEMA = "hil/comparison@1"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("compare", help="Measure two networks by turns: the ratio of their energy.")(
        compare
    )


def compare(
    a: Annotated[Path, typer.Argument(help="The network compared with, an ONNX file.")],
    b: Annotated[Path, typer.Argument(help="The other one; ratios are B over A.")],
    device: DeviceOption,
    precision: PrecisionOption = None,
    calibrate: CalibrateOption = None,
    calibration_method: MethodOption = "minmax",
    shape: ShapeOption = None,
    batch: BatchOption = None,
    target_ci: TargetOption = "1%",
    max_time: MaxTimeOption = "20m",
    builds: Annotated[
        int, typer.Option(min=1, help="Fresh engine builds of each network; 2 or more: scope build")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the order of the runs.")] = 0,
    latency_only: LatencyOnlyOption = False,
    keep: KeepOption = True,
    host: HostOption = None,
    wait: WaitOption = "0s",
    as_json: JsonOption = False,
) -> None:
    """Measure two networks by turns on one board."""
    check_precision(precision)
    figure = "latency_p50_ms" if latency_only else "energy_mj"
    rule = Rule(fraction(target_ci, "--target-ci"), seconds(max_time), figure)
    rule.check(builds)
    config = load_device(device, host)
    refuse_without_power(config, latency_only=latency_only)
    wish = PrecisionWish((precision,), calibrate, calibration_method)
    one, other = read_networks((a, b), config, shape or (), batch, wish)
    networks: dict[Side, Network] = {"a": one, "b": other}
    kept = keeper("compare", f"{a.stem}-{b.stem}", datetime.now(UTC), keep=keep)
    sitting = desk(config, device, "compare", wait_s=seconds(wait), latency_only=latency_only)
    try:
        with sitting as at:
            result = _Comparing(at, networks, precision, builds, kept, rule).go(seed)
    except InterruptedRunError as error:
        raise interrupted(kept) from error
    finally:
        kept.clear()
    result["folder"] = None if kept.folder is None else str(kept.folder)
    if as_json:
        print_json(result)
    else:
        show(result)
    kept.result(result)
    show_kept(result)
    conclude(result)


def conclude(result: Mapping[str, Any]) -> None:
    """Turn a comparison into its exit code; returns where it is sound.

    Raises:
        MeasurementError: invalid, or the interval asked for was not reached.
    """
    if result["validity"] == "invalid":
        why = "; ".join(result["reasons"]) or "no pair of runs is usable"
        raise MeasurementError("the comparison is invalid", why=why, fix="run `hil doctor`")
    if result["stopped"]["outcome"] == "undecided":
        raise MeasurementError(
            "the interval asked for was not reached",
            why=result["stopped"]["why"],
            fix="measure longer (--max-time 1h), or ask for less (--target-ci 2%)",
        )


@dataclass(frozen=True)
class _Comparing:
    desk: Desk
    networks: Mapping[Side, Network]
    precision: str | None
    builds: int
    keeper: Keeper
    rule: Rule

    def go(self, seed: int) -> dict[str, Any]:
        """Build, measure by turns, compare."""
        engines: dict[Side, list[EngineInfo]] = {
            side: self._engines(network) for side, network in self.networks.items()
        }
        rounds = Rounds(self.desk, self.keeper, self.rule, self.builds)
        try:
            rounds.run(engines, seed)
        except InterruptedRunError:
            if len(rounds.scored) >= 2:
                self.keeper.result({**self._result(rounds, engines), "interrupted": True})
            raise
        return self._result(rounds, engines)

    def _engines(self, network: Network) -> list[EngineInfo]:
        # Number 0 may come from the board's cache; fresh builds start at 1.
        numbers = range(1, self.builds + 1) if self.builds > 1 else (0,)
        return [
            build(self.desk.session, network, self.desk.config, self.precision, number)
            for number in numbers
        ]

    def _result(self, rounds: Rounds, engines: Mapping[Side, list[EngineInfo]]) -> dict[str, Any]:
        compared = comparison_json(rounds.comparison())
        for side, network in self.networks.items():
            made = engines[side]
            compared[side] |= {
                **engine_json(network, made[0]),
                "engines_sha256": [info.engine_sha256 for info in made],
            }
        return {
            "schema": SCHEMA,
            "provenance": self.desk.session.provenance,
            "rail": self.desk.rail,
            **board_json(self.desk.session),
            **compared,
            **rounds.to_json(),
            "resolves": resolves(self.desk, rounds),
            "calibration": self.desk.calibration_note,
            "scored_with": self.desk.scored_with(),
        }


def resolves(desk: Desk, rounds: Rounds) -> float | None:
    """Return the smallest relative difference that as many rounds resolve, if calibrated."""
    from hil.measure.comparison import detectable

    if desk.calibration is None:
        return None
    return detectable(desk.calibration.log_ratio_sd, len(rounds.scored))
