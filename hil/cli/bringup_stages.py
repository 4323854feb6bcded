"""The stages of `hil bringup`, in order: what only reads comes first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hil.device.bringup import Contact, Lengths, Outcome, Stage
    from hil.net.published import Published

RUN_S = 25.0
"""One short run with idle around it."""
THEIRS = "TensorRT 3.0, JetPack 3.2, nvpmodel 3, copies included, clocks not said to be pinned"
SAME = (0.8, 1.25)
"""Ratio to the published latency that still counts as the same: NVIDIA accepts 10 % itself."""
FASTER = 0.7
PUBLISHED_MODE = 3


def stages(lengths: Lengths) -> Sequence[Stage]:
    """Return all stages for runs of these lengths, with the board time each may take."""
    from hil.device import bringup_read as read
    from hil.device import bringup_steer as steer
    from hil.device.bringup import Stage
    from hil.measure import bringup as measured
    from hil.measure import bringup_idle as idle
    from hil.net.published import PUBLISHED
    from hil.net.reference import reference_network

    load_s = 3.0 + lengths.windows * lengths.window_s + 1.0
    periods_s = sum(max(lengths.watch_s, ms / 125) + 4 * ms / 1000 for ms in lengths.periods_ms)
    return (
        Stage("identity", 10.0, read.identity),
        Stage("environment", 5.0, read.environment),
        Stage("privileges", 2.0, read.privileges),
        Stage("sensor", 1.0, read.sensor),
        Stage("rails", lengths.watch_s + 2, measured.rails),
        Stage("period", periods_s, measured.period),
        Stage("idle", lengths.idle_s + 2, idle.idle),
        Stage("lease", 1.0, steer.lease),
        Stage("modes", 15.0, steer.modes),
        Stage("idle-pinned", lengths.idle_s + 6, idle.idle_pinned),
        Stage(
            "engine",
            30.0 + load_s + 20.0,
            partial(measured.engine, network=reference_network),
        ),
        Stage("step", 8.5 * lengths.steps + 12, measured.step),
        Stage("against-itself", 2 * lengths.rounds * (load_s + 3), measured.against_itself),
        Stage("restore", 5.0, steer.restore),
        *(
            Stage(
                f"published-{name}",
                lengths.build_s.get(name, one.build_s) + load_s + 5,
                partial(published, name=name, network=one),
            )
            for name, one in PUBLISHED.items()
        ),
    )


def published(contact: Contact, name: str, network: Published) -> Outcome:
    """Run a network whose latency NVIDIA published, in the mode it was published for."""
    from hil.device.bringup import held, judged
    from hil.device.bringup_steer import session_of, ship
    from hil.device.session import EngineSpec

    session = session_of(contact)
    may_set = contact.memory.get("may_set_modes", False)
    session.pin(nvpmodel=PUBLISHED_MODE if may_set else None)
    try:
        began_s = contact.now_s()
        sha256 = ship(contact.link, network.chunks())
        shipped_s = contact.now_s() - began_s
        workspace_mib = contact.device.runtime.workspace_mib
        info = session.build(EngineSpec(sha256, "fp16", "tensorrt", workspace_mib))
        ours, power_w = _measured(contact, info)
    finally:
        session.restore()
    ratio = None if ours is None else round(ours / network.latency_ms, 4)
    findings = {
        "published-resnet50": lambda: held(
            "published-stack",
            None if ratio is None else SAME[0] <= ratio <= SAME[1],
            f"{ours} ms, {network.latency_ms} published, ratio {ratio}",
        ),
        "published-mobilenet": lambda: held(
            "depthwise-gain",
            None if ratio is None else ratio >= FASTER,
            f"{ours} ms, {network.latency_ms} published, ratio {ratio}",
        ),
        "published-vgg16": lambda: held(
            "large-networks", True, f"built in {info.build_s:.0f} s with {workspace_mib} MiB"
        ),
    }
    mode = f"nvpmodel {PUBLISHED_MODE}" if may_set else "the mode found"
    clocks = "pinned" if contact.memory.get("may_pin") else "free"
    stack = f"TensorRT {info.runtime_version}, {mode}, clocks {clocks}, copies excluded"
    facts = {
        "network": network.row,
        "published_ms": network.latency_ms,
        "published_stack": THEIRS,
        "latency_p50_ms": ours,
        "stack": stack,
        "ratio": ratio,
        "power_w": power_w,
        "build_s": round(info.build_s, 2),
        "shipped_mb": network.shipped_mb,
        "shipped_s": round(shipped_s, 2),
    }
    return judged(
        f"{ours} ms ({stack}); {network.latency_ms} ms published ({THEIRS}); ratio {ratio}",
        [findings[f"published-{name}"]()],
        facts,
        "compare like with like: the stacks differ; a real board's own figures stand as they are",
    )


def _measured(contact: Contact, info: Any) -> tuple[float | None, float | None]:
    """Return median latency in ms, and module power in W, under steady load."""
    from hil.core.evidence import RunPlan
    from hil.device.bringup_steer import session_of
    from hil.measure.numbers import measurement

    power, lengths = contact.device.power, contact.lengths
    plan = RunPlan(
        idle_s=0.0,
        window_s=lengths.window_s,
        blocks=lengths.windows,
        interval_ms=power.interval_ms,
    )
    evidence = session_of(contact).run(info, plan, power.source)
    scored = measurement(evidence, power.rail)
    return _rounded(scored.latency_p50_ms), _rounded(scored.power_w)


def _rounded(figure: Any) -> float | None:
    return None if figure is None else round(float(figure.value), 4)
