"""The nodes of the INA3221 drivers, as text: what sysfs shows of the power monitors.

Of r28 and r32: one iio device a chip, each channel with its rail's name. Both releases have the
same driver; only the names differ.
"""

from __future__ import annotations

import os
from pathlib import Path

from hil.emulator.sensor import Registers

DRIVER = "sys/bus/i2c/drivers/ina3221x"
FOLDER = "sys/devices/3160000.i2c/i2c-0"
"""Where the chips are; the driver's folder has links to them."""
CHIPS = {
    "0-0040": ("VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_4V0_WIFI"),
    "0-0041": ("VDD_IN", "VDD_SYS_CPU", "VDD_SYS_DDR"),
}
"""INA3221 chips of the module by I2C address, with the rails on their three channels. The two of
the developer kit's carrier (0x42, 0x43) are left out: what their rails draw is not known."""
NODES = ("power", "voltage", "current")


def folder_of(root: Path, address: str) -> Path:
    """The folder of one chip."""
    return root / FOLDER / address / f"iio:device{list(CHIPS).index(address)}"


def create(root: Path, *, averaging: bool, names: dict[str, str]) -> None:
    """Makes the nodes that do not change.

    Args:
        root: the board's root folder.
        averaging: the chips run freely and average; else each read starts one conversion.
        names: what the board's release calls each rail.
    """
    for address, rails in CHIPS.items():
        folder = folder_of(root, address)
        folder.mkdir(parents=True)
        (root / DRIVER).mkdir(parents=True, exist_ok=True)
        (root / DRIVER / address).symlink_to(f"../../../../devices/3160000.i2c/i2c-0/{address}")
        (folder / "name").write_text("ina3221x\n")
        # 1 = the chip runs freely and averages; 0 = each read starts one conversion.
        (folder / "running_mode").write_text(f"{int(averaging)}\n")
        for channel, rail in enumerate(rails):
            (folder / f"rail_name_{channel}").write_text(f"{names.get(rail, rail)}\n")


class Nodes:
    """Keeps the readings under a root folder, in place, so that open files show them.

    Nothing is ever cut to nothing and filled again: file systems take that for a replacement
    and wait for the disk.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: dict[tuple[str, int, str], tuple[int, str]] = {}

    def write(self, registers: dict[str, Registers]) -> None:
        """Writes the readings that have changed."""
        for address, rails in CHIPS.items():
            for channel, rail in enumerate(rails):
                values = registers[rail]
                for node, value in zip(NODES, (values.mw, values.mv, values.ma), strict=True):
                    self._put((address, channel, node), f"{value}\n")

    def _put(self, key: tuple[str, int, str], text: str) -> None:
        handle, old = self._open.get(key, (-1, ""))
        if text == old:
            return
        if handle < 0:
            address, channel, node = key
            path = folder_of(self._root, address) / f"in_{node}{channel}_input"
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.pwrite(handle, text.encode(), 0)
        if len(text) < len(old):
            os.ftruncate(handle, len(text))
        self._open[key] = (handle, text)

    def close(self) -> None:
        """Lets go of the files."""
        while self._open:
            os.close(self._open.popitem()[1][0])
