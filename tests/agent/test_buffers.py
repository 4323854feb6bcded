"""Device memory by ctypes, over a shared library with the CUDA runtime's calls."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hil.agent.buffers import CudartDevice
from hil.agent.errors import AgentError


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here")
    path = tmp_path_factory.mktemp("cudart") / "libcudart.so"
    source = Path(__file__).with_name("fake_cudart.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(path), str(source)], check=True)
    return ctypes.CDLL(str(path))


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
