"""`hil profile` on a record: the same figures as when it was made, and no network without one."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytestmark = [pytest.mark.slow, pytest.mark.board]
DEVICE = """\
schema: hil/device@1
name: old
driver: replay
board: jetson-tx2
replay: {evidence: %s}
power: {source: tegrastats, rail: VDD_IN}
"""
FIGURES = ("energy_mj", "energy_net_mj", "latency_p50_ms", "latency_p99_ms", "power_w")


def network(channels: int) -> bytes:
    weights = np.full((channels, 3, 3, 3), 0.1, dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3])],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, channels, 30, 30])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def test_a_profile_is_given_again_from_its_evidence_and_other_networks_are_refused(tmp_path, hil):
    (tmp_path / "net.onnx").write_bytes(network(8))
    (tmp_path / "other.onnx").write_bytes(network(9))
    words = ("--blocks", "3", "--json")
    first = hil("profile", "net.onnx", "-d", "tx2-emulated.yaml", *words, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    made = json.loads(first.stdout)
    (tmp_path / "old.yaml").write_text(DEVICE % made["folder"], encoding="utf-8")

    again = hil("profile", "net.onnx", "-d", "old.yaml", *words, cwd=tmp_path)
    shown = hil("profile", "net.onnx", "-d", "old.yaml", *words[:2], "--no-keep", cwd=tmp_path)
    refused = hil("profile", "other.onnx", "-d", "old.yaml", *words, cwd=tmp_path)

    assert again.returncode == 0, again.stderr
    replayed = json.loads(again.stdout)
    for name in FIGURES:
        assert replayed[name] == made[name]
        assert replayed[f"{name}_ci95"] == made[f"{name}_ci95"]
    assert (made["provenance"], replayed["provenance"]) == ("emulated", "replayed")
    assert replayed["recorded"] == "emulated"
    assert replayed["engine_sha256"] == made["engine_sha256"]
    assert "REPLAYED" in shown.stdout
    assert "recorded on an EMULATED board before" in shown.stdout
    assert refused.returncode == 2, refused.stderr
    assert "old has no record of this network" in refused.stderr
    assert "hil profile" in refused.stderr
