"""Runtimes of this host as the agent's worker knows runtimes: build, load, run, refuse."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hil.agent.errors import AgentError
from hil.agent.tensors import default_input
from hil.net import hostruntime, prototypes
from hil.net.export import export_onnx
from hil.net.hostagent import Agent
from hil.net.hostruntime import Host
from hil.net.ortengine import OrtRuntime

pytestmark = pytest.mark.torch
PACKAGE = "hil.agent"


def on_cpu(name):
    if name == "torch":
        return hostruntime.runtime("torch-cpu", PACKAGE)
    agent = Agent(PACKAGE)
    return Host(OrtRuntime("cpu", agent), agent)


@pytest.fixture(scope="module")
def network():
    return export_onnx(prototypes.resnet20().eval(), (torch.rand(1, 1, 28, 28),), batch=None)


def want(tmp_path, data, **more):
    path = tmp_path / "network.onnx"
    path.write_bytes(data)
    asked = {"onnx": str(path), "engine": str(tmp_path / "plan"), "precision": "fp32"}
    return {**asked, "shapes": {"input": [2, 1, 28, 28]}, **more}


def reference(data, pictures):
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": pictures})[0]


@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
@pytest.mark.parametrize(("precision", "within"), [("fp32", 1e-5), ("fp16", 1e-2)])
def test_a_plan_computes_what_was_exported(tmp_path, network, name, precision, within):
    runtime = on_cpu(name)
    asked = want(tmp_path, network, precision=precision)
    made = runtime.build(asked)
    engine = runtime.load(asked["engine"])
    pictures = np.random.default_rng(0).random((2, 1, 28, 28), np.float32)

    engine.set_input("input", pictures.tobytes())
    engine.step()
    got = np.frombuffer(engine.output("output"), np.float32).reshape(2, 10)

    expected = reference(network, pictures)
    assert np.abs(got - expected).max() <= within * np.abs(expected).max()
    assert np.array_equal(got, expected) is False or precision == "fp32"
    assert made["inputs"] == [{"name": "input", "dtype": "float32", "shape": [2, 1, 28, 28]}]
    assert made["outputs"] == [{"name": "output", "dtype": "float32", "shape": [2, 10]}]
    assert engine.first[0] < engine.first[1]
    engine.close()


@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_inputs_are_replaced_and_not_kept_from_the_run_before(tmp_path, network, name):
    runtime = on_cpu(name)
    asked = want(tmp_path, network)
    runtime.build(asked)
    engine = runtime.load(asked["engine"])
    told = []
    for fill in (default_input(engine.inputs[0]), bytes(engine.inputs[0].nbytes())):
        engine.set_input("input", fill)
        engine.step()
        told.append(engine.output("output"))

    assert told[0] != told[1]


def test_the_same_network_is_the_same_plan_and_its_precision_is_in_it(tmp_path, network):
    runtime = on_cpu("torch")
    plans = []
    for precision in ("fp32", "fp32", "fp16"):
        asked = want(tmp_path, network, precision=precision)
        runtime.build(asked)
        plans.append((tmp_path / "plan").read_bytes())

    assert plans[0] == plans[1]
    assert len(plans[2]) < 0.6 * len(plans[0])


def test_layers_are_the_nodes_of_the_file(tmp_path, network):
    runtime = on_cpu("torch")
    asked = want(tmp_path, network)
    runtime.build(asked)

    rows = runtime.load(asked["engine"]).layers(2)

    nodes = [node.name for node in onnx.load_model_from_string(network).graph.node]
    assert [name for name, _ in rows] == nodes
    assert all(ms > 0 for _, ms in rows)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"shapes": {}}, "unknown_shape"),
        ({"shapes": {"input": [1, 3, 28, 28]}}, "unknown_shape"),
        ({"shapes": {"input": [1, 1, 28, 28], "other": [1]}}, "unknown_shape"),
    ],
)
@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_shapes_are_checked(tmp_path, network, name, change, code):
    with pytest.raises(AgentError) as refusal:
        on_cpu(name).build(want(tmp_path, network, **change))

    assert refusal.value.code == code


def test_an_operator_that_pytorch_is_not_told_is_refused_by_name(tmp_path, network):
    model = onnx.load_model_from_string(network)
    model.graph.node[0].op_type = "Mystery"

    with pytest.raises(AgentError, match="Mystery") as refusal:
        on_cpu("torch").build(want(tmp_path, model.SerializeToString()))

    assert refusal.value.code == "unsupported_operator"


def test_weights_beyond_float16_are_refused_where_it_is_asked(tmp_path, network):
    model = onnx.load_model_from_string(network)
    weights = model.graph.initializer[0]
    values = np.array(onnx.numpy_helper.to_array(weights)) * 1e9
    weights.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), weights.name))
    asked = want(tmp_path, model.SerializeToString(), precision="fp16")

    with pytest.raises(AgentError, match="float16") as refusal:
        on_cpu("torch").build(asked)

    assert refusal.value.code == "build_failed"


@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_a_file_that_is_no_plan_is_refused(tmp_path, name):
    (tmp_path / "plan").write_bytes(b'{"format": "hil/ort-plan@1"}\n')

    with pytest.raises(AgentError, match="no plan"):
        on_cpu(name).load(str(tmp_path / "plan"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has an NVIDIA GPU")
def test_pytorch_without_a_gpu_says_so_and_runs_nothing_on_the_cpu(tmp_path, network):
    runtime = hostruntime.runtime("torch", PACKAGE)

    for refused in (runtime.identity, lambda: runtime.build(want(tmp_path, network))):
        with pytest.raises(AgentError, match="reaches no NVIDIA GPU") as refusal:
            refused()
        assert refusal.value.code == "no_runtime"
        assert torch.__version__ in refusal.value.why


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="it is there"
)
def test_onnxruntime_without_its_cuda_provider_says_so(tmp_path, network):
    runtime = hostruntime.runtime("onnxruntime-cuda", PACKAGE)

    for refused in (runtime.identity, lambda: runtime.build(want(tmp_path, network))):
        with pytest.raises(AgentError, match="CUDAExecutionProvider") as refusal:
            refused()
        assert refusal.value.code == "no_runtime"


def test_identities_name_the_release_and_the_kind_of_machine():
    assert on_cpu("torch").identity()["version"] == torch.__version__
    assert on_cpu("onnxruntime").identity()["version"] == onnxruntime.__version__
    assert all(on_cpu(n).identity()["platform"].startswith("cpu-") for n in ("torch", "onnx"))


def test_versions_tell_what_a_choice_needs():
    told = hostruntime.versions()

    assert told["torch"] == torch.__version__
    assert told["torch_cuda"] == torch.version.cuda
    assert told["torch_gpus"] == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    assert told["onnxruntime_providers"] == onnxruntime.get_available_providers()


def test_a_runtime_that_nobody_has_is_refused():
    with pytest.raises(AgentError, match="no runtime jax"):
        hostruntime.runtime("jax", PACKAGE)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"precision": "int8"}, "build_failed"),
        ({"profiles": [{"input": [[1, 1, 28, 28]] * 3}]}, "unknown_shape"),
    ],
)
def test_what_only_tensorrt_has_is_refused_and_never_run_as_something_else(
    tmp_path, network, more, code
):
    with pytest.raises(AgentError) as refused:
        on_cpu("torch").build(want(tmp_path, network, **more))

    assert refused.value.code == code
    assert not (tmp_path / "plan").exists()
