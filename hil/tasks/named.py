"""The task of a job, by the name a profile gives it."""

from __future__ import annotations

from hil.core.errors import ConfigError
from hil.tasks.classification import Classification
from hil.tasks.data import Data
from hil.tasks.detection import Detection
from hil.tasks.segmentation import Segmentation
from hil.tasks.targets import Kind
from hil.tasks.task import Task

_KINDS: dict[str, tuple[Kind, str]] = {
    "classification": ("classes", "a class for each picture"),
    "segmentation": ("masks", "a mask for each picture"),
    "detection": ("boxes", "boxes for each picture"),
}


def task_for(name: str, data: Data) -> Task:
    """The task of that name, for these data.

    Raises:
        ConfigError: the data are of another task.
    """
    kind, asked = _KINDS[name]
    if data.train.kind != kind:
        raise ConfigError(
            f"the profile's task is {name}, which needs {asked}",
            why=f"its data function gives {data.train.kind}",
            fix="change `task` in the profile, or name another data function",
        )
    if name == "segmentation":
        return Segmentation(data.classes, data.train.void)
    if name == "detection":
        height, width = data.train.inputs.shape[2:]
        return Detection(data.classes, (height, width))
    return Classification()
