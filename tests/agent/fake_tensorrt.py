"""A TensorRT of any release from 8.5 on, without a GPU: NVIDIA's names, ONNX Runtime's numbers.

`make(version, library)` gives a module. A member that the release has not is taken away, one that
no release has is refused; what the agent hands over (flags, shapes, addresses) is held to what the
real one demands. Device memory is the host's, as the fake CUDA runtime gives it.
"""

import ctypes
import enum
import json
import types

import numpy as np
import onnx
import onnxruntime

TYPES = {1: "FLOAT", 10: "HALF", 6: "INT32", 7: "INT64", 3: "INT8", 9: "BOOL"}
NUMPY = {"FLOAT": "float32", "HALF": "float16", "INT32": "int32", "INT64": "int64"}


def make(version, lists, library):
    """The module.

    Args:
        version: the release.
        lists: {release: its list of names}; that of `version` rules.
        library: the fake CUDA runtime.
    """
    own = lists[version]
    trt = types.SimpleNamespace(__version__=version, init_libnvinfer_plugins=lambda *_: True)
    trt.launches = []
    trt.memory_full = False
    trt.fast_int8 = True

    def real(kind):
        ever = {name for names in lists.values() for name in names.get(kind.__name__, ())}
        public = [name for name in vars(kind) if not name.startswith("_")]
        assert set(public) <= ever, (kind.__name__, set(public) - ever)
        for name in public:
            if name not in own[kind.__name__]:
                delattr(kind, name)
        setattr(trt, kind.__name__, kind)
        return kind

    def values(name, **members):
        known = {key: value for key, value in members.items() if key in own.get(name, ())}
        setattr(trt, name, enum.Enum(name, known))
        return getattr(trt, name)

    _enums(values)
    trt.BuilderFlag.__int__ = lambda self: self.value
    trt.NetworkDefinitionCreationFlag.__int__ = lambda self: self.value
    _parsing(trt, real)
    _building(trt, real, version)
    _running(trt, real, library)
    return trt


def _enums(values):
    values("NetworkDefinitionCreationFlag", EXPLICIT_BATCH=0, STRONGLY_TYPED=1)
    values("BuilderFlag", FP16=0, INT8=1, TF32=7)
    values("MemoryPoolType", WORKSPACE=0)
    values("TensorIOMode", NONE=0, INPUT=1, OUTPUT=2)
    values("DataType", **{name: number for number, name in TYPES.items()})
    values("ProfilingVerbosity", LAYER_NAMES_ONLY=0, NONE=1, DETAILED=2)
    values("LayerInformationFormat", ONELINE=0, JSON=1)
    values("ErrorCode", SUCCESS=0, MODEL_DESERIALIZE_FAILED=3, UNSUPPORTED_NODE=8)


def _parsing(trt, real):
    @real
    class Logger:
        WARNING = 2

        def __init__(self, min_severity):
            assert min_severity == 2

    @real
    class ParserError:
        def __init__(self, index, said, code):
            self._told = (index, said, code)

        def node(self):
            return self._told[0]

        def desc(self):
            return self._told[1]

        def code(self):
            return trt.ErrorCode[self._told[2]]

    @real
    class ITensor:
        def __init__(self, value):
            self._value = value

        @property
        def name(self):
            return self._value.name

        @property
        def shape(self):
            dims = self._value.type.tensor_type.shape.dim
            return tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)

    @real
    class INetworkDefinition:
        def __init__(self, flags):
            self._flags, self._model = flags, None

        @property
        def num_inputs(self):
            return len(self._model.graph.input)

        def get_input(self, index):
            return ITensor(self._model.graph.input[index])

    @real
    class OnnxParser:
        def __init__(self, network, logger):
            assert isinstance(logger, Logger)
            self._network, self._errors = network, []

        def _unknown(self, data):
            try:
                model = onnx.load_from_string(data)
            except Exception:  # noqa: BLE001 - protobuf's own
                return None, []
            nodes = enumerate(model.graph.node)
            return model, [i for i, n in nodes if not onnx.defs.has(n.op_type)]

        def parse(self, data):
            model, unknown = self._unknown(data)
            if model is None:
                said = "Failed to parse the ONNX model."
                self._errors = [ParserError(-1, said, "MODEL_DESERIALIZE_FAILED")]
            elif unknown:
                self._errors = [ParserError(unknown[0], "no importer", "UNSUPPORTED_NODE")]
            else:
                self._network._model = model
            return not self._errors

        @property
        def num_errors(self):
            return len(self._errors)

        def get_error(self, index):
            return self._errors[index]

        def supports_model(self, data):
            model, unknown = self._unknown(data)
            count = 0 if model is None else len(model.graph.node)
            return not unknown, [([index], index not in unknown) for index in range(count)]


