"""From ONNX to a plan: what every release of TensorRT from 8.2 on calls by the same name.

Variables are named after the class they hold (`builder`, `config`, `network`, `parser`, ...); the
test that holds names against NVIDIA's lists reads them so.
"""

import os

from . import trt_refusals, trt_shapes
from .errors import AgentError


def build(trt, dialect, want, log):
    """Parses and builds; writes the plan and the timing cache; returns notes for people.

    Args:
        trt: the TensorRT module.
        dialect: `trt_eight`, `trt_named` or `trt_typed`.
        want: the request: onnx, engine, precision, workspace_mib, shapes, profiles, timing_cache,
            detailed.
        log: what TensorRT printed since it was made.

    Raises:
        AgentError: as `trt_dialect.build`.
    """
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    flags = dialect.network_flags(trt)
    network = builder.create_network(flags)
    with open(want["onnx"], "rb") as file:
        data = file.read()
    parser = trt_refusals.new_parser(trt, network, logger)
    if not parser.parse(data):
        spare = builder.create_network(flags)  # held by name: a parser keeps no network alive
        fresh = trt_refusals.new_parser(trt, spare, logger)
        raise trt_refusals.refusal(trt, dialect, data, parser, fresh)
    config = builder.create_builder_config()
    dialect.set_workspace(trt, config, want["workspace_mib"] << 20)
    notes = dialect.set_precision(trt, builder, config, want["precision"], data)
    if want["detailed"]:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    _set_shapes(builder, config, network, want)
    cached = _use_timing_cache(config, want["timing_cache"])
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _build_failure(log.lines())
    _write(want["engine"], memoryview(plan))
    if cached:
        cache = config.get_timing_cache()
        _write(want["timing_cache"] + ".new", memoryview(cache.serialize()))
        os.rename(want["timing_cache"] + ".new", want["timing_cache"])
    return notes


def _set_shapes(builder, config, network, want):
    """Adds the optimisation profiles that inputs of changing shape need."""
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    inputs = [(tensor.name, tuple(tensor.shape)) for tensor in tensors]
    for each in trt_shapes.ranges(inputs, want["shapes"], want.get("profiles", [])):
        profile = builder.create_optimization_profile()
        for name, (low, best, high) in sorted(each.items()):
            profile.set_shape(name, tuple(low), tuple(best), tuple(high))
        config.add_optimization_profile(profile)


def _use_timing_cache(config, path):
    """Lets the builder reuse kernel times measured on this board before; True where it does."""
    if path is None:
        return False
    data = b""
    if os.path.exists(path):
        with open(path, "rb") as file:
            data = file.read()
    cache = config.create_timing_cache(data)
    if cache is None and data:  # damaged: start anew
        cache = config.create_timing_cache(b"")
    if cache is None:
        return False
    return bool(config.set_timing_cache(cache, False))


def _write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def _build_failure(lines):
    why = "; ".join(lines[-4:]) or "TensorRT gave no reason"
    lower = why.lower()
    if "out of memory" in lower or "outofmemory" in lower:
        fix = "close other programs on the board, or lower `workspace_mib`"
        return AgentError("out_of_memory", "the board ran out of memory while building", why, fix)
    return AgentError("build_failed", "TensorRT could not build an engine", why)
