"""An NVIDIA GPU of this machine: the best runtime that reaches it, named, or a clear refusal."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from hil.core import fallbacks
from hil.core.errors import ConfigError, DeviceError, ExitCode, ExportError, MeasurementError
from hil.core.evidence import RunPlan
from hil.device.checks import judge_probe
from hil.device.config import LocalDevice, SshDevice, find_device
from hil.device.faults import NoRuntimeError
from hil.device.gpu_runtime import RuntimeChoice, plugin_of, probe_params, refuse_without_gpu
from hil.device.local_session import agent_environment
from hil.device.opening import open_session
from hil.device.session import EngineSpec
from hil.net.sample import sample_network

GPU = {"gpu": "NVIDIA Fake 100", "driver": "550.54", "gpus": 1, "index": 0, "refused": None}
ALL = {
    "gpu": GPU,
    "tensorrt": "10.4.0",
    "host_runtimes": {
        "torch": "2.9.0+cu128",
        "torch_cuda": "12.8",
        "torch_gpus": 1,
        "onnxruntime": "1.20.0",
        "onnxruntime_providers": ["CUDAExecutionProvider", "CPUExecutionProvider"],
    },
}
CPU_TORCH = {"torch": "2.9.0+cpu", "torch_cuda": None, "torch_gpus": 0}
CPU_ORT = {"onnxruntime": "1.20.0", "onnxruntime_providers": ["CPUExecutionProvider"]}
SPEC = EngineSpec("0" * 64, runtime="cuda")


def probe(tensorrt="10.4.0", gpu=None, **host):
    return {
        **ALL,
        "tensorrt": tensorrt,
        "gpu": gpu or GPU,
        "host_runtimes": {**ALL["host_runtimes"], **host},
    }


def built(choice, refusing=()):
    """The runtime that was asked for an engine last, the others refusing as theirs do."""
    asked = []

    def build(spec):
        asked.append(spec.runtime)
        if spec.runtime in refusing:
            raise NoRuntimeError("TensorRT does not reach the GPU", why="CUDA error 100")
        return spec.runtime

    return choice.build(SPEC, build), asked


def lines(choice):
    return fallbacks.of_board({fallbacks.SESSION: choice.facts()})


def test_tensorrt_is_taken_where_it_is_and_nothing_fell_back():
    choice = RuntimeChoice(probe())

    assert built(choice) == ("tensorrt", ["tensorrt"])
    assert choice.facts()["runtime"] == {"used": "TensorRT", "passed_over": []}
    assert lines(choice) == ()


def test_onnxruntimes_cuda_provider_comes_second_and_says_why():
    choice = RuntimeChoice(probe(tensorrt=None))

    assert built(choice)[0] == "onnxruntime-cuda"
    (row,) = lines(choice)
    assert row.name == "other_runtime"
    assert "TensorRT is not used: this Python has no TensorRT" in row.reason
    assert "ONNX Runtime's CUDA provider runs the exported network" in row.consequence


def test_pytorch_comes_last_and_names_both_that_are_better():
    choice = RuntimeChoice(probe(tensorrt=None, **CPU_ORT))

    assert built(choice)[0] == "torch"
    (row,) = lines(choice)
    assert "TensorRT is not used" in row.reason
    assert "ONNX Runtime 1.20.0 was built without it" in row.reason
    assert "PyTorch runs the exported network" in row.consequence


def test_a_runtime_that_does_not_reach_the_gpu_is_passed_over_with_its_own_words():
    choice = RuntimeChoice(probe())

    assert built(choice, refusing=("tensorrt",)) == (
        "onnxruntime-cuda",
        ["tensorrt", "onnxruntime-cuda"],
    )
    assert "CUDA error 100" in lines(choice)[0].reason


def test_two_networks_of_a_session_are_run_by_the_same_runtime():
    choice = RuntimeChoice(probe())
    built(choice)

    with pytest.raises(NoRuntimeError, match="does not reach"):
        built(choice, refusing=("tensorrt",))


def test_a_network_that_the_best_runtime_refuses_is_not_given_to_another():
    choice = RuntimeChoice(probe())

    def refuse(_):
        raise ExportError("TensorRT does not know Mystery")

    with pytest.raises(ExportError):
        choice.build(SPEC, refuse)


def test_where_none_is_left_all_are_named():
    choice = RuntimeChoice(probe())

    with pytest.raises(NoRuntimeError) as refusal:
        built(choice, refusing=("tensorrt", "onnxruntime-cuda", "torch"))

    assert all(name in refusal.value.why for name in ("TensorRT", "ONNX Runtime", "PyTorch"))
    assert choice.facts() == {}


@pytest.mark.parametrize("runtime", ["cuda", "torch", "onnxruntime-cuda"])
def test_a_machine_without_a_driver_is_refused_with_the_next_step(runtime):
    missing = {"code": "no_power", "message": "this machine has no NVML", "why": "x", "fix": None}

    with pytest.raises(DeviceError, match="no NVIDIA GPU that answers") as refusal:
        refuse_without_gpu(probe(gpu={"missing": missing}), runtime)

    assert refusal.value.exit_code == ExitCode.BOARD
    assert "no NVML (x)" in refusal.value.why
    assert "nvidia-smi" in refusal.value.fix
    assert "local.yaml" in refusal.value.fix


def test_a_gpu_that_no_runtime_reaches_is_refused_with_what_to_install():
    nothing = probe(tensorrt=None, **CPU_ORT, **CPU_TORCH)

    with pytest.raises(NoRuntimeError, match="no runtime here reaches") as refusal:
        refuse_without_gpu(nothing, "cuda")
    assert "PyTorch 2.9.0+cpu was built without CUDA" in refusal.value.why
    assert "pip install tensorrt" in refusal.value.fix
    with pytest.raises(NoRuntimeError) as refusal:
        refuse_without_gpu(nothing, "torch")
    assert "TensorRT" not in refusal.value.why


@pytest.mark.parametrize("runtime", ["tensorrt", "onnxruntime", "torch-cpu"])
def test_what_does_not_run_on_this_machines_gpu_is_not_asked_for_one(runtime):
    refuse_without_gpu({"gpu": None}, runtime)


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ({"torch": None, "torch_why": "No module named 'torch'"}, "No module named 'torch'"),
        ({"torch_gpus": 0}, "sees no GPU"),
        ({"refused": "No module named 'hil'"}, "No module named 'hil'"),
    ],
)
def test_why_pytorch_is_of_no_use_is_told(host, why):
    with pytest.raises(NoRuntimeError) as refusal:
        refuse_without_gpu(probe(tensorrt=None, **{**CPU_ORT, **host}), "cuda")

    assert why in refusal.value.why


def test_the_shipped_file_is_the_one_of_the_folder_and_asks_for_the_best(tmp_path):
    root = Path(__file__).parents[2]
    device = find_device("nvidia-gpu", cwd=tmp_path)

    assert isinstance(device, LocalDevice)
    assert (device.runtime.name, device.power.source, device.power.rail) == ("cuda", "nvml", "gpu")
    assert plugin_of(device) == "hil.net.hostruntime"
    assert probe_params(device) == {"gpu": True}
    texts = [
        (root / place / "nvidia-gpu.yaml").read_bytes()
        for place in ("devices", "hil/shipped/devices")
    ]
    assert texts[0] == texts[1]


def test_boards_are_asked_neither_for_plugins_nor_for_gpus(tmp_path):
    for name in ("tx2-emulated", "local"):
        device = find_device(name, cwd=tmp_path)
        assert plugin_of(device) is None
        assert probe_params(device) == {}


@pytest.mark.parametrize("runtime", ["cuda", "onnxruntime-cuda", "torch", "torch-cpu"])
def test_runtimes_of_this_host_are_refused_for_a_board(runtime):
    fields = {
        "schema": "hil/device@1",
        "name": "bench",
        "driver": "ssh",
        "board": "jetson-tx2",
        "ssh": {"host": "tx2", "user": "hil", "use_agent": True, "host_key": "k"},
        "runtime": {"name": runtime},
    }

    with pytest.raises(ValueError, match="driver local"):
        SshDevice.model_validate(fields)


def test_cuda_and_nvml_count_gpus_alike():
    assert agent_environment({}, Path("/h"))["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert agent_environment({"CUDA_DEVICE_ORDER": "x"}, Path("/h"))["CUDA_DEVICE_ORDER"] == "x"


def test_the_doctor_names_the_gpu_and_the_runtime_and_what_better_ones_lack(tmp_path):
    device = find_device("nvidia-gpu", cwd=tmp_path)
    told = {check.name: check for check in judge_probe(device, probe(tensorrt=None, **CPU_ORT))}

    assert told["gpu"].detail == "NVIDIA Fake 100, driver 550.54"
    assert told["runtime"].detail == "PyTorch"
    assert told["runtime tensorrt"].status == "warn"
    assert "onnxruntime-gpu" in told["runtime onnxruntime-cuda"].next_step


def test_the_doctor_fails_a_gpu_whose_power_is_not_its_own(tmp_path):
    device = find_device("nvidia-gpu", cwd=tmp_path)
    refused = {"message": "MIG is on", "why": "the whole GPU", "fix": "nvidia-smi -mig 0"}

    told = {c.name: c for c in judge_probe(device, probe(gpu={**GPU, "refused": refused}))}

    assert (told["gpu power"].status, told["gpu power"].next_step) == ("fail", "nvidia-smi -mig 0")


# -- sessions with the real agent on this machine --------------------------------------------------


def device(tmp_path, **fields) -> LocalDevice:
    (tmp_path / "root" / "run" / "lock").mkdir(parents=True)
    return LocalDevice.model_validate(
        {
            "schema": "hil/device@1",
            "name": "here",
            "driver": "local",
            "board": "nvidia-gpu",
            "local": {"state_dir": str(tmp_path / "home")},
            "agent": {"root": str(tmp_path / "root")},
            **fields,
        }
    )


@pytest.mark.board
@pytest.mark.torch
def test_pytorch_serves_a_session_like_any_other_runtime(tmp_path):
    here = device(tmp_path, runtime={"name": "torch-cpu", "precision": "fp16"})
    with open_session(here, owner="test") as session:
        sha256 = session.put_blob(sample_network())
        by_torch = session.build(EngineSpec(sha256, "fp16", "torch-cpu"))
        by_ort = session.build(EngineSpec(sha256, "fp32", "onnxruntime"))
        tensor = by_torch.inputs[0]
        pictures = np.random.default_rng(0).random((3, *tensor.shape[1:]), np.float32)
        got = session.infer(by_torch, {tensor.name: pictures})
        want = session.infer(by_ort, {tensor.name: pictures})
        plan = RunPlan(0.05, 0.05, 0.1, blocks=2, tail_s=0.05, interval_ms=100, warmup=2)
        evidence = session.run(by_torch, plan, "none")

    for output, values in want.items():
        assert np.abs(got[output] - values).max() <= 1e-2 * max(1.0, np.abs(values).max())
        assert not np.array_equal(got[output], values)
    assert evidence.engine["spec"]["runtime"] == "torch-cpu"
    assert evidence.engine["runtime_version"] == torch.__version__
    assert all(mark.inferences for mark in evidence.named("block"))


@pytest.mark.board
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has an NVIDIA GPU")
def test_a_session_for_a_gpu_that_is_not_there_is_refused_before_anything_is_leased(
    tmp_path, monkeypatch
):
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    here = device(tmp_path, runtime={"name": "cuda"})

    with (
        pytest.raises(DeviceError, match="no NVIDIA GPU that answers"),
        open_session(here, owner="test"),
    ):
        raise AssertionError("a session was opened")


@pytest.fixture
def fake_nvml(tmp_path_factory, monkeypatch):
    """A library in NVML's place; the machine that it plays is chosen by name."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the library that stands in for NVML")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).parents[1] / "agent" / "fake_nvml.c"
    target = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(target), str(source)], check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))
    return lambda kind: monkeypatch.setenv("FAKE_NVML", kind)


