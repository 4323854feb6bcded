"""The emulated board's files: what a user of a TX2 with L4T r32.7.1 finds, as far as used.

Files that show a changing state are rewritten by `StateFiles` whenever the state changes.
"""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from hil.emulator import monitors
from hil.emulator.boardmodel import BoardModel, Condition
from hil.emulator.hostile import ground
from hil.emulator.hostile.quirks import HOME, NONE, Quirks
from hil.emulator.hostile.quirks import VARIABLE as QUIRKS_VARIABLE
from hil.emulator.launchers import board_python, launcher, program, python
from hil.emulator.releases import RELEASE_VARIABLE, Release
from hil.emulator.sensor import Registers

DIRECTORIES = (
    "dev",
    "etc",
    "proc/device-tree",
    "root",
    "run/lock",
    "proc/sys/kernel/random",
    "sys/class/devfreq",
    "sys/kernel/debug/bpmp/debug/clk/emc",
    "tmp",
    "usr/bin",
    "usr/src/tensorrt/bin",
    "usr/sbin",
    "var/lib/hil",
    "var/lib/nvpmodel",
)
GPU = "17000000.gp10b/devfreq/17000000.gp10b"
PROGRAMS = {
    "usr/sbin/nvpmodel": "nvpmodel",
    "usr/bin/jetson_clocks": "jetson_clocks",
    "usr/bin/meter": "meter",
    "usr/bin/sudo": "sudo",
    "usr/bin/hil-board": "hil_board",
}
TRTEXEC = "usr/src/tensorrt/bin/trtexec"
LABEL = (
    "This board is emulated by hil. No figure it yields was measured on hardware; "
    "every figure must be labelled EMULATED wherever it is shown or stored.\n"
)


def build(
    root: Path, model: BoardModel, private: Path, release: Release, quirks: Quirks = NONE
) -> dict[str, str]:
    """Creates the board's file tree.

    Args:
        root: an empty folder.
        model: the board.
        private: the emulator's own folder with the socket and the clock.
        release: of L4T.
        quirks: what is unusual about it.

    Returns:
        The environment of the board's processes.
    """
    for directory in (*DIRECTORIES, quirks.home):
        (root / directory).mkdir(parents=True, exist_ok=True)
    (root / quirks.home).chmod(0o700)
    (root / "run/lock").chmod(0o1777)
    (root / "sys/class/devfreq/17000000.gp10b").symlink_to(f"../../devices/{GPU}")
    _identity(root, release, quirks)
    (root / "etc/nvpmodel.conf").write_text(_nvpmodel_conf(model))
    environment = {**_environment(root, private, quirks), RELEASE_VARIABLE: release.name}
    if quirks.names:
        quirks.write(private / "quirks.json")
        environment[QUIRKS_VARIABLE] = str(private / "quirks.json")
    tegrastats = release.tegrastats.replace(HOME, quirks.home)
    launcher(root / tegrastats, program("tegrastats"), environment)
    for path, module in PROGRAMS.items():
        launcher(root / path, program(module), environment)
    launcher(root / "usr/bin/python3", python(), environment)
    if release.tensorrt:
        launcher(root / TRTEXEC, board_python("trtexec"), environment)
    place = place_of(quirks)
    if place is not None:
        names = monitors.names_of(release.rails, quirks.rails)
        monitors.create(root, averaging=model.averaging, names=names, place=place)
    if quirks.names:
        ground.furnish(root, quirks, environment, tegrastats)
    return environment


def place_of(quirks: Quirks) -> monitors.Place | None:
    """Where a board's power monitors are; None where it has none."""
    off = frozenset(rail for rail, name in quirks.rails.items() if not name)
    return monitors.Place(quirks.i2c_bus, quirks.iio_first, off) if quirks.monitors else None


def _identity(root: Path, release: Release, quirks: Quirks) -> None:
    """What a board says that it is."""
    (root / "proc/sys/kernel/random/boot_id").write_text(f"{uuid.uuid4()}\n")
    (root / "etc/hil-emulated").write_text(LABEL)
    told = quirks.tegra_release or release.tegra_release
    (root / "etc/nv_tegra_release").write_text(told + "\n")
    (root / "etc/hostname").write_text(f"{quirks.hostname}\n")
    model = quirks.carrier or "quill"
    (root / "proc/device-tree/model").write_bytes(model.encode() + b"\0")
    (root / "proc/device-tree/compatible").write_bytes(
        b"nvidia,p2597-0000+p3310-1000\0nvidia,tegra186\0"
    )


