"""What a healthy board looks like: judgements over what was probed and recorded.

Rule of this file: pure. Each judgement carries what to do when it is not right; "ok" needs nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from hil.core import fallbacks, tegrastats
from hil.core.errors import HilError
from hil.core.evidence import Evidence, PowerRecord
from hil.core.fallbacks import Fallback
from hil.device.config import DeviceConfig, PowerSource
from hil.device.gpu_runtime import (
    BEST,
    DRIVER,
    ELSEWHERE,
    INSTALL,
    NAMES,
    ON_GPU,
    ORDER,
    described,
    lacking,
)
from hil.device.power_choice import PowerChoice
from hil.device.support import OLDEST_TENSORRT, UPGRADE, Version, too_old, version

Status = Literal["ok", "warn", "fail"]
OLDEST_PYTHON: Version = (3, 6)
DISK_WARN_BYTES = 2 * 1024**3
DISK_FAIL_BYTES = 256 * 1024**2  # one engine and its network
# assumes: period-follows
SLOW_PERIOD = 1.5  # tegrastats' own work adds about a tenth of a 100 ms interval on a TX2


@dataclass(frozen=True)
class Check:
    """One line of a health report; `next_step` is None exactly where the status is ok."""

    name: str
    status: Status
    detail: str
    next_step: str | None = None


def ok(name: str, detail: str) -> Check:
    """Return a check that asks for nothing."""
    return Check(name, "ok", detail)


def failed(name: str, error: HilError) -> Check:
    """Return the check for something that raised."""
    detail = error.what if error.why is None else f"{error.what} ({error.why})"
    return Check(name, "fail", detail, error.fix or "run again; if it stays, report it")


def judge_probe(device: DeviceConfig, probe: Mapping[str, Any]) -> Iterator[Check]:
    """Judge what the agent says of its board against what the device file wants of it."""
    yield _board(probe)
    yield _python(probe)
    yield _release(probe)
    yield from _gpu(device, probe)
    yield from _runtime(device, probe)
    yield _power_source(device, probe)
    yield _rights(device, probe)
    yield _disk(probe)
    yield from told(fallbacks.of_board(probe))


def told(found: Iterable[Fallback]) -> Iterator[Check]:
    """Return fallbacks as lines of the report."""
    for each in found:
        yield Check(f"fallback {each.name}", "warn", each.line, each.next_step)


def _board(probe: Mapping[str, Any]) -> Check:
    text = probe.get("model") or f"no Jetson ({probe.get('cpu')})"
    return ok("board", f"{text}, EMULATED" if probe.get("emulated") else text)


def _python(probe: Mapping[str, Any]) -> Check:
    found = version(probe.get("python"))
    if found is not None and found >= OLDEST_PYTHON:
        return ok("python", str(probe["python"]))
    return Check("python", "fail", str(probe.get("python")), "install Python 3.6 or later there")


def _release(probe: Mapping[str, Any]) -> Check:
    if version(probe.get("l4t")) is None:
        return ok("jetpack", "not a Jetson")
    refusal = too_old(probe.get("l4t"), probe.get("l4t_read_in"))
    return ok("jetpack", f"L4T {probe['l4t']}") if refusal is None else failed("jetpack", refusal)


def _gpu(device: DeviceConfig, probe: Mapping[str, Any]) -> Iterator[Check]:
    """The NVIDIA GPU of this machine, where one is meant; and whether its power can be read."""
    told = probe.get("gpu")
    if told is None:
        return
    missing, refused = told.get("missing"), told.get("refused")
    if missing:
        step = f"{missing.get('fix') or DRIVER}; {ELSEWHERE}"
        yield Check("gpu", "fail", f"{missing['message']} ({missing.get('why')})", step)
        return
    yield ok("gpu", described(probe) or "it does not tell its name")
    if refused and device.power.source == "nvml":
        yield Check("gpu power", "fail", f"{refused['message']} ({refused['why']})", refused["fix"])


def _runtime(device: DeviceConfig, probe: Mapping[str, Any]) -> Iterator[Check]:
    wanted = device.runtime.name
    if wanted in ON_GPU:
        for name in ORDER if wanted == BEST else (wanted,):
            why = lacking(name, probe)
            yield (
                ok("runtime", NAMES[name])
                if why is None
                else Check(
                    f"runtime {name}", "warn", why, f"into hil's own environment: {INSTALL[name]}"
                )
            )
            if why is None:
                return
        yield Check("runtime", "fail", "none reaches the GPU", "see the lines above")
        return
    if wanted == "torch-cpu":
        host = probe.get("host_runtimes") or {}
        yield ok("runtime", f"PyTorch {host.get('torch')} on the CPU")
        return
    if device.runtime.name == "onnxruntime":
        yield _present("onnxruntime", probe, "install it for that Python: pip install onnxruntime")
        return
    found = version(probe.get("tensorrt"))
    if probe.get("tensorrt") is None and probe.get("trtexec"):
        yield from told((fallbacks.trtexec_engine(probe),))
    elif probe.get("tensorrt") is None:
        step = "install it: sudo apt install python3-libnvinfer (part of JetPack)"
        yield Check("tensorrt", "fail", "not found by that Python", step)
    elif found is not None and found < OLDEST_TENSORRT:
        yield Check("tensorrt", "fail", str(probe["tensorrt"]), UPGRADE)
    else:
        yield ok("tensorrt", str(probe["tensorrt"]))
    if "numpy" not in (probe.get("import_deaths") or {}):
        yield _present("numpy", probe, "install it: sudo apt install python3-numpy")
    pycuda = probe.get("pycuda")
    yield ok("pycuda", str(pycuda) if pycuda else "absent; the CUDA runtime is used directly")


def _present(name: str, probe: Mapping[str, Any], step: str) -> Check:
    found = probe.get(name)
    return ok(name, str(found)) if found else Check(name, "fail", "not found by that Python", step)


def _power_source(device: DeviceConfig, probe: Mapping[str, Any]) -> Check:
    source = device.power.source
    if source == "none":
        step = "name a power source in the device file (power.source); latency works without"
        return Check("power source", "warn", "none: joules stay unknown", step)
    names = [source, *(one.source for one in device.power.also)]
    if source != "tegrastats" and "tegrastats" in names and probe.get("tegrastats") is None:
        step = "install L4T's tools, or take it out of power.also"
        return Check("power source", "fail", "there is no tegrastats on the board", step)
    lost = PowerChoice(device.power, probe).lost(source)
    if lost is not None:
        step = "install L4T's tools, or set power.source: none to measure latency alone"
        if lost["instead"] is None:
            return Check("power source", "fail", f"{lost['why']}: joules are refused", step)
        detail = f"{lost['why']}: {lost['instead']} (sysfs) is read instead"
        return Check("power source", "warn", detail, step)
    shown = [str(probe["tegrastats"]) if name == "tegrastats" else name for name in names]
    return ok("power source", ", ".join(shown))


def _rights(device: DeviceConfig, probe: Mapping[str, Any]) -> Check:
    sudo = probe.get("sudo") or {}
    wanted = {
        "nvpmodel": device.state.nvpmodel is not None,
        "jetson_clocks": device.state.clocks,
    }
    missing = [name for name, want in wanted.items() if want and not sudo.get(name)]
    if not any(wanted.values()):
        return ok("sudo rights", "none needed: the device file pins nothing")
    if not missing:
        return ok("sudo rights", ", ".join(name for name, want in wanted.items() if want))
    return Check(
        "sudo rights",
        "warn",
        f"not allowed without a password: {', '.join(missing)}; measured unpinned, results are "
        "suspect",
        "put into /etc/sudoers.d/hil: " + sudoers_line(device),
    )


def sudoers_line(device: DeviceConfig) -> str:
    """Return the permission to add: fixed command lines, no wildcard, clocks kept in one file."""
    user = getattr(getattr(device, "ssh", None), "user", "USER")
    mode = device.state.nvpmodel
    modes = sorted({*range(5), *(() if mode is None else (mode,))})
    store = (
        "/var/lib/hil/clocks.conf"  # root's own folder: a user's file could write any sysfs path
    )
    clocks = ('""', f"--store {store}", f"--restore {store}")
    commands = [f"/usr/sbin/nvpmodel -m {number}" for number in modes]
    commands += [f"/usr/bin/jetson_clocks {arguments}" for arguments in clocks]
    return f"{user} ALL=(root) NOPASSWD: {', '.join(commands)}"


def _disk(probe: Mapping[str, Any]) -> Check:
    free = probe.get("disk_free_bytes")
    if not isinstance(free, int):
        return Check("disk", "warn", "free space unknown", "run `df ~` on the board")
    detail = f"{free / 1024**3:.1f} GiB free"
    if free >= DISK_WARN_BYTES:
        return ok("disk", detail)
    status: Status = "fail" if free < DISK_FAIL_BYTES else "warn"
    return Check("disk", status, detail, "free space on the board, e.g. with `hil device clean`")


def judge_lease(status: Mapping[str, Any]) -> Check:
    """Judge the agent's answer to `lease_status`."""
    if not status.get("held"):
        return ok("lease", "free")
    left = status.get("expires_in_s")
    until = "" if left is None else f", expires in {left:.0f} s"
    return Check(
        "lease", "warn", f"held by {status.get('owner')}{until}", "wait for it with --wait 30m"
    )


