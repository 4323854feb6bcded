"""The part of `pycuda.driver` that inference needs: device, context, memory, streams, events."""

from hil.emulator.clockfile import NOW
from hil.emulator.trt import device as gpu
from hil.emulator.trt.plan import CAPABILITY

_contexts = []
_started = []


class Error(Exception):
    """A call of the driver failed."""


class LogicError(Error):
    """The caller's fault."""


class MemoryError(Error):
    """No memory left."""


class LaunchError(Error):
    """A kernel failed."""


def init(flags=0):
    """Starts the driver."""
    gpu.device()
    _started.append(True)


def get_version():
    """The CUDA release."""
    return (10, 2, 0)


def _need_context(call):
    if not _contexts:
        raise LogicError(
            f"{call} failed: context is destroyed"
            if _started
            else f"{call} failed: not initialized"
        )
    return gpu.device()


class Device:
    """The board's only GPU."""

    def __init__(self, number):
        if not _started:
            raise LogicError("cuDeviceGet failed: initialization error")
        if number != 0:
            raise LogicError("cuDeviceGet failed: invalid device ordinal")

    @staticmethod
    def count():
        return 1

    def name(self):
        return "NVIDIA Tegra X2"

    def compute_capability(self):
        return CAPABILITY

    def total_memory(self):
        return gpu.device().total_bytes

    def make_context(self, flags=0):
        context = Context()
        context.push()
        return context


class Context:
    """A context on the stack of this process."""

    def push(self):
        _contexts.append(self)

    @staticmethod
    def pop():
        if not _contexts:
            raise LogicError("cuCtxPopCurrent failed: invalid device context")
        _contexts.pop()

    def detach(self):
        if self in _contexts:
            _contexts.remove(self)

    @staticmethod
    def get_device():
        return Device(0)

    @staticmethod
    def synchronize():
        device = _need_context("cuCtxSynchronize")
        for stream in list(device.streams.values()):
            device.synchronize(stream)


class DeviceAllocation:
    """A block of device memory, freed with the object."""

    def __init__(self, address):
        self._address = address

    def __int__(self):
        return self._address

    __index__ = __int__

    def free(self):
        gpu.device().free(self._address)

    def __del__(self):
        self.free()


def mem_alloc(bytes):
    """Takes a block."""
    if bytes <= 0:
        raise LogicError("cuMemAlloc failed: invalid argument")
    try:
        return DeviceAllocation(_need_context("cuMemAlloc").allocate(int(bytes)).address)
    except gpu.OutOfMemoryError:
        raise MemoryError("cuMemAlloc failed: out of memory") from None


def mem_get_info():
    """(free, total) bytes."""
    device = _need_context("cuMemGetInfo")
    return device.free_bytes(), device.total_bytes


def pagelocked_empty(shape, dtype, order="C", mem_flags=0):
    """Host memory; all memory of this board is the same DRAM."""
    import numpy

    return numpy.empty(shape, dtype, order)


class Stream:
    """Work in order."""

    def __init__(self, flags=0):
        self._device = _need_context("cuStreamCreate")
        self._stream = self._device.new_stream()
        self.handle = self._stream.handle
        self.synchronize = self._device.synchronizer(self._stream)

    def is_done(self):
        return self._stream.ready_ns <= self._device.time.words[NOW]

    def __del__(self):
        if hasattr(self, "_stream"):
            self._device.streams.pop(self.handle, None)


class Event:
    """A moment in a stream."""

    def __init__(self, flags=0):
        self._device = _need_context("cuEventCreate")
        self._at_ns = None

    def record(self, stream=None):
        self._at_ns = max(_stream(self._device, stream).ready_ns, self._device.time.words[NOW])
        return self

    def synchronize(self):
        if self._at_ns is not None and self._at_ns > self._device.time.words[NOW]:
            self._device.time.reach(self._at_ns)
        return self

    def query(self):
        return self._at_ns is None or self._at_ns <= self._device.time.words[NOW]

    def time_since(self, event):
        return (self._at_ns - event._at_ns) / 1e6

    def time_till(self, event):
        return (event._at_ns - self._at_ns) / 1e6


def _stream(device, stream):
    return device.streams[0 if stream is None else stream.handle]


def _copied(call, size, stream):
    device = _need_context(call)
    device.copy(_stream(device, stream), size)
    return device


def memcpy_htod_async(dest, src, stream=None):
    """Copies a buffer to the device."""
    data = memoryview(src).cast("B")
    device = _copied("cuMemcpyHtoDAsync", len(data), stream)
    try:
        device.write(int(dest), bytes(data))
    except gpu.BadAddressError:
        raise LogicError("cuMemcpyHtoDAsync failed: invalid argument") from None


def memcpy_htod(dest, src):
    """Copies a buffer to the device and waits."""
    memcpy_htod_async(dest, src)
    gpu.device().synchronize(gpu.device().streams[0])


def memcpy_dtoh_async(dest, src, stream=None):
    """Copies from the device into a buffer."""
    target = memoryview(dest).cast("B")
    device = _copied("cuMemcpyDtoHAsync", len(target), stream)
    try:
        target[:] = device.read(int(src), len(target))
    except gpu.BadAddressError:
        raise LogicError("cuMemcpyDtoHAsync failed: invalid argument") from None


def memcpy_dtoh(dest, src):
    """Copies from the device into a buffer and waits."""
    memcpy_dtoh_async(dest, src)
    gpu.device().synchronize(gpu.device().streams[0])