def _environment(root: Path, private: Path, quirks: Quirks) -> dict[str, str]:
    """The environment of a login, with nothing of the emulator's own process in it."""
    usual = f"{root}/usr/sbin:{root}/usr/bin:/usr/bin:/bin"
    return {
        "HOME": str(root / quirks.home),
        "USER": quirks.user,
        "LOGNAME": quirks.user,
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        "PATH": ground.path_of(root, private, quirks) if quirks.names else usual,
        "TMPDIR": str(root / "tmp"),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "HIL_BOARD_ROOT": str(root),
        "HIL_BOARD_SOCKET": str(private / "socket"),
        "HIL_BOARD_CLOCK": str(private / "clock"),
        **quirks.environment,
    }


def _nvpmodel_conf(model: BoardModel) -> str:
    lines = [f"< POWER_MODEL ID={each} NAME={model.mode_name(each)} >" for each in model.mode_ids]
    return "\n".join([*lines, f"< PM_CONFIG DEFAULT={model.default_mode} >"]) + "\n"


@dataclass
class StateFiles:
    """Keeps the files that show clocks and temperatures, and the monitors' nodes, in step.

    Args:
        root: the board's root folder.
        model: the board.
        place: where the monitors are, None where there are none.
    """

    root: Path
    model: BoardModel
    place: monitors.Place | None = field(default_factory=monitors.Place)
    _written: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.nodes = monitors.Nodes(self.root, self.place)

    def update(self, condition: Condition, registers: dict[str, Registers] | None) -> None:
        """Writes the files whose content has changed."""
        if registers is not None:
            self.nodes.write(registers)
        files = _gpu_files(condition)
        clocks = condition.clocks(loaded=condition.busy)
        files["sys/kernel/debug/bpmp/debug/clk/emc/rate"] = str(round(clocks.emc_mhz * 1e6))
        for core, online in enumerate(self.model.cores_online(condition)):
            files |= _core_files(core, condition, online=online)
            if not online:
                self._forget(f"sys/devices/system/cpu/cpu{core}/cpufreq")
        for index, (zone, temp_c) in enumerate(self.model.zones(condition)):
            folder = f"sys/class/thermal/thermal_zone{index}"
            files[f"{folder}/type"] = _zone_type(zone)
            files[f"{folder}/temp"] = str(round(temp_c * 1000))
        throttled = str(int(condition.thermal.throttled))
        files["sys/class/thermal/cooling_device0/type"] = "gpu-throttle-alert"
        files["sys/class/thermal/cooling_device0/cur_state"] = throttled
        self._write(files)

    def _forget(self, folder: str) -> None:
        """Takes a folder away, as the kernel does with the clocks of a core that is off."""
        shutil.rmtree(self.root / folder, ignore_errors=True)
        for name in [name for name in self._written if name.startswith(folder)]:
            del self._written[name]

    def _write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            if self._written.get(name) == text:
                continue
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f".{path.name}.new")
            fresh.write_text(text + "\n")
            os.replace(fresh, path)
            self._written[name] = text


def _gpu_files(condition: Condition) -> dict[str, str]:
    hz = {
        "cur_freq": condition.clocks(loaded=condition.busy).gpu_mhz,
        "min_freq": condition.idle_clocks.gpu_mhz,
        "max_freq": condition.peak_clocks.gpu_mhz,
    }
    return {f"sys/devices/{GPU}/{name}": str(round(mhz * 1e6)) for name, mhz in hz.items()}


def _core_files(core: int, condition: Condition, *, online: bool) -> dict[str, str]:
    folder = f"sys/devices/system/cpu/cpu{core}"
    files = {f"{folder}/online": str(int(online))}
    if online:
        khz = {
            "cur": condition.clocks(loaded=condition.busy).cpu_mhz,
            "min": condition.idle_clocks.cpu_mhz,
            "max": condition.peak_clocks.cpu_mhz,
        }
        for name, mhz in khz.items():
            files[f"{folder}/cpufreq/scaling_{name}_freq"] = str(round(mhz * 1000))
    return files


def _zone_type(zone: str) -> str:
    """The kernel's name of a zone, from tegrastats' name for it."""
    return {"thermal": "thermal-fan-est", "PMIC": "PMIC-Die"}.get(zone, zone + _suffix(zone))


def _suffix(zone: str) -> str:
    return "_tegra" if zone in ("Tboard", "Tdiode") else "-therm"