def judge_run(device: DeviceConfig, evidence: Evidence) -> Iterator[Check]:
    """Judge a short run: is power really read, how often, and do the clocks stay put."""
    if device.power.source != "none" and evidence.power:
        first = device.power.first
        read = evidence.power[0].source  # another than asked for, where that one failed
        if read != first.source:
            first = first.model_copy(update={"source": read})
        also = [
            one for one in device.power.also if read == device.power.source or one.source != read
        ]
        asked = (first, *also)
        for place, (source, record) in enumerate(zip(asked, evidence.power, strict=True)):
            yield from _judge_source(device, source, record, "" if place == 0 else f" {place + 1}")
    yield judge_clocks(device, evidence.states)


def _judge_source(
    device: DeviceConfig, source: PowerSource, record: PowerRecord, number: str
) -> Iterator[Check]:
    lines = [line for _, line in record.lines]
    if source.source in RAILS:
        found = judge_rail(source.rail or "", lines, RAILS[source.source])
        yield replace(found, name=f"{found.name}{number}")
    if source.source != "command":  # a meter's program has a pace of its own
        interval_ms = source.interval_ms or device.power.interval_ms
        period = judge_period(interval_ms, [t_ns for t_ns, _ in record.lines])
        yield replace(period, name=f"{period.name}{number}")
    elif lines:
        yield ok(f"power meter{number}", f"{len(lines)} lines")
    else:
        step = "run power.command by hand; it must print `time_s watts` and flush"
        yield Check(f"power meter{number}", "fail", "no line", step)