def _building(trt, real, version):
    @real
    class ITimingCache:
        def __init__(self, data):
            self._data = data

        def serialize(self):
            return self._data + b"+"

    @real
    class IOptimizationProfile:
        def __init__(self):
            self._shapes = {}

        def set_shape(self, name, low, best, high):
            self._shapes[name] = [tuple(low), tuple(best), tuple(high)]

    @real
    class IBuilderConfig:
        def __init__(self):
            self._flags, self._pools, self._profiles, self._cache = set(), {}, [], None
            self.profiling_verbosity = trt.ProfilingVerbosity.LAYER_NAMES_ONLY

        def set_memory_pool_limit(self, pool, nbytes):
            self._pools[pool] = nbytes

        def set_flag(self, flag):
            self._flags.add(flag)

        def add_optimization_profile(self, profile):
            self._profiles.append(profile)
            return len(self._profiles) - 1

        def create_timing_cache(self, data):
            return None if data.startswith(b"damaged") else ITimingCache(bytes(data))

        def set_timing_cache(self, cache, ignore_mismatch):
            assert ignore_mismatch is False
            self._cache = cache
            return True

        def get_timing_cache(self):
            return self._cache

    @real
    class Builder:
        def __init__(self, logger):
            self._logger = logger

        def create_network(self, flags):
            # 8 and 10 want an explicit batch; 11 knows strongly typed networks alone.
            assert flags == (2 if version.startswith("11") else 1)
            return trt.INetworkDefinition(flags)

        def create_builder_config(self):
            return IBuilderConfig()

        def create_optimization_profile(self):
            return IOptimizationProfile()

        @property
        def platform_has_fast_fp16(self):
            return False

        @property
        def platform_has_fast_int8(self):
            return trt.fast_int8

        def build_serialized_network(self, network, config):
            ranges = [each._shapes for each in config._profiles]
            tensors = [network.get_input(i) for i in range(network.num_inputs)]
            changing = [t.name for t in tensors if -1 in t.shape]
            if any(n not in shapes for n in changing for shapes in ranges or [{}]):
                return None
            header = {
                "profiles": ranges,
                "workspace": config._pools[trt.MemoryPoolType.WORKSPACE],
                "flags": sorted(flag.name for flag in config._flags),
                "detailed": config.profiling_verbosity is trt.ProfilingVerbosity.DETAILED,
            }
            return json.dumps(header).encode() + b"\n" + network._model.SerializeToString()


def _running(trt, real, library):
    @real
    class IProfiler:
        def __init__(self):
            self._ready = True

        def report_layer_time(self, layer_name, ms):
            raise NotImplementedError

    @real
    class Runtime:
        def __init__(self, logger):
            self._logger = logger

        def deserialize_cuda_engine(self, data):
            return ICudaEngine(data) if data.startswith(b"{") else None

    @real
    class ICudaEngine:
        def __init__(self, data):
            header, _, model = data.partition(b"\n")
            self._header, self._model = json.loads(header), onnx.load_from_string(model)
            self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
            graph = self._model.graph
            self._tensors = {t.name: t for t in (*graph.input, *graph.output)}
            self._inputs = {t.name for t in graph.input}

        @property
        def num_io_tensors(self):
            return len(self._tensors)

        @property
        def device_memory_size(self):
            return 4096

        @property
        def device_memory_size_v2(self):
            return 8192

        def get_tensor_name(self, index):
            return list(self._tensors)[index]

        def get_tensor_mode(self, name):
            return trt.TensorIOMode.INPUT if name in self._inputs else trt.TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name):
            return trt.DataType[TYPES[self._tensors[name].type.tensor_type.elem_type]]

        def get_tensor_shape(self, name):
            return trt.ITensor(self._tensors[name]).shape

        @property
        def num_optimization_profiles(self):
            return max(1, len(self._header["profiles"]))

        def get_tensor_profile_shape(self, name, profile_index):
            return self._header["profiles"][profile_index][name]

        def create_execution_context(self):
            return None if trt.memory_full else IExecutionContext(self)

        def create_engine_inspector(self):
            return EngineInspector(self)

    @real
    class IExecutionContext:
        def __init__(self, engine):
            self._engine, self._addresses, self.profiler = engine, {}, None
            self._number = 0
            self._shapes = {n: engine.get_tensor_shape(n) for n in engine._inputs}

        def set_input_shape(self, name, shape):
            low, _, high = self._engine.get_tensor_profile_shape(name, self._number)
            assert all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
            self._shapes[name] = tuple(shape)
            return True

        def get_tensor_shape(self, name):
            if name in self._shapes:
                return self._shapes[name]
            return tuple(
                self._shapes[next(iter(self._shapes))][0] if size == -1 else size
                for size in self._engine.get_tensor_shape(name)
            )

        def set_optimization_profile_async(self, profile_index, stream_handle):
            assert stream_handle
            assert 0 <= profile_index < self._engine.num_optimization_profiles
            self._number = profile_index
            self._shapes = {n: self._engine.get_tensor_shape(n) for n in self._engine._inputs}
            return True

        def set_tensor_address(self, name, address):
            self._addresses[name] = address
            return True

        def execute_async_v3(self, stream_handle):
            assert stream_handle, "TensorRT wants a stream of its own"
            if library.hil_capturing():
                trt.launches.append(self._run)
            else:
                self._run()
            return True

        def _run(self):
            engine = self._engine
            feed = {name: self._array(name) for name in engine._inputs}
            names = [name for name in engine._tensors if name not in engine._inputs]
            for name, value in zip(names, engine._session.run(names, feed), strict=True):
                data = np.ascontiguousarray(value).tobytes()
                ctypes.memmove(self._addresses[name], data, len(data))
            for index, node in enumerate(engine._model.graph.node):
                if self.profiler is not None:
                    assert self.profiler._ready, "pybind11 wants the base made"
                    self.profiler.report_layer_time(node.name, float(index + 1))

        def _array(self, name):
            kind = NUMPY[self._engine.get_tensor_dtype(name).name]
            shape = self.get_tensor_shape(name)
            nbytes = int(np.prod(shape)) * np.dtype(kind).itemsize
            data = ctypes.string_at(self._addresses[name], nbytes)
            return np.frombuffer(data, kind).reshape(shape)

    @real
    class EngineInspector:
        def __init__(self, engine):
            self._engine, self.execution_context = engine, None

        def get_engine_information(self, layout):
            assert layout is trt.LayerInformationFormat.JSON
            return json.dumps({"Layers": [n.name for n in self._engine._model.graph.node]})
