"""What runs networks, as a device file says it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hil.core.yamlfile import StrictModel

Precision = Literal["fp16", "fp32", "int8"]
RuntimeName = Literal["tensorrt", "onnxruntime", "cuda", "onnxruntime-cuda", "torch", "torch-cpu"]
HOST_RUNTIMES = ("cuda", "onnxruntime-cuda", "torch", "torch-cpu")
_AS_STORED = ("onnxruntime", "onnxruntime-cuda")  # run a network in the precision of its file


# assumes: opset-13, large-networks
class Runtime(StrictModel):
    """What runs networks on the board, and the ONNX opset it takes.

    Attributes:
        name: of a board tensorrt, or onnxruntime (its CPU). Of this machine (driver local) also
            onnxruntime-cuda, torch (PyTorch on the GPU), torch-cpu, and cuda, which stands for
            the best of TensorRT and those that reach an NVIDIA GPU.
        precision: of engines where nothing else is asked for.
        precisions: what the board offers; None is what the runtime has everywhere (fp16 and fp32
            with TensorRT and PyTorch, fp32 with ONNX Runtime), so that INT8 is only where the
            file says so.
        cuda_graph: start one CUDA graph an inference instead of every kernel by itself; for
            small networks on TensorRT, whose kernels are shorter than their launches.
    """

    name: RuntimeName = "tensorrt"
    precision: Precision = "fp16"
    precisions: Annotated[tuple[Precision, ...], Field(strict=False, min_length=1)] | None = None
    workspace_mib: Annotated[int, Field(ge=1)] = 512
    opset: Annotated[int, Field(ge=9)] = 13
    cuda_graph: bool = False

    @model_validator(mode="after")
    def _graphs_are_tensorrts(self) -> Self:
        if self.cuda_graph and self.name != "tensorrt":
            raise ValueError("cuda_graph: belongs to runtime tensorrt")
        return self

    @model_validator(mode="after")
    def _the_default_is_offered(self) -> Self:
        if self.precisions is not None and self.precision not in self.precisions:
            raise ValueError(f"precisions: add {self.precision}, which is `precision`")
        if self.name != "tensorrt" and "int8" in self.offered:
            raise ValueError("precisions: int8 belongs to runtime tensorrt")
        return self

    @property
    def offered(self) -> tuple[str, ...]:
        """Precisions that engines may be built with."""
        usual = ("fp32",) if self.name in _AS_STORED else ("fp16", "fp32")
        if self.precisions:
            return self.precisions
        return usual if self.precision in usual else (*usual, self.precision)
