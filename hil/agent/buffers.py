"""Device memory and one stream: through PyCUDA, or straight through the CUDA runtime.

PyCUDA is not part of JetPack and must be compiled on the board, so where it is absent the same
calls go to libcudart by ctypes. `via` says which it was.
"""

import ctypes
import ctypes.util
import importlib

from . import cudagraph
from .errors import AgentError


def open_device():
    """The first GPU, through PyCUDA where it can be imported, else through libcudart.

    Raises:
        AgentError: `no_runtime` where neither is there or no GPU answers.
    """
    try:
        driver = importlib.import_module("pycuda.driver")
    except (ImportError, OSError):
        return CudartDevice(_find_cudart())
    return PycudaDevice(driver)


class PycudaDevice:
    """Device 0 with a context of its own."""

    def __init__(self, driver):
        self._driver = driver
        driver.init()
        self._device = driver.Device(0)
        self._context = self._device.make_context()
        self._stream = driver.Stream()
        self._held = []
        self.stream = self._stream.handle
        self.synchronize = self._stream.synchronize
        self.via = "pycuda"

    def capability(self):
        """Compute capability, e.g. "6.2"."""
        return "%d.%d" % self._device.compute_capability()

    def allocate(self, nbytes):
        """Device memory that lives until `close`; returns its address."""
        memory = self._driver.mem_alloc(max(1, nbytes))
        self._held.append(memory)
        return int(memory)

    def upload(self, address, data):
        """Copies bytes to the device and waits."""
        self._driver.memcpy_htod_async(address, data, self._stream)
        self.synchronize()

    def download(self, address, nbytes):
        """Waits for the stream's work and copies bytes from the device."""
        data = bytearray(nbytes)
        self._driver.memcpy_dtoh_async(data, address, self._stream)
        self.synchronize()
        return bytes(data)

    def time_ms(self, enqueue, iterations):
        """Time between two events around so many calls of `enqueue`, in ms on the device."""
        before, after = self._driver.Event(), self._driver.Event()
        before.record(self._stream)
        for _ in range(iterations):
            enqueue()
        after.record(self._stream)
        after.synchronize()
        return before.time_till(after)

    def capture(self, enqueue):
        """A CUDA graph of what `enqueue` starts; PyCUDA has no graphs, so libcudart makes it."""
        try:
            library = _find_cudart()
        except AgentError:
            raise AgentError(
                "no_runtime",
                "a CUDA graph needs libcudart, which cannot be loaded",
                "PyCUDA has no graphs",
                "install JetPack's CUDA runtime (cuda-cudart), or leave cuda_graph out",
            )
        return cudagraph.capture(library, self.stream, enqueue)

    def close(self):
        """Frees everything, the context last."""
        for memory in self._held:
            memory.free()
        self._held = []
        self._stream = self.synchronize = None
        self._context.pop()
        self._context.detach()


class CudartDevice:
    """The CUDA runtime's current device, by ctypes."""

    _TO_DEVICE, _TO_HOST = 1, 2
    _MAJOR, _MINOR = 75, 76  # cudaDevAttrComputeCapabilityMajor, Minor (driver_types.h)

    def __init__(self, library):
        self._cuda = library
        stream = ctypes.c_void_p()
        self._call("cudaSetDevice", ctypes.c_int(0))
        self._call("cudaStreamCreate", ctypes.byref(stream))
        self._stream = stream
        self._held = []
        self.stream = stream.value
        self.via = "libcudart"

    def capability(self):
        """Compute capability, e.g. "6.2"."""
        return "%d.%d" % (self._attribute(self._MAJOR), self._attribute(self._MINOR))

    def allocate(self, nbytes):
        """Device memory that lives until `close`; returns its address."""
        address = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(max(1, nbytes)))
        self._held.append(address)
        return address.value

    def upload(self, address, data):
        """Copies bytes to the device and waits."""
        source = (ctypes.c_char * len(data)).from_buffer_copy(data)
        self._copy(ctypes.c_void_p(address), source, len(data), self._TO_DEVICE)

    def download(self, address, nbytes):
        """Waits for the stream's work and copies bytes from the device."""
        target = ctypes.create_string_buffer(nbytes)
        self._copy(target, ctypes.c_void_p(address), nbytes, self._TO_HOST)
        return target.raw

    def synchronize(self):
        """Waits for the stream's work."""
        self._call("cudaStreamSynchronize", self._stream)

    def time_ms(self, enqueue, iterations):
        """Time between two events around so many calls of `enqueue`, in ms on the device."""
        before, after, spent_ms = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_float()
        self._call("cudaEventCreate", ctypes.byref(before))
        try:
            self._call("cudaEventCreate", ctypes.byref(after))
            self._call("cudaEventRecord", before, self._stream)
            for _ in range(iterations):
                enqueue()
            self._call("cudaEventRecord", after, self._stream)
            self._call("cudaEventSynchronize", after)
            self._call("cudaEventElapsedTime", ctypes.byref(spent_ms), before, after)
        finally:
            for event in (before, after):
                if event:
                    self._call("cudaEventDestroy", event)
        return spent_ms.value

    def capture(self, enqueue):
        """A CUDA graph of what `enqueue` starts on this device's stream."""
        return cudagraph.capture(self._cuda, self.stream, enqueue)

    def close(self):
        """Frees everything."""
        for address in self._held:
            self._call("cudaFree", address)
        self._held = []
        self._call("cudaStreamDestroy", self._stream)

    def _copy(self, target, source, nbytes, kind):
        size, kind = ctypes.c_size_t(nbytes), ctypes.c_int(kind)
        self._call("cudaMemcpyAsync", target, source, size, kind, self._stream)
        self.synchronize()

    def _attribute(self, number):
        value = ctypes.c_int()
        first = ctypes.c_int(0)
        self._call("cudaDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(number), first)
        return value.value

    def _call(self, name, *arguments):
        cudagraph.call(self._cuda, name, *arguments)


# assumes: cuda-without-pycuda
def _find_cudart():
    names = [
        ctypes.util.find_library("cudart"),
        "libcudart.so",
        "/usr/local/cuda/lib64/libcudart.so",
    ]
    for name in names:
        if name is None:
            continue
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise AgentError(
        "no_runtime",
        "there is no way to reach the GPU",
        "neither PyCUDA nor libcudart can be loaded",
        "install JetPack's CUDA runtime (cuda-cudart), or PyCUDA",
    )
