"""The network a board is calibrated with: plain convolutions, the same bytes on every machine.

Large enough to keep a small GPU busy, small enough to build in seconds and to fit any of them.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LAYERS = 8
CHANNELS = 64
SIDE = 64
SEED = 20


def reference_network() -> bytes:
    """Return the ONNX file (opset 13, IR 7): eight 3 x 3 convolutions of 64 channels at 64 x 64."""
    rng = np.random.Generator(np.random.Philox(SEED))
    weights, nodes = [], []
    last, channels = "input", 3
    for layer in range(LAYERS):
        # He's scale keeps activations of any depth within half precision.
        scale = (2.0 / (9 * channels)) ** 0.5
        values = rng.normal(0, scale, (CHANNELS, channels, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{layer}"))
        nodes += [
            helper.make_node(
                "Conv", [last, f"w{layer}"], [f"c{layer}"], f"conv{layer}", pads=[1, 1, 1, 1]
            ),
            helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"], f"relu{layer}"),
        ]
        last, channels = f"r{layer}", CHANNELS
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["output"], "pool"))
    graph = helper.make_graph(
        nodes,
        "hil-reference",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, CHANNELS, 1, 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
