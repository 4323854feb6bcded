"""What agents tell of boards and engines, as records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from hil.core.errors import ProtocolError
from hil.device.session import BoardInfo, EngineInfo, EngineSpec, TensorInfo


def engine_record(info: EngineInfo) -> dict[str, Any]:
    """Return the engine as evidence keeps it: plain data."""
    record = asdict(info)
    record["spec"]["shapes"] = {name: list(shape) for name, shape in info.spec.shapes.items()}
    record["spec"]["profiles"] = [
        {name: [list(shape) for shape in each] for name, each in ranges.items()}
        for ranges in info.spec.profiles
    ]
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


def build_params(spec: EngineSpec) -> dict[str, Any]:
    """Return how a build is asked of the agent."""
    asked: dict[str, Any] = {
        "onnx": spec.onnx_sha256,
        "runtime": spec.runtime,
        "precision": spec.precision,
        "workspace_mib": spec.workspace_mib,
        "shapes": {name: list(shape) for name, shape in spec.shapes.items()},
        "build_index": spec.build_index,
    }
    if spec.detailed:
        asked["detailed"] = True
    if spec.profiles:
        asked["profiles"] = [
            {name: [list(shape) for shape in each] for name, each in ranges.items()}
            for ranges in spec.profiles
        ]
    return asked


def engine_params(info: EngineInfo) -> dict[str, Any]:
    """Return how requests to the agent name an engine."""
    named: dict[str, Any] = {"engine": info.engine_sha256, "runtime": info.spec.runtime}
    if info.spec.profiles:  # else the plan has one shape
        named["shapes"] = {name: list(shape) for name, shape in info.spec.shapes.items()}
    return {**named, "cuda_graph": True} if info.spec.cuda_graph else named


def engine_info(spec: EngineSpec, answer: Mapping[str, Any]) -> EngineInfo:
    """Return the engine of the agent's answer to a build.

    Raises:
        ProtocolError: the answer is none.
    """
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
            platform=answer.get("platform"),
            dialect=answer.get("dialect"),
            via=answer.get("via"),
            profile=None if answer.get("profile") is None else int(answer["profile"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError("the answer to a build cannot be read", why=repr(error)) from error


def _tensors(rows: list[Mapping[str, Any]]) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(str(row["name"]), str(row["dtype"]), tuple(int(n) for n in row["shape"]))
        for row in rows
    )
