"""One emulated board as data: every parameter of its physics, each with the source behind it.

Rule of this file: it reads the board's YAML and knows the shapes of the tables, and no physics.
In the YAML every parameter is written `{value: ..., source: ...}`; the source is required when
the file is read and is kept out of the way of the models (see `sources`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, model_validator

from hil.core.errors import ConfigError
from hil.core.yamlfile import StrictModel, load_yaml_model, read_document

T = TypeVar("T")
Row = Annotated[tuple[T, ...], Field(strict=False)]
Pair = Annotated[tuple[float, float], Field(strict=False)]
BOARDS = Path(__file__).parent / "boards"


@dataclass(frozen=True)
class Clocks:
    """What the board runs at. `cpu_mhz` is the clock of the core that submits work."""

    gpu_mhz: float
    emc_mhz: float
    cpu_mhz: float
    cpu_cores: int


class Section(StrictModel):
    """A part of the board file whose every field is a value with its source."""

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        bare = [key for key, field in data.items() if not _is_sourced(field)]
        if bare:
            raise ValueError(f"write value: and source: under {', '.join(map(str, bare))}")
        return {key: field["value"] for key, field in data.items()}


def _is_sourced(field: Any) -> bool:
    return (
        isinstance(field, dict)
        and set(field) == {"value", "source"}
        and isinstance(field["source"], str)
        and bool(field["source"].strip())
    )


class Gpu(Section):
    """The accelerator. `fp16_rate` is FP16 arithmetic over FP32 arithmetic per clock."""

    sms: int
    cores_per_sm: int
    fp16_rate: float
    l2_bytes: int
    l2_bytes_per_clock: float
    clock_steps_mhz: Row[float]
    volts: Row[Pair]


class Memory(Section):
    """The DRAM. `achievable` is the share of the peak rate that a streaming kernel reaches."""

    bus_bytes: int
    transfers_per_clock: int
    achievable: float
    total_bytes: int
    reserved_bytes: int
    idle_mhz: float


class Cpu(Section):
    """The host side. `volts` are (MHz, V) points."""

    idle_mhz: float
    volts: Row[Pair]


class Mode(StrictModel):
    """One line of the board's nvpmodel table, clocks in MHz."""

    id: int
    name: str
    denver_cores: int
    denver_mhz: float
    a57_cores: int
    a57_mhz: float
    gpu_mhz: float
    emc_mhz: float
    idle: Annotated[Clocks | None, Field(exclude=True)] = None

    def clocks(self, pinned: bool, busy: bool = False) -> Clocks:
        """Returns what the board runs at in this mode.

        Args:
            pinned: `jetson_clocks` holds every clock at the mode's highest.
            busy: without pinned clocks, whether the governors have seen sustained load.
        """
        cores = self.denver_cores + self.a57_cores
        if not (pinned or busy) and self.idle is not None:
            return Clocks(self.idle.gpu_mhz, self.idle.emc_mhz, self.idle.cpu_mhz, cores)
        fastest = max(self.denver_mhz if self.denver_cores else 0.0, self.a57_mhz)
        return Clocks(self.gpu_mhz, self.emc_mhz, fastest, cores)


class Tile(StrictModel):
    """One size of thread block of the matrix kernels and the share of the peak it reaches."""

    rows: int
    columns: int
    efficiency: float


class Timing(Section):
    """How long work takes; see `hil.emulator.physics` for what each parameter does.

    Attributes:
        efficiency: share of the arithmetic peak, by kernel kind, at FP32.
        efficiency_fp16: the same at FP16, where the peak is `fp16_rate` times higher.
        depthwise_channel_cycles: what one channel of a depthwise convolution costs an SM beyond
            its arithmetic.
        enqueue_weight: submission of one kernel by kind, over that of a kind not named.
    """

    tiles: Row[Tile]
    k_granule: int
    k_ramp: int
    efficiency: dict[str, float]
    efficiency_fp16: dict[str, float]
    depthwise_channel_cycles: float
    lane_efficiency: float
    kernel_cycles: float
    enqueue_cycles: float
    enqueue_weight: dict[str, float]
    enqueue_us: float
    inference_cycles: float
    inference_us: float


class Power(Section):
    """Where watts go; see `hil.emulator.power`. Rails are named as r32 names them."""

    leak_w: dict[str, float]
    leak_reference_c: float
    leak_e_fold_c: float
    gpu_base_w: float
    gpu_clock_w: float
    gpu_busy_w: float
    gpu_pj_per_mac: float
    gpu_pj_per_mac_fp16: float
    gpu_pj_per_op: float
    cpu_base_w: float
    cpu_core_idle_w: float
    cpu_clock_w: float
    cpu_core_w: float
    cpu_wait_share: float
    soc_base_w: float
    soc_emc_w: float
    soc_pj_per_byte: float
    ddr_base_w: float
    ddr_emc_w: float
    ddr_emc_power: float
    ddr_pj_per_byte: float
    wifi_w: float
    input_base_w: float
    input_loss_per_w: float


