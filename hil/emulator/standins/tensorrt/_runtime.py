"""Runtime, engines, execution contexts and the inspector."""

import json

from hil.emulator.trt import engine as core
from hil.emulator.trt import plan as plans
from hil.emulator.trt.device import OutOfMemoryError, device

from ._core import Dims, IHostMemory
from ._enums import BY_NUMPY, EngineCapability, LayerInformationFormat, ProfilingVerbosity, Severity
from ._surface import Guarded


class Runtime(Guarded, real="Runtime"):
    """Loads plans."""

    __slots__ = ("_logger",)

    def __init__(self, logger):
        self._logger = logger

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None

    @property
    def logger(self):
        return self._logger

    @property
    def num_DLA_cores(self):
        return 0

    def deserialize_cuda_engine(self, serialized_engine):
        try:
            plan = plans.from_bytes(bytes(serialized_engine))
            return ICudaEngine(core.Loaded(plan, device()), self._logger)
        except plans.PlanError as error:
            self._logger.log(Severity.ERROR, str(error))
        except OutOfMemoryError as error:
            self._logger.log(Severity.ERROR, f"1: [defaultAllocator.cpp] out of memory ({error})")
        return None


class ICudaEngine(Guarded, real="ICudaEngine"):
    """An engine."""

    __slots__ = ("_bindings", "_engine", "_inputs", "_logger")

    def __init__(self, engine, logger):
        self._engine, self._logger = engine, logger
        self._bindings = [*engine.inputs, *engine.outputs]
        self._inputs = len(engine.inputs)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.__del__()

    def __del__(self):
        if hasattr(self, "_engine") and self._engine is not None:
            self._engine.close()

    def __len__(self):
        return len(self._bindings)

    def __getitem__(self, key):
        return self.get_binding_name(key) if isinstance(key, int) else self.get_binding_index(key)

    @property
    def name(self):
        return self._engine.plan.name

    @property
    def num_bindings(self):
        return len(self._bindings) * self.num_optimization_profiles

    @property
    def num_layers(self):
        return len(self._engine.plan.kernels)

    @property
    def num_optimization_profiles(self):
        return max(1, len(self._engine.plan.profiles))

    @property
    def max_batch_size(self):
        return 1

    @property
    def has_implicit_batch_dimension(self):
        return False

    @property
    def device_memory_size(self):
        return core.Context(self._engine, holds=False).memory_bytes

    @property
    def profiling_verbosity(self):
        return ProfilingVerbosity[self._engine.plan.profiling]

    @property
    def engine_capability(self):
        return EngineCapability.STANDARD

    @property
    def refittable(self):
        return False

    def get_binding_name(self, index):
        if not 0 <= index < self.num_bindings:
            return None
        # Every optimisation profile has bindings of its own, one after the other.
        number, own = divmod(index, len(self._bindings))
        return self._bindings[own].name + (f" [profile {number}]" if number else "")

    def get_binding_index(self, name):
        names = [self.get_binding_name(index) for index in range(self.num_bindings)]
        return names.index(name) if name in names else -1

    def binding_is_input(self, which, /):
        index = which if isinstance(which, int) else self.get_binding_index(which)
        return 0 <= index < self.num_bindings and index % len(self._bindings) < self._inputs

    def get_binding_shape(self, which, /):
        return Dims(self._binding(which).shape)

    def get_binding_dtype(self, which, /):
        return BY_NUMPY[self._binding(which).dtype]

    def is_shape_binding(self, binding):
        return False

    def is_execution_binding(self, binding):
        return True

    def get_profile_shape(self, profile_index, binding):
        tensor = self._binding(binding)
        profiles = self._engine.plan.profiles
        fixed = (tensor.shape,) * 3
        shapes = profiles[profile_index].get(tensor.name, fixed) if profiles else fixed
        return [Dims(each) for each in shapes]

    def _binding(self, which):
        index = which if isinstance(which, int) else self.get_binding_index(which)
        return self._bindings[index % len(self._bindings)]

    def serialize(self):
        return IHostMemory(self._engine.plan.to_bytes())

    def create_execution_context(self):
        try:
            return IExecutionContext(self, core.Context(self._engine))
        except OutOfMemoryError as error:
            self._logger.log(Severity.ERROR, f"1: [defaultAllocator.cpp] out of memory ({error})")
            return None

    def create_engine_inspector(self):
        return EngineInspector(self)


