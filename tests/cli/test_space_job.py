"""A job that chooses windows, resolution and precision: from the profile to the certificates.

The board is one in memory whose engines cost what their file's arithmetic costs in the precision
they were built with, and whose answers ONNX Runtime works out in that precision.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import shape_inference

from hil.device.session import EngineSpec, TensorInfo
from hil.net.half import to_half
from hil.synth.boardwork import BoardWork
from hil.synth.emitting import Emitter
from hil.synth.loop import Job, synthesize
from hil.synth.pools import Threads
from hil.synth.profile import load_profile
from hil.synth.progress import Silent
from hil.synth.results import result_json, search_rows
from hil.synth.store import RunStore
from hil.synth.workbench import open_workbench

pytestmark = [pytest.mark.slow, pytest.mark.torch]

NETS = """
import numpy as np
from sklearn.datasets import load_digits
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 16, 5, stride=2, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 16, 5, padding=2, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = self.relu(self.bn1(self.first(x)))
        x = self.relu(self.bn2(self.second(x)))
        return self.fc(self.pool(x).flatten(1))


def make():
    return Net()


def load():
    found = load_digits()
    pictures = found.images[:, None].repeat(2, axis=2).repeat(2, axis=3)
    return (pictures / 16).astype(np.float32), found.target
"""
PROFILE = """
schema: hil/profile@1
name: choices
task: classification
prototype: {factory: "nets_to_choose_from:make"}
data: {factory: "nets_to_choose_from:load"}
training: {epochs: 12, finetune_epochs: 6, final_epochs: 3}
precision: fp32
space: {kernels: true, resolutions: [8, 12], precisions: [fp32, fp16], freeze: ["width:*"]}
requirements:
  energy_mj: {at_most: 30 %}
  accuracy: {lose_at_most: 30.0}
budget: {measurements: 15, batch: 5, trainings: 15, finalists: 3}
measure:
  screening: {idle_s: 2, settle_s: 3, window_s: 5, blocks: 3}
  confirmation: {idle_s: 2, settle_s: 3, window_s: 5, blocks: 3, builds: {at_most: 4}}
