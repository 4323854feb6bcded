"""The enumerations in use, with the numbers of NvInfer.h 8.2."""

import enum

from ._surface import NAMES


class _Enum(enum.Enum):
    """As pybind11 makes them: a name and a value that `int` gives, and no arithmetic."""

    def __str__(self):
        return f"{type(self).__name__}.{self.name}"

    __repr__ = __str__

    def __int__(self):
        return self.value

    __index__ = __int__


class _Ordered(_Enum):
    """Severities: loggers ask which is the graver."""

    def __le__(self, other):
        return int(self) <= int(other)

    def __lt__(self, other):
        return int(self) < int(other)


def _enum(name, kind=_Enum, **members):
    strange = set(members) - set(NAMES[name])
    if strange:
        raise TypeError(f"TensorRT 8.2.1 has no {name}.{', '.join(sorted(strange))}")
    return kind(name, members, module="tensorrt")


Severity = _enum("Severity", _Ordered, INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3, VERBOSE=4)
DataType = _enum("DataType", FLOAT=0, HALF=1, INT8=2, INT32=3, BOOL=4)
NetworkDefinitionCreationFlag = _enum(
    "NetworkDefinitionCreationFlag", EXPLICIT_BATCH=0, EXPLICIT_PRECISION=1
)
BuilderFlag = _enum(
    "BuilderFlag",
    FP16=0,
    INT8=1,
    DEBUG=2,
    GPU_FALLBACK=3,
    STRICT_TYPES=4,
    REFIT=5,
    DISABLE_TIMING_CACHE=6,
    TF32=7,
    SPARSE_WEIGHTS=8,
    SAFETY_SCOPE=9,
    OBEY_PRECISION_CONSTRAINTS=10,
    PREFER_PRECISION_CONSTRAINTS=11,
    DIRECT_IO=12,
    REJECT_EMPTY_ALGORITHMS=13,
)
ProfilingVerbosity = _enum(
    "ProfilingVerbosity", LAYER_NAMES_ONLY=0, NONE=1, DETAILED=2, DEFAULT=0, VERBOSE=2
)
LayerInformationFormat = _enum("LayerInformationFormat", ONELINE=0, JSON=1)
TacticSource = _enum("TacticSource", CUBLAS=0, CUBLAS_LT=1, CUDNN=2)
DeviceType = _enum("DeviceType", GPU=0, DLA=1)
EngineCapability = _enum(
    "EngineCapability", STANDARD=0, SAFETY=1, DLA_STANDALONE=2, DEFAULT=0, SAFE_GPU=1, SAFE_DLA=2
)
ErrorCode = _enum(
    "ErrorCode",
    SUCCESS=0,
    INTERNAL_ERROR=1,
    MEM_ALLOC_FAILED=2,
    MODEL_DESERIALIZE_FAILED=3,
    INVALID_VALUE=4,
    INVALID_GRAPH=5,
    INVALID_NODE=6,
    UNSUPPORTED_GRAPH=7,
    UNSUPPORTED_NODE=8,
)
BY_NUMPY = {
    "float32": DataType.FLOAT,
    "float16": DataType.HALF,
    "int8": DataType.INT8,
    "int32": DataType.INT32,
    "bool": DataType.BOOL,
}