class IExecutionContext(Guarded, real="IExecutionContext"):
    """An engine ready to execute."""

    __slots__ = (
        "_context",
        "_emits",
        "_engine",
        "_name",
        "_number",
        "_profiler",
        "_streams",
        "_sync",
        "_waiting",
    )

    def __init__(self, engine, context):
        self._engine, self._context = engine, context
        self._streams = context.device.streams
        self._profiler, self._emits, self._name, self._sync = None, True, "", False
        self._waiting, self._number = None, 0

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.__del__()

    def __del__(self):
        if hasattr(self, "_context") and self._context is not None:
            self._context.close()

    @property
    def engine(self):
        return self._engine

    @property
    def name(self):
        return self._name

    @name.setter
    def name(self, value):
        self._name = value

    @property
    def debug_sync(self):
        return self._sync

    @debug_sync.setter
    def debug_sync(self, value):
        self._sync = bool(value)

    @property
    def profiler(self):
        return self._profiler

    @profiler.setter
    def profiler(self, value):
        self._profiler = value

    @property
    def enqueue_emits_profile(self):
        return self._emits

    @enqueue_emits_profile.setter
    def enqueue_emits_profile(self, value):
        self._emits = bool(value)

    @property
    def active_optimization_profile(self):
        return self._number

    def set_optimization_profile_async(self, profile_index, stream_handle):
        if not 0 <= profile_index < self._engine.num_optimization_profiles:
            return False
        self._number = profile_index
        self._context.use_profile(profile_index)
        return True

    @property
    def all_binding_shapes_specified(self):
        return all(-1 not in shape for shape in self._context.input_shapes())

    @property
    def all_shape_inputs_specified(self):
        return True

    def set_binding_shape(self, binding, shape):
        wanted = tuple(shape)
        number, own = divmod(binding, len(self._engine))
        ranges = self._engine.get_profile_shape(self._number, own)
        low, _, high = (tuple(each) for each in ranges)
        fits = (
            number == self._number
            and len(wanted) == len(low)
            and all(a <= b <= c for a, b, c in zip(low, wanted, high, strict=False))
        )
        if not self._engine.binding_is_input(binding) or not fits:
            self._engine._logger.log(
                Severity.ERROR,
                "3: [executionContext.cpp::setBindingDimensions::945] Error Code 3: API Usage "
                f"Error (binding {binding} cannot be {wanted}: outside its optimization profile)",
            )
            return False
        self._context.set_shape(self._engine.get_binding_name(own), wanted)
        return True

    def get_binding_shape(self, binding):
        inputs, own = self._context.input_shapes(), binding % len(self._engine)
        if own < len(inputs):
            return Dims(inputs[own])
        return Dims(self._context.output_shapes()[own - len(inputs)])

    def execute_async_v2(self, bindings, stream_handle, input_consumed=None):
        stream = self._streams[stream_handle]
        first = self._number * len(self._engine)
        self._context.enqueue(bindings[first : first + len(self._engine)], stream)
        if self._profiler is not None:
            self._profile(stream)
        return True

    def execute_v2(self, bindings):
        stream = self._streams[0]
        self.execute_async_v2(bindings, 0)
        self._context.device.synchronize(stream)
        return True

    def report_to_profiler(self):
        if self._profiler is None or self._waiting is None:
            return False
        self._context.profile(self._waiting, self._profiler.report_layer_time)
        self._waiting = None
        return True

    def _profile(self, stream):
        if self._emits:
            self._context.profile(stream, self._profiler.report_layer_time)
        else:
            self._waiting = stream


class EngineInspector(Guarded, real="EngineInspector"):
    """Names the layers of an engine."""

    __slots__ = ("_context", "_engine")

    def __init__(self, engine):
        self._engine, self._context = engine, None

    @property
    def execution_context(self):
        return self._context

    @execution_context.setter
    def execution_context(self, value):
        self._context = value

    def get_layer_information(self, layer_index, format):
        name = self._names()[layer_index]
        return json.dumps(name) if format == LayerInformationFormat.JSON else name

    def get_engine_information(self, format):
        names = self._names()
        if format == LayerInformationFormat.JSON:
            bindings = [each.name for each in self._engine._bindings]
            return json.dumps({"Layers": names, "Bindings": bindings})
        return "\n".join(["Layers:", *names])

    def _names(self):
        return [kernel["name"] for kernel in self._engine._engine.plan.kernels]
