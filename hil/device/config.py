"""Device files (hil/device@1): a board as its owner describes it, discriminated by `driver`.

Rule of this file: models and their reading only; nothing here connects. Paths inside a file are
relative to that file and absolute once loaded.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from hil.core.boards import NO_INT8
from hil.core.errors import ConfigError
from hil.core.names import resolve
from hil.core.yamlfile import StrictModel, load_yaml_variant
from hil.device.replay_config import LocalPath, Replay
from hil.device.runtime import HOST_RUNTIMES, Runtime

SCHEMA = "hil/device@1"
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z"


Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class SshHop(StrictModel):
    """One SSH server and the one key and one pin used with it.

    Attributes:
        identity: private key file; None only with `use_agent`.
        known_hosts: OpenSSH known_hosts file holding the pinned key; or `host_key` inline
            ("ssh-ed25519 AAAA..."). Exactly one of the two.
        use_agent: also try the keys of a running ssh-agent.
        timeout_s: for connecting, the banner, the login and opening a channel, each.
    """

    host: Annotated[str, Field(min_length=1)]
    user: Annotated[str, Field(min_length=1)]
    port: Port = 22
    identity: LocalPath | None = None
    known_hosts: LocalPath | None = None
    host_key: str | None = None
    use_agent: bool = False
    timeout_s: Annotated[float, Field(gt=0)] = 15.0

    @model_validator(mode="after")
    def _one_pin_and_one_key(self) -> Self:
        if (self.known_hosts is None) == (self.host_key is None):
            raise ValueError("give exactly one of known_hosts (a file) and host_key (a key)")
        if self.identity is None and not self.use_agent:
            raise ValueError("give identity (a private key file), or use_agent: true")
        return self


class Ssh(SshHop):
    """How to reach a board, optionally through one other host."""

    jump: SshHop | None = None


class State(StrictModel):
    """What to pin while leased: power mode (None leaves it) and clocks at their maximum.

    Attributes:
        modes: names of power modes by which profiles may call them, and their ids.
    """

    nvpmodel: Annotated[int, Field(ge=0)] | None = None
    clocks: bool = False
    modes: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)


SourceName = Literal["tegrastats", "ina3221", "nvml", "rapl", "command"]
Interval = Annotated[int, Field(ge=10, le=10000)]
Words = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False, min_length=1)
]
Positive = Annotated[float, Field(ge=0)]
DEFAULT_RAILS = {"nvml": "gpu", "rapl": "package-0", "command": "meter"}


class PowerSource(StrictModel):
    """One power source.

    Attributes:
        source: tegrastats, ina3221 (sysfs), nvml, rapl, or command (prints `time_s watts`).
        rail: what is read of it; where only one can be meant it has a default.
        interval_ms: period asked of it; None is the run's.
        command: program and arguments of source `command`.
        where: on which machine that program runs.
    """

    source: SourceName
    rail: str | None = None
    interval_ms: Interval | None = None
    command: Words | None = None
    where: Literal["board", "host"] = "board"

    @model_validator(mode="before")
    @classmethod
    def _known_rail(cls, data: Any) -> Any:
        return _with_rail(data)

    @model_validator(mode="after")
    def _a_command_is_a_command(self) -> Self:
        _check_command(self.source, self.command, self.where)
        return self

    def to_agent(self) -> dict[str, Any]:
        """Return the source as the agent's requests take it."""
        told: dict[str, Any] = {"source": self.source}
        told |= {} if self.rail is None else {"rail": self.rail}
        told |= {} if self.interval_ms is None else {"interval_ms": self.interval_ms}
        return told | ({} if self.command is None else {"command": list(self.command)})


