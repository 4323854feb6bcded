"""The network a person brings: read, checked against the board's runtime, shapes filled in.

What the board's TensorRT would refuse is refused here, before the board is touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.cli.calibrating import PrecisionWish, calibration_folder, read_calibration
from hil.cli.shaping import parse_ranges, parse_shapes, run_shapes
from hil.core.errors import ConfigError, ExportError
from hil.device.precisions import require_precision

if TYPE_CHECKING:
    from hil.device.config import DeviceConfig
    from hil.device.session import EngineInfo, EngineSpec, Range, Session

PRECISIONS = ("fp16", "fp32", "int8")


@dataclass(frozen=True)
class Network:
    """A network that is ready to be built.

    Attributes:
        name: how it is shown: the path as given.
        data: the ONNX file.
        shapes: of inputs that are open in the file.
        profiles: optimisation profiles to build; none builds one for exactly `shapes`.
        int8: the file with the scales of INT8; None where it is not to be built so.
    """

    name: str
    data: bytes
    shapes: Mapping[str, tuple[int, ...]]
    int8: bytes | None = None
    profiles: tuple[Mapping[str, Range], ...] = ()

    def at(self, precision: str) -> bytes:
        """Return the file that is built with a precision.

        Raises:
            ConfigError: it was not read for INT8.
        """
        if precision != "int8":
            return self.data
        if self.int8 is None:
            raise ConfigError(f"{self.name} was not quantised", fix="name int8 when it is read")
        return self.int8

    def quantisation(self, precision: str) -> dict[str, Any] | None:
        """Return how the scales of INT8 were found; None for the others and where it is unknown."""
        from hil.net.quantise import calibration_of

        return calibration_of(self.at(precision)) if precision == "int8" else None


def read_network(
    model: Path,
    config: DeviceConfig,
    shapes: Sequence[str] = (),
    batch: int | None = None,
    wish: PrecisionWish | None = None,
    ranges: Sequence[str] = (),
) -> Network:
    """Read a network and refuse what the device's runtime would not take.

    Args:
        model: an ONNX file.
        config: the device.
        shapes: of open inputs, NAME=1x3x224x224.
        batch: size of inputs whose first dimension is open.
        ranges: optimisation profiles, each NAME=MIN:OPT:MAX[,...].
        wish: precisions that it will be built with, and data for INT8; by default the device's.

    Raises:
        ConfigError: no ONNX file, its open shapes are not all given, or data for INT8 is not.
        ExportError: an operator, an opset or a precision that the board's TensorRT lacks.
    """
    from hil.net.onnxcheck import inspect, read_model

    data = read_model(model)
    profiles = parse_ranges(ranges)
    given = run_shapes(parse_shapes(shapes), profiles)
    info = inspect(data)
    unknown = sorted(set(given).union(*profiles) - {spec.name for spec in info.inputs})
    if unknown:
        raise ConfigError(
            f"{model} has no input {unknown[0]!r}",
            why=f"its inputs are {', '.join(spec.name for spec in info.inputs)}",
        )
    for spec in info.dynamic_inputs:
        sizes = tuple(spec.shape or ())
        rest = [size for size in sizes[1:] if isinstance(size, int)]
        if batch is not None and spec.name not in given and len(rest) + 1 == len(sizes):
            given[spec.name] = (batch, *rest)
        if spec.name not in given:
            shown = "x".join(str(s) if s is not None else "?" for s in sizes)
            raise ConfigError(
                f"the shape of input {spec.name!r} is open ({shown or 'unknown'})",
                fix=f"give it: --shape {spec.name}=1x3x224x224 (with the right sizes)",
            )
    fixed = [s for s in info.inputs if s.name not in given and s.shape and s.shape[0] != batch]
    if batch is not None and fixed:
        raise ConfigError(
            f"input {fixed[0].name!r} has a fixed batch of {(fixed[0].shape or (None,))[0]}",
            why=f"--batch {batch} asks for another",
            fix="export the network with an open batch, or leave --batch out",
        )
    _refuse_untakeable(data, config)
    int8 = _at_int8(str(model), data, config, wish or PrecisionWish())
    return Network(str(model), data, given, int8, profiles)


def _at_int8(name: str, data: bytes, config: DeviceConfig, wish: PrecisionWish) -> bytes | None:
    """Hold that the device has the precisions, and quantise the network where INT8 is one."""
    from hil.net.onnxcheck import inspect
    from hil.net.quantise import is_quantised, kept

    wanted = {precision or config.runtime.precision for precision in wish.precisions}
    quantised = is_quantised(data) and config.runtime.name == "tensorrt"
    for precision in sorted(wanted | ({"int8"} if quantised else set())):
        require_precision(config, precision)
    if quantised and wanted != {"int8"}:
        raise ConfigError(
            f"{name} is quantised, and {min(wanted - {'int8'})} is asked for",
            why="it holds QuantizeLinear and DequantizeLinear",
            fix="give it --precision int8, or name the network as it was before quantisation",
        )
    if "int8" not in wanted:
        return None
    if quantised:
        return data
    inputs = [spec.name for spec in inspect(data).inputs]
    return kept(calibration_folder(), data, read_calibration(wish, inputs))


def read_networks(
    models: Sequence[Path],
    config: DeviceConfig,
    shapes: Sequence[str],
    batch: int | None,
    wish: PrecisionWish | None = None,
) -> list[Network]:
    """Read several networks; a shape is for each of them that has such an input.

    Raises:
        ConfigError: as for one; or none of them has an input that a shape names.
        ExportError: as for one.
    """
    from hil.net.onnxcheck import inspect, read_model

    wanted = parse_shapes(shapes)
    names = [{spec.name for spec in inspect(read_model(model)).inputs} for model in models]
    strangers = sorted(set(wanted).difference(*names))
    if strangers:
        raise ConfigError(
            f"no network has an input {strangers[0]!r}",
            why=f"their inputs are {', '.join(sorted(set().union(*names)))}",
        )
    return [
        read_network(
            model, config, [text for text in shapes if text.rpartition("=")[0] in mine], batch, wish
        )
        for model, mine in zip(models, names, strict=True)
    ]


def _refuse_untakeable(data: bytes, config: DeviceConfig) -> None:
    from hil.net.onnxcheck import findings

    if config.runtime.name != "tensorrt" or config.runtime.opset > 13:
        return
    # A board of TensorRT 8.2: its own operator table tells beforehand.
    found = findings(data)
    fatal = [f for f in found if f.fatal and f.op]
    fatal += [f for f in found if f.fatal and not f.op and not f.node]
    if fatal:
        first = fatal[0]
        more = f" (and {len(fatal) - 1} more)" if len(fatal) > 1 else ""
        raise ExportError(
            f"TensorRT 8.2 on {config.name} takes no such network: {first.rule}{more}",
            why=f"node {first.node or '(the model)'} {first.op}".strip(),
            fix=first.remedy,
        )


def check_precision(precision: str | None) -> None:
    """Refuse a precision that no runtime has.

    Raises:
        ConfigError: it is none of fp16, fp32 and int8.
    """
    if precision not in (None, *PRECISIONS):
        raise ConfigError(
            f"there is no precision {precision!r}", fix=f"choose among {', '.join(PRECISIONS)}"
        )


def build(
    session: Session,
    network: Network,
    config: DeviceConfig,
    precision: str | None,
    build_index: int = 0,
    detailed: bool = False,
) -> EngineInfo:
    """Ship a network and build its engine (k > 0: anew, in a slot of its own).

    `detailed` has the plan keep what the runtime's inspector can tell of its layers.
    """
    sha256 = session.put_blob(network.at(precision or config.runtime.precision))
    spec = spec_of(sha256, network, config, precision, build_index)
    return session.build(replace(spec, detailed=detailed))


def spec_of(
    sha256: str, network: Network, config: DeviceConfig, precision: str | None, build_index: int
) -> EngineSpec:
    """Return what to build, with the device's defaults filled in."""
    from hil.device.session import EngineSpec

    runtime = config.runtime
    return EngineSpec(
        onnx_sha256=sha256,
        precision=precision or runtime.precision,
        runtime=runtime.name,
        workspace_mib=runtime.workspace_mib,
        shapes=network.shapes,
        build_index=build_index,
        cuda_graph=runtime.cuda_graph,
        profiles=network.profiles,
    )
