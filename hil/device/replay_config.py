"""What a device file says of a replayed device: which record, and the noise that is put back.

Rule of this file: models only; nothing here reads a record.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from hil.core.yamlfile import StrictModel

RecordedMetric = Literal["energy_mj", "latency_p50_ms", "latency_p99_ms", "memory_mib"]
DATA = "HIL_DATA"
"""Names the folder of real data: the environment variable, and the start of a path in a file."""


def _beside_the_file(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        return value
    path = Path(value).expanduser()
    folder = (info.context or {}).get("folder")
    return path if folder is None else (Path(folder) / path).absolute()


LocalPath = Annotated[Path, BeforeValidator(_beside_the_file)]
"""A path that is relative to the device file it stands in."""


def _real_data(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str) or value.startswith(f"{DATA}/"):
        return value
    return str(_beside_the_file(value, info))


TablePath = Annotated[str, BeforeValidator(_real_data)]


class ReplayNoise(StrictModel):
    """What is put back onto recorded figures, as relative standard deviations.

    Attributes:
        measurement: of one measurement of one build.
        build: of one build around the network's figure.
        seed: of both, beside the run's own.
    """

    measurement: Annotated[float, Field(ge=0, lt=0.5)] = 0.017
    build: Annotated[float, Field(ge=0, lt=0.5)] = 0.02
    seed: Annotated[int, Field(ge=0)] = 0


class RecordedTable(StrictModel):
    """A table of networks that were measured once, one row each.

    Attributes:
        file: an .npz file; one that begins with HIL_DATA/ lies in that folder of real data.
        choices: column that names a network: one row of small integers each.
        figures: metric to the column that holds it.
        rail: what energy was read on.
        emulated: whether the board it was recorded on was an emulated one.
    """

    file: TablePath
    choices: str
    figures: Annotated[dict[RecordedMetric, str], Field(min_length=1)]
    rail: str | None = None
    emulated: bool = False
    noise: ReplayNoise = ReplayNoise()


class Replay(StrictModel):
    """Recorded figures as a device. Exactly one of the two.

    Attributes:
        table: see `RecordedTable`.
        evidence: folder with the raw evidence of earlier runs, as `hil profile` keeps it.
    """

    table: RecordedTable | None = None
    evidence: LocalPath | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.table is None) == (self.evidence is None):
            raise ValueError("give exactly one of table and evidence")
        return self
