"""The dialect of TensorRT 8.5 to 10: tensors by name, memory pools, precision by a flag."""

import functools

from .trt_eight import SLOW_FP16

NAME = "8.5-10: named tensors"


def network_flags(trt):
    """8.x demands an explicit batch; 10 has nothing else and ignores the flag."""
    return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)


def set_workspace(trt, config, nbytes):
    """Limits scratch memory."""
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, nbytes)


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


class Tensors:
    """Inputs and outputs by name."""

    def __init__(self, trt, engine, context):
        self._trt = trt
        self._engine = engine
        self._context = context

    def names(self):
        """(name, is it an input) in the engine's order."""
        found = []
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            mode = self._engine.get_tensor_mode(name)
            found.append((name, mode == self._trt.TensorIOMode.INPUT))
        return found

    def dtype(self, name):
        """TensorRT's data type."""
        return self._engine.get_tensor_dtype(name)

    def shape(self, name):
        """The full shape, once every input has one."""
        return tuple(self._context.get_tensor_shape(name))

    def fix_input(self, name):
        """Gives an input of changing shape the one its profile was made for."""
        if -1 in tuple(self._engine.get_tensor_shape(name)):
            best = self._engine.get_tensor_profile_shape(name, 0)[1]
            self._context.set_input_shape(name, best)

    def enqueue(self, addresses, stream):
        """A call without arguments that starts one inference on the stream."""
        for name, address in addresses.items():
            self._context.set_tensor_address(name, address)
        return functools.partial(self._context.execute_async_v3, stream)
