"""Profile files (hil/profile@1): one job of synthesis, from the task to the requirements.

Rule of this file: models and their reading only. It imports no task, network or board; functions a
profile names are resolved by whoever calls them.

Format history: hil/profile@1 (first).
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from hil.core.evidence import RunPlan
from hil.core.names import resolve
from hil.core.yamlfile import StrictModel, load_yaml_model
from hil.synth.certificate import FEWEST_BUILDS, Plan
from hil.synth.objective import NETSCORE
from hil.synth.requirements import Limit, Requirement
from hil.tasks.recipe import Recipe

SCHEMA = "hil/profile@1"

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def _is_reference(written: str) -> str:
    if not _REFERENCE.fullmatch(written):
        raise ValueError(f"expected module:function, got {written!r}")
    return written


def _is_objective(written: str) -> str:
    if written != NETSCORE and not _REFERENCE.fullmatch(written):
        raise ValueError(f"expected {NETSCORE} or module:function, got {written!r}")
    return written


def _parsed_limit(written: object) -> Limit:
    if isinstance(written, bool) or not isinstance(written, int | float | str):
        raise ValueError(f"expected a number or a percentage such as '40 %', got {written!r}")
    return Limit.parse(written)


def _parsed_share(written: object) -> object:
    if not isinstance(written, str):
        return written
    limit = Limit.parse(written)
    if not limit.relative:
        raise ValueError(f"expected a number or a percentage such as '90 %', got {written!r}")
    return limit.amount


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Reference = Annotated[str, AfterValidator(_is_reference)]
Objective = Annotated[str, AfterValidator(_is_objective)]
WrittenLimit = Annotated[Limit, BeforeValidator(_parsed_limit)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Factory(StrictModel):
    """A user's function, as `module:function`, and its keyword arguments."""

    factory: Reference
    args: dict[str, Any] = Field(default_factory=dict)


class Training(StrictModel):
    """How weights are fitted (see `Recipe`): the prototype from nothing, the rest inherited.

    Attributes:
        epochs: of the prototype.
        finetune_epochs: of each network during the search.
        final_epochs: of each finalist, and of uniform width scaling beside them.
        finetune_batch: pictures a step where weights are inherited; `batch` for the prototype.
        finetune_peak_lr: likewise.
    """

    epochs: Count = 60
    finetune_epochs: Count = 10
    final_epochs: Count = 30
    batch: Annotated[int, Field(ge=2)] = 50
    finetune_batch: Annotated[int, Field(ge=2)] = 100
    peak_lr: Annotated[float, Field(gt=0)] = 0.01
    finetune_peak_lr: Annotated[float, Field(gt=0)] = 0.02
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    label_smoothing: Share = 0.0
    shift_pixels: Annotated[int, Field(ge=0)] = 1
    distil_weight: Annotated[float, Field(ge=0, le=1)] = 0.5

    def recipe(self, name: str) -> Recipe:
        """Return the prototype's recipe, by the name errors are to call it."""
        return Recipe(
            name=name,
            batch=self.batch,
            peak_lr=self.peak_lr,
            weight_decay=self.weight_decay,
            label_smoothing=self.label_smoothing,
            shift_pixels=self.shift_pixels,
            distil_weight=self.distil_weight,
        )

    def finetune_recipe(self, name: str) -> Recipe:
        """Return the recipe of every network that inherits weights."""
        own = self.recipe(name)
        return replace(own, batch=self.finetune_batch, peak_lr=self.finetune_peak_lr)


class TableAccuracy(StrictModel):
    """Which columns of a table hold accuracies, in percent.

    Attributes:
        search: after the training that networks are compared by.
        glance: after a cheaper one; None where there is none.
        pictures: how many the search column counts.
        heldout: `another_training` of the same network where the table has one, else the same
            figure; or a column.
        heldout_pictures: how many that counts.
    """

    search: str
    pictures: Count
    glance: str | None = None
    heldout: str = "another_training"
    heldout_pictures: Count | None = None


