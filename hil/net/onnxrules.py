"""What TensorRT 8.2 asks of single ONNX operators, beyond having them.

Source: the restriction column of `data/onnx_tensorrt_8.2_operators.csv`. A rule looks at one
node and the constants it can see, and answers None or (what the target asks, what to do).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

Constants = Mapping[str, onnx.TensorProto]
Verdict = tuple[str, str] | None
Restriction = Callable[[onnx.NodeProto, Constants], Verdict]

_RESIZE_COORDINATES = frozenset(
    {"half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"}
)
_RESIZE_NEAREST = frozenset({"floor", "ceil", "round_prefer_floor", "round_prefer_ceil"})


@dataclass(frozen=True)
class Finding:
    """One thing that the target refuses or needs to be told.

    Attributes:
        node: the node's or input's name; "" for the model as a whole.
        op: its operator; "" where there is none.
        rule: what the target asks.
        remedy: what to do.
        fatal: False where the model can be built all the same once the remedy is followed.
    """

    node: str
    op: str
    rule: str
    remedy: str
    fatal: bool = True


def _constant_input(index: int, name: str) -> Restriction:
    def rule(node: onnx.NodeProto, constants: Constants) -> Verdict:
        if len(node.input) <= index or not node.input[index] or node.input[index] in constants:
            return None
        return (
            f"{node.op_type} needs {name} as a constant",
            f"compute {name} when exporting, then simplify (onnxslim)",
        )

    return rule


def _spatial_weights(node: onnx.NodeProto, constants: Constants) -> Verdict:
    weights = constants.get(node.input[1])
    if weights is None or len(weights.dims) in (0, 4, 5):
        return None
    return (
        f"{node.op_type} must be 2D or 3D; its weights have {len(weights.dims)} axes",
        "write it as a 2D operation with one axis of length 1",
    )


def _spatial_window(node: onnx.NodeProto, _constants: Constants) -> Verdict:
    if len(_attribute(node, "kernel_shape", (0, 0))) in (2, 3):
        return None
    return f"{node.op_type} must be 2D or 3D", "add an axis of length 1 before pooling"


def _no_indices(node: onnx.NodeProto, _constants: Constants) -> Verdict:
    if len(node.output) < 2 or not node.output[1]:
        return None
    return "MaxPool cannot give indices", "drop return_indices from the pooling"


def _resize(node: onnx.NodeProto, _constants: Constants) -> Verdict:
    mode = _text(node, "mode", "nearest")
    coordinates = _text(node, "coordinate_transformation_mode", "half_pixel")
    nearest = _text(node, "nearest_mode", "round_prefer_floor")
    if mode not in ("nearest", "linear"):
        return f"Resize cannot be {mode}", "interpolate bilinearly or by nearest neighbour"
    if coordinates not in _RESIZE_COORDINATES:
        return f"Resize cannot use {coordinates} coordinates", "use half_pixel or align_corners"
    if mode == "nearest" and nearest not in _RESIZE_NEAREST:
        return f"Resize cannot round by {nearest}", "use floor or round_prefer_floor"
    return None


def _zero_point(node: onnx.NodeProto, constants: Constants) -> Verdict:
    point = constants.get(node.input[2]) if len(node.input) > 2 else None
    if point is None or not np.any(onnx.numpy_helper.to_array(point)):
        return None
    return f"{node.op_type} needs a zero point of 0", "quantise symmetrically"


def _plain_einsum(node: onnx.NodeProto, _constants: Constants) -> Verdict:
    equation = _text(node, "equation", "")
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    if "..." not in equation and all(len(set(term)) == len(term) for term in terms):
        return None
    return "Einsum cannot use an ellipsis or a diagonal", "write every axis as a letter of its own"


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else onnx.helper.get_attribute_value(found)


def _text(node: onnx.NodeProto, name: str, default: str) -> str:
    value = _attribute(node, name, default)
    return value.decode() if isinstance(value, bytes) else str(value)


RESTRICTIONS: Mapping[str, tuple[Restriction, ...]] = {
    "Conv": (_constant_input(1, "its weights"), _spatial_weights),
    "ConvTranspose": (_constant_input(1, "its weights"), _spatial_weights),
    "AveragePool": (_spatial_window,),
    "MaxPool": (_spatial_window, _no_indices),
    "Resize": (_resize,),
    "Slice": (_constant_input(3, "its axes"),),
    "Squeeze": (_constant_input(1, "its axes"),),
    "Unsqueeze": (_constant_input(1, "its axes"),),
    "TopK": (_constant_input(1, "K"),),
    "CumSum": (_constant_input(1, "its axis"),),
    "InstanceNormalization": (_constant_input(1, "its scale"), _constant_input(2, "its bias")),
    "NonMaxSuppression": tuple(
        _constant_input(i, name)
        for i, name in ((2, "max_output_boxes"), (3, "iou_threshold"), (4, "score_threshold"))
    ),
    "QuantizeLinear": (_zero_point,),
    "DequantizeLinear": (_zero_point,),
    "Einsum": (_plain_einsum,),
}

REMEDIES: Mapping[str, str] = {
    "Reciprocal": "write 1/x as a division",
    "Mod": "write x - floor(x / n) * n",
    "Xor": "write it with Or, And and Not",
    "OneHot": "compare with a range: Equal(Unsqueeze(x), arange)",
    "NonZero": "keep a mask of fixed shape, or move this step behind the engine",
    "RoiAlign": "move it behind the engine, or give the board a plugin",
    "HardSwish": "export at opset 13, where it becomes HardSigmoid and Mul",
    "Mish": "export at opset 13, where it becomes Softplus, Tanh and Mul",
    "LayerNormalization": "export at opset 13, where it is written out",
    "GroupNormalization": "export at opset 13, where it is written out",
    "GridSample": "resize by a fixed factor, or give the board a plugin",
}
