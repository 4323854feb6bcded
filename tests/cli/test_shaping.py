"""Shapes and optimisation profiles from the command line to the result."""

import json

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from hil.cli.network import read_network
from hil.cli.shaping import parse_ranges, parse_shapes, run_shapes
from hil.core.errors import ConfigError
from hil.device.config import find_device

SMALL, LARGE = "x=1x3x8x8:2x3x8x8:4x3x8x8", "x=4x3x8x8:8x3x8x8:16x3x8x8"
sizes = st.lists(st.integers(1, 99), min_size=1, max_size=4)
names = st.text("abc_/:.0", min_size=1, max_size=6)


def grown(low):
    return [[n + k for n in low] for k in (0, 1, 3)]


@given(st.lists(st.dictionaries(names, sizes.map(grown), min_size=1, max_size=3), max_size=3))
def test_what_is_written_is_read(profiles):
    def written(each):
        return ",".join(
            f"{name}={':'.join('x'.join(map(str, dims)) for dims in three)}"
            for name, three in each.items()
        )

    read = parse_ranges([written(each) for each in profiles])

    assert [{n: [list(d) for d in t] for n, t in each.items()} for each in read] == profiles


@pytest.mark.parametrize(
    "text",
    ["", "x", "x=1x3", "x=1:2", "x=1:2:3:4", "x=1:2:3,x=1:2:3", "x=1:2:3,,y=1:2:3", "x=3:2:4",
     "x=1:2:1", "x=1x1:2:3", "x=0:1:2", "=1:2:3"],
)  # fmt: skip
def test_what_is_no_profile_is_refused(text):
    with pytest.raises(ConfigError):
        parse_ranges([text])


def test_what_is_run_is_the_shape_given_or_the_best_of_the_first():
    profiles = parse_ranges([SMALL, LARGE])

    assert run_shapes({}, profiles) == {"x": (2, 3, 8, 8)}
    assert run_shapes(parse_shapes(["x=9x3x8x8"]), profiles) == {"x": (9, 3, 8, 8)}
    assert run_shapes({"x": (5,)}, ()) == {"x": (5,)}
    with pytest.raises(ConfigError, match="x=17x3x8x8"):
        run_shapes({"x": (17, 3, 8, 8)}, profiles)


@pytest.fixture
def model(tmp_path):
    """A convolution whose batch is open."""
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "k"], ["y"], name="conv", pads=[1] * 4)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, 8, 8])],
        [numpy_helper.from_array(weights, "k")],
    )
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=7), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_a_profile_names_inputs_that_are_there(model, tmp_path):
    tx2 = find_device("tx2", cwd=tmp_path)

    network = read_network(model, tx2, ranges=[SMALL, LARGE])

    assert network.shapes == {"x": (2, 3, 8, 8)}
    assert [list(each) for each in network.profiles] == [["x"], ["x"]]
    with pytest.raises(ConfigError, match="no input 'q'"):
        read_network(model, tx2, ["x=1x3x8x8"], ranges=["q=1:2:3"])


@pytest.mark.slow
@pytest.mark.board
def test_a_result_tells_the_profiles_that_were_built_and_the_one_that_ran(model, tmp_path, hil):
    words = ("--shapes", SMALL, "--shapes", LARGE, "--shape", "x=12x3x8x8")
    run = ("--latency-only", "--blocks", "3", "--window", "1s", "--no-keep", "--layers", "--json")

    done = hil("profile", "net.onnx", "-d", "tx2-emulated", *words, *run, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    told = result["optimisation_profiles"]
    assert (told["used"], told["shapes"]) == (1, {"x": [12, 3, 8, 8]})
    assert told["built"][0]["x"] == {
        "min": [1, 3, 8, 8], "opt": [2, 3, 8, 8], "max": [4, 3, 8, 8]
    }  # fmt: skip
    assert result["inputs"][0]["shape"] == [12, 3, 8, 8]
    assert (result["platform"], result["dialect"]) == ("sm_6.2", "8.2: bindings")
    names = [layer["name"] for layer in result["layers"]]
    assert names
    assert result["structure"]["Layers"] == names  # TensorRT's inspector and its profiler agree
    assert result["device_ms"] == pytest.approx(result["latency_p50_ms"], rel=0.3)
