"""A node of an ONNX graph as the operators of `onnxtorch` read it: attributes and parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnx import helper
from torch import Tensor

from hil.core.errors import ExportError

Kernel = Callable[..., tuple[Tensor, ...]]
"""Operands to results: tensors alone, nothing is asked of the host any more."""


@dataclass(frozen=True)
class Operator:
    """How a node becomes a kernel.

    Attributes:
        build: reads attributes and parameters once.
        params: inputs that must be known beforehand and are no operands of the kernel.
    """

    build: Callable[[Node], Kernel]
    params: tuple[int, ...] = ()


class Node:
    """One node with what is known of its inputs before anything runs.

    Args:
        proto: as in the file.
        opset: of the file.
        known: inputs that are constants, by position.
    """

    def __init__(self, proto: onnx.NodeProto, opset: int, known: Mapping[int, Tensor]) -> None:
        self.op = proto.op_type
        self.opset = opset
        self.outputs = len(proto.output)
        self._proto = proto
        self._known = known
        self._attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}

    def has(self, name: str) -> bool:
        """Whether an attribute is given."""
        return name in self._attributes

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute; text as str."""
        value = self._attributes.get(name, default)
        return value.decode("utf-8") if isinstance(value, bytes) else value

    def ints(self, name: str, default: Sequence[int]) -> list[int]:
        """Return an attribute that is a list of whole numbers."""
        return [int(n) for n in self._attributes.get(name, default)]

    def param(self, index: int) -> Tensor | None:
        """Return an input that must be known beforehand; None where it is left out.

        Raises:
            ExportError: it is computed by the network.
        """
        if index >= len(self._proto.input) or not self._proto.input[index]:
            return None
        if index not in self._known:
            raise self.refuse(f"its input {index} is computed by the network itself")
        return self._known[index]

    def whole(self, index: int) -> list[int] | None:
        """Return such an input as a list of whole numbers."""
        found = self.param(index)
        return None if found is None else [int(n) for n in found.reshape(-1).tolist()]

    def numbers(self, index: int) -> list[float] | None:
        """Return such an input as a list of numbers; an empty one counts as left out."""
        found = self.param(index)
        return None if found is None or found.numel() == 0 else found.double().reshape(-1).tolist()

    def part_of(self, shape: Sequence[int]) -> Tensor:
        """Return what a Shape node gives (`start` and `end` since opset 15)."""
        start, end = self.get("start", 0), self.get("end", len(shape))
        return torch.tensor(list(shape)[start:end], dtype=torch.int64)

    def refuse(self, why: str) -> ExportError:
        """Return the refusal of this use of the operator."""
        return refused(f"node {self._proto.name or '(unnamed)'} ({self.op})", why)


def refused(what: str, why: str | None = None) -> ExportError:
    """Return the refusal of something that PyTorch is not told how to run."""
    return ExportError(
        f"PyTorch is not told how to run {what}",
        why=why,
        fix="install TensorRT or onnxruntime-gpu on this machine, or export it otherwise",
    )
