"""A leased board behind an agent: the `Session` of every driver that has one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.core.errors import DeviceError, ProtocolError
from hil.core.evidence import Evidence, RunPlan
from hil.device.collecting import RunCollector
from hil.device.config import DeviceConfig
from hil.device.link import Link
from hil.device.session import BoardInfo, EngineInfo, EngineSpec, TensorInfo

BUILD_S = 1800.0  # a large network takes TensorRT on a TX2 many minutes
RUN_MARGIN_S = 180.0
INFER_S = 1800.0
LAYER_ITERATIONS = 50


class AgentSession:
    """Answers `hil.device.session.Session` by asking the agent (see there for the contract)."""

    def __init__(self, link: Link, device: DeviceConfig, board: BoardInfo) -> None:
        self._link = link
        self._device = device
        self._board = board

    @property
    def name(self) -> str:
        """The device's name in its YAML."""
        return self._device.name

    @property
    def provenance(self) -> str:
        """One of measured, emulated."""
        return self._link.provenance

    @property
    def board(self) -> BoardInfo:
        """The board as probed when the session opened."""
        return self._board

    def put_blob(self, data: bytes) -> str:
        """Ship bytes once, verified on the board; return their sha256."""
        sha256 = hashlib.sha256(data).hexdigest()
        known = self._link.client.request("blob_stat", {"sha256": sha256})
        if known.get("bytes") != len(data):
            name = self._link.files.upload(data)
            self._link.client.request("blob_commit", {"name": name, "sha256": sha256})
        return sha256

    def get_blob(self, sha256: str) -> bytes:
        """Fetch bytes by hash, verified here."""
        data = self._link.files.download(sha256)
        arrived = hashlib.sha256(data).hexdigest()
        if arrived != sha256:
            raise DeviceError(
                f"a file from {self.name} arrived damaged",
                why=f"sha256 {arrived}, expected {sha256}",
                fix="try again; if it stays, check the board's disk and run `hil device clean`",
            )
        return data

    def build(self, spec: EngineSpec) -> EngineInfo:
        """Build (or find in the board's cache) an engine."""
        params = {
            "onnx": spec.onnx_sha256,
            "runtime": spec.runtime,
            "precision": spec.precision,
            "workspace_mib": spec.workspace_mib,
            "shapes": {name: list(shape) for name, shape in spec.shapes.items()},
            "build_index": spec.build_index,
        }
        answer = self._link.client.request("engine_build", params, timeout_s=BUILD_S)
        return _engine_info(spec, answer)

    def run(self, info: EngineInfo, plan: RunPlan, power: str) -> Evidence:
        """Exercise the engine as planned beside the power source ("tegrastats" or "none")."""
        collector = RunCollector()
        params = {**_engine(info), "plan": plan.to_json(), "power": power, "inputs": {}}
        result = self._link.client.request(
            "engine_run", params, on_event=collector.take, timeout_s=run_timeout_s(plan)
        )
        return collector.evidence(
            board={**self._board.raw, "name": self._board.name},
            engine=engine_record(info),
            plan=plan,
            power=power,
            provenance=self.provenance,
            result=result,
        )

    def infer(
        self, info: EngineInfo, inputs: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, NDArray[np.generic]]:
        """Run N samples, each input shaped (N, *sample); outputs shaped (N, *sample).

        Raises:
            ValueError: the inputs are not the engine's, or differ in N.
        """
        count = sample_count(info, inputs)
        blobs = {
            tensor.name: self.put_blob(stacked(tensor, inputs[tensor.name]))
            for tensor in info.inputs
        }
        params = {**_engine(info), "inputs": blobs, "count": count}
        answer = self._link.client.request("engine_infer", params, timeout_s=INFER_S)
        return {str(out["name"]): self._output(out) for out in answer["outputs"]}

    def layers(self, info: EngineInfo) -> tuple[tuple[str, float], ...]:
        """Return (layer name, mean milliseconds) as the runtime's profiler tells."""
        params = {**_engine(info), "iterations": LAYER_ITERATIONS}
        answer = self._link.client.request("engine_layers", params, timeout_s=INFER_S)
        return tuple((str(row["name"]), float(row["time_ms"])) for row in answer["layers"])

    def reset(self, seed: int) -> None:
        """Bring an emulated board to a known state, clocks pinned; nothing on other boards."""
        self._link.reset(seed)
        if self.provenance == "emulated":
            self.pin()

    def pin(self) -> None:
        """Set the power mode and clocks of the device file; the agent notes what was before.

        Raises:
            DeviceError: not permitted (with the sudoers line to add).
        """
        state = self._device.state
        if state.nvpmodel is not None or state.clocks:
            params = {"nvpmodel": state.nvpmodel, "clocks": state.clocks}
            self._link.client.request("board_pin", params, timeout_s=120.0)

    def restore(self) -> None:
        """Put the power mode and clocks back."""
        self._link.client.request("board_restore", timeout_s=120.0)

    def _output(self, out: Mapping[str, Any]) -> NDArray[np.generic]:
        data = self.get_blob(str(out["sha256"]))
        return np.frombuffer(data, dtype=_dtype(str(out["dtype"]))).reshape(out["shape"])