class Sensor(StrictModel):
    """What is known of this board's sensor; what is given overrides the table of the board.

    Attributes:
        offset_ma: bound of the current offset. `gain` and `shunt` are bounds of relative errors.
        bus_mv: bus voltage; `lsb_ma`: step of the current register; `tau_s`: lag.
        seen_part: share of the time that readings cover, every `update_ms`.
    """

    offset_ma: Positive | None = None
    gain: Positive | None = None
    shunt: Positive | None = None
    bus_mv: Positive | None = None
    lsb_ma: Positive | None = None
    tau_s: Positive | None = None
    seen_part: Annotated[float, Field(gt=0, le=1)] | None = None
    update_ms: Annotated[float, Field(gt=0)] | None = None


class Power(StrictModel):
    """Where joules come from; `rail` is the total rail of this board.

    Attributes:
        source: the source that figures are read on (see `PowerSource`); none for latency alone.
        also: sources recorded beside it.
        sensor: what is known of the sensor behind `source`.
    """

    source: SourceName | Literal["none"] = "none"
    rail: str | None = None
    interval_ms: Interval = 100
    command: Words | None = None
    where: Literal["board", "host"] = "board"
    also: Annotated[tuple[PowerSource, ...], Field(strict=False)] = ()
    sensor: Sensor | None = None

    @model_validator(mode="before")
    @classmethod
    def _known_rail(cls, data: Any) -> Any:
        return _with_rail(data)

    @model_validator(mode="after")
    def _a_source_needs_a_rail(self) -> Self:
        if self.source != "none" and self.rail is None:
            raise ValueError("rail: required with a power source (the board's total rail)")
        if self.source == "none" and self.also:
            raise ValueError("also: name the first power source as `source`")
        _check_command(self.source, self.command, self.where)
        return self

    @property
    def first(self) -> PowerSource:
        """The source that figures are read on.

        Raises:
            ValueError: there is none.
        """
        fields = {"source": self.source, "rail": self.rail, "where": self.where}
        return PowerSource.model_validate({**fields, "command": self.command})

    @property
    def on_host(self) -> bool:
        """Whether a meter on this machine is read."""
        return "host" in {self.where, *(one.where for one in self.also)}


def _with_rail(data: Any) -> Any:
    if isinstance(data, dict) and data.get("rail") is None:
        default = DEFAULT_RAILS.get(str(data.get("source")))
        return data if default is None else {**data, "rail": default}
    return data


def _check_command(source: str, command: tuple[str, ...] | None, where: str) -> None:
    if source == "command" and command is None:
        raise ValueError("command: required with source command (the program and its arguments)")
    if source != "command" and command is not None:
        raise ValueError(f"command: belongs to source command, not to {source}")
    if source != "command" and where == "host":
        raise ValueError(f"where: {source} is read on the board; host is for source command")


class Lease(StrictModel):
    """How long a board stays ours after the last sign of life."""

    ttl_s: Annotated[int, Field(ge=15)] = 60


class Agent(StrictModel):
    """Start parameters of the agent; the defaults fit a real board.

    Attributes:
        python: interpreter, found on the board's PATH.
        root: root folder of the board's files.
        path: programs are searched here instead of the login's PATH.
    """

    python: Annotated[str, Field(min_length=1)] = "python3"
    root: Annotated[str, Field(pattern="^/")] = "/"
    path: str | None = None


class Emulated(StrictModel):
    """Which virtual board to start, and the seed of its sensors' noise.

    Attributes:
        sensor_mode: how its power monitors convert; None is the board file's.
        hostile: seed that draws what is wrong with the board, None for nothing.
        faults: what goes wrong, each as `hil emulate --fault` takes it (`sensor-stuck:after_s=5`).
    """

    board: Name = "tx2"
    seed: Annotated[int, Field(ge=0)] = 0
    sensor_mode: Literal["continuous", "triggered"] | None = None
    hostile: Annotated[int, Field(ge=0)] | None = None
    faults: Annotated[tuple[str, ...], Field(strict=False)] = ()


class Local(StrictModel):
    """This machine as a device. `state_dir` keeps blobs and engines; None is the user's cache."""

    state_dir: LocalPath | None = None


