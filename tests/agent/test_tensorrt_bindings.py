"""NVIDIA's published bindings and CUDA runtime, where fetched (`make nvidia`), are as we hold."""

import ctypes
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hil.agent import buffers
from hil.agent.errors import AgentError

from .conftest import PYTHON36

HERE = Path(__file__).parent
FETCHED = HERE.parents[1] / ".nvidia"
RELEASES = ("8.6.1", "10.0.1", "10.3.0", "10.16.1.11", "11.4.0.106")
DIALECTS = """
import json, sys
sys.path.insert(0, sys.argv[1])
import tensorrt_bindings
from hil_agent import trt_dialect, trt_refusals
print(json.dumps([trt_dialect.choose(tensorrt_bindings).NAME,
                  trt_refusals.newest_opset(tensorrt_bindings.__version__)]))
"""


def fetched(name):
    folder = FETCHED / name
    if not folder.is_dir():
        pytest.skip(f"NVIDIA's {name} was not fetched (make nvidia)")
    return folder


@pytest.fixture(scope="module")
def over_stubs(tmp_path_factory):
    """Runs a program that can import one release's bindings; gives its stdout."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here")

    def run(python, folder, *argv):
        module = (folder / "tensorrt_bindings/tensorrt.so").read_bytes()
        libraries = set(re.findall(rb"libnv[a-z_]+\.so\.\d+", module))
        assert libraries
        stubs = tmp_path_factory.mktemp("stubs")
        for name in libraries:
            target = str(stubs / name.decode())
            source = str(HERE / "tensorrt_stubs.c")
            subprocess.run([compiler, "-shared", "-fPIC", "-o", target, source], check=True)
        done = subprocess.run(
            [python, *argv],
            env={"LD_LIBRARY_PATH": str(stubs), "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def listed(release):
    path = HERE.parent / f"data/tensorrt_api/api_tensorrt_bindings-{release}.json"
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("release", RELEASES)
def test_the_lists_are_what_the_real_package_has(over_stubs, release):
    told = over_stubs(sys.executable, fetched(release), str(HERE / "list_tensorrt_api.py"))

    assert json.loads(told) == listed(release)


def test_the_boards_python_sees_the_same(over_stubs):
    if PYTHON36 is None:
        pytest.skip("no Python 3.6 here (looked at HIL_PYTHON36, pyenv and PATH)")

    told = over_stubs(PYTHON36, fetched("8.6.1-python3.6"), str(HERE / "list_tensorrt_api.py"))

    assert json.loads(told) == listed("8.6.1")


@pytest.mark.parametrize(
    ("release", "dialect", "opset"),
    [
        ("8.6.1", "8.5-10: named tensors", 17),
        ("10.0.1", "8.5-10: named tensors", 20),
        ("10.3.0", "8.5-10: named tensors", 20),
        ("10.16.1.11", "8.5-10: named tensors", 20),
        ("11.4.0.106", "11: strongly typed", 20),
    ],
)
def test_each_release_is_spoken_to_in_its_dialect(over_stubs, zipapp, release, dialect, opset):
    told = over_stubs(sys.executable, fetched(release), "-c", DIALECTS, str(zipapp))

    assert json.loads(told) == [dialect, opset]


@pytest.fixture(scope="module")
def cudart():
    (path,) = fetched("cudart").rglob("libcudart.so.*")
    return ctypes.CDLL(str(path))


def test_the_cuda_runtime_has_every_call_that_we_make(cudart):
    texts = [
        Path(module).read_text(encoding="utf-8")
        for module in (buffers.__file__, buffers.cudagraph.__file__)
    ]
    called = {name for text in texts for name in re.findall(r"\bcuda[A-Z]\w+", text)}
    called -= {"cudaDevAttrComputeCapabilityMajor", "cudaStreamCaptureModeThreadLocal"}

    assert len(called) > 12
    assert [name for name in called if not hasattr(cudart, name)] == []


def test_a_machine_without_a_driver_says_so_in_cudas_words(cudart):
    count = ctypes.c_int()
    if cudart.cudaGetDeviceCount(ctypes.byref(count)) == 0 and count.value:
        pytest.skip("there is a GPU here")

    with pytest.raises(AgentError) as failure:
        buffers.CudartDevice(cudart)

    assert failure.value.code == "no_runtime"
    assert "driver" in failure.value.message
    assert "CUDA error 35" in str(failure.value.why)
