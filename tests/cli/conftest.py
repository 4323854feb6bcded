"""A small job that still takes the whole path: real board process, real SSH, real agent."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from hil.core.errors import InterruptedRunError, MeasurementError, Told
from hil.core.evidence import Evidence, Mark, PowerRecord
from hil.device.config import EmulatedDevice
from hil.device.session import BoardInfo, EngineInfo, EngineSpec, LayerTimes, TrtexecRun
from hil.measure.sensors import sensor_of

NETS = """
from torch import nn


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(x + self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.blocks = nn.Sequential(*(Block(16) for _ in range(6)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = self.blocks(self.relu(self.bn(self.conv(x))))
        return self.fc(self.pool(x).flatten(1))


def make():
    return Net()
"""
PROFILE = """
schema: hil/profile@1
name: small
task: classification
prototype: {factory: "small_nets:make"}
data: {factory: "hil.tasks.digits:load"}
training: {epochs: 8, finetune_epochs: 3, final_epochs: 3}
requirements:
  energy_mj: {at_most: 85 %}
  latency_p99_ms: {at_most: 85 %}
  accuracy: {lose_at_most: 20.0}
budget: {measurements: 6, batch: 3, trainings: 6, finalists: 2}
measure:
  screening: {idle_s: 2, settle_s: 3, window_s: 5, blocks: 3}
  confirmation: {idle_s: 2, settle_s: 3, window_s: 5, blocks: 3, builds: {at_least: 3, at_most: 4}}
generator: {emit: 4}
"""


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with their own network and profile in it."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "small_nets.py").write_text(NETS, encoding="utf-8")
    (folder / "small.yaml").write_text(textwrap.dedent(PROFILE), encoding="utf-8")
    return folder


def run_hil(*words: str, cwd: Path, timeout_s: float = 280) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "hil.cli.app", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.fixture(scope="session")
def hil():
    """The command line, as a function of its words."""
    return run_hil


@pytest.fixture(scope="session")
def uninterrupted(workplace, hil):
    """A small run on an emulated board that nothing disturbed: result, folder, what it said."""
    done = hil(
        *("synthesize", "--device", "tx2-emulated.yaml", "--profile", "small.yaml"),
        *("--seed", "3", "--run", "whole", "--json"),
        cwd=workplace,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), workplace / "whole", done.stderr


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


@dataclass
class FakeSession:
    """A board in memory that answers `Session`: engines with known power and latency.

    Attributes:
        watts: power under load by the network's sha256; a build adds `build_w` times its number.
        latency_ms: by the network's sha256.
        sample_j: energy each reading of the sensor costs.
        trtexec_factor: trtexec's latencies over ours; None for a board without it.
        interrupt_at: the run (from 0) that ends with `ends_with` at the second look.
    """

    watts: dict[str, float] = field(default_factory=dict)
    latency_ms: dict[str, float] = field(default_factory=dict)
    idle_w: float = 3.0
    noise_w: float = 0.02
    run_sd: float = 0.0
    build_w: float = 0.0
    drift_w_per_s: float = 0.0
    sample_j: float = 0.0
    trtexec_factor: float | None = None
    interrupt_at: int | None = None
    ends_with: Told = field(default_factory=lambda: InterruptedRunError("by SIGINT"))
    seed: int = 0
    name: str = "fake"
    provenance: str = "emulated"
    asked: list[tuple[object, ...]] = field(default_factory=list)
    now_s: float = 100.0

    def __post_init__(self) -> None:
        self.rng = np.random.Generator(np.random.Philox(self.seed))
        self.board = BoardInfo("fake", "quill", "32.7.4", "8.2.1.8", "3.6.9", True, {})
        self.runs = 0

    def put_blob(self, data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    def build(self, spec: EngineSpec) -> EngineInfo:
        self.asked.append(("build", spec.onnx_sha256, spec.build_index))
        plan = f"{spec.onnx_sha256} {spec.build_index}"
        return EngineInfo(
            spec=spec,
            engine_sha256=hashlib.sha256(plan.encode()).hexdigest(),
            key="k",
            cached=False,
            build_s=2.0,
            runtime_version="8.2.1.8",
            plan_bytes=1000,
            device_memory_bytes=1 << 20,
            inputs=(),
            outputs=(),
        )

    def pin(self, nvpmodel: int | None = None, clocks: bool | None = None) -> None:
        self.asked.append(("pin", nvpmodel))

    def restore(self) -> None:
        self.asked.append(("restore",))

    def layers(self, info: EngineInfo) -> LayerTimes:
        return LayerTimes((("conv1", 0.4), ("conv2", 0.6)), 0.9, {"Layers": ["conv1", "conv2"]})

    def trtexec(self, info: EngineInfo) -> TrtexecRun | None:
        if self.trtexec_factor is None:
            return None
        ours_ms = self.latency_ms.get(info.spec.onnx_sha256, 10.0)
        latency_ms = ours_ms * self.trtexec_factor * (1 + 0.003 * self.rng.normal(size=500))
        return TrtexecRun(tuple(latency_ms.tolist()), ("trtexec",), 10, "8201")

    def step_response(self, info, power, interval_ms, steps):
        raise MeasurementError("this board answers no steps")

    def run(self, info, plan, power, decide=None) -> Evidence:
        self.asked.append(("run", info.spec.onnx_sha256, info.spec.build_index, power))
        run = self.runs
        self.runs += 1
        blocks = plan.blocks
        level = self.run_sd * float(self.rng.normal())
        if decide is not None and plan.max_blocks is not None:
            for blocks in range(plan.blocks, plan.max_blocks + 1):
                if run == self.interrupt_at and blocks == plan.blocks + 1:
                    raise self.ends_with
                if not decide(through(self._evidence(info, plan, power, blocks, level, run))):
                    break
        made = self._evidence(info, plan, power, blocks, level, run)
        self.now_s += 1.0 + (made.marks[-1].stop_ns - made.marks[0].start_ns) / NS
        return made

    def _evidence(self, info, plan, power, blocks, level, run) -> Evidence:
        rng = np.random.Generator(np.random.Philox(1000 * self.seed + run))
        key, start = info.spec.onnx_sha256, self.now_s
        quiet = min(2.5, plan.idle_s)
        on = start + quiet + plan.idle_s
        off = on + plan.settle_s + blocks * plan.window_s + plan.tail_s
        end = off + quiet + plan.idle_s
        latency_ms = self.latency_ms.get(key, 10.0)
        count = int(plan.window_s * 1000 / latency_ms)
        edges = [on + plan.settle_s + k * plan.window_s for k in range(blocks + 1)]
        marks = [Mark("idle_before", 0, _ns(start + quiet), _ns(on), None)]
        marks.append(Mark("settle", 0, _ns(on), _ns(edges[0]), None))
        marks += [Mark("block", k, _ns(edges[k]), _ns(edges[k + 1]), count) for k in range(blocks)]
        marks.append(Mark("tail", 0, _ns(edges[-1]), _ns(off), None))
        marks.append(Mark("idle_after", 0, _ns(off + quiet), _ns(end), None))
        lines = self._lines(rng, plan, info, (start, on, off, end), level)
        latencies = [rng.normal(latency_ms, 0.002 * latency_ms, count) for _ in range(blocks)]
        return Evidence(
            board={"model": "quill", "name": "fake"},
            engine={"engine_sha256": info.engine_sha256},
            plan=plan,
            marks=tuple(marks),
            latency_ns=tuple(tuple(int(v * 1e6) for v in block) for block in latencies),
            states=tuple({**STATE, "t_ns": mark.stop_ns} for mark in marks[:-1]),
            provenance="emulated",
            power=() if power == "none" else (PowerRecord(power, tuple(lines)),),
        )

    def _lines(self, rng, plan, info, times, level) -> list[tuple[int, str]]:
        start, on, off, end = times
        load_w = self.watts.get(info.spec.onnx_sha256, 5.0) + self.build_w * info.spec.build_index
        sampler_w = self.sample_j / (plan.interval_ms / 1000)
        total, lines = 0, []
        for count, t in enumerate(np.arange(start, end + 0.5, plan.interval_ms / 1000), 1):
            busy = on <= t < off
            watts = (load_w if busy else self.idle_w) * (1 + level) + sampler_w
            watts += self.drift_w_per_s * (t - 100.0) + rng.normal(0, self.noise_w)
            now = int(1000 * watts)
            total += now
            use = "99%@1300" if busy else "0%@1300"
            text = (
                "RAM 896/7859MB (lfb 26x4MB) SWAP 0/3929MB (cached 0MB) CPU [4%@2035,off] "
                f"EMC_FREQ 1%@1866 GR3D_FREQ {use} APE 150 PMIC@100C GPU@31.00C "
                f"VDD_IN {now}/{total // count} VDD_SYS_GPU {now // 3}/{total // count // 3}"
            )
            lines.append((_ns(t), text))
        return lines


def through(evidence: Evidence) -> Evidence:
    """Return what is home of a run while its load goes on: no tail, no idle after it."""
    marks = tuple(m for m in evidence.marks if m.name not in ("tail", "idle_after"))
    last_ns = max(mark.stop_ns for mark in marks) + NS // 2
    power = tuple(
        replace(record, lines=tuple(line for line in record.lines if line[0] <= last_ns))
        for record in evidence.power
    )
    return replace(evidence, marks=marks, power=power)


def _ns(seconds: float) -> int:
    return round(seconds * NS)


@pytest.fixture(scope="session")
def fake_session():
    """Makes boards in memory."""
    return FakeSession


@pytest.fixture
def desk_of():
    """Sits down at a board in memory."""
    from hil.cli.measuring import Desk

    def made(session, calibration=None):
        config = EmulatedDevice.model_validate(
            {
                "schema": "hil/device@1",
                "name": "fake",
                "driver": "emulated",
                "board": "jetson-tx2",
                "power": {"source": "tegrastats", "rail": "VDD_IN", "interval_ms": 100},
            }
        )
        return Desk(session, config, "tegrastats", sensor_of("jetson-tx2"), calibration, None)

    return made
