"""`hil check` and `hil export` of one network, as a person calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from hil.net.sample import sample_network

pytestmark = pytest.mark.slow


def network(path, op="Relu", opset=13):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"], "the_node")], "g", ends[:1], ends[1:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    onnx.save(model, path)


def test_a_network_that_fits_is_taken(tmp_path, hil):
    (tmp_path / "net.onnx").write_bytes(sample_network())

    done = hil("check", "net.onnx", "--device", "tx2-emulated", cwd=tmp_path)

    assert (done.returncode, done.stdout) == (0, "")
    assert "TensorRT, opset 13, fp16" in done.stderr


def test_a_refusal_names_node_rule_and_remedy_and_exits_with_6(tmp_path, hil):
    network(tmp_path / "net.onnx", op="Erf", opset=15)

    done = hil("check", "net.onnx", "--device", "tx2-emulated", "--json", cwd=tmp_path)

    assert done.returncode == 6
    assert "Traceback" not in done.stderr
    told = json.loads(done.stdout)
    assert (told["schema"], told["taken"], told["opset"]) == ("hil/check@1", False, 15)
    assert told["target"]["operators_judged"] is True
    (one,) = told["findings"]
    assert "13 at most" in one["rule"]
    assert "opset 13" in one["remedy"]
    assert one["fatal"] is True


def test_findings_are_a_table_for_people(tmp_path, hil):
    network(tmp_path / "bad.onnx", op="Reciprocal", opset=13)

    done = hil("check", "bad.onnx", "--device", "tx2-emulated", cwd=tmp_path)

    assert done.returncode == 6
    assert "refused" in done.stdout
    assert "the_node" in done.stdout
    assert "Reciprocal" in done.stdout


def test_a_torch_network_becomes_onnx_in_the_precision_asked(tmp_path, hil):
    words = ["hil.net.prototypes:resnet20", "--shape", "input=1x1x28x28"]

    full = hil("export", *words, "--onnx", "full.onnx", "--open-batch", cwd=tmp_path)
    half = hil("export", *words, "--onnx", "half.onnx", "--precision", "fp16", cwd=tmp_path)

    assert (full.returncode, half.returncode) == (0, 0), (full.stderr, half.stderr)
    kinds = [
        {tensor.data_type for tensor in onnx.load(tmp_path / name).graph.initializer}
        for name in ("full.onnx", "half.onnx")
    ]
    assert TensorProto.FLOAT in kinds[0]
    assert TensorProto.FLOAT16 in kinds[1]
    assert TensorProto.FLOAT not in kinds[1]
    first = onnx.load(tmp_path / "full.onnx").graph.input[0].type.tensor_type.shape.dim[0]
    assert first.dim_param


def test_what_is_missing_is_asked_for(tmp_path, hil):
    (tmp_path / "net.onnx").write_bytes(sample_network())

    nothing = hil("export", "net.onnx", cwd=tmp_path)
    no_shape = hil("export", "hil.net.prototypes:resnet20", "--onnx", "x.onnx", cwd=tmp_path)
    both = hil("export", "net.onnx", "--onnx", "x.onnx", "-o", "folder", cwd=tmp_path)

    assert [one.returncode for one in (nothing, no_shape, both)] == [2, 2, 2]
    assert "--onnx FILE" in nothing.stderr
    assert "--shape input=" in no_shape.stderr
    assert "--output" in both.stderr


def test_without_tensorrt_it_says_where_engines_are_built_and_why(tmp_path, hil):
    (tmp_path / "net.onnx").write_bytes(sample_network())

    done = hil("export", "net.onnx", "--tensorrt", "net.plan", cwd=tmp_path)

    assert done.returncode == 6
    assert "runs only on the GPU and the TensorRT release that built it" in done.stderr
    assert "--device BOARD" in done.stderr
    assert not (tmp_path / "net.plan").exists()


@pytest.fixture
def machine_with_tensorrt():
    """Environment of an emulated board: a machine whose Python has (emulated) TensorRT 8.2."""
    command = [sys.executable, "-m", "hil.emulator.serve", "--board", "tx2", "--json"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    root = json.loads(server.stdout.readline())["root"]
    yield {"PATH": f"{root}/usr/bin:/usr/bin:/bin", "HOME": f"{root}/home/nvidia", "ROOT": root}
    server.stdin.close()
    server.wait(20)
    server.stdout.close()


@pytest.mark.board
def test_with_tensorrt_an_engine_is_built_or_the_refusal_is_tensorrts(
    machine_with_tensorrt, tmp_path
):
    (tmp_path / "net.onnx").write_bytes(sample_network())
    network(tmp_path / "bad.onnx", op="Reciprocal")
    env = machine_with_tensorrt
    python = str(Path(env["ROOT"]) / "usr/bin/python3")

    def export(name):
        words = ["export", f"{name}.onnx", "--tensorrt", f"{name}.plan", "--precision", "fp16"]
        return subprocess.run(
            [python, "-m", "hil.cli.app", *words],
            env={**env, "HIL_BOARD_ROOT": env["ROOT"], "LANG": os.environ.get("LANG", "C")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    good, bad = export("net"), export("bad")

    assert good.returncode == 0, good.stderr
    assert (tmp_path / "net.plan").stat().st_size > 1000
    assert bad.returncode == 6
    assert "the_node" in bad.stderr
