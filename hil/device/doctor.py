"""Examines a device step by step, from the network to a short run, and says what to do next.

Each step is reported as soon as it is known; the first that fails hides those that need it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

from hil.core import fallbacks
from hil.core.errors import HilError
from hil.core.evidence import RunPlan
from hil.device.checks import Check, failed, judge_lease, judge_probe, judge_run, ok, told
from hil.device.config import DeviceConfig, Ssh, SshDevice
from hil.device.dial import dial
from hil.device.enroll import fetch_host_key
from hil.device.gpu_runtime import probe_params
from hil.device.hostkeys import name_in_known_hosts, pinned_keys, wrong_key
from hil.device.link import Link
from hil.device.opening import PROBE_S, device_link, open_session
from hil.device.precisions import unquantised
from hil.device.session import EngineSpec

SHORT_RUN = RunPlan(idle_s=1.0, settle_s=1.0, window_s=2.0, blocks=1, tail_s=0.2, warmup=2)


def diagnose(
    device: DeviceConfig, *, owner: str, sample_network: bytes | None = None
) -> Iterator[Check]:
    """Yield the checks of a device, in order of what needs what.

    Args:
        device: the board's file, read.
        owner: who we are, for the lease of the short run.
        sample_network: a small ONNX model to run for power and clocks; None leaves those out.
    """
    if isinstance(device, SshDevice):
        for check in _network(device.ssh):
            yield check
            if check.status == "fail":
                return
    healthy = True
    said = set()
    for check in _agent(device):
        yield check
        said.add(check.name)
        healthy = healthy and check.status != "fail"
    if healthy and sample_network is not None:
        yield from (c for c in _short_run(device, owner, sample_network) if c.name not in said)


def _network(ssh: Ssh) -> Iterator[Check]:
    first = ssh.jump or ssh
    try:
        dial(first.host, first.port, first.timeout_s).close()
    except HilError as error:
        yield failed("reachable", error)
        return
    yield ok("reachable", name_in_known_hosts(first.host, first.port))
    try:
        pins = pinned_keys(ssh)
        shown = None if ssh.jump else fetch_host_key(ssh.host, ssh.port, ssh.timeout_s)
        known = {key.get_base64() for keys in pins.values() for key in keys.values()}
        if shown is not None and shown.body not in known:
            raise wrong_key(ssh, shown, pins)
    except HilError as error:
        yield failed("host key", error)
        return
    yield ok("host key", shown.fingerprint if shown else "pinned; compared when logging in")


def _agent(device: DeviceConfig) -> Iterator[Check]:
    with ExitStack() as ending:
        try:
            link = ending.enter_context(device_link(device))
        except HilError as error:
            yield failed("agent", error)
            return
        yield ok("agent", f"protocol {link.hello['protocol']}, process {link.hello['pid']}")
        yield from _judged(device, link)


def _judged(device: DeviceConfig, link: Link) -> Iterator[Check]:
    try:
        probe = link.client.request("probe", probe_params(device), timeout_s=PROBE_S)
        lease = link.client.request("lease_status")
    except HilError as error:
        yield failed("probe", error)
        return
    yield from judge_probe(device, probe)
    yield judge_lease(lease)


def _short_run(device: DeviceConfig, owner: str, network: bytes) -> Iterator[Check]:
    runtime = device.runtime
    try:
        with open_session(device, owner=owner) as session:
            spec = EngineSpec(
                session.put_blob(network),
                unquantised(runtime),
                runtime.name,
                runtime.workspace_mib,
                cuda_graph=runtime.cuda_graph,
            )
            info = session.build(spec)
            plan = replace(SHORT_RUN, interval_ms=device.power.interval_ms)
            evidence = session.run(info, plan, device.power.source)
    except HilError as error:
        yield failed("short run", error)
        return
    count = sum(len(series) for series in evidence.latency_ns)
    yield ok("short run", f"{count} inferences with {info.spec.runtime} {info.runtime_version}")
    power = evidence.power[0].settings if evidence.power else None
    yield from told(fallbacks.of_run(evidence.board, evidence.engine, power))
    yield from judge_run(device, evidence)
