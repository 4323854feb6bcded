"""What a board says of itself: a fixed list of commands and files, read and sent home raw.

Rule of this file: nothing the host sends becomes a command line or a path; nothing is changed.
Neither host names, serial numbers nor keys are asked for.
"""

import binascii
import glob
import os

from . import monitors, state

_LIMIT = 16384
_COMMAND_S = 20.0
COMMANDS = (
    ("kernel", ("uname", "-srm")),
    ("date", ("date", "-u", "+%s")),
    ("groups", ("id", "-Gn")),
    ("mode", ("nvpmodel", "-q")),
    ("tegrastats_help", ("tegrastats", "--help")),
    ("disk", ("df", "-kP", ".")),
    ("desktop", ("systemctl", "get-default")),
    ("clock_service", ("systemctl", "is-active", "systemd-timesyncd")),
    ("timers", ("systemctl", "list-timers", "--all", "--no-pager", "--no-legend")),
    (
        "packages",
        (
            "dpkg-query",
            "-W",
            "-f=${Package} ${Version}\\n",
            "nvidia-l4t-core",
            "nvidia-l4t-tools",
            "tensorrt",
            "libnvinfer8",
            "libnvinfer-bin",
            "python3-libnvinfer",
            "libcudnn8",
            "cuda-cudart-10-2",
            "python3-numpy",
        ),
    ),
)
"""What is run, by name: programs are looked up as the agent looks up all of them."""
FILES = (
    "etc/nv_tegra_release",
    "etc/os-release",
    "etc/nvpmodel.conf",
    "proc/device-tree/model",
    "proc/device-tree/compatible",
    "proc/uptime",
    "proc/loadavg",
    "usr/local/cuda/version.txt",
    "usr/local/cuda/version.json",
)
_PROPERTIES = (
    "proc/device-tree/i2c@*/ina3221*@*/ti,*-config",
    "proc/device-tree/i2c@*/ina3221*@*/channel@*/ti,rail-name",
    "proc/device-tree/i2c@*/ina3221*@*/channel@*/ti,shunt-*",
)
"""The device tree's settings of the power monitors, in hexadecimal."""
_OWNED = ("var/lib/hil", "var/lib/hil/clocks.conf", "tmp/.tstats.txt", "etc/sudoers.d/hil")
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "OPENBLAS_CORETYPE", "CUDA_VISIBLE_DEVICES")


def read(board, clocks, job):
    """Everything on the lists, and what sudo would let this user run, asked without running it."""
    commands = {}
    for name, argv in COMMANDS:
        job.check()
        commands[name] = _command(board, argv)
    files = {name: _cut(state.text(board.root, name)) for name in FILES}
    return {
        "commands": commands,
        "files": files,
        "owned": {name: _owner(os.path.join(board.root, name)) for name in _OWNED},
        "environment": {name: os.environ.get(name) for name in _ENVIRONMENT},
        "device_tree": _properties(board.root),
        "channels": [_channel(one) for one in monitors.channels(board.root)],
        "monitors": monitors.sensor_settings(board.root),
        "sudo": _sudo(board, clocks, job),
        "conf": clocks.conf,
        "tegrastats_running": _running(board.root, "tegrastats"),
        "state": board.state(board.power_mode()),
    }


def _sudo(board, clocks, job):
    """Of each exact command line whether it is allowed; `too_much` must not be."""
    allowed = []
    for program, arguments in clocks.command_lines():
        job.check()
        row = {"program": program, "arguments": arguments}
        row["allowed"] = clocks.permitted(program, *arguments)
        row["path"] = board.program(program)
        allowed.append(row)
    too_much = [("jetson_clocks", ["--restore", "/tmp/chosen-by-the-user.conf"]), ("id", [])]
    rows = [
        {"program": program, "arguments": rest, "allowed": clocks.permitted(program, *rest)}
        for program, rest in too_much
    ]
    return {"wanted": allowed, "too_much": rows}


def _command(board, argv):
    program = board.program(argv[0])
    if program is None:
        return {"argv": list(argv), "status": None, "output": "", "errors": "not on PATH"}
    done = board.run([program] + list(argv[1:]), _COMMAND_S, given=b"")
    told = {"argv": list(argv), "status": done.status, "path": program}
    return dict(told, output=_cut(done.output), errors=_cut(done.errors))


def _cut(text):
    return text if text is None else text[:_LIMIT]


def _owner(path):
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return {"uid": found.st_uid, "mode": "%o" % (found.st_mode & 0o7777), "me": os.getuid()}


def _properties(root):
    told = {}
    for pattern in _PROPERTIES:
        for path in sorted(glob.glob(os.path.join(root, pattern))):
            try:
                with open(path, "rb") as file:
                    data = file.read(256)
            except OSError:
                continue
            told[os.path.relpath(path, root)] = binascii.hexlify(data).decode("ascii")
    return told


def _channel(one):
    read_ = {name: monitors.number(getattr(one, name)) for name in ("power", "voltage", "current")}
    told = {"rail": one.rail, "monitor": one.monitor}
    told["power_mw"] = read_["power"] if one.power else None
    told["voltage_mv"] = read_["voltage"] if one.voltage else None
    told["current_ma"] = read_["current"] if one.current else None
    return told


def _running(root, name):
    names = glob.glob(os.path.join(root, "proc/[0-9]*/comm"))
    return sum(state.text(path) == name for path in names)
