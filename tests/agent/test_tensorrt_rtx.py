"""NVIDIA's own parser and builder (TensorRT-RTX) take what hil exports, through the agent's code.

No GPU is needed to build. What is built cannot be run here: that needs a driver.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorrt_rtx") is None,
        reason="no TensorRT-RTX here (pip install -e '.[rtx]'): NVIDIA's own builder was not run",
    ),
]
PROGRAM = Path(__file__).with_name("build_with_rtx.py")


class Rtx:
    """Builds one network after another in a process of its own."""

    def __init__(self, folder):
        self._folder = folder
        self._count = 0
        with (folder / "rtx.err").open("ab+") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", str(PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": str(PROGRAM.parents[2])},
            )

    def build(self, data, **more):
        self._count += 1
        onnx_path, plan = self._folder / f"{self._count}.onnx", self._folder / f"{self._count}.plan"
        onnx_path.write_bytes(data)
        want = {
            "onnx": str(onnx_path),
            "engine": str(plan),
            "precision": "fp32",
            "workspace_mib": 256,
            "shapes": {},
            "timing_cache": str(self._folder / "timing"),
            "detailed": True,
            **more,
        }
        self._process.stdin.write(json.dumps(want) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, (self._folder / "rtx.err").read_text()[-2000:]
        return json.loads(line)

    def close(self):
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def rtx(tmp_path_factory):
    made = Rtx(tmp_path_factory.mktemp("rtx"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def export():
    """Exports a shipped prototype, batch 1 or open."""
    torch = pytest.importorskip("torch")
    from hil.net import prototypes
    from hil.net.export import export_onnx

    def one(name, batch=1):
        torch.manual_seed(0)
        return export_onnx(getattr(prototypes, name)(), (torch.rand(1, 1, 28, 28),), batch=batch)

    return one


def weight_bytes(data):
    model = onnx.load_from_string(data)
    return sum(len(onnx.numpy_helper.to_array(t).tobytes()) for t in model.graph.initializer)


@pytest.mark.parametrize("prototype", ["resnet20", "resnet32"])
def test_every_prototype_is_parsed_and_built(rtx, export, prototype):
    data = export(prototype)

    made = rtx.build(data)

    assert made["dialect"].startswith("11")
    assert made["bytes"] > 0.5 * weight_bytes(data)  # its weights are inside, nothing was dropped


def test_the_sample_of_the_health_check_is_built(rtx):
    from hil.net.sample import sample_network

    assert rtx.build(sample_network())["bytes"] > 10_000


def test_an_open_batch_needs_its_shape_and_is_built_for_it(rtx, export):
    data = export("resnet20", batch=None)

    refusal = rtx.build(data)["error"]
    assert (refusal["code"], "--shape input=" in refusal["fix"]) == ("unknown_shape", True)
    assert rtx.build(data, shapes={"input": [8, 1, 28, 28]})["bytes"] > 0
    wrong = rtx.build(data, shapes={"input": [8, 3, 28, 28]})["error"]
    assert wrong["code"] == "unknown_shape"


def test_several_profiles_are_built_into_one_plan(rtx, export):
    data = export("resnet20", batch=None)
    small = {"input": [[1, 1, 28, 28], [2, 1, 28, 28], [4, 1, 28, 28]]}
    large = {"input": [[8, 1, 28, 28], [16, 1, 28, 28], [32, 1, 28, 28]]}

    one = rtx.build(data, profiles=[small])
    both = rtx.build(data, profiles=[small, large], shapes={"input": [20, 1, 28, 28]})

    assert one["bytes"] > 0
    assert both["bytes"] > one["bytes"]  # kernels of their own for the large batches
    outside = rtx.build(data, profiles=[small, large], shapes={"input": [6, 1, 28, 28]})["error"]
    assert outside["code"] == "unknown_shape"


def test_fp16_comes_from_the_network_and_halves_the_plan(rtx, export):
    from hil.net.half import to_half

    data = export("resnet32")

    refusal = rtx.build(data, precision="fp16")["error"]
    assert "--precision fp16" in refusal["fix"]
    half = rtx.build(to_half(data), precision="fp16")
    assert half["notes"] == []
    full = rtx.build(data)
    assert half["bytes"] < full["bytes"] - 0.3 * weight_bytes(data)
    assert "float16" in rtx.build(to_half(data))["notes"][0]


@pytest.fixture(scope="module")
def quantised(export):
    """A shipped prototype in INT8, batch 1 or open."""
    from hil.net.quantise import Calibration, quantise

    def one(name, batch=1):
        pictures = np.random.default_rng(0).random((8, 1, 28, 28), "float32")
        return quantise(export(name, batch), Calibration({"input": pictures}))

    return one


@pytest.mark.parametrize("prototype", ["resnet20", "resnet32"])
def test_every_prototype_is_built_in_int8(rtx, quantised, prototype):
    data = quantised(prototype)

    made = rtx.build(data, precision="int8")

    assert made["notes"] == []
    assert made["bytes"] > 0.2 * weight_bytes(data)
    assert "is quantised" in rtx.build(data, precision="fp16")["error"]["message"]


def test_int8_with_an_open_batch_is_built_for_a_shape(rtx, quantised):
    data = quantised("resnet20", batch=None)

    assert rtx.build(data, precision="int8", shapes={"input": [4, 1, 28, 28]})["bytes"] > 0


def test_int8_without_scales_is_refused(rtx, export):
    assert "not quantised" in rtx.build(export("resnet20"), precision="int8")["error"]["message"]


def test_biases_in_int32_are_what_nvidias_parser_refuses_and_so_do_we(rtx, export, tmp_path):
    from onnxruntime import quantization as q

    from hil.net.precheck import Target, precheck

    class Pictures(q.CalibrationDataReader):
        def __init__(self):
            self.rest = [np.random.default_rng(i).random((1, 1, 28, 28), "float32") for i in (0, 1)]

        def get_next(self):
            return {"input": self.rest.pop()} if self.rest else None

    before, after = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    before.write_bytes(export("resnet20"))
    symmetric = {"ActivationSymmetric": True, "WeightSymmetric": True}
    q.quantize_static(before, after, Pictures(), extra_options=symmetric)
    data = after.read_bytes()

    assert "Int32" in rtx.build(data, precision="int8")["error"]["why"]
    found = precheck(data, Target("tensorrt", 17, "int8"))
    assert any(one.fatal and "INT32" in one.rule for one in found)


def test_all_nodes_that_it_does_not_know_are_named(rtx):
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="first"),
        helper.make_node("Strange", ["a"], ["b"], name="second"),
        helper.make_node("StringNormalizer", ["b"], ["y"], name="third"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)

    refusal = rtx.build(model.SerializeToString())["error"]

    assert refusal["code"] == "unsupported_operator"
    assert "node second (Strange)" in refusal["why"]
    assert "node third (StringNormalizer)" in refusal["why"]
    assert "first" not in refusal["why"]


def test_what_is_no_network_is_refused(rtx):
    assert rtx.build(b"\xff" * 64)["error"]["code"] == "parse_failed"


def test_half_a_network_computes_the_same_within_half_precision(export):
    from hil.net.half import to_half

    data = export("resnet20")
    x = np.random.default_rng(1).random((1, 1, 28, 28), "float32")
    full, half = (
        onnxruntime.InferenceSession(each, providers=["CPUExecutionProvider"]).run(
            None, {"input": x}
        )[0]
        for each in (data, to_half(data))
    )

    assert half.dtype == np.float32
    assert 0 < np.abs(full - half).max() < 5e-3 * np.abs(full).max()