def _of_tegrastats(line: str) -> frozenset[str]:
    reading = tegrastats.parse(line)
    return frozenset() if reading is None else frozenset(reading.rails)


def _of_ina3221(line: str) -> frozenset[str]:
    return frozenset(token.partition("=")[0] for token in line.split() if "=" in token)


RAILS = {"tegrastats": _of_tegrastats, "ina3221": _of_ina3221}
"""The rails a line tells, for the sources that know several."""


def judge_rail(
    rail: str, lines: list[str], rails_of: Callable[[str], frozenset[str]] = _of_tegrastats
) -> Check:
    """Judge whether the named rail is in the lines of the power source."""
    readings = [rails for rails in map(rails_of, lines) if rails]
    seen = sorted(frozenset().union(*readings))
    with_rail = sum(rail in rails for rails in readings)
    if readings and with_rail == len(readings):
        return ok("power rail", f"{rail}, {with_rail} readings")
    detail = f"{rail} is in {with_rail} of {len(lines)} lines"
    known = f"set power.rail to one of: {', '.join(seen)}" if seen else "this board tells no power"
    return Check("power rail", "fail", detail, known)


def judge_period(interval_ms: int, stamps_ns: list[int]) -> Check:
    """Judge how often readings really come, by the median gap between their stamps."""
    gaps_ms = [(later - earlier) / 1e6 for earlier, later in pairwise(stamps_ns)]
    if not gaps_ms:
        step = "run the power source by hand on the board (tegrastats --interval 1000)"
        return Check("power period", "fail", f"{len(stamps_ns)} readings in the run", step)
    period_ms = statistics.median(gaps_ms)
    detail = f"{period_ms:.0f} ms observed, {interval_ms} ms asked"
    if period_ms <= SLOW_PERIOD * interval_ms:
        return ok("power period", detail)
    step = "close other programs on the board, or raise power.interval_ms and measure longer"
    return Check("power period", "warn", detail, step)


def judge_clocks(device: DeviceConfig, states: tuple[Mapping[str, Any], ...]) -> Check:
    """Judge whether clocks are pinned and nothing throttles."""
    throttled = sorted({str(name) for state in states for name in state.get("throttle") or ()})
    if throttled:
        step = "let the board cool, check its fan, or choose a lower power mode"
        return Check("clocks", "warn", f"throttled by {', '.join(throttled)}", step)
    pinned = {state.get("clocks_pinned") for state in states}
    if pinned == {True}:
        return ok("clocks", "pinned")
    if not device.state.clocks:
        step = "set state.clocks: true for figures that repeat"
        return Check("clocks", "warn", "free to change during a measurement", step)
    detail = "not all pinned" if False in pinned else "the board does not tell"
    return Check("clocks", "warn", detail, "run `sudo jetson_clocks --show` on the board")