class Thermal(Section):
    """One thermal mass above ambient, and what the board's zones read relative to it."""

    ambient_c: float
    resistance_c_per_w: float
    tau_s: float
    zone_offsets_c: dict[str, float]
    constant_zones_c: dict[str, float]
    throttle_c: float
    release_c: float
    throttle_gpu_mhz: float
    throttle_cpu_mhz: float


class Rail(StrictModel):
    """One INA3221 channel: register steps, and the errors of this board's own sensor.

    `bus_mv` is the voltage without load; it falls by `droop_mohm` times the module's current.
    """

    name: str
    bus_mv: int
    lsb_ma: int
    droop_mohm: int = 0
    offset_ma: float = 0.0
    gain: float = 1.0


class Sensor(Section):
    """The power monitors. `tau_s` is the lag of the averaging register; 0 is triggered mode.

    Attributes:
        register_us: time of a program to read one register.
        conversion_us: what a triggered conversion of one chip takes on top, at each reading.
        offset_uv, gain_error, shunt_error: limits of what one board's channels are off by.
    """

    tau_s: float
    register_us: float
    conversion_us: float
    offset_uv: float
    gain_error: float
    shunt_error: float
    rails: Row[Rail]
    total_rail: str


class Noise(Section):
    """What makes two readings of the same thing differ. `Pair`s are (low, high) of a uniform."""

    burst_period_s: float
    burst_seconds: Pair
    burst_w: Pair
    murmur_period_s: float
    murmur_sd_w: float
    jitter_sd: float
    jitter_tail_share: float
    jitter_tail_us: float
    tactic_sd: float
    tactic_switch_share: float
    tactic_switch_cost: Pair


class Build(Section):
    """What the on-board TensorRT builder takes: seconds, by kernel."""

    base_s: float
    tactics: dict[str, int]
    tactic_s: float
    repeats: float


class Board(StrictModel):
    """Everything the emulated board's physics knows about one board."""

    schema_: Annotated[str, Field(alias="schema", pattern=r"^hil/board@1$")]
    name: str
    modes: Row[Mode]
    gpu: Gpu
    memory: Memory
    cpu: Cpu
    timing: Timing
    power: Power
    thermal: Thermal
    sensor: Sensor
    noise: Noise
    build: Build

    @model_validator(mode="before")
    @classmethod
    def _unwrap_modes(cls, data: Any) -> Any:
        if isinstance(data, dict) and _is_sourced(data.get("modes")):
            return {**data, "modes": data["modes"]["value"]}
        return data

    def mode(self, mode_id: int) -> Mode:
        """Returns a power mode.

        Raises:
            ConfigError: the board has no such mode.
        """
        for mode in self.modes:
            if mode.id == mode_id:
                idle = Clocks(
                    self.gpu.clock_steps_mhz[0], self.memory.idle_mhz, self.cpu.idle_mhz, 0
                )
                return mode.model_copy(update={"idle": idle})
        known = ", ".join(str(mode.id) for mode in self.modes)
        raise ConfigError(f"{self.name} has no power mode {mode_id}", fix=f"choose one of {known}")


def load_board(name_or_path: str | Path) -> Board:
    """Reads a board by its shipped name (`tx2`) or from a file.

    Raises:
        ConfigError: no such board, or something wrong in the file (every mistake is named).
    """
    return _load(_path_of(name_or_path))


def sources(name_or_path: str | Path) -> Mapping[str, str]:
    """Returns the source behind each parameter, by its dotted name (`timing.k_ramp`)."""
    data = read_document(_path_of(name_or_path)).data
    flat = {"modes": data["modes"]["source"]}
    for section, fields in data.items():
        if isinstance(fields, dict) and section != "modes":
            flat |= {f"{section}.{name}": field["source"] for name, field in fields.items()}
    return flat


def _path_of(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        return path
    shipped = BOARDS / f"{name_or_path}.yaml"
    if not shipped.is_file():
        known = ", ".join(sorted(file.stem for file in BOARDS.glob("*.yaml")))
        raise ConfigError(f"no emulated board is called {name_or_path}", fix=f"known: {known}")
    return shipped


@lru_cache(maxsize=8)
def _load(path: Path) -> Board:
    return load_yaml_model(path, Board)
