"""The dialect of TensorRT 8.5 to 10: tensors by name, memory pools, precision by a flag."""

import functools

from .trt_flagged import device_memory_bytes, network_flags, set_precision, unsupported_nodes

NAME = "8.5-10: named tensors"
__all__ = [
    "NAME",
    "Tensors",
    "device_memory_bytes",
    "network_flags",
    "set_precision",
    "set_workspace",
    "unsupported_nodes",
]


def set_workspace(trt, config, nbytes):
    """Limits scratch memory."""
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, nbytes)


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

    def ranges(self, inputs):
        """{input: (smallest, best, largest)} of changing inputs, for each profile."""
        changing = [name for name in inputs if -1 in tuple(self._engine.get_tensor_shape(name))]
        return [
            {
                name: [list(d) for d in self._engine.get_tensor_profile_shape(name, number)]
                for name in changing
            }
            for number in range(self._engine.num_optimization_profiles)
        ]

    def use(self, number, stream):
        """Switches to another profile, on the stream."""
        self._context.set_optimization_profile_async(number, stream)

    def fix_input(self, name, dims):
        """Gives an input of changing shape the one it is run at."""
        self._context.set_input_shape(name, tuple(dims))

    def enqueue(self, addresses, stream):
        """A call without arguments that starts one inference on the stream."""
        for name, address in addresses.items():
            self._context.set_tensor_address(name, address)
        return functools.partial(self._context.execute_async_v3, stream)
