"""Calls of the CUDA runtime by ctypes, and a stream's work captured as one CUDA graph."""

import ctypes

from .errors import AgentError

_THREAD_LOCAL = 1  # cudaStreamCaptureModeThreadLocal: what other threads do is no part of it


def call(cuda, name, *arguments):
    """Calls the CUDA runtime.

    Raises:
        AgentError: `out_of_memory`, or `no_runtime` with the runtime's own words.
    """
    status = getattr(cuda, name)(*arguments)
    if status != 0:
        cuda.cudaGetErrorString.restype = ctypes.c_char_p
        said = cuda.cudaGetErrorString(status).decode("ascii", "replace")
        code = "out_of_memory" if "out of memory" in said else "no_runtime"
        raise AgentError(code, "%s failed: %s" % (name, said), "CUDA error %d" % status)


def capture(cuda, stream, enqueue):
    """Records what `enqueue` starts on the stream, without running it; returns a `Graph`.

    Raises:
        AgentError: the CUDA runtime does not capture it, in its own words.
    """
    try:
        return _captured(cuda, stream, enqueue)
    except AgentError as error:
        fix = "leave cuda_graph out: kernels are then started one by one"
        raise AgentError(error.code, error.message, error.why, fix)


def _captured(cuda, stream, enqueue):
    handle, graph, ready = ctypes.c_void_p(stream), ctypes.c_void_p(), ctypes.c_void_p()
    call(cuda, "cudaStreamBeginCapture", handle, ctypes.c_int(_THREAD_LOCAL))
    try:
        try:
            enqueue()
        finally:
            call(cuda, "cudaStreamEndCapture", handle, ctypes.byref(graph))
        # Five arguments up to CUDA 11; from 12 on the third is the flags, none here as well.
        none = ctypes.c_void_p()
        size = ctypes.c_size_t(0)
        call(cuda, "cudaGraphInstantiate", ctypes.byref(ready), graph, none, none, size)
    finally:
        if graph:
            call(cuda, "cudaGraphDestroy", graph)
    return Graph(cuda, handle, ready)


class Graph:
    """Work that one call starts anew."""

    def __init__(self, cuda, stream, ready):
        self._cuda = cuda
        self._stream = stream
        self._ready = ready

    def launch(self):
        """Starts it on the stream that it was captured on."""
        call(self._cuda, "cudaGraphLaunch", self._ready, self._stream)

    def close(self):
        """Frees it."""
        call(self._cuda, "cudaGraphExecDestroy", self._ready)
