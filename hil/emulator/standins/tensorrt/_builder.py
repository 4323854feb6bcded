"""Builder, its configuration, optimisation profiles and timing caches."""

from hil.emulator.trt import builder as core
from hil.emulator.trt.device import device

from ._core import Dims, IHostMemory
from ._enums import (
    BuilderFlag,
    EngineCapability,
    NetworkDefinitionCreationFlag,
    ProfilingVerbosity,
    Severity,
    TacticSource,
)
from ._parser import INetworkDefinition
from ._runtime import ICudaEngine, Runtime
from ._surface import Guarded

# TensorRT 8.2 takes the flag all the same and builds what it would without it.
_NO_INT8 = (
    "Int8 support requested on hardware without native Int8 support, performance will be "
    "negatively affected.",
    "Calibrator is not being used. Users must provide dynamic range for all tensors that are not "
    "Int32 or Bool.",
)
_EXPLICIT = 1 << int(NetworkDefinitionCreationFlag.EXPLICIT_BATCH)


class ITimingCache(Guarded, real="ITimingCache"):
    """Tactics that were chosen before."""

    __slots__ = ("_cache",)

    def __init__(self, cache):
        self._cache = cache

    def serialize(self):
        return IHostMemory(self._cache.to_bytes())

    def combine(self, input_cache, ignore_mismatch):
        self._cache.factors.update(input_cache._cache.factors)
        return True

    def reset(self):
        self._cache.factors.clear()
        return True


class IOptimizationProfile(Guarded, real="IOptimizationProfile"):
    """Ranges of open shapes."""

    __slots__ = ("_extra", "_shapes")

    def __init__(self):
        self._shapes, self._extra = {}, 1.0

    def __bool__(self):
        return True

    def set_shape(self, input, min, opt, max):
        low, best, high = tuple(min), tuple(opt), tuple(max)
        if not (len(low) == len(best) == len(high)) or not all(
            a <= b <= c for a, b, c in zip(low, best, high, strict=True)
        ):
            raise ValueError(f"{input}: shapes of a profile must grow from min over opt to max")
        self._shapes[input] = (low, best, high)

    def get_shape(self, input):
        return [Dims(each) for each in self._shapes[input]] if input in self._shapes else []

    @property
    def extra_memory_target(self):
        return self._extra

    @extra_memory_target.setter
    def extra_memory_target(self, value):
        self._extra = value


class IBuilderConfig(Guarded, real="IBuilderConfig"):
    """What the builder may do."""

    __slots__ = (
        "_avg",
        "_cache",
        "_flags",
        "_min",
        "_profiles",
        "_sources",
        "_verbosity",
        "_workspace",
    )

    def __init__(self):
        self.reset()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None

    def reset(self):
        self._workspace, self._flags = 0, 1 << int(BuilderFlag.TF32)
        self._profiles, self._cache = [], None
        self._verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        self._avg, self._min = 1, 1
        self._sources = sum(1 << int(each) for each in TacticSource)

    @property
    def max_workspace_size(self):
        return self._workspace

    @max_workspace_size.setter
    def max_workspace_size(self, value):
        self._workspace = int(value)

    @property
    def flags(self):
        return self._flags

    @flags.setter
    def flags(self, value):
        self._flags = int(value)

    def set_flag(self, flag):
        self._flags |= 1 << int(flag)

    def clear_flag(self, flag):
        self._flags &= ~(1 << int(flag))

    def get_flag(self, flag):
        return bool(self._flags & (1 << int(flag)))

    def add_optimization_profile(self, profile):
        self._profiles.append(profile)
        return len(self._profiles) - 1

    @property
    def num_optimization_profiles(self):
        return len(self._profiles)

    @property
    def profiling_verbosity(self):
        return self._verbosity

    @profiling_verbosity.setter
    def profiling_verbosity(self, value):
        self._verbosity = ProfilingVerbosity(value)

    @property
    def avg_timing_iterations(self):
        return self._avg

    @avg_timing_iterations.setter
    def avg_timing_iterations(self, value):
        self._avg = int(value)

    @property
    def min_timing_iterations(self):
        return self._min

    @min_timing_iterations.setter
    def min_timing_iterations(self, value):
        self._min = int(value)

    @property
    def engine_capability(self):
        return EngineCapability.STANDARD

    def get_tactic_sources(self):
        return self._sources

    def set_tactic_sources(self, tactic_sources):
        self._sources = int(tactic_sources)
        return True

    def create_timing_cache(self, serialized_timing_cache):
        cache = core.read_cache(bytes(serialized_timing_cache))
        return None if cache is None else ITimingCache(cache)

    def set_timing_cache(self, cache, ignore_mismatch):
        self._cache = cache
        return True

    def get_timing_cache(self):
        return self._cache


