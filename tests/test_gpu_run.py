"""The acceptance run of a GPU: foretold before measured, each step alone, nothing without a GPU."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from hil.core.errors import ExitCode
from hil.device.config import LocalDevice

pytestmark = pytest.mark.torch
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def gpu_run():
    sys.path.insert(0, str(ROOT / "ci"))
    try:
        spec = importlib.util.spec_from_file_location("gpu_run", ROOT / "ci" / "gpu.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["gpu_run"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "ci"))
    return module


@pytest.fixture
def gpu(gpu_run, tmp_path, monkeypatch):
    """A run on this machine's CPU, with networks that it computes in no time."""
    small = {"small": gpu_run.Size(8, 4, 2), "medium": gpu_run.Size(12, 8, 3)}
    monkeypatch.setattr(gpu_run, "SIZES", small)
    (tmp_path / "root" / "run" / "lock").mkdir(parents=True)
    device = LocalDevice.model_validate(
        {
            "schema": "hil/device@1",
            "name": "here",
            "driver": "local",
            "board": "host",
            "runtime": {"name": "torch-cpu", "precision": "fp32"},
            "local": {"state_dir": str(tmp_path / "home")},
            "agent": {"root": str(tmp_path / "root")},
        }
    )
    folder = tmp_path / "gpu-1"
    folder.mkdir()
    bench = gpu_run.Bench(folder)
    gpu_run.prepare(bench, device)
    return gpu_run.Gpu(bench, device, 1.0)


@pytest.mark.board
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has an NVIDIA GPU")
def test_without_a_gpu_it_ends_at_once_and_leaves_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "ci" / "gpu.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == ExitCode.BOARD
    assert "GPU" in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.board
def test_outputs_are_held_against_pytorch_in_both_precisions(gpu_run, gpu):
    del gpu_run.SIZES["medium"]

    told = gpu.outputs()

    assert told.startswith(f"torch-cpu {torch.__version__}: ")
    assert told.count("fp32") == told.count("fp16") == 1


@pytest.mark.board
def test_outputs_of_another_network_are_not_equal(gpu_run, gpu):
    other = gpu_run.export_onnx(
        torch.nn.Sequential(gpu_run.SIZES["small"].make(), torch.nn.Softmax(1)),
        (gpu_run.SIZES["small"].picture(),),
    )
    (gpu.bench.folder / "small.onnx").write_bytes(other)

    with pytest.raises(gpu_run.StepError, match="of the largest output"):
        gpu.outputs()


def test_the_networks_are_of_different_size_and_the_same_each_time(gpu_run):
    macs = [size.macs for size in gpu_run.SIZES.values()]
    assert macs == sorted(macs)
    assert len(set(macs)) == 3
    size = gpu_run.Size(8, 4, 2)
    with torch.no_grad():
        assert torch.equal(size.make()(size.picture()), size.make()(size.picture()))
    assert size.macs == 9 * 64 * (3 * 4 + 4 * 4)


def test_what_is_foretold_is_written_before_and_judged_after(gpu_run, gpu):
    told = gpu_run.foretell(gpu.bench)
    gpu.found |= {"counter_ratio_small": 1.01, "counter_update_ms": 99.7}

    assert gpu.judged() == f"2 of {len(gpu_run.FORETOLD)} measured, all of them held"

    gpu.found["counter_ratio_small"] = 1.2
    with pytest.raises(gpu_run.StepError, match=r"counter_ratio_small: DID NOT HOLD: 1.2 in 0.95"):
        gpu.judged()
    assert json.loads((gpu.bench.folder / "judged.json").read_text())["repeat_over_first"] == (
        "not measured"
    )
    assert told.split()[-1] in gpu_run.foretell(gpu.bench)  # nothing was foretold anew


def test_a_step_that_fails_does_not_keep_the_others(gpu_run, gpu, monkeypatch):
    monkeypatch.setattr(gpu, "sensor", lambda: 1 / len(""))
    monkeypatch.setattr(gpu, "doctor", lambda: (_ for _ in ()).throw(gpu_run.StepError("no")))
    monkeypatch.setattr(gpu, "outputs", lambda: "equal")

    rows = gpu_run.run(gpu, "doctor,outputs,judge")

    assert [(row.name, row.ok) for row in rows] == [
        ("foretell", True),
        ("doctor", False),
        ("outputs", True),
        ("judge", True),
    ]
    with tarfile.open(gpu_run.pack(gpu.bench, rows)) as archive:
        names = archive.getnames()
    assert {"board/results.json", "board/predictions.json", "board/judged.json"} <= set(names)


def test_a_profile_finds_what_was_foretold_of_it(gpu_run, gpu, monkeypatch):
    result = {
        "energy_mj": 12.0,
        "energy_mj_ci95": [11.9, 12.1],
        "energy_mj_u95_total": None,
        "power_w": 200.0,
        "idle_power_w": 80.0,
        "latency_p50_ms": 0.06,
        "validity": "valid",
        "reasons": [],
        "others": [{"source": "nvml", "rail": "gpu_power", "ratio": 1.004}],
    }
    kept = gpu.bench.folder / "runs" / "profile" / "1"
    kept.mkdir(parents=True)
    monkeypatch.setattr(gpu.bench, "hil", lambda *_, **__: 0)
    for name, energy_mj in (("small", 12.0), ("medium", 30.0)):
        (kept / "result.json").write_text(json.dumps({**result, "energy_mj": energy_mj}))
        gpu.profile(name)
    (kept / "result.json").write_text(json.dumps({**result, "energy_mj": 30.3}))
    gpu.repeat()

    assert gpu.found == {
        "above_idle_small": 2.5,
        "counter_ratio_small": 1.004,
        "above_idle_medium": 2.5,
        "counter_ratio_medium": 1.004,
        "energy_medium_over_small": 2.5,
        "repeat_over_first": pytest.approx(1.01),
    }
    (kept / "result.json").write_text(json.dumps({**result, "energy_mj": None}))
    with pytest.raises(gpu_run.StepError, match="no figure"):
        gpu.profile("small")


def test_the_exported_networks_are_the_modules(gpu_run, gpu):
    for name, size in gpu_run.SIZES.items():
        session = onnxruntime.InferenceSession(
            (gpu.bench.folder / f"{name}.onnx").read_bytes(), providers=["CPUExecutionProvider"]
        )
        with torch.no_grad():
            want = size.make()(size.picture()).numpy()
        got = session.run(None, {"input": size.picture().numpy()})[0]
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_the_short_job_is_a_profile_that_hil_reads(gpu_run, tmp_path):
    from hil.synth.profile import load_profile

    (tmp_path / "short.yaml").write_text(gpu_run.SHORT, encoding="utf-8")

    assert load_profile(tmp_path / "short.yaml").name == "short"


def test_make_hands_on_what_it_is_given():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    target = makefile.partition("\ntest-gpu:")[2].partition("\n\n")[0]

    for name in ("DEVICE", "MINUTES", "STEPS"):
        assert f"$({name})" in target or f"$(or $({name})," in target
