"""RAPL, the energy counters of x86 processors, as the kernel's powercap shows them.

A line has a token for each domain, `package-0=8123uJ/262143328850uJ`: the counter, and the
highest value that it shows before it starts over.
"""

import glob
import os

from . import monitors, state
from .errors import AgentError
from .selfstart import own_argv

_FOLDERS = "sys/class/powercap/intel-rapl:*"


def start(board, spec):
    """Command line and settings.

    Raises:
        AgentError: `no_power` where there is no counter, none that may be read, or none of that
            name.
    """
    names = [name for name, _, _ in _domains(board.root)]
    rail = spec.get("rail")
    if rail and rail not in names:
        raise AgentError(
            "no_power",
            "this machine has no energy counter %s" % rail,
            "it has: %s" % ", ".join(names),
            "set power.rail in the device file to one of them",
        )
    words = ["sample", "rapl", "--root", board.root]
    return own_argv(words + ["--interval-ms", str(spec["interval_ms"])]), {"domains": names}


def sampler(root):
    """Function that reads all counters once and gives a line.

    Raises:
        AgentError: `no_power` as in `start`.
    """
    domains = _domains(root)

    def read():
        tokens = []
        for name, path, most_uj in domains:
            energy_uj = monitors.number(path)
            if energy_uj is not None:
                tokens.append("%s=%duJ/%duJ" % (name, energy_uj, most_uj))
        if not tokens:
            raise _unreadable(domains[0][1])
        return " ".join(tokens)

    return read


def _domains(root):
    """(name, path of the counter, its highest value) of every counter that may be read."""
    folders = sorted(glob.glob(os.path.join(root, _FOLDERS)))
    names = {os.path.basename(folder): state.text(folder, "name") for folder in folders}
    counters = []
    for folder in folders:
        own = os.path.basename(folder)  # intel-rapl:0 or, inside it, intel-rapl:0:1
        above = own.rpartition(":")[0]
        name = "/".join("-".join(names[one].split()) for one in (above, own) if names.get(one))
        path = os.path.join(folder, "energy_uj")
        most_uj = monitors.number(os.path.join(folder, "max_energy_range_uj"))
        if name and most_uj and os.path.exists(path):
            counters.append((name, path, most_uj))
    if not counters:
        raise AgentError(
            "no_power",
            "this machine shows no RAPL energy counter",
            "nothing under /sys/class/powercap/intel-rapl:*",
            "virtual machines and other processors have none: use another power source",
        )
    readable = [one for one in counters if monitors.number(one[1]) is not None]
    if not readable:
        raise _unreadable(counters[0][1])
    return readable


def _unreadable(path):
    return AgentError(
        "no_power",
        "the RAPL energy counters may not be read",
        "%s is there; since 2020 kernels show it to root alone" % path,
        "let the user read it: `sudo chmod a+r %s` until the next boot, or a udev rule" % path,
    )
