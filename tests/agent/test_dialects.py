"""The dialects of 8.5 to 10 and of 11 run: build, shapes, numbers, layers, graphs, memory."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hil.agent import trt_build, trt_dialect
from hil.agent.buffers import CudartDevice
from hil.agent.errors import AgentError
from hil.agent.stderrlog import StderrLog
from hil.agent.tensors import default_input
from hil.agent.trt_engine import Engine

HERE = Path(__file__).parent
RELEASES = ("8.6.1", "10.0.1", "10.3.0", "10.16.1.11", "11.4.0.106")
STEP = 0.25
WEIGHT = (np.arange(12, dtype=np.float32).reshape(3, 4) - 5) / 7


def network(batch=1, operator="Relu", half=False):
    """y = operator(x W): one matrix product, one operator."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
        helper.make_node(operator, ["h"], ["y"], name="last"),
    ]
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, [batch, 3])],
        [helper.make_tensor_value_info("y", kind, [batch, 4])],
        [numpy_helper.from_array(WEIGHT.astype(np.float16) if half else WEIGHT, "w")],
    )
    opsets = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=7).SerializeToString()


def quantised():
    """`network` with its input rounded to INT8 by a pair of nodes."""
    model = onnx.load_from_string(network())
    ends = [("QuantizeLinear", "x", "q"), ("DequantizeLinear", "q", "d")]
    pair = [helper.make_node(kind, [a, "s", "z"], [b], name=kind) for kind, a, b in ends]
    model.graph.node[0].input[0] = "d"
    nodes = [*pair, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(STEP), "s"))
    model.graph.initializer.append(numpy_helper.from_array(np.int8(0), "z"))
    return model.SerializeToString()


