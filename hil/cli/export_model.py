"""One network to take away: as an ONNX file, and as an engine for this machine's own GPU.

The engine is built by the agent's worker in a process of its own, so that a fault of TensorRT
costs that process and not the command line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.cli.calibrating import PrecisionWish, calibration_folder, read_calibration
from hil.cli.network import check_precision
from hil.cli.shaping import parse_shapes
from hil.core.errors import ConfigError, ExportError

_WORKER = "import sys; from hil.agent.main import main; sys.exit(main(['worker']))"
_BUILD_LIMIT_S = 3600.0
_WORKSPACE_MIB = 1024


@dataclass(frozen=True)
class Wanted:
    """What to write.

    Attributes:
        model: an ONNX file, or `module:function` giving a torch module.
        onnx: where the ONNX file goes; None for none.
        engine: where the engine goes; None for none.
        wish: its precision `fp16` makes the ONNX file float16, and the engine use FP16; `int8`
            quantises it with the wish's data; None keeps it.
        shapes: sizes of inputs, NAME=1x3x224x224; a torch network needs those of `input`.
        opset: of an ONNX file made from torch.
        open_batch: leave the batch open in it.
    """

    model: str
    onnx: Path | None
    engine: Path | None
    wish: PrecisionWish
    shapes: tuple[str, ...]
    opset: int
    open_batch: bool

    @property
    def precision(self) -> str | None:
        """The one precision of the wish."""
        return self.wish.precisions[0]


def export_model(wanted: Wanted) -> Iterator[Path]:
    """Write what is wanted; yields each file once it is there.

    Raises:
        ConfigError: no such network, or its shape is not given.
        ExportError: it cannot be exported, or no engine can be built here.
    """
    check_precision(wanted.precision)
    data = _network(wanted)
    if wanted.precision == "int8":
        data = _quantised(data, wanted.wish)
    if wanted.onnx is not None:
        from hil.net.half import to_half

        _write(wanted.onnx, to_half(data) if wanted.precision == "fp16" else data)
        yield wanted.onnx
    if wanted.engine is not None:
        _write(wanted.engine, build_here(data, wanted))
        yield wanted.engine


def _quantised(data: bytes, wish: PrecisionWish) -> bytes:
    from hil.net.onnxcheck import inspect
    from hil.net.quantise import is_quantised, kept

    if is_quantised(data):
        return data
    inputs = [spec.name for spec in inspect(data).inputs]
    return kept(calibration_folder(), data, read_calibration(wish, inputs))


def _network(wanted: Wanted) -> bytes:
    from hil.net.onnxcheck import read_model

    if ":" not in wanted.model or Path(wanted.model).exists():
        if wanted.open_batch:
            raise ConfigError(
                "--open-batch is for networks exported from torch",
                fix="name the network as module:function, or leave it out",
            )
        return read_model(Path(wanted.model))
    return _from_torch(wanted)


def _from_torch(wanted: Wanted) -> bytes:
    from hil.net.named import export_named

    sizes = parse_shapes(wanted.shapes).get("input")
    if sizes is None:
        raise ConfigError(
            f"the shape of {wanted.model}'s input is not known",
            why="a torch network does not say it",
            fix="give it: --shape input=1x3x224x224 (with the right sizes)",
        )
    return export_named(wanted.model, sizes, wanted.opset, wanted.open_batch)


def build_here(data: bytes, wanted: Wanted) -> bytes:
    """Build an engine with this machine's TensorRT, for its own GPU.

    Raises:
        ExportError: there is no TensorRT or no GPU here, or TensorRT refuses the network.
    """
    with tempfile.TemporaryDirectory(prefix="hil-export-") as folder:
        source, target = Path(folder) / "network.onnx", Path(folder) / "engine"
        source.write_bytes(data)
        request = {
            "runtime": "tensorrt",
            "onnx": str(source),
            "engine": str(target),
            "precision": wanted.precision or "fp32",
            "workspace_mib": _WORKSPACE_MIB,
            "shapes": {k: list(v) for k, v in parse_shapes(wanted.shapes).items()},
            "timing_cache": None,
            "detailed": False,
        }
        answer = _ask_worker({"method": "build", "params": request})
        if "error" in answer:
            raise _refusal(answer["error"])
        return target.read_bytes()


def _ask_worker(request: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _WORKER],
        input=json.dumps(request) + "\n",
        capture_output=True,
        text=True,
        timeout=_BUILD_LIMIT_S,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if not lines:
        said = done.stderr.strip().splitlines()[-1:]
        raise ExportError(
            f"building the engine ended with status {done.returncode}",
            why=said[0] if said else None,
            fix="the fault is TensorRT's: build on the board, or try another release",
        )
    return dict(json.loads(lines[-1]))


def _refusal(error: dict[str, Any]) -> ExportError:
    if error.get("code") == "no_runtime":
        return ExportError(
            "no engine can be built on this machine",
            why=f"{error.get('message')}. An engine runs only on the GPU and the TensorRT release "
            "that built it, so hil ships ONNX and each board builds its own",
            fix="hil profile MODEL --device BOARD builds and measures it there; or install "
            "TensorRT here (pip install tensorrt) for this machine's own GPU",
        )
    return ExportError(
        str(error.get("message")), why=error.get("why"), fix=error.get("fix") or "hil check it"
    )


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written", why=error.strerror or str(error), fix="check the path"
        ) from error