class Table(StrictModel):
    """A task whose networks were all trained before: columns of the table that the device names.

    Attributes:
        space: what kind of networks the table's rows are: cells of NAS-Bench-201.
        macs: column; `params` likewise.
        same: column that is equal for rows which are one and the same network, trained more than
            once; None where every row is a network of its own.
    """

    space: Literal["cells"] = "cells"
    macs: str
    params: str
    accuracy: TableAccuracy
    same: str | None = None


class AtMost(StrictModel):
    """A limit of a cost: a number in the unit of its name, or "40 %" of the prototype's."""

    at_most: WrittenLimit


class Accuracy(StrictModel):
    """A limit of accuracy: points below the prototype, or percent. Exactly one of the two."""

    lose_at_most: Annotated[float, Field(ge=0, lt=100)] | None = None
    at_least: Annotated[float, Field(gt=0, le=100)] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.lose_at_most is None) == (self.at_least is None):
            raise ValueError("give exactly one of lose_at_most (points) and at_least (percent)")
        return self

    def requirement(self) -> Requirement:
        """Return the demand as it is judged."""
        if self.at_least is not None:
            return Requirement("accuracy", Limit(self.at_least), "at_least")
        assert self.lose_at_most is not None
        return Requirement("accuracy", Limit(self.lose_at_most), "lose_at_most")


class PlausibleShare(StrictModel):
    """On what share of the plausible boards a network must fit: 0.9, or "90 %"."""

    at_least: Annotated[float, BeforeValidator(_parsed_share), Field(gt=0, le=1)]


class Requirements(StrictModel):
    """Every demand on a network; what is left out is not demanded.

    Attributes:
        plausible_share: for emulated boards; a measured board leaves nothing in doubt.
    """

    energy_mj: AtMost | None = None
    latency_p50_ms: AtMost | None = None
    latency_p99_ms: AtMost | None = None
    memory_mib: AtMost | None = None
    accuracy: Accuracy | None = None
    plausible_share: PlausibleShare | None = None

    @model_validator(mode="after")
    def _costs_something(self) -> Self:
        if not self._costs():
            raise ValueError("at least one cost must be limited, for example energy_mj")
        return self

    def _costs(self) -> dict[str, AtMost]:
        written = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: limit for name, limit in written.items() if isinstance(limit, AtMost)}

    def all(self) -> tuple[Requirement, ...]:
        """Return the demands in the order of the fields, accuracy last."""
        costs = tuple(Requirement(name, limit.at_most) for name, limit in self._costs().items())
        return (*costs, self.accuracy.requirement()) if self.accuracy else costs

    @property
    def least_share(self) -> float | None:
        """The share of plausible boards demanded, None where none is."""
        return None if self.plausible_share is None else self.plausible_share.at_least


class Budget(StrictModel):
    """What a run may spend.

    Attributes:
        measurements: networks measured during the search, the prototype not counted.
        batch: of these, how many a round.
        trainings: networks fine-tuned during the search.
        promote: of the networks that fit, the share worth that, by a look at each with inherited
            weights and renewed norms (see `Halving`); 1 trains all of them and looks at none.
        finalists: networks confirmed on fresh builds; they share alpha.
    """

    measurements: Count = 24
    batch: Count = 4
    trainings: Count = 12
    promote: Annotated[float, BeforeValidator(_parsed_share), Field(gt=0, le=1)] = 1.0
    finalists: Count = 3

    @field_validator("batch", "trainings", "finalists")
    @classmethod
    def _no_more_than_measured(cls, value: int, info: ValidationInfo) -> int:
        measurements = info.data.get("measurements")
        if measurements is not None and value > measurements:
            raise ValueError(f"only {measurements} networks are measured, got {value}")
        return value


class Windows(StrictModel):
    """How one engine is exercised in one measurement (see `RunPlan`), in the board's time."""

    idle_s: Seconds = 4.0
    settle_s: Seconds = 3.0
    window_s: Seconds = 6.0
    blocks: Annotated[int, Field(ge=2)] = 4
    tail_s: Seconds = 0.5
    warmup: Annotated[int, Field(ge=0)] = 10
    interval_ms: Annotated[int, Field(ge=10)] | None = None

    def plan(self, interval_ms: int = 100) -> RunPlan:
        """Return the plan; `interval_ms` is the device's and yields to the profile's own."""
        given = self.model_dump(include=set(Windows.model_fields))
        return RunPlan(**{**given, "interval_ms": self.interval_ms or interval_ms})