@pytest.fixture(scope="session")
def fakes():
    spec = importlib.util.spec_from_file_location("fake_tensorrt", HERE / "fake_tensorrt.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def lists():
    folder = HERE.parent / "data/tensorrt_api"
    found = {}
    for version in RELEASES:
        text = (folder / f"api_tensorrt_bindings-{version}.json").read_text(encoding="utf-8")
        found[version] = json.loads(text)
    return found


@pytest.fixture(params=RELEASES)
def trt(request, fakes, lists, library):
    return fakes.make(request.param, lists, library)


@pytest.fixture
def board(trt, library, tmp_path):
    """Builds and loads as the worker does, for one release."""
    return Board(trt, library, tmp_path)


class Board:
    def __init__(self, trt, library, folder):
        self.trt = trt
        self.dialect = trt_dialect.choose(trt)
        self.library = library
        self.folder = folder
        self.typed = trt.__version__.startswith("11")

    def build(self, data, **more):
        source, plan = self.folder / "net.onnx", self.folder / "plan"
        source.write_bytes(data)
        want = {
            "onnx": str(source),
            "engine": str(plan),
            "precision": "fp32",
            "workspace_mib": 64,
            "shapes": {},
            "timing_cache": None,
            "detailed": False,
            **more,
        }
        notes = trt_build.build(self.trt, self.dialect, want, StderrLog())
        return notes, json.loads(plan.read_bytes().partition(b"\n")[0])

    def load(self, shapes=None):
        device = CudartDevice(self.library)
        return Engine(self.trt, self.dialect, device, str(self.folder / "plan"), shapes)

    def refused(self, data, **more):
        with pytest.raises(AgentError) as failure:
            self.build(data, **more)
        return failure.value


def ran(engine, x):
    engine.set_input("x", x.tobytes())
    engine.step()
    return np.frombuffer(engine.output("y"), x.dtype).reshape(-1, 4)


def test_each_release_is_spoken_to_in_its_dialect(board):
    assert board.dialect.NAME.startswith("11" if board.typed else "8.5-10")


def test_outputs_are_numpys(board):
    board.build(network())
    engine = board.load()
    x = np.array([[1.0, -2.0, 3.0]], np.float32)

    np.testing.assert_allclose(ran(engine, x), np.maximum(x @ WEIGHT, 0), rtol=1e-6)

    assert [t.as_dict() for t in engine.inputs] == [
        {"name": "x", "dtype": "float32", "shape": [1, 3]}
    ]
    assert engine.device_memory_bytes == (8192 if board.typed else 4096)
    engine.close()


def test_scratch_memory_is_limited_as_asked(board):
    assert board.build(network(), workspace_mib=3)[1]["workspace"] == 3 << 20


def test_open_shapes_get_a_profile_of_exactly_the_shape_asked(board):
    data = network(batch="n")
    assert board.refused(data).code == "unknown_shape"
    assert board.refused(data, shapes={"x": [2, 5]}).code == "unknown_shape"
    assert board.refused(data, shapes={"x": [2, 3], "q": [1]}).code == "unknown_shape"

    _, plan = board.build(data, shapes={"x": [2, 3]})
    engine = board.load()

    assert plan["profiles"] == [{"x": [[2, 3]] * 3}]
    assert engine.outputs[0].shape == (2, 4)
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    np.testing.assert_allclose(ran(engine, x), np.maximum(x @ WEIGHT, 0), rtol=1e-5)
    engine.close()


def test_several_profiles_are_built_and_the_one_that_fits_is_run(board):
    small, large = {"x": [[1, 3], [1, 3], [4, 3]]}, {"x": [[4, 3], [8, 3], [16, 3]]}

    _, plan = board.build(network(batch="n"), shapes={"x": [6, 3]}, profiles=[small, large])

    assert plan["profiles"] == [small, large]
    x = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    for shapes, number, rows in (
        ({"x": [2, 3]}, 0, 2),
        ({"x": [4, 3]}, 0, 4),  # both hold it, the first is taken
        ({"x": [8, 3]}, 1, 8),
        ({"x": [16, 3]}, 1, 16),
        (None, 0, 1),  # the best of the first
    ):
        engine = board.load(shapes)
        assert (engine.profile, engine.ranges) == (number, [small, large])
        assert engine.outputs[0].shape == (rows, 4)
        got = ran(engine, x[:rows])
        np.testing.assert_allclose(got, np.maximum(x[:rows] @ WEIGHT, 0), rtol=1e-5)
        engine.close()
    with pytest.raises(AgentError, match="no optimisation profile holds") as refusal:
        board.load({"x": [17, 3]})
    assert "1: x=4x3:8x3:16x3" in refusal.value.why


@pytest.mark.parametrize(
    ("profiles", "shapes", "said"),
    [
        ([{"x": [[1, 3], [2, 3], [4, 3]]}], {"x": [5, 3]}, "no optimisation profile holds"),
        ([{"x": [[4, 3], [2, 3], [4, 3]]}], {}, "must grow"),
        ([{"x": [[1, 3], [2, 5], [4, 3]]}], {}, "in the network"),
        ([{"q": [[1, 3], [2, 3], [4, 3]]}], {"x": [1, 3]}, "has no input q"),
    ],
)
def test_profiles_that_do_not_fit_are_refused_before_a_build(board, profiles, shapes, said):
    refusal = board.refused(network(batch="n"), shapes=shapes, profiles=profiles)

    assert refusal.code == "unknown_shape"
    assert said in refusal.message
    assert not (board.folder / "plan").exists()


def test_a_network_of_fixed_shape_has_no_profile(board):
    board.build(network())
    engine = board.load()

    assert (engine.ranges, engine.profile) == ([], None)
    engine.close()


def test_fp16_is_a_flag_up_to_10_and_the_networks_own_from_11(board):
    if not board.typed:
        notes, plan = board.build(network(), precision="fp16")
        assert plan["flags"] == ["FP16"]
        assert "no fast FP16" in notes[0]
        assert board.build(network())[1]["flags"] == []
        return
    refusal = board.refused(network(), precision="fp16")
    assert (refusal.code, "--precision fp16" in refusal.fix) == ("build_failed", True)
    assert board.build(network(half=True), precision="fp16")[0] == []
    assert "float16" in board.build(network(half=True))[0][0]


def test_int8_comes_with_the_network_and_up_to_10_needs_a_flag_too(board):
    notes, plan = board.build(quantised(), precision="int8")

    assert notes == []
    # FP16 for what is not quantised goes along where the GPU is fast at it; the fake one is not.
    assert plan["flags"] == ([] if board.typed else ["INT8"])
    engine = board.load()
    x = np.array([[0.4, -2.1, 3.0]], np.float32)
    np.testing.assert_allclose(
        ran(engine, x), np.maximum(np.rint(x / STEP) * STEP @ WEIGHT, 0), rtol=1e-5
    )
    engine.close()


def test_int8_and_a_quantised_network_go_together_or_not_at_all(board):
    plain = board.refused(network(), precision="int8")
    assert (plain.code, "not quantised" in plain.message) == ("build_failed", True)
    assert "--calibrate" in plain.fix
    for precision in ("fp16", "fp32"):
        refusal = board.refused(quantised(), precision=precision)
        assert (refusal.code, "is quantised" in refusal.message) == ("build_failed", True)
        assert "int8" in refusal.fix


def test_a_gpu_without_int8_refuses_it_before_anything_is_built(board):
    board.trt.fast_int8 = False
    if board.typed:  # 11 has no word for it: it runs on no GPU without INT8
        assert board.build(quantised(), precision="int8")[0] == []
        return

    refusal = board.refused(quantised(), precision="int8")

    assert refusal.code == "build_failed"
    assert "no fast INT8" in refusal.message
    assert "platform_has_fast_int8" in refusal.why
    assert "fp16" in refusal.fix
    assert not (board.folder / "plan").exists()


def test_a_float16_network_is_fed_and_read_as_such(board):
    board.build(network(half=True), precision="fp16")
    engine = board.load()
    assert len(default_input(engine.inputs[0])) == 6

    x = np.array([[0.5, 0.25, -1.0]], np.float16)
    got = ran(engine, x)

    want = np.maximum(x.astype(np.float64) @ WEIGHT.astype(np.float16).astype(np.float64), 0)
    np.testing.assert_allclose(got, want, atol=2e-3)
    engine.close()


def test_unknown_operators_are_all_named(board):
    data = network(operator="Strange")
    model = onnx.load_from_string(data)
    model.graph.node.append(helper.make_node("Stranger", ["y"], ["z"], name="more"))

    refusal = board.refused(model.SerializeToString())

    assert refusal.code == "unsupported_operator"
    assert "node last (Strange)" in refusal.why
    assert board.typed or "node more (Stranger): not supported either" in refusal.why


def test_layers_structure_and_device_time_are_told(board):
    _, plan = board.build(network(), detailed=True)
    engine = board.load()

    assert plan["detailed"] is True
    assert engine.layers(3) == [("product", 1.0), ("last", 2.0)]
    assert engine.structure() == {"Layers": ["product", "last"]}
    assert engine.device_ms(4) == pytest.approx(1.0 / 4)  # the fake clock: one tick, four runs
    engine.close()


def test_a_timing_cache_grows_and_a_damaged_one_is_started_anew(board):
    path = board.folder / "timing"
    board.build(network(), timing_cache=str(path))
    assert path.read_bytes() == b"+"
    board.build(network(), timing_cache=str(path))
    assert path.read_bytes() == b"++"
    path.write_bytes(b"damaged by a power cut")
    board.build(network(), timing_cache=str(path))
    assert path.read_bytes() == b"+"


def test_a_cuda_graph_computes_the_same_and_is_freed(board, launching):
    before = board.library.hil_live()
    board.build(network())
    engine = board.load()
    x = np.array([[1.0, -2.0, 3.0]], np.float32)
    plain = ran(engine, x)

    engine.capture()
    launching(board.trt)
    engine.set_input("x", (2 * x).tobytes())
    engine.step()

    got = np.frombuffer(engine.output("y"), np.float32).reshape(-1, 4)
    np.testing.assert_allclose(got, 2 * plain, rtol=1e-6)
    assert len(board.trt.launches) == 1  # captured once; every step is a launch
    engine.close()
    assert board.library.hil_live() == before


def test_a_strange_plan_is_refused_and_leaves_nothing(board):
    before = board.library.hil_live()
    (board.folder / "plan").write_bytes(b"of another release")

    with pytest.raises(AgentError) as failure:
        board.load()

    assert failure.value.code == "build_failed"
    assert board.library.hil_live() == before


def test_a_context_that_memory_is_too_small_for_names_memory_and_what_it_needs(board):
    board.build(network())
    board.trt.memory_full = True

    with pytest.raises(AgentError) as caught:
        board.load()

    refusal = caught.value
    assert refusal.code == "out_of_memory"
    assert "memory" in refusal.message
    assert "needs" in refusal.why
    assert "MiB" in refusal.why
    assert refusal.fix
