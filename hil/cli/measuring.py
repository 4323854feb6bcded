"""What the measuring verbs share: the board as it is measured, and how a run is scored.

Rule of this file: it asks the board and scores; it prints nothing but progress on stderr.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.cli.options import announce_wait, owner
from hil.cli.terminal import err, say
from hil.core.errors import MeasurementError

if TYPE_CHECKING:
    from hil.cli.network import Network
    from hil.core.evidence import Evidence
    from hil.device.config import DeviceConfig
    from hil.device.session import EngineInfo, Session
    from hil.measure.calibration import Calibration, Setup
    from hil.measure.result import Measurement
    from hil.measure.sensors import SensorErrors
    from hil.measure.stopping import Decision, StopRule

IDLE_S = 10.0
"""Idle recorded before and after a run: long enough for the system's bursts, one in about 20 s."""
SETTLE_S = 3.0
TAIL_S = 0.5
QUIET_S = 2.5
"""What the agent waits between load and idle."""
FIRST_LOOK_BLOCKS = 4
"""Fewest windows of a run that is stopped by what it sees."""


@dataclass(frozen=True)
class Desk:
    """A leased board with what is known of its power source.

    Attributes:
        power: name of the power source, or "none".
        calibration: of this board in this state, where there is one.
        calibration_note: where it lies, or why the one that was found is not used.
    """

    session: Session
    config: DeviceConfig
    power: str
    sensor: SensorErrors | None
    calibration: Calibration | None
    calibration_note: str | None

    def at(self, nvpmodel: int | None) -> Desk:
        """Return the desk in a power mode; a calibration of another mode is left out."""
        known = self.calibration
        if nvpmodel is None or known is None or known.setup.nvpmodel == nvpmodel:
            return self
        note = f"not calibrated in power mode {nvpmodel} (but in {known.setup.nvpmodel})"
        return replace(self, calibration=None, calibration_note=note)

    @property
    def rail(self) -> str | None:
        """What energy is read on."""
        return self.config.power.rail

    def score(self, evidence: Evidence, stop: StopRule | None = None) -> Measurement:
        """Score one run as this desk scores all of them."""
        from hil.measure.numbers import measurement

        return measurement(
            evidence, self.rail, sensor=self.sensor, stop=stop, calibration=self.calibration
        )

    def scored_with(self, stop: StopRule | None = None) -> dict[str, Any]:
        """Return what a later rescoring needs beside the evidence."""
        return {
            "rail": self.rail,
            "sensor": None if self.sensor is None else asdict(self.sensor),
            "stop": None if stop is None else asdict(stop),
            "calibration": None if self.calibration is None else self.calibration.to_json(),
        }


@contextmanager
def desk(
    config: DeviceConfig, device: str, verb: str, *, wait_s: float, latency_only: bool = False
) -> Iterator[Desk]:
    """Lease a board and sit down at it: sensor errors and calibration looked up.

    Args:
        config: the device file, read.
        device: the name it was found by, beside which a calibration lies.
        verb: shown to others who wait for the board.
        wait_s: how long to wait for the lease.
        latency_only: leave power alone.
    """
    from hil.device.opening import open_session
    from hil.measure.sensors import sensor_of

    refuse_without_power(config, latency_only=latency_only)
    with open_session(config, owner=owner(verb), wait_s=wait_s, on_wait=announce_wait) as session:
        calibration, note = find_calibration(device, config, setup_of(session, config))
        power = "none" if latency_only else config.power.source
        meter = config.power
        sensor = sensor_of(config.board, meter.sensor, rail=meter.rail, source=meter.source)
        yield Desk(session, config, power, sensor, calibration, note)


def refuse_without_power(config: DeviceConfig, *, latency_only: bool) -> None:
    """Refuse joules where nothing reads power, before the board is touched.

    Raises:
        MeasurementError: the device has no power source.
    """
    if not latency_only and config.power.source == "none":
        raise MeasurementError(
            f"{config.name} has no power source, so there are no joules",
            why="its device file says power: {source: none}",
            fix="name a power source there, or ask for latency alone with --latency-only",
        )


