"""What the dialects of TensorRT 8.2 to 10 share: an explicit batch, and precision by a flag."""

from . import trt_refusals

SLOW_FP16 = "this GPU has no fast FP16: expect no gain over FP32"


def network_flags(trt):
    """8.x demands an explicit batch; 10 has nothing else and ignores the flag."""
    return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)


def set_precision(trt, builder, config, precision, data):
    """Allows FP16 or INT8 kernels where asked; returns what a person should know of it.

    With INT8 what the network does not quantise runs in FP16 where the GPU is fast at it.
    """
    if precision == "int8" and not builder.platform_has_fast_int8:
        raise trt_refusals.no_int8()
    trt_refusals.hold_quantised(precision, data)
    if precision == "fp32":
        return []
    if precision == "int8":
        config.set_flag(trt.BuilderFlag.INT8)
        if builder.platform_has_fast_fp16:
            config.set_flag(trt.BuilderFlag.FP16)
        return []
    config.set_flag(trt.BuilderFlag.FP16)
    return [] if builder.platform_has_fast_fp16 else [SLOW_FP16]


def unsupported_nodes(parser, data):
    """Numbers of the nodes that this release does not support; empty where it cannot tell."""
    _, parts = parser.supports_model(data)
    return [index for nodes, supported in parts if not supported for index in nodes]


def device_memory_bytes(engine):
    """Activation memory."""
    return int(engine.device_memory_size)