generator: {emit: 4}
"""
BITS = {"int8": 8, "fp16": 16, "fp32": 32}
WHOLE_MACS = 64 * (16 * 25 + 256 * 25 + 160)
"""The exporter folds the pooling into the last layer, which then reads every pixel."""


def macs_of(data: bytes) -> int:
    """Multiply-accumulates of a file's convolutions and matrix products, from its shapes alone."""
    graph = shape_inference.infer_shapes(onnx.load_model_from_string(data)).graph
    weights = {w.name: list(w.dims) for w in graph.initializer}
    sides = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim][2:] for v in graph.value_info
    }
    return sum(
        math.prod(weights[node.input[1]]) * math.prod(sides.get(node.output[0], []))
        for node in graph.node
        if node.op_type in ("Conv", "Gemm")
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A user's folder with a network of wide windows in it."""
    folder = tmp_path_factory.mktemp("choices")
    (folder / "nets_to_choose_from.py").write_text(NETS, encoding="utf-8")
    (folder / "choices.yaml").write_text(PROFILE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


def board_of(fake):
    """A board in memory that keeps files and reads what they are."""

    class Arithmetic(fake):
        """0.5 ms, and 4 ms for all of the prototype's arithmetic in FP32; 5 W."""

        def __post_init__(self):
            super().__post_init__()
            self.blobs, self.specs = {}, []

        def reset(self, seed):
            self.seed = seed

        def put_blob(self, data):
            sha256 = super().put_blob(data)
            self.blobs[sha256] = data
            return sha256

        def build(self, spec: EngineSpec):
            self.specs.append(spec)
            work = macs_of(self.blobs[spec.onnx_sha256]) / WHOLE_MACS * BITS[spec.precision] / 32
            self.latency_ms[spec.onnx_sha256] = 0.5 + 4 * work
            info = super().build(spec)
            named = f"{info.engine_sha256} {spec.precision}"
            tensors = {
                "inputs": (TensorInfo("input", "float32", ()),),
                "outputs": (TensorInfo("output", "float32", ()),),
            }
            return replace(
                info, engine_sha256=hashlib.sha256(named.encode()).hexdigest(), **tensors
            )

        def infer(self, info, inputs):
            data = self.blobs[info.spec.onnx_sha256]
            data = to_half(data) if info.spec.precision == "fp16" else data
            run = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run
            rows = [run(None, {"input": x[None]})[0][0] for x in inputs["input"]]
            return {"output": np.array(rows)}

        def plausible(self, infos):
            return None

    return Arithmetic()


@dataclass(frozen=True)
class Done:
    """A finished run: its result, every network measured, the board and the journal's folder."""

    result: dict
    rows: list
    session: object
    steps: dict
    space: object
    run: Path


@pytest.fixture(scope="module")
def done(place, fake_session):
    profile = load_profile(place / "choices.yaml")
    session, run = board_of(fake_session), place / "run"
    with RunStore.create(run, {"seed": 3}) as store, Threads() as pools:
        (run / "profile.yaml").write_text(PROFILE, encoding="utf-8")
        board = BoardWork(
            session, store, 3, EngineSpec("", profile.precision), "tegrastats", "VDD_IN"
        )

        def opener(watch, check):
            return open_workbench(profile, store, 3, 13, watch, check)

        outcome = synthesize(Job(profile, 3, store, board, opener, Silent(), pools))
        result = result_json(outcome, "run", 1.0)
        (run / "generator.json").write_bytes(store.blob(result["generator"]["sha256"]))
        steps = {(s.kind, s.key): s.value for s in store.steps()}
        return Done(result, search_rows(outcome), session, steps, outcome.bench.space, run)


def kinds_of(space, arch):
    """Kinds of choices in which an architecture is not the prototype."""
    pairs = zip(space.variables, arch, strict=True)
    return {v.kind for v, choice in pairs if choice != v.identity}


def energy_mj(arch):
    """What the board's rule makes of an architecture, by hand: 5 W for 0.5 ms and its work."""
    first, second, rows, bits = (
        (1, 3, 5)[arch[0]],
        (1, 3, 5)[arch[1]],
        (8, 12, 16)[arch[2]],
        arch[3],
    )
    pixels = (rows // 2) ** 2
    macs = pixels * (16 * first**2 + 256 * second**2 + 160)
    return 5 * (0.5 + 4 * macs / WHOLE_MACS * (1.0 if bits else 0.5))


def test_networks_with_every_kind_of_choice_are_measured_trained_and_certified(done):
    kinds = {"kernel", "resolution", "precision"}

    assert {v.kind for v in done.space.variables} == kinds
    measured = [kinds_of(done.space, row["architecture"]) for row in done.rows]
    trained = [k for k, row in zip(measured, done.rows, strict=True) if row["accuracy"] is not None]
    certified = [kinds_of(done.space, entry["architecture"]) for entry in done.result["certified"]]
    assert kinds in measured
    assert kinds in trained
    assert set().union(*certified) == kinds
    for entry in done.result["certified"]:
        assert entry["verdict"] == "feasible_emulated"
        assert entry["energy_mj"] <= 0.3 * done.result["prototype"]["energy_mj"]


def test_every_network_is_measured_in_its_own_windows_resolution_and_precision(done):
    for row in (*done.rows, done.result["prototype"], *done.result["certified"]):
        assert row["energy_mj"] == pytest.approx(energy_mj(row["architecture"]), rel=0.03)


def test_one_file_in_two_precisions_is_two_networks_with_two_engines(done):
    built = {(spec.onnx_sha256, spec.precision) for spec in done.session.specs}
    files = [sha256 for sha256, _ in built]
    steps = [value for (kind, _), value in done.steps.items() if kind == "measure"]

    assert len(set(files)) < len(files)  # some file was built in both
    assert {(step["onnx"], step["engine"]["precision"]) for step in steps} == built
    engines = {}
    for step in steps:
        engines.setdefault(step["engine"]["engine_sha256"], set()).add(step["engine"]["precision"])
    assert all(len(precisions) == 1 for precisions in engines.values())


def test_engines_answer_the_held_out_pictures_at_their_own_resolution(done):
    searched = {tuple(row["architecture"]): row["accuracy"] for row in done.rows}

    for entry in done.result["certified"]:
        shape = onnx.load(done.run / "blobs" / entry["onnx_sha256"]).graph.input[0].type.tensor_type
        rows = (8, 12, 16)[entry["architecture"][2]]
        assert [d.dim_value for d in shape.shape.dim] == [1, 1, rows, rows]
        assert entry["accuracy"] == pytest.approx(searched[tuple(entry["architecture"])], abs=10)


def test_a_result_says_what_precision_its_file_is_for(done):
    for entry in (done.result["prototype"], *done.result["certified"]):
        assert entry["precision"] == ("fp16", "fp32")[entry["architecture"][3]]


def test_what_changes_is_said_in_words(done):
    said = {change for entry in done.result["certified"] for change in entry["changes"]}

    assert said >= {"second 5x5 to 1x1 window", "input 16x16 to 12x12 pixels", "engine in fp16"}


def test_what_the_prototype_answered_tells_small_windows_and_pictures_from_large_ones(done):
    harm = dict(zip(done.space.variables, done.steps["stimuli", "task"]["harm"], strict=True))

    for variable, curve in harm.items():
        if variable.kind == "precision":
            assert curve == [0.0, 0.0]
        else:
            assert curve[0] > curve[1] > curve[2] == 0.0


def test_widths_that_are_frozen_leave_no_uniform_scaling(done):
    assert done.result["baselines"] == []
    assert "no widths" in done.result["baselines_reason"]


def test_the_saved_generator_opens_on_the_same_space(done):
    emitter = Emitter.open(done.run)

    assert emitter.traced.space == done.space
    data = emitter.onnx([0, 1, 0, 0])
    assert macs_of(data) == 16 * (16 * 1 + 256 * 9 + 160)