@pytest.mark.board
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has an NVIDIA GPU")
def test_a_gpu_that_no_runtime_reaches_is_refused_by_a_session(tmp_path, fake_nvml):
    fake_nvml("new")
    here = device(tmp_path, runtime={"name": "cuda"})

    with (
        pytest.raises(NoRuntimeError, match="no runtime here") as refusal,
        open_session(here, owner="test"),
    ):
        raise AssertionError("a session was opened")

    assert torch.__version__ in refusal.value.why


@pytest.mark.board
def test_power_of_a_gpu_is_read_beside_a_run_and_refused_under_mig(tmp_path, fake_nvml):
    fake_nvml("new")
    here = device(
        tmp_path,
        runtime={"name": "onnxruntime", "precision": "fp32"},
        power={"source": "nvml", "interval_ms": 20},
    )
    plan = RunPlan(0.1, 0.05, 0.2, blocks=2, tail_s=0.05, interval_ms=20, warmup=2)
    with open_session(here, owner="test") as session:
        assert session.board.raw["gpu"]["gpu"] == "NVIDIA Fake 100"
        spec = EngineSpec(session.put_blob(sample_network()), "fp32", "onnxruntime")
        (record,) = session.run(session.build(spec), plan, "nvml").power
    assert record.settings["power_limit_mw"] == 700_000
    assert "sm_clock=1980MHz" in record.lines[0][1]

    fake_nvml("mig")
    with open_session(here, owner="test") as session:
        info = session.build(spec)
        with pytest.raises(MeasurementError, match="MIG is on") as refusal:
            session.run(info, plan, "nvml")
    assert "-mig 0" in refusal.value.fix


def test_a_device_file_that_asks_for_a_graph_elsewhere_is_refused(tmp_path):
    path = tmp_path / "bad.yaml"
    shipped = find_device("nvidia-gpu", cwd=tmp_path).model_dump(by_alias=True)
    shipped["runtime"]["cuda_graph"] = True
    path.write_text(yaml.safe_dump(shipped))

    with pytest.raises(ConfigError, match="cuda_graph"):
        find_device(str(path), cwd=tmp_path)
