"""Profile files (hil/profile@1): one job of synthesis, from the task to the requirements.

Rule of this file: models and their reading only. It imports no task, network or board; functions a
profile names are resolved by whoever calls them.

Format history: hil/profile@1 (first); since then with lists of limits, power modes, `scope`,
`space`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
)

from hil.core.evidence import RunPlan
from hil.core.names import resolve
from hil.core.yamlfile import StrictModel, load_yaml_model
from hil.synth.certificate import FEWEST_BUILDS, MOST_BUILDS, UNSEEN, Plan
from hil.synth.choosable import Choosable, Precision
from hil.synth.demands import Requirements, parsed_share
from hil.synth.objective import NETSCORE
from hil.tasks.readers.section import REFERENCE, DataSection, Factory
from hil.tasks.recipe import Recipe

SCHEMA = "hil/profile@1"
PROFILE_FOLDER = "profile_folder"
"""Where a run's meta data says its profile came from: paths in it are relative to there."""


def _is_objective(written: str) -> str:
    if written != NETSCORE and not REFERENCE.fullmatch(written):
        raise ValueError(f"expected {NETSCORE} or module:function, got {written!r}")
    return written


def _is_scope(written: object) -> object:
    if written == "board":
        raise ValueError(
            "board needs the finalists measured on two boards or more, and a run holds the lease "
            "of one; write build, run the profile on each board, and compare the certificates"
        )
    return written


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Objective = Annotated[str, AfterValidator(_is_objective)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Network(Factory):
    """The network to start from, and optionally its weights.

    Attributes:
        weights: file of a state dict (`torch.save(net.state_dict(), ...)`), from the working
            folder; such a network is taken as trained. None trains it from nothing.
    """

    weights: str | None = None


class Training(StrictModel):
    """How weights are fitted (see `Recipe`): the prototype from nothing, the rest inherited.

    Attributes:
        epochs: of the prototype.
        finetune_epochs: of each network during the search.
        final_epochs: of each finalist, and of uniform width scaling beside them.
        finetune_batch: pictures a step where weights are inherited; `batch` for the prototype.
        finetune_peak_lr: likewise.
        augment: training pictures are changed as suits the task (see `hil.tasks.augmenting`).
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
    ema_decay: Share = 0.0
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    augment: bool = False

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
            ema_decay=self.ema_decay,
            device=self.device,
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
    promote: Annotated[float, BeforeValidator(parsed_share), Field(gt=0, le=1)] = 1.0
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
    """Fresh engine builds a finalist is judged on.

    Attributes:
        at_least: at the first look.
        at_most: at the last; builds stop as soon as a finalist is decided.
        unseen: by how much the figure of a build may lie beyond all those that were seen.
    """

    at_least: Annotated[int, Field(ge=FEWEST_BUILDS, le=100)] = FEWEST_BUILDS
    at_most: Annotated[int, Field(ge=FEWEST_BUILDS, le=100)] = MOST_BUILDS
    unseen: Annotated[float, BeforeValidator(parsed_share), Field(ge=0, le=0.5)] = UNSEEN

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


class Int8(StrictModel):
    """How scales of INT8 are found: with training pictures, spread evenly over them.

    Attributes:
        method: `minmax` lets the largest value of an activation fit; `percentile` clips the
            largest 0.01 %.
        pictures: how many are looked at.
    """

    method: Literal["minmax", "percentile"] = "minmax"
    pictures: Count = 256


class Profile(StrictModel):
    """One job.

    Attributes:
        alpha: chance of any false certificate in a run.
        confidence: makes the bound of accuracy binding instead of its point estimate.
        precision: what engines are built with where it is no choice, the prototype's always.
        int8: how scales are found where that is INT8.
        space: what may be chosen beyond widths and depth.
        scope: what a certificate speaks of: `build`, the network's fresh builds, or `engine`, the
            one engine that was measured again and again.
        objective: `netscore`, or the user's `module:function` (see `load_objective`).
    """

    schema_: Literal["hil/profile@1"] = Field(alias="schema")
    name: Name
    task: Literal["classification", "segmentation", "detection", "table"]
    prototype: Network | None = Field(default=None, validate_default=True)
    data: DataSection | None = Field(default=None, validate_default=True)
    table: Table | None = Field(default=None, validate_default=True)
    training: Training = Training()
    precision: Precision = "fp16"
    int8: Int8 = Int8()
    space: Choosable | None = None
    requirements: Requirements
    confidence: Annotated[float, Field(gt=0.5, lt=1)] | None = None
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    scope: Annotated[Literal["engine", "build"], BeforeValidator(_is_scope)] = "build"
    objective: Objective = NETSCORE
    budget: Budget = Budget()
    measure: Measure = Measure()
    generator: Generator = Generator()

    @property
    def precisions(self) -> frozenset[str]:
        """All that engines of the job may be built with."""
        return frozenset({self.precision, *((self.space and self.space.precisions) or ())})

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

    @field_validator("space")
    @classmethod
    def _space_of_the_prototype(
        cls, value: Choosable | None, info: ValidationInfo
    ) -> Choosable | None:
        if value is None:
            return None
        if info.data.get("task") == "table":
            raise ValueError("does not belong to task table, whose space is that of its rows")
        own = info.data.get("precision")
        if own is not None and value.precisions is not None and own not in value.precisions:
            raise ValueError(
                f"precisions must hold {own}, which the prototype's engine is built with: add it, "
                "or change `precision`"
            )
        return value

    @field_validator("confidence")
    @classmethod
    def _confidence_of_something(cls, value: float | None, info: ValidationInfo) -> float | None:
        requirements = info.data.get("requirements")
        if value is not None and requirements is not None and not requirements.accuracy:
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
            unseen=builds.unseen,
            scope=self.scope,
        )

    def on_modes(self, modes: Mapping[str, int]) -> Profile:
        """Return the profile with power modes called by their ids.

        Args:
            modes: names to ids, from the device file.

        Raises:
            ConfigError: a name that the device file does not know.
        """
        return self.model_copy(update={"requirements": self.requirements.on_modes(modes)})


def load_profile(path: Path, beside: Path | None = None) -> Profile:
    """Read one profile file.

    Args:
        path: of the file.
        beside: folder that paths in it may be relative to; None is its own. A run's copy is read
            with that of its original.

    Raises:
        ConfigError: everything wrong with it, one `file:line: field: message` each.
    """
    return load_yaml_model(path, Profile, beside)


def load_run_profile(run: Path, meta: Mapping[str, Any]) -> Profile:
    """Read the copy of a profile that a run keeps.

    Args:
        run: its folder.
        meta: of its store; names the folder of the profile that was copied.

    Raises:
        ConfigError: see `load_profile`.
    """
    beside = meta.get(PROFILE_FOLDER)
    return load_profile(run / "profile.yaml", Path(beside) if beside else None)


def find_profile(name: str, *, cwd: Path) -> Profile:
    """Read the profile a name stands for: a path, ./profiles, then the shipped copies.

    Raises:
        ConfigError: no such file (with the names that exist), or wrong.
    """
    return load_profile(resolve(name, "profiles", cwd=cwd))