def setup_of(session: Session, config: DeviceConfig) -> Setup:
    """Return what a calibration of this board, as it is pinned now, would hold for."""
    from hil.measure.calibration import Setup

    found = session.board.raw.get("nvpmodel")
    mode = config.state.nvpmodel
    if mode is None and isinstance(found, Mapping):
        mode = found.get("id")
    return Setup(
        device=config.name,
        model=session.board.model,
        l4t=session.board.l4t,
        provenance=session.provenance,
        nvpmodel=mode,
        clocks=config.state.clocks,
        source=config.power.source,
        rail=config.power.rail or "",
        interval_ms=config.power.interval_ms,
    )


def calibration_path(device: str, config: DeviceConfig, cwd: Path) -> Path:
    """Return where a device's calibration lies: beside its file, or in ./devices if shipped."""
    from hil.core.names import SHIPPED, resolve

    folder = resolve(device, "devices", cwd=cwd).absolute().parent
    if folder.is_relative_to(SHIPPED.absolute()):
        folder = cwd / "devices"
    return folder / f"{config.name}.calibration.json"


def find_calibration(
    device: str, config: DeviceConfig, setup: Setup
) -> tuple[Calibration | None, str | None]:
    """Return the calibration that holds for this setup, and a line about it."""
    import json

    from hil.measure.calibration import Calibration

    path = calibration_path(device, config, Path.cwd())
    try:
        found = Calibration.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None, None
    except (OSError, ValueError) as error:
        return None, f"the calibration {path} is not used: {error}"
    differences = found.setup.differences(setup)
    if differences:
        return None, f"the calibration {path} is not used: {'; '.join(differences)}"
    return found, f"calibration {path} of {found.created}"


def run_seconds_around(idle_s: float) -> float:
    """Return board seconds of a run that are not windows."""
    return 2 * (idle_s + min(QUIET_S, idle_s)) + SETTLE_S + TAIL_S


LINE_AFTER = 1.5
"""Where there is no terminal, a line comes after so many times the windows of the last."""


class Looking:
    """Shows how far a measurement has come, and keeps the latest whole blocks for a Ctrl-C."""

    def __init__(self, what: str) -> None:
        self.latest: Evidence | None = None
        self._what = what
        self._told = 1
        self._status = err.status(f"{what} ...") if err.is_terminal else None

    def look(self, evidence: Evidence, decision: Decision) -> None:
        """Take note of a look at the run."""
        self.latest = evidence
        blocks = len(evidence.named("block"))
        if self._status is not None:
            self._status.update(f"{self._what}: {blocks} windows, {decision.why}")
        elif blocks >= LINE_AFTER * self._told:
            self._told = blocks
            say(f"  {blocks} windows, {decision.why}")

    def __enter__(self) -> Looking:
        if self._status is not None:
            self._status.start()
        else:
            say(f"{self._what} ...")
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._status is not None:
            self._status.stop()


def engine_json(network: Network, info: EngineInfo) -> dict[str, Any]:
    """Return the engine as results name it."""
    memory = info.device_memory_bytes
    return {
        "model": network.name,
        "onnx_sha256": info.spec.onnx_sha256,
        "engine_sha256": info.engine_sha256,
        "engine_cached": info.cached,
        "build_s": info.build_s,
        "precision": info.spec.precision,
        "quantisation": network.quantisation(info.spec.precision),
        "runtime": f"{info.spec.runtime} {info.runtime_version}",
        "platform": info.platform,
        "dialect": info.dialect,
        "via": info.via,
        "inputs": [asdict(tensor) for tensor in info.inputs],
        "memory_mib": None if memory is None else memory / 2**20,
        "optimisation_profiles": _profiles_json(info),
        "messages": list(info.messages),
    }


def _profiles_json(info: EngineInfo) -> dict[str, Any] | None:
    """Return what shapes an engine was built for and which of them is run; None for one shape."""
    if not info.spec.profiles:
        return None
    return {
        "built": [
            {name: {"min": low, "opt": best, "max": high} for name, (low, best, high) in p.items()}
            for p in info.spec.profiles
        ],
        "used": info.profile,
        "shapes": {name: list(shape) for name, shape in info.spec.shapes.items()},
    }


def board_json(session: Session) -> dict[str, Any]:
    """Return the board as results name it, and of a record what it is a record of."""
    board = session.board
    recorded = {"recorded": "emulated" if board.emulated else "measured"}
    return {
        "device": session.name,
        **(recorded if session.provenance == "replayed" else {}),
        "board": {
            "model": board.model,
            "l4t": board.l4t,
            "tensorrt": board.tensorrt,
            "nvpmodel": board.raw.get("nvpmodel"),
        },
    }
