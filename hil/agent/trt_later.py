"""What TensorRT calls things since 8.5 (tensors by name); 8.2's half is `trt_dialect`.

Chosen by feature test, never by comparing versions: 8.5 and 8.6 have both interfaces.
"""


class NamedTensors:
    """Inputs and outputs by name: `num_io_tensors`, `set_input_shape`, `execute_async_v3`."""

    def __init__(self, trt, engine, context):
        self._trt = trt
        self._engine = engine
        self._context = context

    @staticmethod
    def fits(engine):
        """True where this interface exists."""
        return hasattr(engine, "num_io_tensors")

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

    def step(self, addresses, device):
        """A call without arguments that runs one inference and waits for it."""
        for name, address in addresses.items():
            self._context.set_tensor_address(name, address)
        execute, wait, stream = self._context.execute_async_v3, device.synchronize, device.stream

        def one():
            execute(stream)
            wait()

        return one


def device_memory_bytes(engine):
    """Activation memory: the name without `_v2` is gone since 11."""
    for name in ("device_memory_size", "device_memory_size_v2"):
        if hasattr(engine, name):
            return int(getattr(engine, name))
    return None


def set_workspace(trt, config, nbytes):
    """Limits scratch memory; returns False where this TensorRT still has the older property."""
    if not hasattr(config, "set_memory_pool_limit"):
        return False
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, nbytes)
    return True
