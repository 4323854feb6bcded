"""What the board's kernel says of its clocks and temperatures right now.

Plain file reads under a root folder; nothing is started and nothing is changed. Unknown is None.
"""

import glob
import os

# assumes: gpu-devfreq
_GPU_NAMES = ("gp10b", "gv11b", "ga10b", "gm20b", "57000000.gpu", "gpu")
_EMC_RATE = "sys/kernel/debug/bpmp/debug/clk/emc/rate"
_IDLE_TEMPERATURE_C = -200.0


def read(root):
    """Clocks in Hz, temperatures in degrees Celsius by zone, and who is being slowed down.

    `clocks_pinned` is True where GPU and every CPU core that is on have lowest = highest clock;
    `throttle` lists the cooling devices at work, the fan left out (None: the kernel has none).
    """
    gpu = _gpu_folder(root)
    cores = _core_folders(root)
    return {
        "gpu_hz": _number(gpu, "cur_freq"),
        "emc_hz": _number(root, _EMC_RATE),
        "cpu_hz": [_khz(core, "scaling_cur_freq") for core in cores],
        "clocks_pinned": _pinned(gpu, cores),
        "temps_c": _temperatures(root),
        "throttle": _throttle(root),
    }


def text(*parts):
    """A small file's content without NULs and outer blanks; None where it cannot be read."""
    try:
        with open(os.path.join(*parts), "rb") as file:
            return file.read(65536).replace(b"\0", b"").decode("utf-8", "replace").strip()
    except OSError:
        return None


def _number(folder, name):
    content = None if folder is None else text(folder, name)
    try:
        return None if content is None else int(content)
    except ValueError:
        return None


def _khz(folder, name):
    value = _number(folder, name)
    return None if value is None else value * 1000


def _gpu_folder(root):
    for folder in sorted(glob.glob(os.path.join(root, "sys/class/devfreq/*"))):
        name = os.path.basename(folder)
        if any(part in name for part in _GPU_NAMES):
            return folder
    return None


def _core_folders(root):
    found = glob.glob(os.path.join(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq"))
    return sorted(found, key=lambda path: int(os.path.basename(os.path.dirname(path))[3:]))


# assumes: pinned-shows
def _pinned(gpu, cores):
    ranges = [] if gpu is None else [(_number(gpu, "min_freq"), _number(gpu, "max_freq"))]
    ranges += [(_number(c, "scaling_min_freq"), _number(c, "scaling_max_freq")) for c in cores]
    known = [pair for pair in ranges if None not in pair]
    if gpu is None or not known:
        return None
    return all(low == high for low, high in known)


def _temperatures(root):
    zones = {}
    for folder in sorted(glob.glob(os.path.join(root, "sys/class/thermal/thermal_zone*"))):
        name, milli = text(folder, "type"), _number(folder, "temp")
        if name and milli is not None and milli / 1000.0 > _IDLE_TEMPERATURE_C:
            zones[name] = milli / 1000.0
    return zones


# assumes: cooling-devices
def _throttle(root):
    devices = glob.glob(os.path.join(root, "sys/class/thermal/cooling_device*"))
    if not devices:
        return None
    working = [text(folder, "type") for folder in sorted(devices) if _number(folder, "cur_state")]
    return [name for name in working if name and "fan" not in name]
