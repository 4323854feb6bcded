"""A job that chooses between FP16 and INT8: what is shipped, what accuracy is read, who refuses."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from hil.core.errors import ExportError
from hil.device.config import find_device
from hil.device.session import EngineSpec
from hil.net.quantise import Calibration, calibration_of, evenly, is_quantised, quantise
from hil.synth.boardwork import BoardWork
from hil.synth.loop import Job, synthesize
from hil.synth.opening import open_job
from hil.synth.pools import Threads
from hil.synth.profile import load_profile
from hil.synth.progress import Silent
from hil.synth.results import search_rows
from hil.synth.store import RunStore
from hil.synth.workbench import open_workbench
from hil.tasks.data import load_data
from tests.cli import test_space_job

pytestmark = [pytest.mark.slow, pytest.mark.torch]

PROFILE = """
schema: hil/profile@1
name: eight
task: classification
prototype: {factory: "nets_in_int8:make"}
data: {factory: "nets_in_int8:load"}
training: {epochs: 8, finetune_epochs: 3, final_epochs: 2}
precision: fp16
int8: {method: percentile, pictures: 40}
space: {precisions: [fp16, int8], freeze: ["width:second"]}
requirements:
  energy_mj: {at_most: 75 %}
  accuracy: {lose_at_most: 40.0}
budget: {measurements: 6, batch: 3, trainings: 6, finalists: 2}
measure:
  screening: {idle_s: 2, settle_s: 3, window_s: 5, blocks: 3}
  confirmation: {idle_s: 2, settle_s: 3, window_s: 5, blocks: 3, builds: {at_most: 4}}
generator: {emit: 4}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eight")
    (folder / "nets_in_int8.py").write_text(test_space_job.NETS, encoding="utf-8")
    (folder / "eight.yaml").write_text(PROFILE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


def plain(data):
    """The file without its pairs: what its arithmetic is counted on."""
    model = onnx.load_model_from_string(data)
    behind = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type.endswith("eLinear")}
    kept = [node for node in model.graph.node if not node.op_type.endswith("eLinear")]
    for node in kept:
        for index, given in enumerate(node.input):
            name = given
            while name in behind:
                name = behind[name]
            node.input[index] = name
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model.SerializeToString()


def run(data, inputs):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return np.array([session.run(None, {"input": x[None]})[0][0] for x in inputs])


def board_of(fake):
    board = test_space_job.board_of(fake)

    class WithInt8(type(board)):
        """Costs half of FP16's arithmetic in INT8, and computes what the quantised file says."""

        def build(self, spec):
            self.quantised = {**getattr(self, "quantised", {}), spec.onnx_sha256: spec.precision}
            whole = self.blobs[spec.onnx_sha256]
            self.blobs[spec.onnx_sha256] = plain(whole)
            try:
                return super().build(spec)
            finally:
                self.blobs[spec.onnx_sha256] = whole

        def infer(self, info, inputs):
            if info.spec.precision != "int8":
                return super().infer(info, inputs)
            return {"output": run(self.blobs[info.spec.onnx_sha256], inputs["input"])}

    board.__class__ = WithInt8
    return board


@pytest.fixture(scope="module")
def done(place, fake_session):
    profile = load_profile(place / "eight.yaml")
    session = board_of(fake_session)
    with RunStore.create(place / "run", {"seed": 5}) as store, Threads() as pools:
        spec = EngineSpec("", profile.precision)
        board = BoardWork(session, store, 5, spec, "tegrastats", "VDD_IN")

        def opener(watch, check):
            return open_workbench(profile, store, 5, 13, watch, check)

        outcome = synthesize(Job(profile, 5, store, board, opener, Silent(), pools))
        steps = {(s.kind, s.key): s.value for s in store.steps()}
        return session, outcome, steps


def test_what_is_shipped_is_quantised_where_the_engine_is_int8_and_only_there(done):
    session = done[0]

    assert {spec.precision for spec in session.specs} == {"fp16", "int8"}
    for spec in session.specs:
        data = session.blobs[spec.onnx_sha256]
        assert is_quantised(data) == (spec.precision == "int8")
        if spec.precision == "int8":
            told = calibration_of(data)
            assert (told["method"], told["samples"]) == ("percentile", 40)


def test_scales_come_from_training_pictures_and_never_from_the_held_out(done):
    session = done[0]
    train = load_data("nets_in_int8:load").train.inputs
    shipped = {s.onnx_sha256 for s in session.specs if s.precision == "int8"}
    for data in (session.blobs[sha] for sha in shipped):
        pictures = {"input": evenly(train, 40)}
        again = quantise(plain(data), Calibration(pictures, "percentile"))
        np.testing.assert_allclose(run(again, train[:5]), run(data, train[:5]), atol=1e-5)


def test_accuracy_during_the_search_is_that_of_the_quantised_file(done):
    _, outcome, steps = done
    data = load_data("nets_in_int8:load").search
    space = outcome.bench.space
    checked = 0
    for row in search_rows(outcome):
        if row["accuracy"] is None or space.precision(row["architecture"]) != "int8":
            continue
        key = f"search:{space.key(tuple(row['architecture']))}"
        weights = steps["train", key]["weights"]
        file = outcome.bench.export(tuple(row["architecture"]), weights).onnx
        right = (run(file, data.inputs).argmax(1) == data.labels).mean()
        assert row["accuracy"] == pytest.approx(100 * right, abs=1e-6)
        checked += 1
    assert checked


def test_a_board_without_int8_refuses_the_job_before_it_is_opened(place, tmp_path):
    profile = load_profile(place / "eight.yaml")
    tx2 = find_device("tx2", cwd=tmp_path)
    with (
        RunStore.create(tmp_path / "run", {"seed": 1}) as store,
        pytest.raises(ExportError, match="tx2 has no int8") as refusal,
        open_job(profile, tx2, store, 1, Silent(), owner="a test"),
    ):
        pytest.fail("it was opened")
    assert "DP4A" in refusal.value.why
