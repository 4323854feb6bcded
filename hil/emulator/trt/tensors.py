"""Inputs and outputs of engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

NARROWED = {"int64": "int32", "float64": "float32"}
"""TensorRT 8.2 has no such types and casts them down."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine.

    Attributes:
        name: as in the file.
        onnx_dtype: numpy's name of the type in the file.
        shape: -1 where open.
    """

    name: str
    onnx_dtype: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """Numpy's name of the type on the board."""
        return NARROWED.get(self.onnx_dtype, self.onnx_dtype)


def from_json(fields: dict[str, Any]) -> Tensor:
    """Reads what `dataclasses.asdict` and JSON made of a tensor."""
    return Tensor(fields["name"], fields["onnx_dtype"], tuple(fields["shape"]))


def of_model(model: onnx.ModelProto) -> tuple[list[Tensor], list[Tensor]]:
    """Reads inputs (without initialisers) and outputs of a network."""
    weights = {each.name for each in model.graph.initializer}
    inputs = [_tensor(each) for each in model.graph.input if each.name not in weights]
    return inputs, [_tensor(each) for each in model.graph.output]


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    from onnx import helper

    kind = value.type.tensor_type
    shape = tuple(each.dim_value if each.HasField("dim_value") else -1 for each in kind.shape.dim)
    return Tensor(value.name, str(helper.tensor_dtype_to_np_dtype(kind.elem_type)), shape)
