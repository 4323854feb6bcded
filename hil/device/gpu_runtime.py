"""An NVIDIA GPU of this machine: which runtime is used, why the better ones are not, and refusals.

Rule of this file: pure but for `RuntimeChoice.build`, which asks the agent. `cuda` in a device
file is a wish for the best runtime that reaches the GPU; what was taken and what was passed over
are facts of the session, which `hil.core.fallbacks` words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hil.device.config import DeviceConfig, LocalDevice
from hil.device.faults import NoRuntimeError
from hil.device.session import EngineInfo, EngineSpec

BEST = "cuda"
ORDER = ("tensorrt", "onnxruntime-cuda", "torch")
"""Best first: what NVIDIA's own compiler makes, its kernels behind a graph optimiser, its kernels
one by one."""
NAMES = {
    "tensorrt": "TensorRT",
    "onnxruntime-cuda": "ONNX Runtime's CUDA provider",
    "torch": "PyTorch",
    "torch-cpu": "PyTorch on the CPU",
    "onnxruntime": "ONNX Runtime",
    BEST: "the best runtime of an NVIDIA GPU",
}
INSTALL = {
    "tensorrt": "pip install tensorrt",
    "onnxruntime-cuda": "pip install onnxruntime-gpu in place of onnxruntime",
    "torch": "a PyTorch with CUDA (pytorch.org/get-started)",
}
ON_GPU = (BEST, "onnxruntime-cuda", "torch")
PLUGIN = "hil.net.hostruntime"
"""Given to the agent by name alone: it is the worker that imports it, and PyTorch with it."""
_CUDA_PROVIDER = "CUDAExecutionProvider"
DRIVER = "install NVIDIA's driver and see that `nvidia-smi` lists the GPU"
ELSEWHERE = "or measure on another device: --device local.yaml (this CPU), tx2-emulated.yaml"


def plugin_of(device: DeviceConfig) -> str | None:
    """Return the plug-in that a device's agent needs; None for those of boards."""
    wanted = (*ON_GPU, "torch-cpu")
    return PLUGIN if isinstance(device, LocalDevice) and device.runtime.name in wanted else None


def probe_params(device: DeviceConfig) -> dict[str, Any]:
    """Return how a device is probed: its NVIDIA GPU only where one is meant."""
    sources = (device.power.source, *(one.source for one in device.power.also))
    return {"gpu": True} if device.runtime.name in ON_GPU or "nvml" in sources else {}


def lacking(name: str, probe: Mapping[str, Any]) -> str | None:
    """Say why a runtime cannot be used on this machine's GPU; None where it can, so far."""
    host = probe.get("host_runtimes") or {}
    if name == "tensorrt":
        return None if probe.get("tensorrt") else "this Python has no TensorRT"
    if host.get("refused"):
        return f"this Python cannot use hil's own runtimes: {host['refused']}"
    if name == "onnxruntime-cuda":
        release = host.get("onnxruntime")
        if release is None:
            return "there is no ONNX Runtime"
        has = _CUDA_PROVIDER in (host.get("onnxruntime_providers") or ())
        return None if has else f"ONNX Runtime {release} was built without it"
    return _torch_lacks(host)


def _torch_lacks(host: Mapping[str, Any]) -> str | None:
    if host.get("torch") is None:
        return f"there is no PyTorch ({host.get('torch_why') or 'not installed'})"
    if host.get("torch_cuda") is None:
        return f"PyTorch {host['torch']} was built without CUDA"
    return None if host.get("torch_gpus") else f"PyTorch {host['torch']} sees no GPU"


def refuse_without_gpu(probe: Mapping[str, Any], runtime: str) -> None:
    """Refuse a machine that has no NVIDIA GPU to run on, before anything is shipped.

    Args:
        probe: what the machine told of itself.
        runtime: of the device file.

    Raises:
        NoRuntimeError: no driver that answers, or no runtime that reaches the GPU.
    """
    if runtime not in ON_GPU:
        return
    gpu = probe.get("gpu") or {}
    refused = gpu.get("missing")
    if refused:
        why = refused.get("why")
        raise NoRuntimeError(
            "this machine has no NVIDIA GPU that answers",
            why=f"{refused['message']} ({why})" if why else refused["message"],
            fix=f"{refused.get('fix') or DRIVER}; {ELSEWHERE}",
        )
    names = ORDER if runtime == BEST else (runtime,)
    reasons = [(name, lacking(name, probe)) for name in names]
    if all(why is not None for _, why in reasons):
        raise _none_left([(name, why or "") for name, why in reasons])


def _none_left(reasons: list[tuple[str, str]]) -> NoRuntimeError:
    return NoRuntimeError(
        "no runtime here reaches the NVIDIA GPU",
        why="; ".join(f"{NAMES[name]}: {why}" for name, why in reasons),
        fix=f"into hil's own environment: {', or '.join(INSTALL[name] for name, _ in reasons)}",
    )


def described(probe: Mapping[str, Any]) -> str | None:
    """Return the GPU in words; None where it was not asked for or does not answer."""
    gpu = probe.get("gpu") or {}
    if not gpu.get("gpu"):
        return None
    others = f", GPU {gpu['index']} of {gpu['gpus']}" if (gpu.get("gpus") or 1) > 1 else ""
    return f"{gpu['gpu']}, driver {gpu.get('driver')}{others}"


class RuntimeChoice:
    """What `cuda` stands for in one session: the first that works, in order.

    Args:
        probe: what the machine told of itself.
    """

    def __init__(self, probe: Mapping[str, Any]) -> None:
        self._lacking = {name: lacking(name, probe) for name in ORDER}
        self._settled = False

    def build(self, spec: EngineSpec, build: Callable[[EngineSpec], EngineInfo]) -> EngineInfo:
        """Build by the best runtime that does not say that it cannot reach the GPU.

        From the first engine on it is the runtime of the session: two networks that are compared
        are run by the same.

        Raises:
            NoRuntimeError: none does.
            ExportError: the runtime that reaches it refuses the network.
        """
        while True:
            name = self._used()
            if name is None:
                raise _none_left([(name, why or "") for name, why in self._lacking.items()])
            try:
                info = build(replace(spec, runtime=name))
            except NoRuntimeError as error:
                if self._settled:
                    raise
                self._lacking[name] = f"{error.what} ({error.why})" if error.why else error.what
            else:
                self._settled = True
                return info

    def facts(self) -> dict[str, Any]:
        """Return what the session tells: the runtime that is used and the better ones."""
        used = self._used()
        if used is None:
            return {}
        over = [
            {"name": NAMES[name], "why": self._lacking[name]} for name in ORDER[: ORDER.index(used)]
        ]
        return {"runtime": {"used": NAMES[used], "passed_over": over}}

    def _used(self) -> str | None:
        return next((name for name in ORDER if self._lacking[name] is None), None)