def sample_count(info: EngineInfo, inputs: Mapping[str, NDArray[np.generic]]) -> int:
    """Return N of inputs shaped (N, *sample).

    Raises:
        ValueError: names, shapes or N do not fit the engine.
    """
    expected = {tensor.name: tensor.shape[1:] for tensor in info.inputs}
    got = {name: tuple(values.shape[1:]) for name, values in inputs.items()}
    if got != expected:
        raise ValueError(f"inputs shaped {got} a sample; the engine takes {expected}")
    counts = {values.shape[0] for values in inputs.values()}
    if len(counts) != 1:
        raise ValueError(f"inputs of different numbers of samples: {sorted(counts)}")
    return int(counts.pop())


def stacked(tensor: TensorInfo, values: NDArray[np.generic]) -> bytes:
    """Return samples as the agent takes them: C order, in the engine's own type."""
    return np.ascontiguousarray(values, dtype=_dtype(tensor.dtype)).tobytes()


def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype(name).newbyteorder("<")  # every Jetson is little-endian


def run_timeout_s(plan: RunPlan) -> float:
    """Return how long a run may take in wall time before it counts as hanging."""
    load_s = plan.settle_s + plan.blocks * plan.window_s + plan.tail_s
    return 2 * (2 * plan.idle_s + load_s) + RUN_MARGIN_S


def engine_record(info: EngineInfo) -> dict[str, Any]:
    """Return the engine as evidence keeps it: plain data."""
    record = asdict(info)
    record["spec"]["shapes"] = {name: list(shape) for name, shape in info.spec.shapes.items()}
    for side in ("inputs", "outputs"):
        record[side] = [{**tensor, "shape": list(tensor["shape"])} for tensor in record[side]]
    record["messages"] = list(info.messages)
    return record


def board_info(name: str, probe: Mapping[str, Any]) -> BoardInfo:
    """Return the board's record from the agent's answer to `probe`."""
    return BoardInfo(
        name=name,
        model=probe.get("model"),
        l4t=probe.get("l4t"),
        tensorrt=probe.get("tensorrt"),
        python=str(probe.get("python")),
        emulated=bool(probe.get("emulated")),
        raw=dict(probe),
    )


def _engine(info: EngineInfo) -> dict[str, Any]:
    return {"engine": info.engine_sha256, "runtime": info.spec.runtime}


def _engine_info(spec: EngineSpec, answer: Mapping[str, Any]) -> EngineInfo:
    try:
        memory = answer.get("device_memory_bytes")
        return EngineInfo(
            spec=spec,
            engine_sha256=str(answer["engine"]),
            key=str(answer["key"]),
            cached=bool(answer["cached"]),
            build_s=float(answer["build_s"]),
            runtime_version=str(answer["runtime_version"]),
            plan_bytes=int(answer["plan_bytes"]),
            device_memory_bytes=None if memory is None else int(memory),
            inputs=_tensors(answer["inputs"]),
            outputs=_tensors(answer["outputs"]),
            messages=tuple(str(text) for text in answer.get("messages", ())),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError("the answer to a build cannot be read", why=repr(error)) from error


def _tensors(rows: list[Mapping[str, Any]]) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(str(row["name"]), str(row["dtype"]), tuple(int(n) for n in row["shape"]))
        for row in rows
    )
