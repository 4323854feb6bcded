"""The stages of a first contact that measure: power, period, lag, an engine, itself against itself.

Rule of this file: figures come from the same functions as everywhere else; a stage says what they
mean for what was assumed. The network is given, and so are the published ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import pairwise
from statistics import fmean, median
from typing import Any

from hil.core.errors import HilError, MeasurementError
from hil.core.evidence import Evidence, RunPlan
from hil.core.stats import quantile
from hil.core.tegrastats import swapped
from hil.device.agent_session import AgentSession
from hil.device.bringup import Contact, Outcome, held, judged
from hil.device.bringup_steer import session_of, watched
from hil.device.session import EngineInfo, EngineSpec
from hil.measure.comparison import Scored, compared, detectable, repeatability
from hil.measure.interleave import ROUNDS_AT_ONCE, Round, interleave
from hil.measure.lag import lag_of
from hil.measure.latency import agreement
from hil.measure.numbers import measurement
from hil.measure.plan import SENSOR_TAU_S
from hil.measure.result import Measurement
from hil.measure.sensors import sensor_of
from hil.measure.sources.series import PowerTrace
from hil.measure.trace import read_power

RAILS_R32 = frozenset(
    ("VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_4V0_WIFI", "VDD_IN", "VDD_SYS_CPU", "VDD_SYS_DDR")
)
PERIOD_HOLDS = 1.5
LAG_HOLDS = (0.30, 0.55)
HEATING_C_PER_S = 0.2
PMIC_DUMMIES = frozenset({"100", "50"})
_PMIC = re.compile(r"PMIC@([\d.]+)C")


def rails(contact: Contact) -> Outcome:
    """Read lines, and find out which rails they hold and whether they sum up."""
    record = watched(contact, contact.device.power.interval_ms, contact.lengths.watch_s)
    trace = read_power(record)
    total = contact.device.power.rail or ""
    means = {name: round(fmean(_watts(trace, name)), 4) for name in trace.rails}
    parts_above = swapped(trace.readings, total)
    pmic = {value for _, line in record.lines for value in _PMIC.findall(line)}
    others = contact.memory.get("transcript", {}).get("tegrastats_running", 0)
    findings = [
        held("rails-without-root", bool(trace.rails), f"{len(trace.rails)} rails"),
        held("instances-side-by-side", True if others else None, f"{others} others ran"),
        held(
            "running-mean",
            None if not trace.readings else trace.fault is None,
            f"{len(trace.readings)} lines, first break: {trace.fault}",
        ),
        held("rail-names", set(trace.rails) == RAILS_R32, ", ".join(sorted(trace.rails))),
        held(
            "total-rail",
            None if parts_above is None else not parts_above,
            f"{total} {means.get(total)} W, the others {_others_w(means, total)} W",
        ),
        held("dummy-zones", pmic <= PMIC_DUMMIES if pmic else None, f"PMIC at {sorted(pmic)} C"),
    ]
    known = total in trace.rails
    proposed = {"power.rail": total} if known else {}
    return judged(
        f"{len(trace.readings)} lines, {total} {means.get(total)} W, unread {trace.unread}",
        findings,
        {"power_w": means, "lines": len(trace.readings), "unread": trace.unread},
        f"set power.rail to one of: {', '.join(sorted(trace.rails)) or 'none'}; see what differs",
        proposed,
        fine=known and not trace.unread,
    )


def _others_w(means: dict[str, float], total: str) -> float:
    return round(sum(value for name, value in means.items() if name != total), 4)


def _watts(trace: PowerTrace, rail: str) -> list[float]:
    return [sample.power_w for sample in trace.rails[rail].samples]


def period(contact: Contact) -> Outcome:
    """Ask for several intervals and see which come."""
    rows: list[dict[str, Any]] = []
    for asked_ms in contact.lengths.periods_ms:
        seconds = max(contact.lengths.watch_s, 8 * asked_ms / 1000)
        try:
            record = watched(contact, asked_ms, seconds)
        except HilError as error:
            rows.append({"asked_ms": asked_ms, "why": error.what})
            continue
        gaps = [(b - a) / 1e6 for (a, _), (b, _) in pairwise(record.lines)]
        if gaps:
            found = {"median_ms": round(median(gaps), 3), "longest_ms": round(max(gaps), 3)}
            rows.append({"asked_ms": asked_ms, "lines": len(record.lines), **found})
        else:
            rows.append({"asked_ms": asked_ms, "why": "fewer than two lines"})
    if not any("median_ms" in row for row in rows):
        raise MeasurementError(
            "no line came at any interval",
            why=str(rows[0]["why"]) if rows else None,
            fix="run `tegrastats --interval 1000` on the board and see what it says",
        )
    at_100 = next((row for row in rows if row["asked_ms"] == 100), {})
    came = [row for row in rows if "median_ms" in row]
    spread_out = [row["longest_ms"] < 3 * max(row["median_ms"], 20) for row in came]
    told = ", ".join(f"{row['asked_ms']} -> {row.get('median_ms', row.get('why'))}" for row in rows)
    findings = [
        held("interval-flag", all(spread_out) if came else None, f"ms asked -> came: {told}"),
        held(
            "period-follows",
            at_100["median_ms"] <= PERIOD_HOLDS * 100 if "median_ms" in at_100 else None,
            f"{at_100.get('median_ms')} ms for 100",
        ),
    ]
    return judged(
        f"ms asked -> came: {told}",
        findings,
        {"periods": rows},
        "raise power.interval_ms to one that comes, or use source ina3221",
        fine=len(came) == len(rows),
    )


def engine(contact: Contact, network: Callable[[], bytes]) -> Outcome:
    """Build a small network, run it by our own loop and by trtexec, hold one to the other."""
    session = session_of(contact)
    session.pin()
    info = _built(contact, session, network())
    contact.memory["engine"] = info
    evidence = _run(contact, session, info)
    scored = _scored(contact, evidence)
    theirs = session.trtexec(info)
    held_together = None
    if theirs is not None and scored.latency_p50_ms is not None:
        held_together = agreement(scored.latency_p50_ms, theirs.latency_ms)
    ratio = None if held_together is None else round(held_together.ratio.value, 4)
    findings = [
        held("opset-13", True, f"built in {info.build_s:.1f} s by TensorRT {info.runtime_version}"),
        held("cuda-without-pycuda", True if info.via == "libcudart" else None, f"via {info.via}"),
        held(
            "trtexec-times",
            None if theirs is None else theirs.dropped > 0,
            "no trtexec" if theirs is None else f"{theirs.dropped} queries of warm-up",
        ),
        held(
            "latency-agrees",
            None if held_together is None else held_together.verdict != "differs",
            f"ours over trtexec's {ratio}",
        ),
    ]
    facts = {
        "latency_p50_ms": _value(scored.latency_p50_ms),
        "energy_mj": _value(scored.energy_mj),
        "power_w": _value(scored.power_w),
        "ours_to_trtexec": ratio,
        "trtexec_p50_ms": None if theirs is None else round(quantile(theirs.latency_ms, 0.5), 6),
        "validity": scored.validity,
        "reasons": list(scored.reasons),
        "dialect": info.dialect,
    }
    return judged(
        f"{facts['latency_p50_ms']} ms, {facts['energy_mj']} mJ, ours over trtexec's {ratio}, "
        f"{scored.validity}",
        findings,
        facts,
        "see its reasons in the report, mend them (`hil doctor`), and run it again",
        fine=scored.validity == "valid",
    )


def step(contact: Contact) -> Outcome:
    """Switch the load on and off and see how the reading follows."""
    session = session_of(contact)
    info = contact.recall("engine", "the small engine")
    power = contact.device.power
    evidence = session.step_response(info, power.source, power.interval_ms, contact.lengths.steps)
    lag = lag_of(evidence, power.rail or "")
    tau = None if lag is None else lag.tau_s
    told = "steps do not stand out" if tau is None else f"{tau.value:.3f} s"
    interval = None if tau is None else [round(tau.low, 4), round(tau.high, 4)]
    holds = None if tau is None else tau.low <= LAG_HOLDS[1] and tau.high >= LAG_HOLDS[0]
    findings = [held("sensor-lag", holds, f"tau {told}, 95 % {interval}")]
    slower = tau is not None and not holds and tau.value > SENSOR_TAU_S
    return judged(
        f"tau {told}, 95 % {interval}, {0 if lag is None else lag.steps} steps",
        findings,
        {"tau_s": None if tau is None else round(tau.value, 4), "tau_s_ci95": interval},
        "run `hil device calibrate`: it measures the lag well, and runs then settle as it asks",
        {"power.sensor.tau_s": round(tau.value, 3)} if tau is not None and slower else None,
    )


def against_itself(contact: Contact) -> Outcome:
    """Measure one engine against itself: what difference this board resolves."""
    session = session_of(contact)
    info = contact.recall("engine", "the small engine")
    wanted = contact.lengths.rounds + contact.lengths.rounds % ROUNDS_AT_ONCE
    plan = _plan(contact, idle_s=0.0)
    rounds = interleave(
        session,
        {"a": [info], "b": [info]},
        plan,
        contact.device.power.source,
        seed=0,
        go_on=lambda done: len(done) < wanted,
    )
    done = compared([_pair(contact, one) for one in rounds])
    heating = max(_heating_c_per_s(e) or 0.0 for one in rounds for e in (one.a, one.b))
    ratio = done.ratios.get("energy_mj")
    if ratio is None:
        why = done.unknown.get("energy_mj", "no ratio")
        step_ = "see `hil doctor`, then `hil device calibrate`"
        return Outcome("failed", f"no ratio of energy: {why}", step_)
    sd, df = repeatability(ratio.log_ratios)
    smallest = detectable(sd, 20)
    low, high = ratio.ratio.low, ratio.ratio.high
    findings = [
        held(
            "against-itself",
            low <= 1 <= high,
            f"ratio {ratio.ratio.value:.4f} [{low:.4f}, {high:.4f}]",
        ),
        held("slow-heating", heating <= HEATING_C_PER_S, f"{heating:.3f} C/s at most"),
    ]
    facts = {
        "rounds": done.rounds,
        "ratio": round(ratio.ratio.value, 5),
        "ratio_ci95": [round(low, 5), round(high, 5)],
        "log_ratio_sd": round(sd, 6),
        "df": df,
        "smallest_difference_in_20_rounds": None if smallest is None else round(smallest, 5),
        "validity": done.validity,
        "reasons": list(done.reasons),
    }
    return judged(
        f"ratio {ratio.ratio.value:.4f} [{low:.4f}, {high:.4f}] over {done.rounds} rounds",
        findings,
        facts,
        "run `hil device calibrate` with the board quiet; do not compare networks before it is 1",
    )


def _pair(contact: Contact, one: Round) -> Scored:
    at_s = min(mark.start_ns for mark in (*one.a.marks, *one.b.marks)) / 1e9
    return Scored(one.build, one.first, at_s, _scored(contact, one.a), _scored(contact, one.b))


def _heating_c_per_s(evidence: Evidence) -> float | None:
    """Return the steepest rise of a zone between the first and last state under load."""
    states = [state for state in evidence.states if "t_ns" in state]
    if len(states) < 2:
        return None
    first, last = states[0], states[-1]
    seconds = (last["t_ns"] - first["t_ns"]) / 1e9
    zones = set(first.get("temps_c", {})) & set(last.get("temps_c", {}))
    rises = [last["temps_c"][zone] - first["temps_c"][zone] for zone in zones]
    return max(rises) / seconds if rises and seconds > 1 else None


def _built(contact: Contact, session: AgentSession, network: bytes) -> EngineInfo:
    runtime = contact.device.runtime
    sha256 = session.put_blob(network)
    return session.build(EngineSpec(sha256, runtime.precision, runtime.name, runtime.workspace_mib))


def _plan(contact: Contact, idle_s: float) -> RunPlan:
    lengths = contact.lengths
    return RunPlan(
        idle_s=idle_s,
        settle_s=3.0,
        window_s=lengths.window_s,
        blocks=lengths.windows,
        interval_ms=contact.device.power.interval_ms,
    )


def _run(contact: Contact, session: AgentSession, info: EngineInfo) -> Evidence:
    return session.run(info, _plan(contact, 4.6), contact.device.power.source)


def _scored(contact: Contact, evidence: Evidence) -> Measurement:
    power = contact.device.power
    sensor = sensor_of(contact.device.board, power.sensor, rail=power.rail, source=power.source)
    return measurement(evidence, power.rail, sensor=sensor)


def _value(figure: Any) -> float | None:
    if figure is None or not math.isfinite(figure.value):
        return None
    return round(float(figure.value), 4)
