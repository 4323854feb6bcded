"""Device memory by ctypes, over a shared library with the CUDA runtime's calls."""

import ctypes
import os

import pytest

from hil.agent.buffers import CudartDevice
from hil.agent.errors import AgentError


def test_what_goes_up_comes_down(library):
    device = CudartDevice(library)
    data = os.urandom(100_003)

    address = device.allocate(len(data))
    other = device.allocate(8)
    device.upload(address, data)
    device.upload(other, b"\0" * 8)

    assert device.download(address, len(data)) == data
    device.close()


def test_everything_is_freed(library):
    before = library.hil_live()
    device = CudartDevice(library)
    device.allocate(0)  # an empty tensor still needs an address
    device.allocate(16)
    assert library.hil_live() == before + 3

    device.close()

    assert library.hil_live() == before


def test_the_capability_names_the_gpu(library):
    device = CudartDevice(library)

    assert device.capability() == "6.2"
    device.close()


def test_running_out_of_device_memory_has_its_own_code(library):
    device = CudartDevice(library)

    with pytest.raises(AgentError) as failure:
        device.allocate(1 << 31)

    assert failure.value.code == "out_of_memory"
    assert "cudaMalloc" in failure.value.message
    device.close()


def test_events_time_what_is_between_them(library):
    device = CudartDevice(library)
    before = library.hil_live()

    spent_ms = device.time_ms(lambda: library.hil_advance(ctypes.c_float(2.5)), 4)

    assert spent_ms == 4 * 2.5 + 1  # recording an event takes the fake clock a millisecond
    assert library.hil_live() == before
    device.close()


def test_a_capture_runs_nothing_and_a_failed_one_leaves_nothing(library):
    device = CudartDevice(library)
    before = library.hil_live()
    seen = []

    graph = device.capture(lambda: seen.append(library.hil_capturing()))
    assert seen == [1]
    graph.close()

    def broken():
        raise OSError("a launch failed")

    with pytest.raises(OSError, match="a launch"):
        device.capture(broken)
    assert library.hil_capturing() == 0

    library.cudaStreamBeginCapture(ctypes.c_void_p(device.stream), 1)
    with pytest.raises(AgentError) as failure:  # another capture is under way
        device.capture(lambda: None)
    assert "cuda_graph" in failure.value.fix
    ended = ctypes.c_void_p()
    library.cudaStreamEndCapture(ctypes.c_void_p(device.stream), ctypes.byref(ended))
    library.cudaGraphDestroy(ended)
    device.close()
    assert library.hil_live() == before - 1  # the stream
