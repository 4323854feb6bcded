"""Building an engine: tactics with the board's noise, build time on the board's clock."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from typing import Any

from hil.emulator.client import BoardRefusedError
from hil.emulator.clockfile import NOW
from hil.emulator.trt.device import Device
from hil.emulator.trt.plan import Plan, Shape
from hil.emulator.trt.tensors import Tensor

Kernel = dict[str, Any]
CACHE_MAGIC = "hil-emulated-timing-cache"


class BuildError(Exception):
    """The builder gives up, in the words it logs."""


@dataclass
class TimingCache:
    """Tactics chosen before, by kernel."""

    factors: dict[str, float] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Serialises the cache."""
        document = {"magic": CACHE_MAGIC, "factors": self.factors}
        return json.dumps(document, sort_keys=True).encode()


def read_cache(data: bytes) -> TimingCache | None:
    """Reads a serialised cache, an empty one from no bytes, None from anything else."""
    if not data:
        return TimingCache()
    try:
        document = json.loads(data)
        if document["magic"] != CACHE_MAGIC:
            return None
        return TimingCache({str(key): float(each) for key, each in document["factors"].items()})
    except (ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class Network:
    """A network that has been parsed.

    Attributes:
        data: the file.
        sha256: its hash, by which the board knows it.
    """

    data: bytes
    sha256: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    nodes: int

    @property
    def is_quantised(self) -> bool:
        """Whether a node is a QuantizeLinear or DequantizeLinear (NodeProto.op_type, field 4)."""
        return b"\x22\x0eQuantizeLinear" in self.data or b"\x22\x10DequantizeLinear" in self.data


@dataclass(frozen=True)
class Request:
    """What to build.

    Attributes:
        network: the network.
        precision: fp32 or fp16.
        workspace_bytes: scratch memory allowed.
        profiles: shapes of open inputs, (min, opt, max) by name.
        cache: tactics to reuse and to add to; None for none.
    """

    network: Network
    precision: str
    workspace_bytes: int
    profiles: tuple[dict[str, tuple[Shape, Shape, Shape]], ...] = ()
    cache: TimingCache | None = None
    profiling: str = "LAYER_NAMES_ONLY"
    name: str = ""


def build(request: Request, device: Device) -> Plan:
    """Builds a plan on the board; its clock moves on by the build time.

    Raises:
        BuildError: the network cannot be built.
    """
    network = request.network
    lowered = _lowered(request, device)
    kernels: list[Kernel] = lowered["kernels"]
    scratch = 2 * sum(kernel["bytes_weights"] for kernel in kernels)
    _reserve(scratch, kernels, device)
    try:
        factors, timed = _tactics(request, kernels, device)
        _spend(timed * max(1, len(request.profiles)), device)  # each is timed anew
    finally:
        device.release(scratch)
    outputs = network.outputs
    if not request.profiles:
        # Many files leave the outputs' shapes out; with fixed inputs they follow.
        shapes = lowered["outputs"]
        outputs = tuple(
            replace(tensor, shape=tuple(shape))
            for tensor, shape in zip(outputs, shapes, strict=True)
        )
    return Plan(
        onnx=network.data,
        precision=request.precision,
        workspace_bytes=request.workspace_bytes,
        profiles=request.profiles,
        inputs=network.inputs,
        outputs=outputs,
        kernels=tuple(kernels),
        factors=factors,
        profiling=request.profiling,
        name=request.name,
    )


def _reserve(scratch: int, kernels: list[Kernel], device: Device) -> None:
    """Takes what building needs: weights twice, and the tensors of the kernel being timed.

    Raises:
        BuildError: there is not so much; the message names the first kernel that cannot run.
    """
    free = device.free_bytes()
    for kernel in kernels:
        if scratch + kernel["bytes_in"] + kernel["bytes_out"] > free:
            raise BuildError(
                "2: [virtualMemoryBuffer.cpp::resizePhysical::145] Error Code 2: OutOfMemory "
                "(no further information)\n"
                "10: [optimizer.cpp::computeCosts::2011] Error Code 10: Internal Error "
                f"(Could not find any implementation for node {kernel['name']}.)"
            )
    device.reserve(scratch)


def _lowered(request: Request, device: Device) -> dict[str, Any]:
    best = {name: each[1] for profile in request.profiles[:1] for name, each in profile.items()}
    try:
        return device.time.client.call(
            "lower", sha256=request.network.sha256, precision=request.precision, shapes=best
        )
    except BoardRefusedError as error:
        raise BuildError(
            f"4: [network.cpp::validate] Error Code 4: Internal Error ({error})"
        ) from error


def _tactics(
    request: Request, kernels: list[Kernel], device: Device
) -> tuple[tuple[float, ...], list[Kernel]]:
    """Chooses each kernel's tactic; equal kernels are timed once.

    Returns:
        A factor per kernel, and the kernels that had to be timed.
    """
    name = f"{request.network.sha256} {request.precision}"
    drawn = device.time.client.call("tactics", name=name, kernels=kernels)["factors"]
    known = request.cache.factors if request.cache is not None else {}
    factors, timed = [], []
    for kernel, factor in zip(kernels, drawn, strict=True):
        key = kernel_key(kernel)
        if key not in known:
            known[key] = factor
            timed.append(kernel)
        factors.append(known[key])
    return tuple(factors), timed


def kernel_key(kernel: Kernel) -> str:
    """What two kernels share that can use one timing: everything but their names."""
    return ":".join(str(each) for name, each in kernel.items() if name not in ("name", "nodes"))


def _spend(timed: list[Kernel], device: Device) -> None:
    answer = device.time.client.call("building", kernels=timed)
    device.time.same_boot()
    start_ns = device.time.words[NOW]
    if "crash" in answer:
        device.time.reach(start_ns + answer["ns"] // 2)
        os.kill(os.getpid(), answer["crash"])
    device.time.occupy(start_ns, start_ns + answer["ns"], answer["activity"])
    device.time.reach(start_ns + answer["ns"])
