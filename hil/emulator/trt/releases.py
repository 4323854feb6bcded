"""What TensorRT's Python lacked in releases before 8.2, where the stand-in is to be one of them.

From NVIDIA's lists of new Python APIs: the API reference of 8.0.1 (build_serialized_network, the
timing cache, profiling verbosity as a setting of the builder) and the release notes of 8.2.0 (the
engine inspector, `report_to_profiler`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SINCE_8_2: Mapping[str, tuple[str, ...]] = {
    "": ("EngineInspector", "LayerInformationFormat"),
    "ICudaEngine": ("create_engine_inspector",),
    "IExecutionContext": ("enqueue_emits_profile", "report_to_profiler"),
}
SINCE_8_0: Mapping[str, tuple[str, ...]] = {
    "": ("ITimingCache", "ProfilingVerbosity"),
    "Builder": ("build_serialized_network", "is_network_supported"),
    "IBuilderConfig": (
        "create_timing_cache",
        "get_timing_cache",
        "set_timing_cache",
        "profiling_verbosity",
    ),
    "ICudaEngine": ("profiling_verbosity",),
}


def become(module: Any, release: str) -> None:
    """Takes out of the stand-in's module what a release did not have yet.

    Args:
        module: `tensorrt`, complete.
        release: such as 7.1.3.0.
    """
    module.__version__ = release
    numbers = tuple(int(part) for part in release.split(".")[:2])
    for first, names in (((8, 2), SINCE_8_2), ((8, 0), SINCE_8_0)):
        if numbers < first:
            _take_out(module, names)


def _take_out(module: Any, names: Mapping[str, tuple[str, ...]]) -> None:
    for owner, gone in names.items():
        place = module if not owner else getattr(module, owner)
        for name in gone:
            if name in vars(place):
                delattr(place, name)
            if not owner and name in module.__all__:
                module.__all__.remove(name)
