"""The nodes of the INA3221 drivers, as text: what sysfs shows of the power monitors.

Of r28 and r32: one iio device a chip, each channel with its rail's name. Both releases have the
same driver; only the names differ.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # every Python of the board imports this file; pydantic stays out of its way
    from hil.emulator.sensor import Registers

DRIVER = "sys/bus/i2c/drivers/ina3221x"
FOLDER = "sys/devices/3160000.i2c"
"""Where the chips' bus is; the driver's folder has links to them."""
CHIPS = {
    "0-0040": ("VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_4V0_WIFI"),
    "0-0041": ("VDD_IN", "VDD_SYS_CPU", "VDD_SYS_DDR"),
}
"""INA3221 chips of the module by I2C address, with the rails on their three channels. The two of
the developer kit's carrier (0x42, 0x43) are left out: what their rails draw is not known."""
NODES = ("power", "voltage", "current")


@dataclass(frozen=True)
class Place:
    """Where the monitors are.

    Attributes:
        bus: number of the chips' bus. `first`: number of the first chip's iio device.
        off: rails (by r32's names) whose channels are switched off.
    """

    bus: int = 0
    first: int = 0
    off: frozenset[str] = frozenset()

    def folder(self, root: Path, address: str) -> Path:
        """The folder of one chip's nodes."""
        device = self.first + list(CHIPS).index(address)
        return self.chip(root, address) / f"iio:device{device}"

    def chip(self, root: Path, address: str) -> Path:
        """The folder of one chip."""
        return root / FOLDER / f"i2c-{self.bus}" / self.called(address)

    def called(self, address: str) -> str:
        """What the chip of an address is called on this bus."""
        return f"{self.bus}-{address.partition('-')[2]}"


def names_of(release: Mapping[str, str], quirks: Mapping[str, str]) -> dict[str, str]:
    """What r32's rails are called: by a release, and by a board of its own; "" is none."""
    rails = [rail for chip in CHIPS.values() for rail in chip]
    return {rail: quirks.get(rail, release.get(rail, rail)) for rail in rails}


def create(root: Path, *, averaging: bool, names: Mapping[str, str], place: Place) -> None:
    """Makes the nodes that do not change.

    Args:
        root: the board's root folder.
        averaging: the chips run freely and average; else each read starts one conversion.
        names: what this board calls each rail.
        place: how bus and devices are numbered, and which channels are off.
    """
    for address, rails in CHIPS.items():
        folder = place.folder(root, address)
        folder.mkdir(parents=True)
        called = place.called(address)
        (root / DRIVER).mkdir(parents=True, exist_ok=True)
        (root / DRIVER / called).symlink_to(
            f"../../../../devices/3160000.i2c/i2c-{place.bus}/{called}"
        )
        (folder / "name").write_text("ina3221x\n")
        # 1 = the chip runs freely and averages; 0 = each read starts one conversion.
        (folder / "running_mode").write_text(f"{int(averaging)}\n")
        for channel, rail in enumerate(rails):
            if rail not in place.off:
                (folder / f"rail_name_{channel}").write_text(f"{names.get(rail, rail)}\n")


class Nodes:
    """Keeps the readings under a root folder, in place, so that open files show them.

    Nothing is ever cut to nothing and filled again: file systems take that for a replacement
    and wait for the disk.
    """

    def __init__(self, root: Path, place: Place | None = Place()) -> None:
        self._root, self._place = root, place
        self._open: dict[tuple[str, int, str], tuple[int, str]] = {}

    def write(self, registers: dict[str, Registers]) -> None:
        """Writes the readings that have changed; where there are no monitors, nothing."""
        if self._place is None:
            return
        for address, rails in CHIPS.items():
            for channel, rail in enumerate(rails):
                if rail in self._place.off:
                    continue
                values = registers[rail]
                for node, value in zip(NODES, (values.mw, values.mv, values.ma), strict=True):
                    self._put((address, channel, node), f"{value}\n")

    def _put(self, key: tuple[str, int, str], text: str) -> None:
        handle, old = self._open.get(key, (-1, ""))
        if text == old:
            return
        if handle < 0:
            address, channel, node = key
            assert self._place is not None
            path = self._place.folder(self._root, address) / f"in_{node}{channel}_input"
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.pwrite(handle, text.encode(), 0)
        if len(text) < len(old):
            os.ftruncate(handle, len(text))
        self._open[key] = (handle, text)

    def close(self) -> None:
        """Lets go of the files."""
        while self._open:
            os.close(self._open.popitem()[1][0])
