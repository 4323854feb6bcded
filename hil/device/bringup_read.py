"""The stages of a first contact that only read: who the board is, what it has, what it allows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hil.device.bringup import Contact, Found, Outcome, held, judged
from hil.device.checks import OLDEST_PYTHON, sudoers_line
from hil.device.enroll import board_kind
from hil.device.support import OLDEST_L4T, OLDEST_TENSORRT, version

SPARE_BYTES = 3 * 1024**3
"""Disk for the published networks and their engines."""
RTC_YEARS_FROM = 1_700_000_000  # a board whose clock says less was never told the time
BUSY_TIMERS = ("apt-daily", "unattended-upgrades", "fstrim", "man-db", "motd-news")
_MODE = re.compile(r"POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)")


def ask(contact: Contact) -> Mapping[str, Any]:
    """Return the agent's transcript, asked for once."""
    if "transcript" not in contact.memory:
        contact.memory["transcript"] = contact.link.client.request("transcript", timeout_s=180.0)
    found: Mapping[str, Any] = contact.memory["transcript"]
    return found


def identity(contact: Contact) -> Outcome:
    """Find out which board and release this is."""
    probe = contact.link.client.request("probe", timeout_s=120.0)
    contact.memory["probe"] = probe
    state = ask(contact)["state"]
    contact.memory.setdefault("state_before", state)
    model, l4t = probe.get("model"), probe.get("l4t")
    kind = board_kind(model, l4t)
    release = version(l4t)
    mode = probe.get("nvpmodel")
    throttle = state.get("throttle")
    findings = [
        held("ssh-without-cbc", True, "logged in, the agent was renamed into place"),
        held(
            "agent-on-python-36",
            (version(probe.get("python")) or ()) >= OLDEST_PYTHON,
            f"Python {probe.get('python')}",
        ),
        held("l4t-release-file", release is not None, f"L4T {l4t}"),
        held("model-string", kind == "jetson-tx2", f"{model!r}, taken for {kind}"),
        held("mode-query", mode is not None, "no answer" if mode is None else _mode(mode)),
        held("gpu-devfreq", state.get("gpu_hz") is not None, f"GPU at {state.get('gpu_hz')} Hz"),
        held("cooling-devices", throttle is not None, f"working: {throttle}"),
    ]
    fine = release is not None and release >= OLDEST_L4T
    return judged(
        f"{model}, L4T {l4t}, Python {probe.get('python')}, mode {_mode(mode)}",
        findings,
        {"kind": kind, "model": model, "l4t": l4t, "mode": mode, "state": state},
        "a TX2 needs L4T 32.7.1 or later (docs/setup-tx2.md, step 1); else see what differs below",
        {"board": kind},
        fine=fine,
    )


def _mode(mode: Any) -> str:
    return f"{mode.get('id')} {mode.get('name')}" if isinstance(mode, Mapping) else "unknown"


def environment(contact: Contact) -> Outcome:
    """Find out what the login has: programs, libraries, disk, clock, and who disturbs."""
    told, probe = ask(contact), contact.recall("probe", "the stage identity")
    commands = told["commands"]
    missing = [
        row["program"] for row in told["sudo"]["wanted"] if row["path"] is None
    ]  # nvpmodel and jetson_clocks
    missing += ["tegrastats"] if probe.get("tegrastats") is None else []
    tensorrt = version(probe.get("tensorrt"))
    leftover = told["owned"].get("tmp/.tstats.txt")
    foreign = leftover is not None and leftover["uid"] != leftover["me"]
    numpy = probe.get("numpy")
    trtexec = probe.get("trtexec")
    findings = [
        held("plain-path", not missing, f"not found: {sorted(set(missing)) or 'nothing'}"),
        held(
            "tensorrt-for-system-python",
            tensorrt is not None and tensorrt >= OLDEST_TENSORRT,
            f"TensorRT {probe.get('tensorrt')}",
        ),
        held("trtexec-place", trtexec is not None, f"trtexec at {trtexec}"),
        held("numpy-needs-coretype", None if numpy is None else True, f"numpy {numpy} loads"),
        Found(
            "no-leftover-of-tegrastats",
            "unknown" if not foreign else "holds" if _watched(contact) else "differs",
            f"the file is {'there, another user owns it' if foreign else 'not in the way'}",
        ),
    ]
    free = probe.get("disk_free_bytes")
    notes = _notes(commands, told, free)
    facts = {
        "environment": told["environment"],
        "packages": commands["packages"]["output"].splitlines(),
        "cuda": told["files"]["usr/local/cuda/version.txt"]
        or told["files"]["usr/local/cuda/version.json"],
        "pycuda": probe.get("pycuda"),
        "numpy": numpy,
        "disk_free_mib": None if free is None else free // 2**20,
        "notes": notes,
    }
    return judged(
        f"TensorRT {probe.get('tensorrt')}, numpy {numpy}, PyCUDA {probe.get('pycuda')}, "
        f"{len(notes)} thing(s) to mend",
        findings,
        facts,
        "; ".join(notes) or "install what is missing (docs/setup-tx2.md)",
        fine=not notes,
    )


