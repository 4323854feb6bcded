"""A board's defects as plain data, written to a file that every program of the board can read.

Standard library only and quick to import, because every command of the board may use it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

VARIABLE = "HIL_BOARD_QUIRKS"
PYTHON_VARIABLE = "HIL_BOARD_PYTHON"
"""Of a Python: jetpack, or bare for one that somebody installed beside JetPack's."""
HOME, USER, HOSTNAME = "home/nvidia", "nvidia", "tx2-emulated"
SYSTEM_MB = 1004


@dataclass(frozen=True)
class Quirks:
    """What is unusual about one board; the defaults are a board as its documentation has it.

    Attributes:
        names: the variants behind it.
        release: what `hil.emulator.releases` calls it.
        tegra_release: first line of /etc/nv_tegra_release, "" as the release has it.
        tensorrt: release of TensorRT, "" for none.
        rails: what r32's rails are called instead; "" is a channel that is switched off.
        monitors: whether the INA3221 chips can be seen.
        i2c_bus: number of their bus. `iio_first`: number of the first one's iio device.
        carrier: /proc/device-tree/model, "" as on the developer kit.
        path: folders of PATH in a session's environment, from the board's root; () as usual.
        python: usual, gone (only python3.6 is there), newer (python3 has no packages of JetPack)
            or conda (another python3 comes first once .bashrc has run).
        bashrc: text of the login's ~/.bashrc.
        sftp: own (internal-sftp), shell (through ~/.bashrc) or none.
        max_sessions: channels a connection may have at a time, 0 for any number.
        session_s: our time after which sshd ends a connection, 0 for never.
        login_s: our time that sshd takes before it says a word.
        sudo, nvpmodel, clocks, tegrastats: how the program misbehaves, "" not at all.
        boot_mode: power mode after a boot. `boot_pinned`: whether clocks are pinned from boot.
        extra_modes: further lines of nvpmodel.conf, identifier to name.
        missing: Python modules that are not installed.
        numpy: usual, or illegal (dies unless OPENBLAS_CORETYPE is ARMV8).
        trtexec: whether it is installed.
        environment: variables of a session.
        disk: folder from the board's root ("" is /) to the error of what would change it.
        noexec: folders mounted noexec.
        fsync_ms: board time that one fsync takes.
        clock_s: what the wall clock says at the start, None for the present.
        faults: as `hil.emulator.faults.parse` reads them.
        parameters: numbers of the board by dotted name.
        one_core: only core 0 is online.
        system_mb: memory in use when nothing of ours runs.
        user, home, hostname: of the login; home from the board's root.
        leftovers: what somebody left behind (see `ground`).
    """

    names: tuple[str, ...] = ()
    release: str = "r32"
    tegra_release: str = ""
    tensorrt: str = "8.2.1.8"
    rails: Mapping[str, str] = field(default_factory=dict)
    monitors: bool = True
    i2c_bus: int = 0
    iio_first: int = 0
    carrier: str = ""
    path: tuple[str, ...] = ()
    python: str = "usual"
    bashrc: str = ""
    sftp: str = "own"
    max_sessions: int = 0
    session_s: float = 0.0
    login_s: float = 0.0
    sudo: str = ""
    nvpmodel: str = ""
    clocks: str = ""
    tegrastats: str = ""
    boot_mode: int = 0
    boot_pinned: bool = False
    extra_modes: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    numpy: str = "usual"
    trtexec: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    disk: Mapping[str, str] = field(default_factory=dict)
    noexec: tuple[str, ...] = ()
    fsync_ms: float = 0.0
    clock_s: float | None = None
    faults: tuple[str, ...] = ()
    parameters: Mapping[str, float] = field(default_factory=dict)
    one_core: bool = False
    system_mb: int = SYSTEM_MB
    user: str = USER
    home: str = HOME
    hostname: str = HOSTNAME
    leftovers: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        """Writes them for the board's programs."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


NONE = Quirks()


@lru_cache(maxsize=1)
def of_this_board() -> Quirks:
    """The quirks of the board that this program runs on; none on a board that is not hostile."""
    path = os.environ.get(VARIABLE)
    return NONE if path is None else read(Path(path))


def read(path: Path) -> Quirks:
    """Reads what `Quirks.write` wrote."""
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
    }
    return Quirks(**fields)