class Builds(StrictModel):
    """Fresh engine builds a finalist is judged on: at the first look, and at the last."""

    at_least: Annotated[int, Field(ge=FEWEST_BUILDS, le=100)] = FEWEST_BUILDS
    at_most: Annotated[int, Field(ge=FEWEST_BUILDS, le=100)] = 8

    @field_validator("at_most")
    @classmethod
    def _not_below(cls, value: int, info: ValidationInfo) -> int:
        least = info.data.get("at_least")
        if least is not None and value < least:
            raise ValueError(f"must not be below at_least ({least}), got {value}")
        return value


class ConfirmationWindows(Windows):
    """How each fresh build of a finalist is measured, and how many builds there are."""

    builds: Builds = Builds()


class Measure(StrictModel):
    """Measuring during the search, and of finalists."""

    screening: Windows = Windows()
    confirmation: ConfirmationWindows = ConfirmationWindows()


class Generator(StrictModel):
    """The learned generator: components of its mixture, and how many networks it emits."""

    components: Annotated[int, Field(ge=1, le=64)] = 8
    emit: Count = 16


class Profile(StrictModel):
    """One job.

    Attributes:
        alpha: chance of any false certificate in a run.
        confidence: makes the bound of accuracy binding instead of its point estimate.
        objective: `netscore`, or the user's `module:function` (see `load_objective`).
    """

    schema_: Literal["hil/profile@1"] = Field(alias="schema")
    name: Name
    task: Literal["classification", "table"]
    prototype: Factory | None = Field(default=None, validate_default=True)
    data: Factory | None = Field(default=None, validate_default=True)
    table: Table | None = Field(default=None, validate_default=True)
    training: Training = Training()
    precision: Literal["fp16", "fp32"] = "fp16"
    requirements: Requirements
    confidence: Annotated[float, Field(gt=0.5, lt=1)] | None = None
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    objective: Objective = NETSCORE
    budget: Budget = Budget()
    measure: Measure = Measure()
    generator: Generator = Generator()

    @field_validator("prototype", "data", "table")
    @classmethod
    def _what_the_task_needs(cls, value: object, info: ValidationInfo) -> object:
        task = info.data.get("task")
        if task is not None and (info.field_name == "table") == (task == "table"):
            if value is None:
                raise ValueError(f"required by task {task}")
        elif task is not None and value is not None:
            raise ValueError(f"does not belong to task {task}")
        return value

    @field_validator("confidence")
    @classmethod
    def _confidence_of_something(cls, value: float | None, info: ValidationInfo) -> float | None:
        requirements = info.data.get("requirements")
        if value is not None and requirements is not None and requirements.accuracy is None:
            raise ValueError("it makes the bound of accuracy binding, and no accuracy is required")
        return value

    def confirmation_plan(self, provenance: str) -> Plan:
        """Return the plan of confirmation, fixed before anything is measured.

        Args:
            provenance: of the device's figures: measured, emulated or replayed.
        """
        builds = self.measure.confirmation.builds
        return Plan(
            requirements=self.requirements.all(),
            finalists=self.budget.finalists,
            alpha=self.alpha,
            fewest_builds=builds.at_least,
            most_builds=builds.at_most,
            provenance=provenance,
            confidence=self.confidence,
        )


def load_profile(path: Path) -> Profile:
    """Read one profile file.

    Raises:
        ConfigError: everything wrong with it, one `file:line: field: message` each.
    """
    return load_yaml_model(path, Profile)


def find_profile(name: str, *, cwd: Path) -> Profile:
    """Read the profile a name stands for: a path, ./profiles, then the shipped copies.

    Raises:
        ConfigError: no such file (with the names that exist), or wrong.
    """
    return load_profile(resolve(name, "profiles", cwd=cwd))
