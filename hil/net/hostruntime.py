"""What this host's own Python runs networks with: the agent's worker takes it as a plug-in.

Boards have TensorRT and little else; the agent stays within its standard library. The agent of a
`driver: local` device is started by the Python that runs `hil`, which has PyTorch and `onnx`, and
is told to ask this module for the runtimes that it does not have itself:

    onnxruntime-cuda   ONNX Runtime's CUDA provider, and nothing on the CPU behind its back
    torch              the exported network by PyTorch, one CUDA graph an inference
    torch-cpu          the same on the CPU, without a graph

A plan is one line of JSON (format, shapes) and the ONNX file in the precision that it runs in, so
that it is named by its hash like any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hil.core.errors import ExportError
from hil.net.hostagent import Agent, Engine, Runtime

FORMAT = "hil/host-plan@1"
Want = Mapping[str, Any]


class Host:
    """A runtime as the worker knows runtimes: identity, build, load."""

    def __init__(self, runtime: Runtime, agent: Agent) -> None:
        self._runtime = runtime
        self._agent = agent

    def identity(self) -> dict[str, Any]:
        """Return release and platform of the runtime."""
        return self._runtime.identity()

    def build(self, want: Want) -> dict[str, Any]:
        """Write the plan of `want["onnx"]` to `want["engine"]` (paths) and try it.

        Raises:
            AgentError: `unsupported_operator`, `unknown_shape`, `build_failed`, `out_of_memory`;
                the second and third also for profiles and a precision that only TensorRT has.
        """
        self._refuse_what_is_tensorrts(want)
        with open(want["onnx"], "rb") as file:
            data = file.read()
        if want["precision"] == "fp16":
            data = self._half(data)
        header = {"format": FORMAT, "shapes": want["shapes"]}
        with open(want["engine"], "wb") as file:
            file.write(json.dumps(header, sort_keys=True).encode("ascii") + b"\n" + data)
        engine = self.load(want["engine"])
        try:
            return {
                "inputs": [tensor.as_dict() for tensor in engine.inputs],
                "outputs": [tensor.as_dict() for tensor in engine.outputs],
                "device_memory_bytes": getattr(engine, "memory_bytes", None),
                "messages": list(getattr(engine, "messages", ())),
            }
        finally:
            engine.close()

    def _refuse_what_is_tensorrts(self, want: Want) -> None:
        if want["precision"] not in ("fp16", "fp32"):
            raise self._agent.error(
                "build_failed",
                f"this host's runtime has no {want['precision']}",
                "only TensorRT builds INT8 engines",
                "ask for fp16 or fp32",
            )
        if want.get("profiles"):
            raise self._agent.error(
                "unknown_shape",
                "this host's runtime has no optimisation profiles",
                "a plan is made for the shapes that are run",
                "give one shape of each open input (--shape), and leave --shapes out",
            )

    def load(self, path: str, shapes: Mapping[str, Any] | None = None) -> Engine:  # noqa: ARG002 - one call for all runtimes
        """Make a plan ready to run, at the shapes it was built for.

        Raises:
            AgentError: as `build`; `bad_request` where the file is no such plan.
        """
        with open(path, "rb") as file:
            first, data = file.readline(65536), file.read()
        try:
            header = json.loads(first.decode("ascii"))
        except ValueError:
            header = {}
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise self._agent.error(
                "bad_request", "the engine is no plan of this host", None, "build it again"
            )
        with self._agent.named():
            return self._runtime.open(data, header["shapes"])

    def _half(self, data: bytes) -> bytes:
        from hil.net.half import to_half

        try:
            return to_half(data)
        except ExportError as error:
            raise self._agent.error("build_failed", error.what, error.why, error.fix) from error


def runtime(name: str, package: str) -> Host:
    """Return a runtime by name.

    Args:
        name: as in a device file.
        package: of the agent that asks.

    Raises:
        AgentError: `no_runtime` for a name that is not known here.
    """
    agent = Agent(package)
    if name in ("torch", "torch-cpu"):
        from hil.net.torchengine import TorchRuntime

        return Host(TorchRuntime("cuda" if name == "torch" else "cpu", agent), agent)
    if name == "onnxruntime-cuda":
        from hil.net.ortengine import OrtRuntime

        return Host(OrtRuntime("cuda", agent), agent)
    raise agent.error("no_runtime", f"this host has no runtime {name}")


def versions() -> dict[str, Any]:
    """Return what there is to run networks with; None is not installed.

    `torch_cuda` is the CUDA release that PyTorch was built for, and `torch_gpus` how many GPUs it
    sees.
    """
    told: dict[str, Any] = {"torch": None, "torch_cuda": None, "torch_gpus": 0}
    try:
        import torch
    except (ImportError, OSError) as error:
        told["torch_why"] = str(error)
    else:
        told |= {"torch": torch.__version__, "torch_cuda": torch.version.cuda}
        told["torch_gpus"] = torch.cuda.device_count() if torch.cuda.is_available() else 0
    try:
        import onnxruntime
    except (ImportError, OSError):
        told |= {"onnxruntime": None, "onnxruntime_providers": []}
    else:
        told["onnxruntime"] = onnxruntime.__version__
        told["onnxruntime_providers"] = onnxruntime.get_available_providers()
    return told
