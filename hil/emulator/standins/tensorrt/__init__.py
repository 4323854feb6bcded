"""Stand-in for TensorRT 8.2.1's Python API on the emulated board. EMULATED: no GPU behind it.

Only names that the real release has are here; anything else raises AttributeError as there.
"""

from ._builder import Builder, IBuilderConfig, IOptimizationProfile, ITimingCache
from ._core import Dims, IProfiler, Logger, Profiler
from ._enums import (
    BuilderFlag,
    DataType,
    DeviceType,
    EngineCapability,
    ErrorCode,
    LayerInformationFormat,
    NetworkDefinitionCreationFlag,
    ProfilingVerbosity,
    Severity,
    TacticSource,
)
from ._parser import INetworkDefinition, OnnxParser, ParserError, init_libnvinfer_plugins
from ._runtime import EngineInspector, ICudaEngine, IExecutionContext, Runtime

__version__ = "8.2.1.8"

__all__ = [
    "Builder",
    "BuilderFlag",
    "DataType",
    "DeviceType",
    "Dims",
    "EngineCapability",
    "EngineInspector",
    "ErrorCode",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProfiler",
    "ITimingCache",
    "LayerInformationFormat",
    "Logger",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ParserError",
    "Profiler",
    "ProfilingVerbosity",
    "Runtime",
    "Severity",
    "TacticSource",
    "init_libnvinfer_plugins",
]


def _older() -> None:
    """Becomes an older release where the board is such a one."""
    import os
    import sys

    if "HIL_BOARD_QUIRKS" in os.environ:
        from hil.emulator.hostile.quirks import of_this_board
        from hil.emulator.trt.releases import become

        become(sys.modules[__name__], of_this_board().tensorrt or __version__)


_older()
