"""PyTorch as a runtime of this host: an exported network, on the GPU as one CUDA graph.

Float32 is float32: TF32, which keeps 10 bits of a mantissa, is switched off. Convolution
algorithms are cuDNN's own choice by its heuristics; trying them out would make each load another
engine, which no hash tells apart.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from hil.net.hostagent import Agent
from hil.net.onnxtorch import Network

_CUDA: Any = torch.cuda  # some of its functions have no types
_CUDNN: Any = torch.backends.cudnn
_WARM = 3
"""Runs before a capture, which libraries need to set themselves up (PyTorch's notes on graphs)."""


class TorchRuntime:
    """Networks by PyTorch on one device.

    Args:
        device: "cuda" or "cpu".
        agent: whose errors and tensors are used.
    """

    def __init__(self, device: str, agent: Agent) -> None:
        self._device = device
        self._agent = agent

    def identity(self) -> dict[str, Any]:
        """Return the release of PyTorch and what it runs on.

        Raises:
            AgentError: `no_runtime` where PyTorch sees no GPU.
        """
        if self._device == "cpu":
            return {"version": torch.__version__, "platform": f"cpu-{platform.machine()}"}
        self._reach()
        major, minor = torch.cuda.get_device_capability()
        return {
            "version": f"{torch.__version__}, cuDNN {_CUDNN.version()}",
            "platform": f"sm_{major}.{minor}",
        }

    def open(self, data: bytes, shapes: Mapping[str, Any]) -> TorchEngine:
        """Make a network ready to run.

        Raises:
            ExportError: an operator that PyTorch is not told how to run.
            ConfigError: a shape is missing or wrong.
            AgentError: `no_runtime`.
        """
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = False
        if self._device == "cpu":
            torch.set_num_threads(1)  # so that its figures repeat
            return TorchEngine(data, shapes, "cpu", self._agent)
        self._reach()
        return GraphedEngine(data, shapes, "cuda", self._agent)

    def _reach(self) -> None:
        if torch.cuda.is_available():
            return
        built = torch.version.cuda
        raise self._agent.error(
            "no_runtime",
            "PyTorch reaches no NVIDIA GPU",
            f"PyTorch {torch.__version__} was built "
            + (f"for CUDA {built} and sees no GPU" if built else "without CUDA"),
            "install NVIDIA's driver and a PyTorch with CUDA (pytorch.org/get-started)",
        )


class TorchEngine:
    """A network with its inputs in place; copies are no part of `step`.

    `first` holds the stamps before and after the one inference that making it takes.
    """

    copies = "excluded"
    memory_bytes: int | None = None
    messages: tuple[str, ...] = ()

    def __init__(self, data: bytes, shapes: Mapping[str, Any], device: str, agent: Agent) -> None:
        self._network = Network(data, shapes, device)
        self._agent = agent
        self.inputs = [agent.tensor(v.name, _name(v.dtype), v.shape) for v in self._network.inputs]
        self.outputs = [
            agent.tensor(v.name, _name(v.dtype), v.shape) for v in self._network.outputs
        ]
        self._feeds = {
            v.name: torch.zeros(v.shape, dtype=v.dtype, device=device) for v in self._network.inputs
        }
        before = time.monotonic()
        self._results = self._network(self._feeds)
        self._wait()
        self.first = (before, time.monotonic())

    def step(self) -> None:
        """Run one inference to its end."""
        self._results = self._network(self._feeds)

    def set_input(self, name: str, data: bytes) -> None:
        """Replace the values of one input."""
        feed = self._feeds[name]
        values = np.frombuffer(data, _numpy(feed.dtype)).reshape(tuple(feed.shape))
        feed.copy_(torch.from_numpy(values.copy()))

    def output(self, name: str) -> bytes:
        """Return the bytes of one output, C order."""
        names = [tensor.name for tensor in self.outputs]
        return self._results[names.index(name)].cpu().contiguous().numpy().tobytes()

    def layers(self, iterations: int) -> list[tuple[str, float]]:
        """Return (node, mean ms) with every node run by itself."""
        total_s: dict[str, float] = {}
        for _ in range(iterations):
            for name, seconds in self._timed():
                total_s[name] = total_s.get(name, 0.0) + seconds
        return [(name, 1000 * seconds / iterations) for name, seconds in total_s.items()]

    def close(self) -> None:
        """Let tensors go."""
        self._results = ()
        self._feeds = {}

    def _wait(self) -> None:
        """Let the device finish; the CPU has when it returns."""

    def _timed(self) -> list[tuple[str, float]]:
        stamps = [("", time.perf_counter())]
        self._network(self._feeds, lambda name: stamps.append((name, time.perf_counter())))
        return _differences(stamps)


class GraphedEngine(TorchEngine):
    """The same on the GPU, its kernels started all at once.

    Raises:
        AgentError: `build_failed` where PyTorch cannot capture the network.
    """

    messages = ("one CUDA graph an inference",)

    def __init__(self, data: bytes, shapes: Mapping[str, Any], device: str, agent: Agent) -> None:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        super().__init__(data, shapes, device, agent)
        self._stream = _CUDA.Stream()
        self._stream.wait_stream(torch.cuda.current_stream())
        torch.cuda.set_stream(self._stream)  # the worker has one engine and one thread
        for _ in range(_WARM):
            self._network(self._feeds)
        self._stream.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self._graph, stream=self._stream):
                self._results = self._network(self._feeds)
        except RuntimeError as error:
            if isinstance(error, torch.cuda.OutOfMemoryError):
                raise
            raise agent.error(
                "build_failed",
                "PyTorch cannot capture this network as one CUDA graph",
                str(error).splitlines()[0],
                "install TensorRT or onnxruntime-gpu on this machine",
            ) from error
        # With the weights, since nobody else tells what of it they are.
        self.memory_bytes = torch.cuda.max_memory_allocated() - before
        self.step()

    def step(self) -> None:
        """Run one inference to its end."""
        self._graph.replay()
        self._stream.synchronize()

    def set_input(self, name: str, data: bytes) -> None:
        """Replace the values of one input."""
        super().set_input(name, data)
        torch.cuda.synchronize()

    def device_ms(self, iterations: int) -> float:
        """Return the mean time of an inference on the GPU's own clock, in ms."""
        start, stop = (_CUDA.Event(enable_timing=True) for _ in range(2))
        start.record(self._stream)
        for _ in range(iterations):
            self._graph.replay()
        stop.record(self._stream)
        self._stream.synchronize()
        return float(start.elapsed_time(stop)) / iterations

    def close(self) -> None:
        """Let the graph and its memory go."""
        super().close()
        self._graph.reset()

    def _wait(self) -> None:
        torch.cuda.synchronize()

    def _timed(self) -> list[tuple[str, float]]:
        def mark(name: str) -> None:
            event = _CUDA.Event(enable_timing=True)
            event.record(self._stream)
            events.append((name, event))

        events: list[tuple[str, Any]] = []
        mark("")
        self._network(self._feeds, mark)
        self._stream.synchronize()
        begin = events[0][1]
        stamps = [("", 0.0), *((name, begin.elapsed_time(e) / 1000) for name, e in events[1:])]
        return _differences(stamps)


def _differences(stamps: list[tuple[str, float]]) -> list[tuple[str, float]]:
    return [(name, after - before) for (_, before), (name, after) in pairwise(stamps)]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _numpy(dtype: torch.dtype) -> np.dtype[Any]:
    return np.dtype(_name(dtype))
