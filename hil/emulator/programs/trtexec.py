"""`trtexec`: builds or loads an engine and times it, in the board's time."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from hil.emulator.trt import trtexec
from hil.emulator.trt.trtexec import RELEASE, Options, RefusedError, say

MIB = 1 << 20


def main() -> int:
    """Runs the command; 0 where trtexec says PASSED."""
    arguments = sys.argv[1:]
    command = " ".join([RELEASE, "#", "/usr/src/tensorrt/bin/trtexec", *arguments])
    sys.stdout.write(f"&&&& RUNNING {command}\n")
    try:
        options = trtexec.parse(arguments)
        if options.has("help"):
            sys.stdout.write(trtexec.help_text() + "\n")
        else:
            _run(options)
    except RefusedError as error:
        say(str(error), "E")
        if "Unknown option" in str(error) or "Model missing" in str(error):
            sys.stdout.write(trtexec.help_text() + "\n")
        sys.stdout.write(f"&&&& FAILED {command}\n")
        return 1
    sys.stdout.write(f"&&&& PASSED {command}\n")
    return 0


def _run(options: Options) -> None:
    import tensorrt

    logger = tensorrt.Logger(tensorrt.Logger.WARNING)
    say("TensorRT version: 8.2.1")
    if options.has("loadEngine"):
        data: Any = _bytes(options.given["loadEngine"])
    else:
        data = _built(tensorrt, logger, options)
    began_s = time.monotonic()
    engine = tensorrt.Runtime(logger).deserialize_cuda_engine(data)
    if engine is None:
        raise RefusedError("Engine could not be created from the serialized plan")
    say(f"Engine loaded in {time.monotonic() - began_s:.6g} sec.")
    if options.given.get("saveEngine"):
        Path(options.given["saveEngine"]).write_bytes(bytes(data))
    if options.has("buildOnly"):
        say("Skipped inference phase since --buildOnly is added.")
        return
    context = engine.create_execution_context()
    if context is None:
        raise RefusedError("Unable to create an execution context")
    shapes = _shapes(options.given.get("shapes", ""))
    for index in range(engine.num_bindings):
        name = engine.get_binding_name(index)
        kind = "input" if engine.binding_is_input(index) else "output"
        known = kind == "input" and name in shapes
        if known and not context.set_binding_shape(index, shapes[name]):
            raise RefusedError(f"Invalid shape for {name}")
        sizes = "x".join(map(str, context.get_binding_shape(index)))
        say(f"Created {kind} binding for {name} with dimensions {sizes}")
    trtexec.measure(context._context, options)


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise RefusedError(f"Error opening engine file: {path}") from error


def _built(tensorrt: Any, logger: Any, options: Options) -> Any:
    builder = tensorrt.Builder(logger)
    flag = 1 << int(tensorrt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    network = builder.create_network(flag)
    if not tensorrt.OnnxParser(network, logger).parse(_bytes(options.given["onnx"])):
        raise RefusedError("Failed to parse onnx file")
    config = builder.create_builder_config()
    config.max_workspace_size = int(options.number("workspace", 16) * MIB)
    for name in ("fp16", "int8"):
        if options.has(name):
            config.set_flag(getattr(tensorrt.BuilderFlag, name.upper()))
    best = _shapes(options.given.get("optShapes", "") or options.given.get("shapes", ""))
    if best:
        profile = builder.create_optimization_profile()
        low = _shapes(options.given.get("minShapes", "")) or best
        high = _shapes(options.given.get("maxShapes", "")) or best
        for name, shape in best.items():
            profile.set_shape(name, low.get(name, shape), shape, high.get(name, shape))
        config.add_optimization_profile(profile)
    cache = options.given.get("timingCacheFile", "")
    if cache:
        known = Path(cache).read_bytes() if Path(cache).exists() else b""
        config.set_timing_cache(config.create_timing_cache(known), False)
    began_s = time.monotonic()
    data = builder.build_serialized_network(network, config)
    if data is None:
        raise RefusedError("Engine could not be created from network\nBuilding engine failed")
    say(f"Engine built in {time.monotonic() - began_s:.6g} sec.")
    if cache:
        Path(cache).write_bytes(bytes(config.get_timing_cache().serialize()))
    return data


def _shapes(text: str) -> dict[str, tuple[int, ...]]:
    """Reads `name:1x3x8x8,other:1x10`.

    Raises:
        RefusedError: it is not of that form.
    """
    found = {}
    for part in filter(None, text.split(",")):
        name, _, sizes = part.rpartition(":")
        try:
            found[name] = tuple(int(each) for each in sizes.split("x"))
        except ValueError as error:
            raise RefusedError(f"Invalid shape: {part}") from error
    return found
