"""The published networks are those of the literature, run, and are taken by TensorRT 8.2."""

from __future__ import annotations

import csv
import math
import os
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from hil.emulator.reference_networks import PUBLISHED as REFERENCE
from hil.net.onnxcheck import findings
from hil.net.published import PUBLISHED

# As usually counted, with a gain and a bias for each channel of batch normalisation: 138,357,544
# (VGG has none), 25,557,032 and 4,231,976 (1000 classes); folded, only the biases are left, and
# TF-slim's MobileNet has one class more.
WEIGHTS = {
    "vgg16": 138_357_544,
    "resnet50": 25_557_032 - 26_560,
    "mobilenet": 4_231_976 - 10_944 + 1025,
}
DATA = Path(os.environ.get("HIL_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


@pytest.fixture(scope="module", params=sorted(PUBLISHED))
def network(request):
    data = b"".join(PUBLISHED[request.param].chunks())
    return request.param, data, onnx.load_from_string(data)


def test_it_has_the_published_number_of_weights(network):
    name, data, model = network

    count = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)

    assert count == WEIGHTS[name]
    assert round(len(data) / 1e6) == PUBLISHED[name].shipped_mb


def test_it_has_the_convolutions_of_the_independent_definition(network):
    name, _, model = network
    other = REFERENCE[PUBLISHED[name].row]()
    shapes = {t.name: tuple(t.dims) for t in other.graph.initializer}
    theirs = Counter(
        (
            shapes[node.input[1]]
            if len(shapes[node.input[1]]) == 4
            else (*shapes[node.input[1]], 1, 1)
        )
        for node in other.graph.node
        if node.op_type in ("Conv", "Gemm")
    )
    sizes = {t.name: tuple(t.dims) for t in model.graph.initializer}

    ours = Counter(sizes[node.input[1]] for node in model.graph.node if node.op_type == "Conv")

    assert ours == theirs


def test_tensorrt_82_takes_it(network):
    _, data, model = network

    assert model.opset_import[0].version == 13
    assert findings(data, "tensorrt-8.2") == ()
    assert model.ByteSize() == len(data)  # written by hand in part: the library counts the same


@pytest.mark.parametrize("name", ["mobilenet", "resnet50"])
def test_it_ships_small(name):
    packer = zlib.compressobj(1)
    packed = sum(len(packer.compress(chunk)) for chunk in PUBLISHED[name].chunks())

    assert packed < 0.03 * 1e6 * PUBLISHED[name].shipped_mb + 500_000


@pytest.mark.parametrize("name", ["mobilenet", "resnet50"])
def test_it_runs_and_stays_within_half_precision(name):
    data = b"".join(PUBLISHED[name].chunks())
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model)
    model.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(node.output[0])
        for node in model.graph.node
        if node.op_type == "Conv"
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    picture = np.random.Generator(np.random.Philox(1)).normal(0, 1, (1, 3, 224, 224))

    probabilities, *inner = session.run(None, {"input": picture.astype(np.float32)})

    assert probabilities.sum() == pytest.approx(1.0, abs=1e-4)
    assert max(float(np.abs(x).max()) for x in inner) < 65504


def test_the_same_bytes_each_time():
    assert list(PUBLISHED["mobilenet"].chunks()) == list(PUBLISHED["mobilenet"].chunks())


def test_the_published_figures_are_the_tables():
    table = DATA / "tx2_tables" / "nvidia_tf_to_trt_image_classification.csv"
    if not table.exists():
        pytest.skip(f"no {table}: set HIL_DATA")
    with table.open(encoding="utf-8") as file:
        rows = {
            row["model"]: float(row["latency_ms"])
            for row in csv.DictReader(file)
            if row["status"] == "verified"
            and (row["precision"], row["engine"]) == ("FP16", "TensorRT 3.0")
            and "nvpmodel 3" in row["power_mode"]
        }

    assert {one.row: one.latency_ms for one in PUBLISHED.values()}.items() <= rows.items()