class Builder(Guarded, real="Builder"):
    """Makes engines out of networks."""

    __slots__ = ("_batch", "_logger")

    def __init__(self, logger):
        self._logger, self._batch = logger, 1

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None

    @property
    def logger(self):
        return self._logger

    @property
    def platform_has_fast_fp16(self):
        return True

    @property
    def platform_has_fast_int8(self):
        return False

    @property
    def platform_has_tf32(self):
        return False

    @property
    def num_DLA_cores(self):
        return 0

    @property
    def max_DLA_batch_size(self):
        return 1

    @property
    def max_batch_size(self):
        return self._batch

    @max_batch_size.setter
    def max_batch_size(self, value):
        self._batch = int(value)

    def create_network(self, flags=0):
        return INetworkDefinition(bool(int(flags) & _EXPLICIT))

    def create_builder_config(self):
        return IBuilderConfig()

    def create_optimization_profile(self):
        return IOptimizationProfile()

    def reset(self):
        self._batch = 1

    def is_network_supported(self, network, config):
        return network._network is not None and _problem(network, config) is None

    def build_serialized_network(self, network, config):
        problem = _problem(network, config)
        if problem is not None:
            self._logger.log(Severity.ERROR, problem)
            return None
        if config.get_flag(BuilderFlag.INT8):
            for line in _NO_INT8:
                self._logger.log(Severity.WARNING, line)
        request = _request(network, config)
        try:
            plan = core.build(request, device())
        except core.BuildError as error:
            for line in str(error).split("\n"):
                self._logger.log(Severity.ERROR, line)
            self._logger.log(
                Severity.ERROR,
                "2: [builder.cpp::buildSerializedNetwork::609] Error Code 2: Internal Error "
                "(Assertion enginePtr != nullptr failed. )",
            )
            return None
        if config._cache is None and request.cache is not None:
            config._cache = ITimingCache(request.cache)
        return IHostMemory(plan.to_bytes())

    def build_engine(self, network, config) -> ICudaEngine:
        data = self.build_serialized_network(network, config)
        return None if data is None else Runtime(self._logger).deserialize_cuda_engine(data)


def _problem(network, config):
    if network._network is None or not network.num_outputs:
        return (
            "4: [network.cpp::validate::2633] Error Code 4: Internal Error "
            "(Network must have at least one output)"
        )
    if network._network.is_quantised:
        if not config.get_flag(BuilderFlag.INT8):
            return (
                "4: [network.cpp::validate::2761] Error Code 4: Internal Error (Int8 precision has "
                "been set for a layer or layer output, but int8 is not configured in the builder)"
            )
        # What 8.2 makes of explicit quantisation on sm_62 is not known: nothing is made up.
        return "emulated TX2: it has no fast INT8 and builds no quantised network"
    changing = [each.name for each in network._inputs if -1 in tuple(each.shape)]
    if changing and not config._profiles:
        return (
            "4: [network.cpp::validate::2804] Error Code 4: Internal Error (Network has dynamic "
            "or shape inputs, but no optimization profile has been defined.)"
        )
    for profile in config._profiles:
        missing = [name for name in changing if name not in profile._shapes]
        if missing:
            return (
                "4: [network.cpp::validate::2830] Error Code 4: Internal Error "
                f"({missing[0]}: optimization profile is missing values)"
            )
    return None


def _request(network, config):
    cache = config._cache._cache if config._cache is not None else core.TimingCache()
    return core.Request(
        network=network._network,
        precision="fp16" if config.get_flag(BuilderFlag.FP16) else "fp32",
        workspace_bytes=config._workspace,
        profiles=tuple(dict(profile._shapes) for profile in config._profiles),
        cache=None if config.get_flag(BuilderFlag.DISABLE_TIMING_CACHE) else cache,
        profiling=config._verbosity.name,
        name=network._name,
    )
