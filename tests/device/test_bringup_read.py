"""What is made of what a board says of itself: each thing that is not as assumed is told."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from hil.device.bringup import Contact, SkipStageError
from hil.device.bringup_read import environment, identity, modes_of, privileges, sensor
from hil.device.config import LocalDevice
from hil.device.link import Link

DEVICE = LocalDevice.model_validate(
    {
        "schema": "hil/device@1",
        "name": "b",
        "driver": "local",
        "board": "jetson-tx2",
        "state": {"nvpmodel": 0, "clocks": True},
        "power": {"source": "tegrastats", "rail": "VDD_IN"},
    }
)
PROBE = {
    "model": "quill",
    "l4t": "32.7.1",
    "python": "3.6.9",
    "tensorrt": "8.2.1.8",
    "numpy": "1.19.5",
    "pycuda": None,
    "tegrastats": "/usr/bin/tegrastats",
    "trtexec": "/usr/src/tensorrt/bin/trtexec",
    "nvpmodel": {"id": 0, "name": "MAXN"},
    "disk_free_bytes": 9 * 1024**3,
}
SUDO = [("nvpmodel", ["-m", str(n)]) for n in range(5)] + [
    ("jetson_clocks", []),
    ("jetson_clocks", ["--store", "/var/lib/hil/clocks.conf"]),
    ("jetson_clocks", ["--restore", "/var/lib/hil/clocks.conf"]),
]
CHANNEL = {"rail": "VDD_IN", "monitor": "0-0041", "power_mw": 4823}
TOLD: dict[str, Any] = {
    "commands": {
        "date": {"output": "1795839507\n"},
        "desktop": {"output": "multi-user.target\n"},
        "timers": {"output": "n/a n/a logrotate.timer\n"},
        "packages": {"output": "tensorrt 8.2.1.8-1+cuda10.2\n"},
    },
    "files": {
        "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=3 NAME=CORE_ARM >",
        "usr/local/cuda/version.txt": "CUDA Version 10.2.300",
        "usr/local/cuda/version.json": None,
    },
    "owned": {"var/lib/hil": {"uid": 0, "mode": "755", "me": 1001}, "tmp/.tstats.txt": None},
    "environment": {"PATH": "/usr/bin:/bin"},
    "device_tree": {},
    "channels": [{**CHANNEL, "voltage_mv": 19144, "current_ma": 252}],
    "monitors": {"running_mode": {"0-0041": 1}},
    "sudo": {
        "wanted": [
            {"program": p, "arguments": a, "allowed": True, "path": f"/usr/bin/{p}"}
            for p, a in SUDO
        ],
        "too_much": [{"program": "id", "arguments": [], "allowed": False}],
    },
    "tegrastats_running": 0,
    "state": {"gpu_hz": 114_750_000, "throttle": [], "nvpmodel": {"id": 0, "name": "MAXN"}},
}


class Says:
    """An agent with fixed answers."""

    def __init__(self, told, probe):
        self.answers = {"transcript": told, "probe": probe}

    def request(self, method, params=None, *, on_event=None, timeout_s=60.0):
        return self.answers[method]


def met(stage, *, told=None, probe=None):
    """Run the identity stage, then another, on changed answers."""
    transcript = copy.deepcopy(TOLD)
    for path, value in (told or {}).items():
        *above, last = path
        place = transcript
        for part in above:
            place = place[part]
        place[last] = value
    contact = Contact(DEVICE, Link(Says(transcript, {**PROBE, **(probe or {})}), None, {}, "m"))  # type: ignore[arg-type]
    first = identity(contact)
    return first if stage is identity else stage(contact)


@pytest.mark.parametrize("stage", [identity, environment, privileges, sensor])
def test_a_board_as_assumed_asks_for_nothing(stage):
    outcome = met(stage)

    assert outcome.status == "ok"
    assert outcome.next_step is None
    assert {f.verdict for f in outcome.findings} <= {"holds", "unknown"}


@pytest.mark.parametrize(
    ("stage", "change", "differs", "step"),
    [
        (identity, {"probe": {"l4t": "28.2"}}, None, "32.7.1"),
        (identity, {"probe": {"model": "Jetson Nano"}}, "model-string", ""),
        (identity, {"probe": {"nvpmodel": None}}, "mode-query", ""),
        (identity, {"told": {("state", "gpu_hz"): None}}, "gpu-devfreq", ""),
        (identity, {"told": {("state", "throttle"): None}}, "cooling-devices", ""),
        (environment, {"probe": {"tensorrt": None}}, "tensorrt-for-system-python", "install"),
        (environment, {"probe": {"trtexec": None}}, "trtexec-place", "install"),
        (environment, {"probe": {"tegrastats": None}}, "plain-path", "install"),
        (environment, {"probe": {"disk_free_bytes": 1}}, None, "free disk"),
        (environment, {"told": {("commands", "date", "output"): "5\n"}}, None, "set-ntp"),
        (
            environment,
            {"told": {("commands", "desktop", "output"): "graphical"}},
            None,
            "multi-user",
        ),
        (
            environment,
            {"told": {("commands", "timers", "output"): "x apt-daily.timer fstrim.timer"}},
            None,
            "disable --now apt-daily.timer fstrim.timer",
        ),
        (environment, {"told": {("tegrastats_running",): 2}}, None, "2 tegrastats"),
        (
            privileges,
            {"told": {("sudo", "wanted", 0, "allowed"): False}},
            None,
            "/etc/sudoers.d/hil: USER ALL=(root) NOPASSWD: /usr/sbin/nvpmodel -m 0,",
        ),
        (privileges, {"told": {("sudo", "too_much", 0, "allowed"): True}}, "sudo-exact", "beyond"),
        (privileges, {"told": {("owned", "var/lib/hil", "uid"): 1001}}, None, "install -d"),
        (privileges, {"told": {("owned", "var/lib/hil", "mode"): "777"}}, None, "install -d"),
        (sensor, {"told": {("monitors", "running_mode"): {"0-0041": 0}}}, "running-mode", ""),
        (sensor, {"told": {("channels", 0, "voltage_mv"): 12000}}, "bus-voltage", ""),
        (sensor, {"told": {("channels",): []}}, "sysfs-monitors", ""),
    ],
)
def test_what_is_otherwise_is_told_with_what_to_do(stage, change, differs, step):
    outcome = met(stage, **change)

    assert outcome.status == "differs"
    assert step in (outcome.next_step or "")
    assert outcome.next_step
    told = {f.id for f in outcome.findings if f.verdict == "differs"}
    assert told == ({differs} if differs else set())


def test_rights_that_are_missing_are_not_used_and_the_device_file_says_so():
    denied = {("sudo", "wanted", 5, "allowed"): False, ("sudo", "wanted", 0, "allowed"): False}

    outcome = met(privileges, told=denied)

    assert outcome.proposed == {"state.clocks": False, "state.nvpmodel": None}


def test_another_voltage_is_proposed_for_the_device_file():
    outcome = met(sensor, told={("channels", 0, "voltage_mv"): 12000})

    assert outcome.proposed == {"power.sensor.bus_mv": 12000}


def test_modes_are_those_of_the_boards_own_file():
    assert modes_of(TOLD) == {0: "MAXN", 3: "CORE_ARM"}


def test_what_was_not_found_is_asked_for():
    contact = Contact(DEVICE, Link(Says(TOLD, PROBE), None, {}, "m"))  # type: ignore[arg-type]

    with pytest.raises(SkipStageError, match="identity"):
        environment(contact)
