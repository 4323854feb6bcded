"""Lists the names and arguments of an importable `tensorrt_bindings`: JSON on stdout.

Runs on Python 3.6 as well. `tests/data/tensorrt_api` was made with it, release by release.
"""

import json
import re
import sys

import tensorrt_bindings

CLASSES = """
    Builder BuilderFlag DataType DeviceType Dims EngineCapability EngineInspector ErrorCode
    HardwareCompatibilityLevel IBuilderConfig ICudaEngine IExecutionContext IHostMemory
    IInt8EntropyCalibrator2 IInt8MinMaxCalibrator INetworkDefinition IOptimizationProfile IProfiler
    ITensor ITimingCache LayerInformationFormat Logger MemoryPoolType NetworkDefinitionCreationFlag
    OnnxParser ParserError Profiler ProfilingVerbosity Runtime TacticSource TensorIOMode
"""
# What the package's own Python file imported for itself.
HELPERS = "attr common_enter common_exit ctypes os sys tensorrt value warnings"


def public(thing):
    return sorted(name for name in dir(thing) if not name.startswith("_"))


def split(text):
    """Cuts at commas that are in no bracket."""
    parts, depth, current = [], 0, ""
    for letter in text:
        depth += (letter in "[(<{") - (letter in "])>}")
        if letter == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += letter
    return [*parts, current.strip()] if current.strip() else parts


def arguments(doc, name):
    """The arguments of each overload, from pybind11's signature lines; `=` marks a default."""
    found = []
    for line in (doc or "").splitlines():
        match = re.match(r"^(?:\d+\. )?" + re.escape(name) + r"\((.*)\) -> ", line)
        words = split(match.group(1)) if match else ["*"]
        if any(word.startswith("*") for word in words):
            continue
        names = [word.split(":")[0].strip() + "=" * ("=" in word) for word in words]
        names = names[1:] if names[:1] == ["self"] else names
        if names not in found:
            found.append(names)
    return found


def listing(module):
    """{"version", "module", class: names ..., "_arguments": {"Class.method": overloads}}"""
    about = {
        "version": module.__version__,
        "_method": "introspected from the published bindings over stub libraries",
        "module": [n for n in public(module) if n not in HELPERS.split()] + ["__version__"],
    }
    taken = {}
    for kind in CLASSES.split():
        thing = getattr(module, kind, None)
        if thing is None:
            continue
        about[kind] = public(thing)
        for name in [*about[kind], "__init__"]:
            found = arguments(getattr(getattr(thing, name, None), "__doc__", None), name)
            if found:
                taken[kind if name == "__init__" else kind + "." + name] = found
    about["_arguments"] = taken
    return about


if __name__ == "__main__":
    json.dump(listing(tensorrt_bindings), sys.stdout)
