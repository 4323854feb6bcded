"""The dialect of TensorRT 8.2: tensors by index, `max_workspace_size`, precision by a flag.

8.4 still has these names; from 8.5 on tensors have names of their own, and `trt_named` is used.
"""

import functools

from .trt_flagged import device_memory_bytes, network_flags, set_precision, unsupported_nodes

NAME = "8.2: bindings"
__all__ = [
    "NAME",
    "Tensors",
    "device_memory_bytes",
    "network_flags",
    "set_precision",
    "set_workspace",
    "unsupported_nodes",
]


def set_workspace(trt, config, nbytes):  # noqa: ARG001 - one call for all dialects
    """Limits scratch memory; TensorRT's own default, 0 here and 16 MiB in trtexec, is too little.

    `trt` is for the other dialects, which name a pool.
    """
    config.max_workspace_size = nbytes


class Tensors:
    """Inputs and outputs by index."""

    def __init__(self, trt, engine, context):  # noqa: ARG002 - one call for all dialects
        self._engine = engine
        self._context = context
        self._index = {}

    def names(self):
        """(name, is it an input) in the engine's order."""
        found = []
        for index in range(self._engine.num_bindings):
            name = self._engine.get_binding_name(index)
            self._index[name] = index
            found.append((name, self._engine.binding_is_input(index)))
        return found

    def dtype(self, name):
        """TensorRT's data type."""
        return self._engine.get_binding_dtype(self._index[name])

    def shape(self, name):
        """The full shape, once every input has one."""
        return tuple(self._context.get_binding_shape(self._index[name]))

    def fix_input(self, name):
        """Gives an input of changing shape the one its profile was made for."""
        index = self._index[name]
        if -1 in tuple(self._engine.get_binding_shape(index)):
            best = self._engine.get_profile_shape(0, index)[1]
            self._context.set_binding_shape(index, best)

    def enqueue(self, addresses, stream):
        """A call without arguments that starts one inference on the stream."""
        by_index = sorted((self._index[name], address) for name, address in addresses.items())
        bindings = [address for _, address in by_index]
        return functools.partial(self._context.execute_async_v2, bindings, stream)
