"""Evidence written from known powers and latencies, so that every figure has a closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from hil.core.evidence import Evidence, Mark, PowerRecord, RunPlan

NS = 1_000_000_000
STATE = {
    "nvpmodel": {"id": 0, "name": "MAXN"},
    "gpu_hz": 1_300_500_000,
    "emc_hz": 1_866_000_000,
    "cpu_hz": [2_035_200_000],
    "clocks_pinned": True,
    "temps_c": {"GPU": 31.0},
    "throttle": [],
}


@dataclass(frozen=True)
class Script:
    """What the board did, in board seconds from 0; powers in W are functions of time.

    `parts` are shares of VDD_IN that other rails show; `line` may rewrite any line's items.
    """

    plan: RunPlan = field(default_factory=RunPlan)
    idle_w: Callable[[float], float] = lambda _: 3.0
    load_w: Callable[[float], float] = lambda _: 5.0
    noise_w: float = 0.0
    quiet_s: float = 2.5
    latency_ms: Callable[[int, np.random.Generator], np.ndarray] = lambda block, rng: rng.normal(
        10.0, 0.05, size=800
    )
    parts: tuple[tuple[str, float], ...] = (("VDD_SYS_GPU", 0.4), ("VDD_SYS_CPU", 0.2))
    temp_c: Callable[[float], float] = lambda _: 31.0
    swap_mb: Callable[[float], int] = lambda _: 0
    gr3d: Callable[[float, bool], str] = lambda _, busy: "99%@1300" if busy else "0%@1300"
    stamps_s: tuple[float, ...] | None = None
    source: str = "tegrastats"
    settings: tuple[tuple[str, Any], ...] = ()

    def but(self, **changes: Any) -> Script:
        """Return the same script with some things otherwise."""
        return replace(self, **changes)

    @property
    def load_s(self) -> tuple[float, float]:
        start = self.quiet_s + self.plan.idle_s
        work = self.plan.settle_s + self.plan.blocks * self.plan.window_s + self.plan.tail_s
        return start, start + work

    def marks(self) -> tuple[Mark, ...]:
        p, (start, stop) = self.plan, self.load_s
        at = start + p.settle_s
        spans = [("idle_before", 0, self.quiet_s, start), ("settle", 0, start, at)]
        for index in range(p.blocks):
            spans.append(("block", index, at, at + p.window_s))
            at += p.window_s
        spans += [("tail", 0, at, stop)]
        spans += [("idle_after", 0, stop + self.quiet_s, stop + self.quiet_s + p.idle_s)]
        return tuple(Mark(n, i, round(a * NS), round(b * NS), None) for n, i, a, b in spans)

    def lines(self, rng: np.random.Generator) -> list[tuple[int, str]]:
        """Write lines as tegrastats does: floor of the mean of all lines so far beside each."""
        start, stop = self.load_s
        end = stop + self.quiet_s + self.plan.idle_s + 0.3
        stamps = self.stamps_s or tuple(np.arange(0.0, end, self.plan.interval_ms / 1000))
        sums: dict[str, int] = {}
        written = []
        for count, t in enumerate(stamps, start=1):
            busy = start <= t < stop
            power = (self.load_w if busy else self.idle_w)(t) + self.noise_w * rng.normal()
            rails = []
            for name, share in (("VDD_IN", 1.0), *self.parts):
                now = int(1000 * power * share)
                sums[name] = sums.get(name, 0) + now
                rails.append(f"{name} {now}/{sums[name] // count}")
            text = (
                f"RAM 896/7859MB (lfb 26x4MB) SWAP {self.swap_mb(t)}/3929MB (cached 0MB) "
                f"CPU [4%@2035,off] EMC_FREQ 1%@1866 GR3D_FREQ {self.gr3d(t, busy)} APE 150 "
                f"PMIC@100C GPU@{self.temp_c(t):.2f}C {' '.join(rails)}"
            )
            written.append((round(t * NS), text))
        return written

    def evidence(self, **changes: Any) -> Evidence:
        """Return the evidence; `changes` replace its fields."""
        rng = np.random.default_rng(0)
        marks, latencies = [], []
        for mark in self.marks():
            if mark.name == "block":
                ns = np.round(self.latency_ms(mark.index, rng) * 1e6).astype(int)
                latencies.append(tuple(int(value) for value in ns))
            count = len(latencies[-1]) if mark.name == "block" else None
            marks.append(replace(mark, inferences=count))
        states = [STATE | {"t_ns": mark.stop_ns} for mark in marks if mark.name != "idle_after"]
        record = PowerRecord(self.source, tuple(self.lines(rng)), settings=dict(self.settings))
        made = Evidence(
            board={"model": "test"},
            engine={"engine_sha256": "0" * 64},
            plan=self.plan,
            power=(record,),
            marks=tuple(marks),
            latency_ns=tuple(latencies),
            states=tuple(states),
            provenance="replayed",
        )
        return replace(made, **changes)


@pytest.fixture
def relined() -> Callable[..., Evidence]:
    """Return the evidence with other lines of its first source."""

    def change(evidence: Evidence, lines: Any) -> Evidence:
        first = replace(evidence.power[0], lines=tuple(lines))
        return replace(evidence, power=(first, *evidence.power[1:]))

    return change


@pytest.fixture
def script() -> Script:
    """A good run: 3 W idle, 5 W under load, 10 ms an inference, 800 in each of four blocks."""
    return Script(noise_w=0.02)


@pytest.fixture
def state() -> dict[str, Any]:
    """What the board's kernel tells in a good run."""
    return dict(STATE)
