"""A serialised engine of the emulated board: a header that says what it runs on, and the network.

Like a real plan it is good for one TensorRT release and one GPU. What the builder happened to
choose (tactics) is in it, so an engine keeps its speed however often it is loaded.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from hil.emulator.trt.tensors import Tensor, from_json

MAGIC = b"hil-emulated-plan\n"
VERSION = "8.2.1.8"
CAPABILITY = (6, 2)

Shape = tuple[int, ...]


class PlanError(Exception):
    """The bytes are no plan for this board, in the words TensorRT would log."""


@dataclass(frozen=True)
class Plan:
    """A built engine.

    Attributes:
        onnx: the network.
        precision: fp32 or fp16.
        workspace_bytes: scratch memory the builder was allowed.
        profiles: per optimisation profile the (min, opt, max) shapes of inputs left open.
        inputs, outputs: what the engine takes and gives; -1 where a shape is open.
        kernels: the network as launches, at the first profile's best shapes.
        factors: per kernel, this build's tactic over the model's time.
        profiling: name of the profiling verbosity.
        name: the network's name.
    """

    onnx: bytes
    precision: str
    workspace_bytes: int
    profiles: tuple[dict[str, tuple[Shape, Shape, Shape]], ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    kernels: tuple[dict[str, Any], ...]
    factors: tuple[float, ...]
    profiling: str = "LAYER_NAMES_ONLY"
    name: str = ""

    def to_bytes(self) -> bytes:
        """Serialises; equal plans give equal bytes."""
        fields = asdict(self)
        del fields["onnx"]
        header = {"tensorrt": VERSION, "capability": CAPABILITY, "emulated": True, **fields}
        text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
        return b"".join([MAGIC, str(len(text)).encode(), b"\n", text, self.onnx])


def from_bytes(data: bytes) -> Plan:
    """Reads a plan.

    Raises:
        PlanError: not a plan, or one of another TensorRT release or GPU.
    """
    if not data.startswith(MAGIC):
        raise PlanError(
            "1: [stdArchiveReader.cpp::StdArchiveReader::29] Error Code 1: Serialization "
            "(Serialization assertion magicTagRead == magicTag failed.Magic tag does not match)"
        )
    length, _, rest = data[len(MAGIC) :].partition(b"\n")
    size = int(length)
    header: dict[str, Any] = json.loads(rest[:size])
    if header["tensorrt"] != VERSION:
        raise PlanError(
            "1: [stdArchiveReader.cpp::StdArchiveReader::35] Error Code 1: Serialization "
            "(Serialization assertion stdVersionRead == serializationVersion failed."
            f"Version tag does not match. Note: Current Version: {VERSION}, "
            f"Serialized Engine Version: {header['tensorrt']})"
        )
    if tuple(header["capability"]) != CAPABILITY:
        raise PlanError(
            "6: The engine plan file is generated on an incompatible device, expecting compute "
            f"{_dotted(CAPABILITY)} got compute {_dotted(header['capability'])}, please rebuild."
        )
    return Plan(
        onnx=rest[size:],
        precision=header["precision"],
        workspace_bytes=header["workspace_bytes"],
        profiles=tuple(
            {name: _triple(shapes) for name, shapes in profile.items()}
            for profile in header["profiles"]
        ),
        inputs=tuple(from_json(each) for each in header["inputs"]),
        outputs=tuple(from_json(each) for each in header["outputs"]),
        kernels=tuple(header["kernels"]),
        factors=tuple(header["factors"]),
        profiling=header["profiling"],
        name=header["name"],
    )


def _dotted(capability: Any) -> str:
    return ".".join(str(each) for each in capability)


def _triple(shapes: Any) -> tuple[Shape, Shape, Shape]:
    low, best, high = (tuple(each) for each in shapes)
    return low, best, high
