"""Data that INT8 scales are found with, as a command line names it."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hil.core.errors import ConfigError

if TYPE_CHECKING:
    from hil.net.quantise import Calibration, Samples

MOST_SAMPLES = 256
CalibrateOption = Annotated[
    str | None,
    typer.Option(
        help="Data for INT8 scales: FILE.npz (an array an input, samples first), or the "
        "module:function of a profile's data, whose training part is taken."
    ),
]
MethodOption = Annotated[
    str,
    typer.Option(
        help="minmax: the largest value fits; percentile: the largest 0.01 % are clipped."
    ),
]


@dataclass(frozen=True)
class PrecisionWish:
    """What engines of a network shall be built with, and data for those in INT8.

    Attributes:
        precisions: each that will be built; None is the device's own.
        calibrate: where data comes from; None for none.
        method: `minmax` or `percentile`.
    """

    precisions: tuple[str | None, ...] = (None,)
    calibrate: str | None = None
    method: str = "minmax"


def read_calibration(wish: PrecisionWish, inputs: Collection[str]) -> Calibration:
    """Read data for the inputs of a network; of what is there beside them nothing is used.

    Raises:
        ConfigError: none is named, it cannot be read, or the method is none.
    """
    from hil.net.quantise import METHODS, Calibration, evenly

    method = next((m for m in METHODS if m == wish.method), None)
    if method is None:
        raise ConfigError(
            f"there is no calibration method {wish.method!r}",
            fix=f"choose {' or '.join(METHODS)}",
        )
    if wish.calibrate is None:
        raise ConfigError(
            "int8 needs data to find its scales with",
            why="INT8 holds 255 values, and which range of an activation they are to cover only "
            "data of the task tells",
            fix="give it: --calibrate FILE.npz, or --calibrate module:function as in a profile",
        )
    found = _samples(wish.calibrate, inputs)
    named = {name: values for name, values in found.items() if name in inputs} or found
    return Calibration({name: evenly(v, MOST_SAMPLES) for name, v in named.items()}, method)


def calibration_folder() -> Path:
    """Return where quantised networks are kept by content: the user's cache."""
    from hil.device.local_session import cache_folder

    return cache_folder(os.environ, Path.home()) / "int8"


def _samples(source: str, inputs: Collection[str]) -> Samples:
    import numpy as np

    if ":" in source and not Path(source).exists():
        from hil.tasks.data import load_data

        if len(inputs) != 1:
            raise ConfigError(
                f"{source} gives pictures for one input, the network has {len(inputs)}",
                why=", ".join(sorted(inputs)),
                fix="give an .npz file with one array an input",
            )
        return {next(iter(inputs)): load_data(source).train.inputs}
    try:
        with np.load(source, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise ConfigError(
            f"calibration data {source} cannot be read",
            why=str(error) or None,
            fix="write it with numpy.savez(FILE, INPUT=array), samples along the first axis",
        ) from error
