"""The TensorRT 8.2 dialect over the emulated board's TensorRT, in the agent as boards run it."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from .conftest import AgentProcess, latencies

pytestmark = pytest.mark.board

PLAN = {
    "idle_s": 1.0,
    "settle_s": 1.0,
    "window_s": 1.0,
    "blocks": 2,
    "tail_s": 0.2,
    "interval_ms": 100,
    "warmup": 3,
}
RNG = np.random.default_rng(7)
KERNEL = (RNG.normal(size=(8, 3, 3, 3)) * 0.2).astype(np.float32)
MATRIX = RNG.normal(size=(8, 4)).astype(np.float32)


def network(operator="Relu", opset=13, batch=1):
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["a"], name="conv", pads=[1] * 4, kernel_shape=[3, 3]),
        helper.make_node(operator, ["a"], ["b"], name="middle"),
        helper.make_node("GlobalAveragePool", ["b"], ["c"], name="pool"),
        helper.make_node("Flatten", ["c"], ["d"], name="flat"),
        helper.make_node("MatMul", ["d", "m"], ["y"], name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(KERNEL, "k"), numpy_helper.from_array(MATRIX, "m")],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=7).SerializeToString()


def reference(samples):
    """The network in plain numpy, double precision."""
    padded = np.pad(samples.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    activation = np.maximum(np.einsum("nchwij,ocij->nohw", windows, KERNEL), 0)
    return activation.mean(axis=(2, 3)) @ MATRIX


class Board:
    """An emulated TX2 and one agent on it."""

    def __init__(self, zipapp, stderr):
        command = [sys.executable, "-m", "hil.emulator.serve", "--board", "tx2", "--json"]
        self.server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.root = json.loads(self.server.stdout.readline())["root"]
        self.home = Path(self.root) / "home/nvidia"
        path = f"{self.root}/usr/sbin:{self.root}/usr/bin:/usr/bin:/bin"
        python = f"{self.root}/usr/bin/python3"
        self.agent = AgentProcess(
            [python, "-u", str(zipapp), "serve", "--root", self.root],
            {"HOME": str(self.home), "PATH": path},
            stderr,
        )
        self.agent.hello()
        self.agent.lease()

    def put(self, data):
        sha256 = hashlib.sha256(data).hexdigest()
        (self.home / ".hil/incoming/upload").write_bytes(data)
        self.agent.call("blob_commit", name="upload", sha256=sha256)
        return sha256

    def blob(self, sha256):
        return (self.home / ".hil/blobs" / sha256).read_bytes()

    def reset(self):
        command = [f"{self.root}/usr/bin/hil-board", "reset", "--seed", "1"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def request(self, data, **more):
        return {"onnx": self.put(data), "runtime": "tensorrt", "precision": "fp32", **more}

    def close(self):
        self.agent.close()
        self.server.stdin.close()
        self.server.wait(20)
        self.server.stdout.close()


@pytest.fixture(scope="module")
def board(zipapp, tmp_path_factory):
    made = Board(zipapp, tmp_path_factory.mktemp("emulated") / "agent.err")
    yield made
    made.close()


@pytest.fixture(scope="module")
def engine(board):
    return board.agent.call("engine_build", **board.request(network()))


def test_a_plan_says_what_it_is_and_is_found_again(board, engine):
    assert engine["runtime_version"].startswith("8.2.1")
    assert engine["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 3, 8, 8]}]
    assert engine["outputs"] == [{"name": "y", "dtype": "float32", "shape": [1, 4]}]
    assert engine["device_memory_bytes"] >= 0
    assert engine["plan_bytes"] == len(board.blob(engine["engine"]))
    assert board.agent.call("engine_build", **board.request(network()))["cached"] is True


def test_its_outputs_are_the_networks(board, engine):
    samples = np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype(np.float32)

    (output,) = board.agent.call(
        "engine_infer",
        engine=engine["engine"],
        runtime="tensorrt",
        inputs={"x": board.put(samples.tobytes())},
        count=3,
    )["outputs"]

    assert output["shape"] == [3, 4]
    got = np.frombuffer(board.blob(output["sha256"]), np.float32).reshape(3, 4)
    np.testing.assert_allclose(got, reference(samples), rtol=1e-4, atol=1e-5)


def test_inputs_of_changing_shape_get_the_shape_asked_for(board):
    refusal = board.agent.error("engine_build", **board.request(network(batch="n")))
    assert refusal["code"] == "unknown_shape"
    assert "--shape x=" in refusal["fix"]

    made = board.agent.call(
        "engine_build", **board.request(network(batch="n"), shapes={"x": [2, 3, 8, 8]})
    )
    assert made["inputs"][0]["shape"] == [2, 3, 8, 8]
    assert made["outputs"][0]["shape"] == [2, 4]


def test_several_profiles_are_built_and_each_shape_is_run_in_the_one_that_holds_it(board):
    small = {"x": [[1, 3, 8, 8], [2, 3, 8, 8], [4, 3, 8, 8]]}
    large = {"x": [[4, 3, 8, 8], [8, 3, 8, 8], [16, 3, 8, 8]]}
    made = board.agent.call(
        "engine_build",
        **board.request(network(batch="n"), shapes={"x": [8, 3, 8, 8]}, profiles=[small, large]),
    )
    assert (made["profile"], made["profiles"]) == (1, [small, large])
    assert made["outputs"][0]["shape"] == [8, 4]

    samples = np.random.default_rng(1).normal(size=(16, 3, 8, 8)).astype(np.float32)
    for rows in (1, 3, 12, 16):
        (output,) = board.agent.call(
            "engine_infer",
            engine=made["engine"],
            runtime="tensorrt",
            shapes={"x": [rows, 3, 8, 8]},
            inputs={"x": board.put(samples[:rows].tobytes())},
            count=1,
        )["outputs"]
        got = np.frombuffer(board.blob(output["sha256"]), np.float32).reshape(rows, 4)
        np.testing.assert_allclose(got, reference(samples[:rows]), rtol=1e-4, atol=1e-5)
    outside = board.agent.error(
        "engine_layers",
        engine=made["engine"],
        runtime="tensorrt",
        shapes={"x": [17, 3, 8, 8]},
        iterations=1,
    )
    assert (outside["code"], "x=4x3x8x8:8x3x8x8" in outside["why"]) == ("unknown_shape", True)


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (network(operator="NonZero"), "unsupported_operator", "middle (NonZero)"),
        (network(opset=15), "unsupported_opset", "15"),
        (b"this is no network", "parse_failed", ""),
    ],
)
def test_refusals_name_the_node_by_its_name(board, data, code, words):
    refusal = board.agent.error("engine_build", **board.request(data))

    assert refusal["code"] == code
    assert words in refusal["why"]


def quantised():
    """The network with its input rounded to INT8 by a pair of nodes."""
    model = onnx.load_from_string(network())
    ends = [("QuantizeLinear", "x", "q"), ("DequantizeLinear", "q", "d")]
    model.graph.node[0].input[0] = "d"
    nodes = [helper.make_node(kind, [a, "s", "z"], [b], name=kind) for kind, a, b in ends]
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "s"))
    model.graph.initializer.append(numpy_helper.from_array(np.int8(0), "z"))
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("precision", "said"),
    [("int8", "no fast INT8"), ("fp16", "is quantised"), ("fp32", "is quantised")],
)
def test_a_tx2_builds_no_quantised_network(board, precision, said):
    refusal = board.agent.error("engine_build", **board.request(quantised(), precision=precision))

    assert refusal["code"] == "build_failed"
    assert said in refusal["message"]
    assert refusal["fix"]


def test_a_tx2_has_no_int8_for_any_network(board):
    refusal = board.agent.error("engine_build", **board.request(network(), precision="int8"))

    assert "no fast INT8" in refusal["message"]


def test_a_plan_of_another_runtime_is_refused(board):
    stray = board.put(b"no plan at all")

    refusal = board.agent.error("engine_layers", engine=stray, runtime="tensorrt", iterations=1)

    assert refusal["code"] == "build_failed"


def test_layers_add_up_to_about_the_latency(board, engine):
    request = {"engine": engine["engine"], "runtime": "tensorrt"}
    rows = board.agent.call("engine_layers", **request, iterations=5)["layers"]

    assert any("conv" in row["name"] for row in rows)
    assert all(row["time_ms"] > 0 for row in rows)


def test_the_same_seed_gives_the_same_evidence_to_the_last_nanosecond(board, engine):
    def evidence():
        board.reset()
        request = {"engine": engine["engine"], "runtime": "tensorrt", "plan": PLAN}
        answer, events = board.agent.finish(
            board.agent.start("engine_run", **request, power=[{"source": "tegrastats"}])
        )
        assert "result" in answer, answer
        lines = [line for e in events if e["kind"] == "power" for line in e["lines"]]
        return lines, [e for e in events if e["kind"] != "power"]

    first, second = evidence(), evidence()

    assert first == second
    lines, events = first
    marks = {(e["name"], e["index"]): e for e in events if e["kind"] == "mark"}
    of_load = [e for e in events if e["kind"] == "latency" and e["phase"] == "block"]
    taken = {e["index"]: latencies(e) for e in of_load}
    assert lines[0][0] < marks["idle_before", 0]["start_ns"]
    assert lines[-1][0] > marks["idle_after", 0]["stop_ns"]
    for index in (0, 1):
        mark = marks["block", index]
        assert len(taken[index]) == mark["inferences"] > 100
        assert mark["stop_ns"] - mark["start_ns"] >= 1_000_000_000
