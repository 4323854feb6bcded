"""Logger, profiler, shapes, tensors and byte buffers."""

import sys
import time

from ._enums import Severity
from ._surface import Guarded

_LETTERS = {0: "F", 1: "E", 2: "W", 3: "I", 4: "V"}


class Logger(Guarded, real="Logger"):
    """Prints what is at least as severe as asked."""

    __slots__ = ("_min",)
    Severity = Severity
    INTERNAL_ERROR = Severity.INTERNAL_ERROR
    ERROR = Severity.ERROR
    WARNING = Severity.WARNING
    INFO = Severity.INFO
    VERBOSE = Severity.VERBOSE

    def __init__(self, min_severity=Severity.WARNING):
        self._min = Severity(min_severity)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None

    @property
    def min_severity(self):
        return self._min

    @min_severity.setter
    def min_severity(self, value):
        self._min = Severity(value)

    def log(self, severity, msg):
        if severity <= self._min:
            stamp = time.strftime("%m/%d/%Y-%H:%M:%S")
            sys.stderr.write(f"[{stamp}] [TRT] [{_LETTERS[int(severity)]}] {msg}\n")
            sys.stderr.flush()


class IProfiler(Guarded, real="IProfiler"):
    """To be derived from; told the time of each layer."""

    def __init__(self):
        pass

    def report_layer_time(self, layer_name, ms):
        raise NotImplementedError("IProfiler.report_layer_time must be overridden")


class Profiler(IProfiler, real="Profiler"):
    """Prints the time of each layer."""

    __slots__ = ()

    def report_layer_time(self, layer_name, ms):
        sys.stdout.write(f"{layer_name}: {ms}ms\n")


class Dims(Guarded, real="Dims"):
    """A shape."""

    __slots__ = ("_sizes",)
    MAX_DIMS = 8

    def __init__(self, sizes=()):
        self._sizes = tuple(int(each) for each in sizes)

    def __len__(self):
        return len(self._sizes)

    def __getitem__(self, index):
        return self._sizes[index]

    def __iter__(self):
        return iter(self._sizes)

    def __eq__(self, other):
        return self._sizes == tuple(other)

    def __hash__(self):
        return hash(self._sizes)

    def __repr__(self):
        return repr(self._sizes)


class ITensor(Guarded, real="ITensor"):
    """An input or output of a network."""

    __slots__ = ("_dtype", "_input", "_name", "_shape")

    def __init__(self, name, dtype, shape, is_input):
        self._name, self._dtype, self._shape, self._input = name, dtype, Dims(shape), is_input

    @property
    def name(self):
        return self._name

    @property
    def dtype(self):
        return self._dtype

    @property
    def shape(self):
        return self._shape

    @property
    def is_network_input(self):
        return self._input

    @property
    def is_network_output(self):
        return not self._input

    @property
    def is_shape_tensor(self):
        return False

    @property
    def is_execution_tensor(self):
        return True


class IHostMemory(bytes):
    """Bytes that TensorRT owns: a buffer, and nothing else that `bytes` could do."""

    def __getattribute__(self, name):
        if not name.startswith("_") and name not in ("nbytes", "dtype"):
            raise AttributeError(
                f"'tensorrt.tensorrt.IHostMemory' object has no attribute '{name}'"
            )
        return bytes.__getattribute__(self, name)

    @property
    def nbytes(self):
        return len(self)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None
