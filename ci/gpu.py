"""The acceptance run of an NVIDIA GPU: all that `hil` promises of one, tried on yours.

`make test-gpu` runs it. What the measuring model foretells is written down before anything is
measured and judged at the end. It ends with a table and one archive, without names, to be sent
back. Each step stands alone; without a GPU it ends at once with the command line's exit code.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import yaml
from board import HIL, Bench, Row, StepError, carry_out, latest, pack
from torch import nn

from hil.core.errors import ExitCode, HilError
from hil.core.evidence import RunPlan
from hil.device.config import LocalDevice, find_device
from hil.device.gpu_runtime import described
from hil.device.opening import open_session
from hil.device.session import EngineInfo, EngineSpec, Session
from hil.measure.trace import read_power
from hil.net.export import export_onnx

PREDICTIONS = "predictions.json"
OWNER = "the acceptance run"
BATCH = 1
# Relative to the largest output: float32 in another order, float16 through a dozen layers.
WITHIN = {"fp32": 1e-3, "fp16": 2e-2}
LONGEST = "2m"
"""Of one profile; a steady GPU is done in half a minute."""
FAST_MS = 20
"""Five readings an update of NVML: when it comes is known to a fifth."""


@dataclass(frozen=True)
class Size:
    """A network of plain 3 x 3 convolutions: picture's side, channels, layers."""

    side: int
    channels: int
    layers: int

    def make(self) -> nn.Module:
        """Return it with weights of its own, the same each time."""
        torch.manual_seed(0)
        parts: list[nn.Module] = []
        last = 3
        for _ in range(self.layers):
            conv = nn.Conv2d(last, self.channels, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            parts += [conv, nn.ReLU()]
            last = self.channels
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, 10)]
        return nn.Sequential(*parts, *head).eval()

    def picture(self, count: int = BATCH) -> torch.Tensor:
        """Return pictures for it."""
        return torch.rand(
            count, 3, self.side, self.side, generator=torch.Generator().manual_seed(1)
        )

    @property
    def macs(self) -> int:
        """Multiplications of an inference."""
        first, others = 3 * self.channels, (self.layers - 1) * self.channels**2
        return 9 * self.side**2 * (first + others)


SIZES = {"small": Size(32, 16, 8), "medium": Size(64, 64, 8), "large": Size(128, 256, 8)}


@dataclass(frozen=True)
class Prediction:
    """One thing that the measuring model foretells: a figure's name, and where it will lie.

    Attributes:
        why: what it follows from.
    """

    name: str
    low: float
    high: float
    why: str


COUNTER = "the counter and the sampled power are of one sensor: within the 5 % that NVML states"
FORETOLD = (
    *(Prediction(f"counter_ratio_{name}", 0.95, 1.05, COUNTER) for name in SIZES),
    Prediction("counter_update_ms", 80.0, 120.0, "NVML fills the counter about every 100 ms"),
    *(
        Prediction(
            f"above_idle_{name}", 1.0, 50.0, "a load draws more than idle, and no GPU 50 times it"
        )
        for name in SIZES
    ),
    Prediction(
        "energy_medium_over_small", 1.0, 1e3, "256 times the multiplications cost more energy"
    ),
    Prediction("energy_large_over_medium", 1.0, 1e3, "64 times the multiplications cost more"),
    Prediction(
        "repeat_over_first",
        0.95,
        1.05,
        "one engine measured twice differs by noise and temperature alone",
    ),
    Prediction("aa_log_ratio_sd", 0.0, 0.02, "an A/A calibration resolves some per cent"),
)


def foretell(bench: Bench) -> str:
    """Write the predictions down; return their hash."""
    data = json.dumps([vars(one) for one in FORETOLD], indent=1).encode()
    (bench.folder / PREDICTIONS).write_bytes(data)
    return f"{len(FORETOLD)} predictions, sha256 {hashlib.sha256(data).hexdigest()}"


def judge(foretold: Sequence[Mapping[str, Any]], found: Mapping[str, float]) -> dict[str, str]:
    """Say of each prediction whether it held, did not, or was not measured."""
    told = {}
    for one in foretold:
        value = found.get(one["name"])
        if value is None:
            told[one["name"]] = "not measured"
            continue
        held = one["low"] <= value <= one["high"]
        where = f"{value:.4g} in {one['low']:g} to {one['high']:g}"
        told[one["name"]] = where if held else f"DID NOT HOLD: {where}"
    return told


