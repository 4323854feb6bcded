"""The dialect of TensorRT 11: `trt_named`, strongly typed; no flag can lower the precision.

FP16 and INT8 are what the ONNX file says they are: a network of float16 weights, or one with
QuantizeLinear and DequantizeLinear.
"""

from . import onnxscan, trt_named, trt_refusals
from .errors import AgentError

NAME = "11: strongly typed"
Tensors = trt_named.Tensors
set_workspace = trt_named.set_workspace


def network_flags(trt):
    """Every network of 11 is strongly typed; the flag says so where it is still known."""
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def set_precision(trt, builder, config, precision, data):  # noqa: ARG001 - one call for all dialects
    """Holds that the network is what was asked for; nothing can be set."""
    trt_refusals.hold_quantised(precision, data)
    half = onnxscan.FLOAT16 in onnxscan.weight_types(data)
    if precision == "fp16" and not half:
        raise AgentError(
            "build_failed",
            "TensorRT %s takes the precision from the network alone" % trt.__version__,
            "fp16 was asked, and no weight of the network is float16",
            "export it so: `hil export MODEL --onnx FILE --precision fp16`",
        )
    if precision == "fp32" and half:
        return ["the network's own weights are float16: TensorRT 11 runs it so"]
    return []


def unsupported_nodes(parser, data):  # noqa: ARG001 - one call for all dialects
    """None beyond the parser's complaints, which name every node by themselves here."""
    return []


def device_memory_bytes(engine):
    """Activation memory: the name without `_v2` is gone."""
    return int(engine.device_memory_size_v2)
