"""Every function and number of NVML that is used here is NVIDIA's, by its own Python bindings.

They come with `make nvidia`; without them the tests skip. Nothing of them is run: their source is
read.
"""

from __future__ import annotations

import ast
import ctypes
import itertools
import re
from pathlib import Path

import pytest

from hil.agent import nvml
from hil.measure import validity_gpu

HERE = Path(__file__).parent
BINDINGS = HERE.parents[1] / ".nvidia" / "nvml" / "pynvml.py"
# nvml.h makes nvmlInit a name for nvmlInit_v2; the bindings start it with flags instead.
NOT_BOUND = {"nvmlInit_v2"}
FILLS = {
    "nvmlDeviceGetCurrent%sReasons": [("ClocksEvent",), ("ClocksThrottle",)],
    "nvmlDeviceGet%sRunningProcesses%s": list(
        itertools.product(("Compute", "Graphics"), ("_v3", "_v2"))
    ),
}


@pytest.fixture(scope="module")
def bindings() -> str:
    if not BINDINGS.is_file():
        pytest.skip("NVIDIA's bindings of NVML are not here: make nvidia")
    return BINDINGS.read_text(encoding="utf-8")


def used() -> set[str]:
    """Names of functions in the agent's source, filled in where they are put together."""
    tree = ast.parse(Path(nvml.__file__).read_text(encoding="utf-8"))
    texts = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"nvml[A-Z][\w%]*", node.value)
    }
    texts |= {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("nvml")
    }
    whole = {text for text in texts if "%" not in text}
    return whole | {text % fill for text in texts - whole for fill in FILLS[text]}


def test_every_function_that_the_agent_calls_is_in_nvidias_bindings(bindings):
    known = set(re.findall(r'_nvmlGetFunctionPointer\("(\w+)"\)', bindings))

    assert len(used()) > 15
    assert used() - known - NOT_BOUND == set()


def test_our_stand_in_has_no_function_that_nvml_lacks(bindings):
    known = set(re.findall(r'_nvmlGetFunctionPointer\("(\w+)"\)', bindings))
    source = (HERE / "fake_nvml.c").read_text(encoding="utf-8")
    ours = set(re.findall(r"^\S+ \*?(nvml\w+)\(", source, re.MULTILINE))

    assert len(ours) > 15
    assert ours - known - NOT_BOUND == set()


def constant(bindings: str, name: str) -> int:
    found = re.search(rf"^{name}\s*=\s*(0x[0-9a-fA-F]+|\d+)", bindings, re.MULTILINE)
    assert found is not None, name
    return int(found[1], 0)


def test_numbers_are_nvidias(bindings):
    for name, ours in {
        "NVML_SUCCESS": nvml._SUCCESS,
        "NVML_ERROR_NOT_SUPPORTED": nvml._NOT_SUPPORTED,
        "NVML_ERROR_NO_PERMISSION": nvml._NO_PERMISSION,
        "NVML_ERROR_INSUFFICIENT_SIZE": nvml._INSUFFICIENT_SIZE,
        "NVML_FI_DEV_POWER_INSTANT": nvml._FIELD_POWER_INSTANT,
        "NVML_CLOCK_SM": nvml._SM,
        "NVML_CLOCK_MEM": nvml._MEMORY,
        "NVML_TEMPERATURE_GPU": 0,
    }.items():
        assert constant(bindings, name) == ours, name
    explained = {"DRIVER_NOT_LOADED", "GPU_IS_LOST", "LIB_RM_VERSION_MISMATCH", "NO_PERMISSION"}
    assert {constant(bindings, f"NVML_ERROR_{name}") for name in explained} == set(nvml._FIXES)


def test_reasons_for_held_down_clocks_are_nvidias(bindings):
    prefix = "nvmlClocksEventReason"
    slowed = ("HwSlowdown", "SwThermalSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown")

    assert {constant(bindings, prefix + name) for name in slowed} == set(validity_gpu.SLOWED)
    assert constant(bindings, prefix + "SwPowerCap") == validity_gpu.POWER_CAP


def test_structures_are_laid_out_as_nvidias(bindings):
    def fields(name: str) -> list[str]:
        body = bindings.partition(f"class {name}(")[2].partition("]")[0]
        return re.findall(r"\('\w+', (\w+)\)", body)

    kinds = {
        "c_uint": ctypes.c_uint,
        "c_uint32": ctypes.c_uint32,
        "c_int64": ctypes.c_int64,
        "_nvmlValueType_t": ctypes.c_uint,
        "_nvmlReturn_t": ctypes.c_uint,
        "c_nvmlValue_t": nvml._Value,
    }
    for name, ours in (
        ("c_nvmlFieldValue_t", nvml._Field),
        ("c_nvmlUtilization_t", nvml._Utilization),
    ):
        theirs = [ctypes.sizeof(kinds[kind]) for kind in fields(name)]
        assert theirs == [ctypes.sizeof(kind) for _, kind in ours._fields_], name
