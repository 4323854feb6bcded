"""The INA3221 power monitors of a Jetson, as its kernel shows them under sysfs.

Two drivers. L4T r28 and r32 have an iio device with a name, a voltage, a current and a power for
each channel; r35 and later have a hwmon device without a power. Channels are found by the name
of their rail, never by a number: numbers differ from release to release.
"""

import glob
import os
import re

from . import state

# assumes: sysfs-monitors
_IIO = (
    "sys/bus/i2c/drivers/ina3221x/*/iio:device*",
    "sys/bus/i2c/drivers/ina3221x/*/iio_device*",
    "sys/bus/i2c/devices/*/iio:device*",
)
_HWMON = (
    "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*",
    "sys/bus/i2c/devices/*/hwmon/hwmon*",
)
_IIO_NAME = re.compile(r"rail_name_(\d+)\Z")
_HWMON_NAME = re.compile(r"in(\d+)_label\Z")
_UNUSED = "NC"
# What a monitor says of how it reads: 0 = one conversion a read, 1 = it runs freely and averages;
# how many readings it averages, and how often it makes one.
_MODES = (("running_mode", "running_mode"), ("samples", "samples"))
_INTERVAL = "update_interval"


class Channel:
    """One rail: `power` in mW is a path or None; `voltage` in mV and `current` in mA likewise."""

    def __init__(self, rail, monitor, power, voltage, current):
        self.rail = rail
        self.monitor = monitor
        self.power = power
        self.voltage = voltage
        self.current = current


def channels(root):
    """Every channel that is connected, in order of monitor and number."""
    found = []
    for monitor, folder in _folders(root, _IIO):
        for number, rail in _names(folder, _IIO_NAME):
            paths = [
                os.path.join(folder, "in_%s%s_input" % (kind, number))
                for kind in ("power", "voltage", "current")
            ]
            known = [path if os.path.exists(path) else None for path in paths]
            if known[0] or (known[1] and known[2]):
                found.append(Channel(rail, monitor, known[0], known[1], known[2]))
    for monitor, folder in _folders(root, _HWMON):
        for number, rail in _names(folder, _HWMON_NAME):
            voltage = os.path.join(folder, "in%s_input" % number)
            current = os.path.join(folder, "curr%s_input" % number)
            if os.path.exists(voltage) and os.path.exists(current):
                found.append(Channel(rail, monitor, None, voltage, current))
    return found


def sensor_settings(root):
    """How the board's monitors are set, by i2c address; empty where it has none.

    Returns:
        `running_mode` (0: each read starts one conversion, 1: the chip runs freely and
        averages), `samples`, `update_interval_ms`; each only where a monitor tells it.
    """
    told = {}
    for monitor, folder in _folders(root, _IIO) + _folders(root, _HWMON):
        if not _names(folder, _IIO_NAME) and not _names(folder, _HWMON_NAME):
            continue
        for name, key in _MODES + ((_INTERVAL, "update_interval_ms"),):
            value = number(os.path.join(folder, name))
            if value is not None:
                told.setdefault(key, {})[monitor] = value
    return told


def number(path):
    """A file's whole number; None where it has none or cannot be read."""
    content = state.text(path)
    try:
        return None if content is None else int(content)
    except ValueError:
        return None


def _folders(root, patterns):
    """(i2c address, folder) of each device once, whatever names lead to it."""
    found = {}
    for pattern in patterns:
        for folder in sorted(glob.glob(os.path.join(root, pattern))):
            above = folder[: folder.index("/hwmon")] if "/hwmon" in folder else folder
            if above is folder:
                above = os.path.dirname(folder)
            found.setdefault(os.path.realpath(folder), (os.path.basename(above), folder))
    return sorted(found.values())


def _names(folder, pattern):
    """(number, rail) of the channels that a monitor names and that are connected."""
    try:
        matches = [pattern.match(name) for name in os.listdir(folder)]
    except OSError:
        return []
    numbered = sorted((int(m.group(1)), m.group(0)) for m in matches if m)
    rails = [(str(index), (state.text(folder, name) or "").split()) for index, name in numbered]
    return [(index, "_".join(words)) for index, words in rails if words and words != [_UNUSED]]
