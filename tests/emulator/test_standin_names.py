"""The emulated TensorRT has no class, member, value or argument that NVIDIA's own lacks."""

from __future__ import annotations

import enum
import importlib
import inspect
import json
import sys
from pathlib import Path

import pytest

import hil.emulator

LISTS = Path(__file__).parents[1] / "data/tensorrt_api"
OLDEST = Path(hil.emulator.__file__).parent / "data/api_tensorrt_source-8.2.1.json"
# The list of 8.2.1 shows these under the entry declared before them.
UNDER = {"ITensor": "LayerType", "IHostMemory": "WeightsRole"}


@pytest.fixture
def classes(monkeypatch):
    """Every class of the stand-in that stands for one of TensorRT's, by name."""
    monkeypatch.syspath_prepend(str(Path(hil.emulator.__file__).parent / "standins"))
    mine = [name for name in sys.modules if name.split(".")[0] == "tensorrt"]
    for name in mine:
        monkeypatch.delitem(sys.modules, name)
    found = {}
    importlib.import_module("tensorrt")
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "tensorrt":
            found.update(
                {
                    kind.__name__: kind
                    for kind in vars(module).values()
                    if inspect.isclass(kind) and kind.__module__.split(".")[0] == "tensorrt"
                }
            )
    yield {n: k for n, k in found.items() if not n.startswith("_") and n != "Guarded"}
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorrt"]:
        del sys.modules[name]


def real(name):
    lists = json.loads(OLDEST.read_text(encoding="utf-8"))
    names = set(lists.get(UNDER.get(name, name), ()))
    return names | ({"Severity", *lists["Severity"]} if name == "Logger" else set())


def arguments():
    path = LISTS / "api_tensorrt_bindings-8.6.1.json"
    return json.loads(path.read_text(encoding="utf-8"))["_arguments"]


def test_every_class_exists_with_every_public_member(classes):
    lists = json.loads(OLDEST.read_text(encoding="utf-8"))
    assert len(classes) > 25
    for name, kind in classes.items():
        assert name in lists or name in UNDER, name
        members = kind.__members__ if issubclass(kind, enum.Enum) else vars(kind)
        public = {member for member in members if not member.startswith("_")}
        assert public <= real(name), (name, public - real(name))


def test_arguments_have_the_names_and_the_order_of_the_real_ones(classes):
    known, compared = arguments(), 0
    for name, kind in classes.items():
        for member, function in vars(kind).items():
            overloads = known.get(f"{name}.{member}")
            if not inspect.isfunction(function) or overloads is None:
                continue
            words = list(inspect.signature(function).parameters.values())[1:]
            taken = [word.name + "=" * (word.default is not word.empty) for word in words]
            # By number or by name: two real overloads are one here, which no keyword reaches.
            united = all(word.kind is word.POSITIONAL_ONLY for word in words)
            assert (united and any(len(taken) == len(each) for each in overloads)) or any(
                taken == each[: len(taken)]
                and all(word.endswith("=") for word in each[len(taken) :])
                for each in overloads
            ), f"{name}.{member}{taken}, not {overloads}"
            compared += 1
    assert compared > 25


def test_no_guard_can_be_passed_by(classes):
    for name, kind in classes.items():
        if not issubclass(kind, (enum.Enum, bytes)):
            assert any(base.__name__ == "Guarded" for base in kind.__mro__), name


def test_values_of_enumerations_do_no_arithmetic(classes):
    # The real ones are pybind11's: int(flag) has to be written, `1 << flag` is a TypeError.
    flag = classes["BuilderFlag"].FP16
    assert (int(flag), str(flag), flag.name) == (0, "BuilderFlag.FP16", "FP16")
    with pytest.raises(TypeError):
        _ = 1 << flag
    assert flag != 0
    assert flag != classes["DataType"].FLOAT
