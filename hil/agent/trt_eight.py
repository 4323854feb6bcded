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


# assumes: bindings-by-profile
class Tensors:
    """Inputs and outputs by index."""

    def __init__(self, trt, engine, context):  # noqa: ARG002 - one call for all dialects
        self._engine = engine
        self._context = context
        self._index = {}
        self._profiles = engine.num_optimization_profiles
        self._each = engine.num_bindings // self._profiles  # every profile has bindings of its own
        self._first = 0

    def names(self):
        """(name, is it an input) in the engine's order."""
        found = []
        for index in range(self._each):
            name = self._engine.get_binding_name(index)
            self._index[name] = index
            found.append((name, self._engine.binding_is_input(index)))
        return found

    def dtype(self, name):
        """TensorRT's data type."""
        return self._engine.get_binding_dtype(self._index[name])

    def shape(self, name):
        """The full shape, once every input has one."""
        return tuple(self._context.get_binding_shape(self._first + self._index[name]))

    def ranges(self, inputs):
        """{input: (smallest, best, largest)} of changing inputs, for each profile."""
        changing = [
            name
            for name in inputs
            if -1 in tuple(self._engine.get_binding_shape(self._index[name]))
        ]
        return [
            {
                name: [list(d) for d in self._engine.get_profile_shape(number, self._index[name])]
                for name in changing
            }
            for number in range(self._profiles)
        ]

    def use(self, number, stream):
        """Switches to another profile, on the stream."""
        self._context.set_optimization_profile_async(number, stream)
        self._first = number * self._each

    def fix_input(self, name, dims):
        """Gives an input of changing shape the one it is run at."""
        self._context.set_binding_shape(self._first + self._index[name], tuple(dims))

    def enqueue(self, addresses, stream):
        """A call without arguments that starts one inference on the stream."""
        bindings = [0] * (self._each * self._profiles)
        for name, address in addresses.items():
            bindings[self._first + self._index[name]] = address
        return functools.partial(self._context.execute_async_v2, bindings, stream)
