"""What the dialects of TensorRT 8.2 to 10 share: an explicit batch, and precision by a flag."""

SLOW_FP16 = "this GPU has no fast FP16: expect no gain over FP32"


def network_flags(trt):
    """8.x demands an explicit batch; 10 has nothing else and ignores the flag."""
    return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)


def set_precision(trt, builder, config, precision, data):  # noqa: ARG001 - one call for all dialects
    """Allows FP16 kernels where asked; returns what a person should know of it."""
    if precision == "fp32":
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
