"""One emulated board for all tests here, served in this process on a free port."""

from __future__ import annotations

import base64
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import paramiko
import pytest
from onnx import TensorProto, helper, numpy_helper

from hil.emulator.serve import EmulatedBoard, Options

Run = Callable[..., subprocess.CompletedProcess[str]]


@dataclass
class Board:
    """A served board and a way to run its commands without SSH."""

    served: EmulatedBoard

    @property
    def root(self) -> Path:
        return self.served.root

    @property
    def environment(self) -> dict[str, str]:
        root = self.root
        return {
            "PATH": f"{root}/usr/sbin:{root}/usr/bin:/usr/bin:/bin",
            "HOME": f"{root}/home/nvidia",
            "HIL_BOARD_ROOT": str(root),
        }

    def run(self, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            input=stdin,
            env=self.environment,
            cwd=self.root / "home/nvidia",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def python(self, program: str, *arguments: str) -> str:
        done = self.run("python3", "-c", program, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def reset(self, seed: int = 0) -> None:
        assert self.run("hil-board", "reset", "--seed", str(seed)).returncode == 0

    def connect(self) -> paramiko.SSHClient:
        told = self.served.description()
        kind, text = told["host_key"].split()
        key = paramiko.PKey.from_type_string(kind, base64.b64decode(text))
        client = paramiko.SSHClient()
        client.get_host_keys().add(f"[127.0.0.1]:{told['port']}", kind, key)
        link = socket.create_connection((told["host"], told["port"]))
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.connect(
            told["host"],
            told["port"],
            told["user"],
            key_filename=told["identity"],
            sock=link,
            allow_agent=False,
            look_for_keys=False,
        )
        return client


@pytest.fixture(scope="session")
def served() -> Iterator[Board]:
    board = EmulatedBoard(Options(seed=3))
    yield Board(board)
    board.close()


@pytest.fixture
def board(served: Board) -> Board:
    served.reset()
    return served


@pytest.fixture
def ssh(served: Board) -> Iterator[paramiko.SSHClient]:
    client = served.connect()
    yield client
    client.close()


def network(
    *middle: onnx.NodeProto,
    opset: int = 13,
    channels: int = 8,
    shape: tuple[int | str, ...] = (1, 3, 16, 16),
    extra: tuple[onnx.TensorProto, ...] = (),
    weights_as_input: bool = False,
) -> bytes:
    """x -> convolution -> `middle` nodes (from "a" to "y"; a Relu where none are given) -> y."""
    import numpy

    weights = numpy.random.default_rng(0).normal(size=(channels, 3, 3, 3)).astype("float32") / 5
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"], name="conv", pads=[1, 1, 1, 1])]
    nodes += list(middle) or [helper.make_node("Relu", ["a"], ["y"], name="relu")]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))]
    if weights_as_input:
        inputs.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, weights.shape))
    graph = helper.make_graph(
        nodes,
        "test",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [] if weights_as_input else [numpy_helper.from_array(weights, "w"), *extra],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    data: bytes = model.SerializeToString()
    return data
