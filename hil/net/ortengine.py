"""ONNX Runtime's CUDA provider as a runtime of this host, inputs and outputs kept on the GPU.

ONNX Runtime falls back to the CPU by itself, for a whole network or a node of it; both are
refused here, because the figures would be another device's.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from hil.net.hostagent import Agent

# Float32 is float32; algorithms by heuristics, so that two loads run the same ones.
_PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    "cuda": (
        "CUDAExecutionProvider",
        {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
    ),
    "cpu": ("CPUExecutionProvider", {}),
}
_DTYPES = {"float": "float32", "double": "float64"}


class OrtRuntime:
    """Networks by ONNX Runtime on one device.

    Args:
        device: "cuda"; "cpu" is the same code on the CPU's provider.
        agent: whose errors and tensors are used.
    """

    def __init__(self, device: str, agent: Agent) -> None:
        self._device = device
        self._agent = agent

    def identity(self) -> dict[str, Any]:
        """Return the release of ONNX Runtime and what it runs on.

        Raises:
            AgentError: `no_runtime` where it was built without the provider.
        """
        provider, _ = _PROVIDERS[self._device]
        if provider not in onnxruntime.get_available_providers():
            raise self._agent.error(
                "no_runtime",
                f"this ONNX Runtime has no {provider}",
                f"ONNX Runtime {onnxruntime.__version__} has "
                + ", ".join(onnxruntime.get_available_providers()),
                "install onnxruntime-gpu in place of onnxruntime",
            )
        where = "cuda" if self._device == "cuda" else f"cpu-{platform.machine()}"
        return {"version": onnxruntime.__version__, "platform": where}

    def open(self, data: bytes, shapes: Mapping[str, Any]) -> OrtEngine:
        """Make a network ready to run.

        Raises:
            AgentError: `no_runtime` where the provider does not start or leaves nodes to the CPU;
                `parse_failed`, `unknown_shape`.
        """
        self.identity()
        provider, options = _PROVIDERS[self._device]
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        if self._device != "cpu":
            settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            session = onnxruntime.InferenceSession(data, settings, providers=[(provider, options)])
        # ONNX Runtime's exceptions share no base class but Exception.
        except Exception as error:
            if "onnxruntime" not in type(error).__module__:
                raise
            raise self._refusal(str(error).strip()) from error
        if session.get_providers()[0] != provider:
            raise self._agent.error(
                "no_runtime",
                f"ONNX Runtime's {provider} does not start",
                f"it fell back to {', '.join(session.get_providers())}",
                "its CUDA and cuDNN must be of the release that it was built for",
            )
        return OrtEngine(session, shapes, self._device, self._agent)

    def _refusal(self, said: str) -> Exception:
        fallback = "fallback" in said.lower()
        made: Exception = self._agent.error(
            "no_runtime" if fallback else "parse_failed",
            "ONNX Runtime would run a part of this network on the CPU"
            if fallback
            else "ONNX Runtime cannot read this network",
            said,
        )
        return made


class OrtEngine:
    """A session with inputs and outputs bound on the device; copies are no part of `step`.

    `first` holds the stamps before and after the one inference that making it takes.
    """

    copies = "excluded"

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        shapes: Mapping[str, Sequence[int]],
        device: str,
        agent: Agent,
    ) -> None:
        self._session = session
        self._device = device
        self._binding = session.io_binding()
        self._agent = agent
        self.inputs = [self._input(node, shapes) for node in session.get_inputs()]
        strangers = sorted(set(shapes) - {tensor.name for tensor in self.inputs})
        if strangers:
            raise agent.error("unknown_shape", f"the network has no input {', '.join(strangers)}")
        for tensor in self.inputs:
            self.set_input(tensor.name, bytes(tensor.nbytes()))
        self._names = [node.name for node in session.get_outputs()]
        for name in self._names:
            self._binding.bind_output(name, device)
        before = time.monotonic()
        self.step()
        self.first = (before, time.monotonic())
        self.outputs = [
            agent.tensor(name, str(value.dtype), value.shape)
            for name, value in zip(self._names, self._results(), strict=True)
        ]

    def step(self) -> None:
        """Run one inference to its end."""
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def set_input(self, name: str, data: bytes) -> None:
        """Replace the values of one input."""
        tensor = next(tensor for tensor in self.inputs if tensor.name == name)
        values = np.frombuffer(data, tensor.dtype).reshape(tensor.shape)
        value = onnxruntime.OrtValue.ortvalue_from_numpy(values, self._device, 0)
        self._binding.bind_ortvalue_input(name, value)
        self._binding.synchronize_inputs()

    def output(self, name: str) -> bytes:
        """Return the bytes of one output, C order."""
        return np.ascontiguousarray(self._results()[self._names.index(name)]).tobytes()

    def layers(self, _iterations: int) -> list[tuple[str, float]]:
        """Refuse: its profiler tells of the CPU's part of each node alone.

        Raises:
            AgentError: `no_runtime`.
        """
        raise self._agent.error(
            "no_runtime",
            "ONNX Runtime's CUDA provider does not tell the time of layers",
            "its profiler stamps the start of kernels, not their end",
            "leave --layers out, or use TensorRT",
        )

    def close(self) -> None:
        """End the session."""
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()

    def _results(self) -> list[Any]:
        return [value.numpy() for value in self._binding.get_outputs()]

    def _input(self, node: Any, shapes: Mapping[str, Sequence[int]]) -> Any:
        kind = node.type.removeprefix("tensor(").rstrip(")")
        shape = list(shapes.get(node.name, node.shape))
        if not all(isinstance(n, int) and n > 0 for n in shape):
            raise self._agent.error(
                "unknown_shape",
                f"the shape of input {node.name} is not fixed in the network",
                f"it is {node.shape}",
                f"give it: --shape {node.name}=1x3x224x224",
            )
        fixed = [(have, want) for have, want in zip(node.shape, shape, strict=False)]
        if len(shape) != len(node.shape) or any(isinstance(h, int) and h != w for h, w in fixed):
            raise self._agent.error(
                "unknown_shape",
                f"input {node.name} is {node.shape} in the network, {shape} was asked",
            )
        return self._agent.tensor(node.name, _DTYPES.get(kind, kind), shape)
