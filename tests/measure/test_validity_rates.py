"""How often an undisturbed run is called suspect: by drawing, and on a real log.

Background work as a TX2's log shows it: peaks of 1.4 W for 0.5 to 0.95 s each half minute, swells
of 0.5 W for 2 s each minute, small ones between them, and a murmur of 55 mW.
"""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hil.core.evidence import Evidence, Mark, PowerRecord, RunPlan
from hil.measure.findings import outlier, steady_change
from hil.measure.numbers import measurement
from hil.measure.scene import powered_scene
from hil.measure.validity import judge

LOG = (
    Path(os.environ.get("HIL_DATA", Path(__file__).parents[3] / "shared" / "data"))
    / "tegrastats"
    / "tx2_1.log"
)
STEP_S = 0.05
KINDS = ((30.6, 1.4, 0.5, 0.95), (62.3, 0.5, 1.4, 2.0), (25.0, 0.45, 0.2, 0.9))


def background_w(rng, length_s):
    """Return extra power each 50 ms, behind a first-order lag of 0.42 s."""
    power = 0.055 * np.repeat(rng.normal(size=int(length_s / 0.25) + 1), 5)
    power = power[: int(length_s / STEP_S)]
    for period_s, watts, shortest_s, longest_s in KINDS:
        for _ in range(rng.poisson(length_s / period_s)):
            at_s, long_s = rng.uniform(0, length_s), rng.uniform(shortest_s, longest_s)
            power[int(at_s / STEP_S) : int((at_s + long_s) / STEP_S)] += watts
    kept, seen = np.exp(-STEP_S / 0.42), np.empty_like(power)
    state = 0.0
    for i, value in enumerate(power):
        state = value + (state - value) * kept
        seen[i] = state
    return seen


@pytest.mark.parametrize(("load_w", "window_s", "blocks"), [(5.0, 8.0, 4), (4.0, 2.5, 24)])
def test_bursts_of_the_system_are_seldom_taken_for_drift_or_an_outlier(load_w, window_s, blocks):
    rng = np.random.default_rng(12)
    per = int(window_s / STEP_S)
    power = load_w + background_w(rng, 600 * blocks * window_s)
    drift = odd = 0
    for run in range(600):
        first = run * blocks * per
        means = power[first : first + blocks * per].reshape(blocks, per).mean(axis=1)
        drift += steady_change(means) is not None
        found = outlier(means)
        odd += found is not None and found[1] * means[found[0]] * window_s > 4.0

    assert drift / 600 <= 0.03
    assert odd / 600 <= 0.03


def test_nearly_all_undisturbed_runs_are_valid(script):
    rng = np.random.default_rng(6)
    verdicts = []
    for _ in range(60):
        extra = background_w(rng, 90.0)

        def at(level_w, extra=extra):
            return lambda t: 0.0383 * round((level_w + extra[int(t / STEP_S)]) / 0.0383)

        run = script.but(noise_w=0.0, idle_w=at(1.55), load_w=at(4.8), plan=RunPlan(idle_s=10.0))
        verdicts.append(measurement(run.evidence(), "VDD_IN").validity)

    assert verdicts.count("valid") >= 0.93 * len(verdicts)


@pytest.mark.skipif(not LOG.is_file(), reason=f"no recorded log at {LOG} (set HIL_DATA)")
def test_the_plateau_of_a_real_log_is_valid():
    """262 lines of steady load on a real TX2, one a second: eight windows of 32 s."""
    texts = LOG.read_text(encoding="utf-8").splitlines()[1:]
    record = PowerRecord("tegrastats", tuple((i * 10**9, text) for i, text in enumerate(texts)))
    edges = [40 + 32 * k for k in range(9)]
    marks = [Mark("settle", 0, 37 * 10**9, 40 * 10**9)]
    marks += [
        Mark("block", k, a * 10**9, b * 10**9, 3200) for k, (a, b) in enumerate(pairwise(edges))
    ]
    marks.append(Mark("tail", 0, edges[-1] * 10**9, (edges[-1] + 1) * 10**9))
    evidence = Evidence(
        board={"model": "NVIDIA Jetson TX2"},
        engine={},
        plan=RunPlan(window_s=32.0, blocks=8, interval_ms=1000),
        marks=tuple(marks),
        latency_ns=((10_000_000,) * 3200,) * 8,
        states=(),
        provenance="replayed",
        power=(record,),
    )

    verdict = judge(powered_scene(evidence, "VDD_IN"))

    assert (verdict.validity, verdict.reasons) == ("valid", ())
    lost = replace(record, lines=record.lines[:100] + record.lines[101:])
    told = judge(powered_scene(replace(evidence, power=(lost,)), "VDD_IN")).reasons
    assert any("lost or altered" in reason for reason in told)
