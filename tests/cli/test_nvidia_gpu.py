"""An NVIDIA GPU on the command line of a machine that has none: told, and nothing measured."""

from __future__ import annotations

import json

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from hil.core.errors import ExitCode
from hil.net.sample import sample_network

pytestmark = [
    pytest.mark.board,
    pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has an NVIDIA GPU"),
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "net.onnx").write_bytes(sample_network())
    return tmp_path


def test_a_profile_without_a_driver_is_refused_with_what_why_and_the_next_step(folder, hil):
    done = hil("profile", "net.onnx", "--device", "nvidia-gpu.yaml", cwd=folder)

    assert done.returncode == ExitCode.BOARD
    assert done.stdout == ""
    assert "no NVIDIA GPU" in done.stderr
    assert "nvidia-smi" in done.stderr


def test_a_check_names_operators_that_pytorch_would_not_run(folder, hil):
    node = helper.make_node("Einsum", ["x", "x"], ["y"], "contract", equation="ij,ij->ij")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3]) for n in ("x", "y")]
    model = helper.make_model(
        helper.make_graph([node], "one", ends[:1], ends[1:]),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    onnx.save(model, folder / "einsum.onnx")

    words = ("check", "einsum.onnx", "--json", "--device")
    best = hil(*words, "nvidia-gpu.yaml", cwd=folder)
    text = (folder / "torch.yaml").write_text
    text(
        "schema: hil/device@1\nname: t\ndriver: local\nboard: host\n"
        "runtime: {name: torch-cpu, precision: fp32}\n"
    )
    torch_only = hil(*words, "torch.yaml", cwd=folder)

    assert best.returncode == ExitCode.GOOD
    assert torch_only.returncode == ExitCode.EXPORT
    for done in (best, torch_only):
        (found,) = json.loads(done.stdout)["findings"]
        assert (found["node"], found["operator"]) == ("contract", "Einsum")