class Gpu:
    """A GPU under acceptance: what is found goes into `found`, by the names of predictions."""

    def __init__(self, bench: Bench, device: LocalDevice, minutes: float) -> None:
        self.bench = bench
        self.device = device
        self.minutes = minutes
        self.found: dict[str, float] = {}
        self.energies: dict[str, float] = {}

    def doctor(self) -> str:
        """Examine the GPU; return its name and the runtime's."""
        self.bench.hil("doctor", "-d", "gpu", log="doctor")
        return (self.bench.folder / "doctor.log").read_text().strip().splitlines()[-1]

    def outputs(self) -> str:
        """Compare outputs with PyTorch's in float32 on the CPU, in both precisions."""
        told = []
        with open_session(self.device, owner=OWNER) as session:
            for name, size in SIZES.items():
                pictures = size.picture(4)
                with torch.no_grad():
                    want = size.make()(pictures).numpy()
                for precision, within in WITHIN.items():
                    info = self._built(session, name, precision)
                    got = session.infer(info, {"input": pictures.numpy()})["output"]
                    off = float(np.abs(got - want).max() / np.abs(want).max())
                    told.append(f"{name} {precision} {off:.1e}")
                    if not off <= within:
                        raise StepError(f"{told[-1]}, more than {within:g} of the largest output")
                    runtime = f"{info.spec.runtime} {info.runtime_version}"
        return f"{runtime}: {', '.join(told)}"

    def sensor(self) -> str:
        """See how often NVML's counter and its power move."""
        plan = RunPlan(4.0, 3.0, 8.0, blocks=3, tail_s=0.5, interval_ms=FAST_MS, warmup=10)
        with open_session(self.device, owner=OWNER) as session:
            info = self._built(session, "medium", self.device.runtime.precision)
            evidence = session.run(info, plan, "nvml")
        trace = read_power(evidence.power[0])
        points = trace.rails["gpu"].points
        moved = [t for (t, a), (_, b) in pairwise(trace_power(trace)) if a != b]
        told = {
            "counter_update_ms": _spacing_ms([point.t_ns for point in points]),
            "power_update_ms": _spacing_ms(moved),
        }
        self.found |= {name: ms for name, ms in told.items() if ms is not None}
        settings = {k: v for k, v in evidence.power[0].settings.items() if k != "uuid"}
        return f"{told}, {settings}"

    def profile(self, name: str) -> str:
        """Measure one network."""
        result = self._profiled(name, f"profile-{name}")
        energy = self.energies[name] = float(result["energy_mj"])
        idle_w = result.get("idle_power_w")
        if idle_w:
            self.found[f"above_idle_{name}"] = result["power_w"] / idle_w
        for other in result.get("others") or ():
            if other.get("rail") == "gpu_power" and other.get("ratio"):
                self.found[f"counter_ratio_{name}"] = other["ratio"]
        order = list(SIZES)
        before = order[order.index(name) - 1] if order.index(name) else None
        if before in self.energies:
            self.found[f"energy_{name}_over_{before}"] = energy / self.energies[before]
        total = result.get("energy_mj_u95_total") or "total unknown"
        return (
            f"{energy:.4g} mJ {result['energy_mj_ci95']} as read, {total}; "
            f"{result['latency_p50_ms']:.4g} ms, {result['validity']} {result['reasons']}"
        )

    def repeat(self) -> str:
        """Measure the medium network once more."""
        if "medium" not in self.energies:
            self.profile("medium")
        again = float(self._profiled("medium", "repeat")["energy_mj"])
        self.found["repeat_over_first"] = ratio = again / self.energies["medium"]
        return f"{ratio:.4f} of the first"

    def calibrate(self) -> str:
        """Hold one engine against itself."""
        self.bench.hil(
            "device", "calibrate", "-d", "gpu", "-o", "calibration.json", log="calibrate"
        )
        told = json.loads((self.bench.folder / "calibration.json").read_text())
        self.found["aa_log_ratio_sd"] = told["log_ratio_sd"]
        return f"A/A: ln ratio spreads by {told['log_ratio_sd']:.4f} ({told['log_ratio_df']} df)"

    def synthesis(self) -> str:
        """Synthesize for a while; then stop as a person does, with everything kept."""
        (self.bench.folder / "short.yaml").write_text(SHORT, encoding="utf-8")
        argv = [*HIL, "synthesize", "-d", "gpu", "-p", "short.yaml", "--run", "synthesis", "--json"]
        out, log = (self.bench.folder / name for name in ("synthesis.json", "synthesis.log"))
        with out.open("w") as result, log.open("w") as said:
            run = subprocess.Popen(argv, cwd=self.bench.folder, stdout=result, stderr=said)
            try:
                code = run.wait(60 * self.minutes)
            except subprocess.TimeoutExpired:
                run.send_signal(signal.SIGINT)
                code = run.wait(300)
        if code == ExitCode.INTERRUPTED:
            out.unlink()
            return f"checkpointed after {self.minutes:g} minutes: give MINUTES= more to finish"
        if code != 0:
            raise StepError(f"it ended with {code}, see synthesis.log")
        certified = json.loads(out.read_text())["certified"]
        energies = [f"{one['energy_mj']:.4g} mJ" for one in certified]
        return f"{len(certified)} certified on {certified[0]['provenance']} figures: {energies}"

    def judged(self) -> str:
        """Hold what was found against what was foretold, as it was written down."""
        foretold = json.loads((self.bench.folder / PREDICTIONS).read_text())
        told = judge(foretold, self.found)
        (self.bench.folder / "judged.json").write_text(json.dumps(told, indent=1))
        broken = [f"{name}: {text}" for name, text in told.items() if text.startswith("DID NOT")]
        if broken:
            raise StepError("; ".join(broken))
        measured = sum(text != "not measured" for text in told.values())
        return f"{measured} of {len(told)} measured, all of them held"

    def _built(self, session: Session, name: str, precision: str) -> EngineInfo:
        data = (self.bench.folder / f"{name}.onnx").read_bytes()
        runtime = self.device.runtime
        return session.build(
            EngineSpec(session.put_blob(data), precision, runtime.name, runtime.workspace_mib)
        )

    def _profiled(self, name: str, log: str) -> dict[str, Any]:
        words = ("profile", f"{name}.onnx", "-d", "gpu", "--max-time", LONGEST)
        self.bench.hil(*words, log=log, codes=(0, 5))
        result = latest(self.bench, "profile")
        if result["validity"] == "invalid" or result.get("energy_mj") is None:
            raise StepError(f"no figure: {result['reasons']}")
        return result