def _watched(contact: Contact) -> bool:
    """Whether tegrastats starts for this login; asked only where something may be in its way."""
    asked = {"interval_ms": 100, "duration_s": 1.0, "power": [{"source": "tegrastats"}]}
    contact.link.client.request("power_watch", asked)
    return True


def _notes(commands: Mapping[str, Any], told: Mapping[str, Any], free: Any) -> list[str]:
    notes = []
    if isinstance(free, int) and free < SPARE_BYTES:
        notes.append(f"free disk: {free // 2**20} MiB are left, the published networks want 3 GiB")
    now = commands["date"]["output"].strip()
    if now.isdigit() and int(now) < RTC_YEARS_FROM:
        notes.append("set the clock (sudo timedatectl set-ntp true): the board thinks it is 2023")
    if "graphical" in commands["desktop"]["output"]:
        notes.append("switch the desktop off: sudo systemctl set-default multi-user.target")
    timers = commands["timers"]["output"]
    busy = [name for name in BUSY_TIMERS if name in timers]
    if busy:
        notes.append(f"stop timers: sudo systemctl disable --now {'.timer '.join(busy)}.timer")
    if told["tegrastats_running"]:
        notes.append(f"{told['tegrastats_running']} tegrastats of others run: end them")
    return notes


def privileges(contact: Contact) -> Outcome:
    """Find out what sudo would allow, line by line; nothing of it is run."""
    told = ask(contact)
    sudo, store = told["sudo"], told["owned"].get("var/lib/hil")
    wanted = [(_line(row), row["allowed"]) for row in sudo["wanted"]]
    denied = [line for line, allowed in wanted if not allowed]
    broad = [_line(row) for row in sudo["too_much"] if row["allowed"]]
    any_allowed = len(denied) < len(wanted)
    rooted = store is not None and store["uid"] == 0 and int(store["mode"], 8) & 0o022 == 0
    findings = [
        held("sudo-asks-nothing", True if any_allowed else None, f"{len(wanted)} lines asked"),
        held(
            "sudo-exact", None if not any_allowed else not broad, f"too much: {broad or 'nothing'}"
        ),
    ]
    steps = []
    if denied:
        steps.append(f"put into /etc/sudoers.d/hil: {sudoers_line(contact.device)}")
    if broad:
        steps.append("take rights away that go beyond those lines")
    if not rooted:
        steps.append("sudo install -d -m 0755 -o root -g root /var/lib/hil")
    contact.memory["may_set_modes"] = not any("nvpmodel" in line for line in denied)
    contact.memory["may_pin"] = rooted and not any("jetson_clocks" in line for line in denied)
    proposed: dict[str, Any] = {"state.clocks": contact.memory["may_pin"]}
    if not contact.memory["may_set_modes"]:
        proposed["state.nvpmodel"] = None
    return judged(
        f"{len(wanted) - len(denied)} of {len(wanted)} lines allowed, {len(broad)} too many",
        findings,
        {"allowed": [line for line, allowed in wanted if allowed], "denied": denied}
        | {"too_much": broad, "clock_store": store},
        "; ".join(steps),
        proposed,
        fine=not steps,
    )


def _line(row: Mapping[str, Any]) -> str:
    return " ".join([str(row.get("path") or row["program"]), *row["arguments"]])


def sensor(contact: Contact) -> Outcome:
    """Find out how the power monitors are set."""
    told = ask(contact)
    channels, monitors = told["channels"], told["monitors"]
    modes = monitors.get("running_mode", {})
    total = next((row for row in channels if row["rail"] == contact.device.power.rail), None)
    volts = None if total is None else total["voltage_mv"]
    with_power = [row for row in channels if row["power_mw"] is not None]
    findings = [
        held(
            "sysfs-monitors",
            bool(channels) and len(with_power) == len(channels),
            f"{len(channels)} channels, {len(with_power)} with a power of their own",
        ),
        held(
            "bus-voltage",
            None if volts is None else 18_000 <= volts <= 20_000,
            f"{volts} mV" if volts is not None else "not told",
        ),
        held(
            "running-mode",
            None if not modes else set(modes.values()) == {1},
            f"running_mode {modes or 'not told'}",
        ),
    ]
    facts = {"channels": channels, "monitors": monitors, "device_tree": told["device_tree"]}
    proposed = {} if volts is None or 18_000 <= volts <= 20_000 else {"power.sensor.bus_mv": volts}
    return judged(
        f"{len(channels)} channels, running_mode {sorted(set(modes.values())) or 'unknown'}",
        findings,
        facts,
        "nothing to mend: what differs is recorded in each result; see the consequence below",
        proposed,
    )


def modes_of(told: Mapping[str, Any]) -> dict[int, str]:
    """Return the power modes that the board's own file names."""
    text = told["files"].get("etc/nvpmodel.conf") or ""
    return {int(number): name for number, name in _MODE.findall(text)}