class _Device(StrictModel):
    schema_: Literal["hil/device@1"] = Field(alias="schema")
    name: Name
    board: str
    runtime: Runtime = Runtime()
    state: State = State()
    power: Power = Power()
    lease: Lease = Lease()

    @model_validator(mode="after")
    def _no_int8_where_none_is(self) -> Self:
        if "int8" in self.runtime.offered and self.board in NO_INT8:
            raise ValueError(f"runtime: {self.board} has no INT8 arithmetic; use fp16")
        return self

    @model_validator(mode="after")
    def _hosts_run_on_hosts(self) -> Self:
        if self.runtime.name in HOST_RUNTIMES and getattr(self, "driver", None) != "local":
            raise ValueError(f"runtime: {self.runtime.name} belongs to driver local")
        return self


class SshDevice(_Device):
    """A real board over SSH."""

    driver: Literal["ssh"]
    ssh: Ssh
    agent: Agent = Agent()


class LocalDevice(_Device):
    """This machine."""

    driver: Literal["local"]
    local: Local = Local()
    agent: Agent = Agent()


class EmulatedDevice(_Device):
    """A virtual board, started on loopback for the session."""

    driver: Literal["emulated"]
    emulated: Emulated = Emulated()

    @model_validator(mode="after")
    def _no_meter_reaches_it(self) -> Self:
        if self.power.on_host:
            raise ValueError("power: an emulated board's time is its own; no host meter follows it")
        return self


class ReplayDevice(_Device):
    """Recorded figures: nothing is reached and nothing runs."""

    driver: Literal["replay"]
    replay: Replay


DeviceConfig = SshDevice | LocalDevice | EmulatedDevice | ReplayDevice
DRIVERS: dict[str, type[_Device]] = {
    "ssh": SshDevice,
    "local": LocalDevice,
    "emulated": EmulatedDevice,
    "replay": ReplayDevice,
}


def load_device(path: Path) -> DeviceConfig:
    """Read one device file.

    Raises:
        ConfigError: everything wrong with it, one `file:line: field: message` each.
    """
    device = load_yaml_variant(path, "driver", DRIVERS)
    assert isinstance(device, DeviceConfig)
    return device


def find_device(name: str, *, cwd: Path) -> DeviceConfig:
    """Read the device a name stands for: a path, ./devices, then the shipped copies.

    Raises:
        ConfigError: no such file (with the names that exist), or wrong.
    """
    return load_device(resolve(name, "devices", cwd=cwd))


_HOST = re.compile(r"^(?:(?P<user>[^@\s]+)@)?(?P<host>\[[^]\s]+\]|[^:@\s]+)(?::(?P<port>\d+))?$")


def parse_host(text: str) -> tuple[str | None, str, int | None]:
    """Split `[user@]host[:port]`; an IPv6 address goes in brackets.

    Raises:
        ConfigError: not of that form.
    """
    match = _HOST.match(text)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or not (port is None or 1 <= port <= 65535):
        raise ConfigError(
            f"{text!r} is not a host", fix="write it as [user@]host[:port], IPv6 in brackets"
        )
    return match["user"], match["host"].strip("[]"), port


def with_host(device: DeviceConfig, text: str) -> DeviceConfig:
    """Return the device reached at another host (`--host`); pins and keys stay the file's.

    Raises:
        ConfigError: not `[user@]host[:port]`, or a device that has no host.
    """
    if not isinstance(device, SshDevice):
        raise ConfigError(
            f"device {device.name!r} has no host to override",
            why=f"its driver is {device.driver!r}",
            fix="drop --host, or name a device whose driver is ssh",
        )
    user, host, port = parse_host(text)
    change: dict[str, Any] = {"host": host}
    change |= {"user": user} if user else {}
    change |= {"port": port} if port else {}
    return device.model_copy(update={"ssh": device.ssh.model_copy(update=change)})