def trace_power(trace: Any) -> list[tuple[int, float]]:
    """Return stamp and watts of the sampled power."""
    rail = trace.rails.get("gpu_power")
    return [] if rail is None else [(sample.t_ns, sample.power_w) for sample in rail.samples]


def _spacing_ms(stamps_ns: Sequence[int]) -> float | None:
    gaps = [(right - left) / 1e6 for left, right in pairwise(stamps_ns)]
    return median(gaps) if gaps else None


SHORT = """\
# A short job for the acceptance run: the loop as it is, few networks, little training.
schema: hil/profile@1
name: short
task: classification
prototype: {factory: "hil.net.prototypes:resnet32", args: {in_channels: 1, classes: 10}}
data: {factory: "hil.tasks.digits:load"}
training: {epochs: 20, finetune_epochs: 8, final_epochs: 20}
precision: fp16
requirements:
  energy_mj: {at_most: 70 %}
  latency_p99_ms: {at_most: 80 %}
  accuracy: {lose_at_most: 3.0}
budget: {measurements: 8, batch: 4, trainings: 8, finalists: 2}
measure:
  screening: {idle_s: 4, settle_s: 3, window_s: 5, blocks: 4}
  confirmation: {idle_s: 4, settle_s: 3, window_s: 5, blocks: 4, builds: {at_least: 3, at_most: 5}}
generator: {emit: 4}
"""


def prepare(bench: Bench, device: LocalDevice) -> None:
    """Write the networks and the device file, under a name of its own."""
    for name, size in SIZES.items():
        data = export_onnx(size.make(), (size.picture(),), opset=device.runtime.opset)
        (bench.folder / f"{name}.onnx").write_bytes(data)
    fields = device.model_dump(by_alias=True, mode="json", exclude_none=True)
    (bench.folder / "devices").mkdir()
    (bench.folder / "devices" / "gpu.yaml").write_text(yaml.safe_dump(fields), encoding="utf-8")


def run(gpu: Gpu, only: str) -> list[Row]:
    """Run the steps, the predictions first and their judgement last."""
    steps: list[tuple[str, Callable[[], str]]] = [
        ("foretell", lambda: foretell(gpu.bench)),
        ("doctor", gpu.doctor),
        ("outputs", gpu.outputs),
        ("sensor", gpu.sensor),
        *((name, lambda name=name: gpu.profile(name)) for name in SIZES),
        ("repeat", gpu.repeat),
        ("calibrate", gpu.calibrate),
        ("synthesis", gpu.synthesis),
        ("judge", gpu.judged),
    ]
    return carry_out(steps, only, "foretell")


def meet(device: LocalDevice) -> str:
    """Return the GPU and its driver in words.

    Raises:
        HilError: there is none, or nothing that reaches it.
    """
    with open_session(device, owner=OWNER) as session:
        return described(session.board.raw) or "no NVIDIA GPU: a rehearsal"


def main() -> int:
    """Run it; exit 0 where every step is ok, 3 at once where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="nvidia-gpu.yaml", help="a file of driver local")
    parser.add_argument("--minutes", type=float, default=20.0, help="of synthesis")
    parser.add_argument("--only", default="", help="some of the steps, by name: outputs,medium")
    given = parser.parse_args()
    try:
        device = find_device(given.device, cwd=Path.cwd())
        if not isinstance(device, LocalDevice):
            parser.error("--device takes a device of driver local")
        met = meet(device)
    except HilError as error:
        sys.stderr.write(f"no run: {error}\n")
        return error.exit_code
    sys.stderr.write(f"{met}\n")
    folder = Path(f"gpu-{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}").absolute()
    folder.mkdir()
    bench = Bench(folder)
    prepare(bench, device)
    rows = run(Gpu(bench, device, given.minutes), given.only)
    rows.insert(0, Row("gpu", True, met, 0.0))
    for row in rows:
        sys.stdout.write(
            f"{'ok' if row.ok else 'FAILED':7}{row.name:10}{row.wall_s:7.0f} s  {row.told}\n"
        )
    sys.stdout.write(f"send this back: {pack(bench, rows)}\n")
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
