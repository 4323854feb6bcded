"""Whatever a person gets wrong: one clear sentence, the next step, the right exit code."""

from __future__ import annotations

import socket
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

pytestmark = pytest.mark.slow

DEVICE = """\
schema: hil/device@1
name: lab
driver: ssh
board: jetson-tx2
ssh: {{host: 127.0.0.1, port: {port}, user: hil, identity: {key}, host_key: "{host_key}"}}
power: {{source: tegrastats, rail: VDD_IN}}
"""
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBzLWAnDJQBLHrSLcDjJUbBHbuZgyGbFEWGJQPFGPXJb"


def check(done: subprocess.CompletedProcess[str], code: int, *said: str) -> None:
    assert done.returncode == code, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    assert "error:" in done.stderr
    for text in said:
        assert text in done.stderr, (text, done.stderr)


def network(path, *, op="Relu", opset=13, shape=(1, 3, 8, 8), inputs=1):
    names = [f"x{i}" for i in range(inputs)]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], "the_node")],
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(shape)) for n in names],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    onnx.save(model, path)
    return path


def test_a_device_file_shows_all_its_errors_with_line_and_field(tmp_path, hil):
    bad = DEVICE.format(port=99999, key="key", host_key=HOST_KEY) + "colour: blue\n"
    (tmp_path / "bad.yaml").write_text(bad)

    done = hil("doctor", "--device", "bad.yaml", cwd=tmp_path)

    check(done, 2, "bad.yaml:5", "port", "bad.yaml:7", "colour")


def test_malformed_yaml_names_the_line(tmp_path, hil):
    (tmp_path / "bad.yaml").write_text("schema: hil/device@1\nname: [unclosed\n")

    check(hil("doctor", "--device", "bad.yaml", cwd=tmp_path), 2, "bad.yaml:")


def test_an_unknown_device_lists_those_there_are(tmp_path, hil):
    done = hil("doctor", "--device", "tx3.yaml", cwd=tmp_path)

    check(done, 2, "tx3.yaml", "tx2-emulated.yaml")


def test_an_unreachable_board_is_exit_3(tmp_path, hil):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True
    )
    (tmp_path / "lab.yaml").write_text(DEVICE.format(port=port, key="key", host_key=HOST_KEY))

    done = hil("profile", str(network(tmp_path / "n.onnx")), "--device", "lab.yaml", cwd=tmp_path)

    check(done, 3, "127.0.0.1", "refuses connections")


@pytest.mark.parametrize("content", [b"", b"hello, I am a cat", b"\x00" * 64, b"PK\x03\x04rest"])
def test_a_file_that_is_no_onnx_is_exit_2(tmp_path, content, hil):
    (tmp_path / "cat.onnx").write_bytes(content)

    check(hil("profile", "cat.onnx", "-d", "tx2-emulated.yaml", cwd=tmp_path), 2, "cat.onnx")


def test_a_missing_network_is_exit_2(tmp_path, hil):
    check(hil("profile", "none.onnx", "-d", "tx2-emulated.yaml", cwd=tmp_path), 2, "none.onnx")


def test_an_operator_that_tensorrt_8_2_lacks_is_exit_6_and_names_the_node(tmp_path, hil):
    network(tmp_path / "n.onnx", op="Mod", inputs=2)

    done = hil("profile", "n.onnx", "-d", "tx2-emulated.yaml", cwd=tmp_path)

    check(done, 6, "the_node", "Mod")


def test_an_opset_the_board_does_not_take_is_exit_6(tmp_path, hil):
    network(tmp_path / "n.onnx", opset=17)

    check(hil("profile", "n.onnx", "-d", "tx2-emulated.yaml", cwd=tmp_path), 6, "17", "13")


def test_an_open_input_shape_is_exit_2_and_shows_the_option(tmp_path, hil):
    network(tmp_path / "n.onnx", shape=("batch", 3, 8, 8))

    done = hil("profile", "n.onnx", "-d", "tx2-emulated.yaml", cwd=tmp_path)

    check(done, 2, "--shape x0=")


def test_no_power_source_is_exit_5_and_never_zero(tmp_path, hil):
    network(tmp_path / "n.onnx")

    done = hil("profile", "n.onnx", "-d", "local.yaml", "--json", cwd=tmp_path)

    check(done, 5, "power source", "--latency-only")
    assert done.stdout == ""


def test_a_profile_with_several_errors_shows_them_all(tmp_path, hil):
    (tmp_path / "p.yaml").write_text(
        "schema: hil/profile@1\nname: p\ntask: classification\n"
        'prototype: {factory: "no colon"}\ndata: {factory: "a:b"}\n'
        "requirements: {energy_mj: {at_most: -3}}\nalpha: 7\n"
    )

    done = hil("synthesize", "-d", "tx2-emulated.yaml", "-p", "p.yaml", cwd=tmp_path)

    check(done, 2, "p.yaml:4", "p.yaml:6", "p.yaml:7")
    assert not list(tmp_path.glob("runs/*"))


def test_data_of_the_wrong_shape_is_the_profiles_fault(tmp_path, hil):
    (tmp_path / "mydata.py").write_text(
        "import numpy as np\n"
        "def load():\n"
        "    return np.zeros((30, 8, 8), np.float32), np.zeros(30, int)\n"
    )
    (tmp_path / "p.yaml").write_text(
        "schema: hil/profile@1\nname: p\ntask: classification\n"
        'prototype: {factory: "hil.net.prototypes:resnet20"}\ndata: {factory: "mydata:load"}\n'
        "requirements: {energy_mj: {at_most: 50 %}}\n"
    )

    done = hil("synthesize", "-d", "tx2-emulated.yaml", "-p", "p.yaml", cwd=tmp_path)

    check(done, 2, "NCHW")


def test_a_run_that_does_not_exist_cannot_be_resumed(tmp_path, hil):
    check(hil("synthesize", "--resume", "nowhere", cwd=tmp_path), 2, "there is no run")


def test_local_latency_needs_no_power_source(tmp_path, hil):
    network(tmp_path / "n.onnx")
    words = ("profile", "n.onnx", "-d", "local.yaml", "--latency-only", "--precision", "fp32")

    done = hil(*words, "--window", "1s", "--blocks", "3", "--json", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert '"energy_mj": null' in done.stdout
    assert np.char.find(done.stdout, "energy_mj_reason") >= 0
