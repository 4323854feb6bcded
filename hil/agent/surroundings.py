"""What else is on the board and could tell in a figure: cores, desktops, the wall clock, rails.

Plain file reads under a root folder; facts alone, judged by the host. Unknown is None.
"""

import glob
import os
import time

from . import monitors, state

_DISPLAYS = frozenset(
    (
        "Xorg X Xwayland gnome-shell compiz unity-panel-ser weston kwin_x11 kwin_wayland lxpanel"
        " lightdm-gtk-gre unity-greeter"
    ).split()
)
"""Names in /proc/PID/comm (15 letters at most) of programs that draw with the GPU."""


def read(root):
    """The facts, as `probe` tells them."""
    return {
        "cores_online": _cores_online(root),
        "display": _displays(root),
        "wall_clock_s": wall_clock_s(),
        "rails": [channel.rail for channel in monitors.channels(root)],
        "clocks_pinned": state.read(root)["clocks_pinned"],
    }


def wall_clock_s():
    """What the board takes for the date, in seconds since 1970; never used as time here."""
    return time.time()


def _cores_online(root):
    """How many CPU cores are on; None where the kernel does not tell.

    Core 0 of many kernels has no `online` file, because it cannot be switched off.
    """
    folders = glob.glob(os.path.join(root, "sys/devices/system/cpu/cpu[0-9]*"))
    if not folders:
        return None
    return sum(state.text(folder, "online") != "0" for folder in folders)


def _displays(root):
    found = set()
    for path in glob.glob(os.path.join(root, "proc/[0-9]*/comm")):
        found.add(state.text(path))
    return sorted(found & _DISPLAYS)
