"""The requirements of a profile file, as people write them.

Rule of this file: models and their reading only. `requirements.py` has the demands as judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hil.core.errors import ConfigError
from hil.core.yamlfile import StrictModel
from hil.synth.records import ACCURACY
from hil.synth.requirements import Limit, Requirement


def _parsed_limit(written: object) -> Limit:
    if isinstance(written, bool) or not isinstance(written, int | float | str):
        raise ValueError(f"expected a number or a percentage such as '40 %', got {written!r}")
    return Limit.parse(written)


def parsed_share(written: object) -> object:
    """Read a fraction, or a percentage as text."""
    if not isinstance(written, str):
        return written
    limit = Limit.parse(written)
    if not limit.relative:
        raise ValueError(f"expected a number or a percentage such as '90 %', got {written!r}")
    return limit.amount


WrittenLimit = Annotated[Limit, BeforeValidator(_parsed_limit)]


class OfMode(StrictModel):
    """A limit that may be bound to one power mode.

    Attributes:
        nvpmodel: id of the mode, or a name from the device file's `state.modes`; None is the mode
            the device file pins.
    """

    nvpmodel: Annotated[int, Field(ge=0)] | Annotated[str, Field(min_length=1)] | None = None


class AtMost(OfMode):
    """A limit of a cost: a number in the unit of its name, or "40 %" of the prototype's."""

    at_most: WrittenLimit

    def requirement(self, metric: str) -> Requirement:
        """Return the demand as it is judged."""
        return Requirement(metric, self.at_most, "at_most", self.nvpmodel)


class AtLeast(OfMode):
    """A limit of a gain: a number in the unit of its name, or "250 %" of the prototype's."""

    at_least: WrittenLimit

    def requirement(self, metric: str) -> Requirement:
        """Return the demand as it is judged."""
        return Requirement(metric, self.at_least, "at_least", self.nvpmodel)


class Accuracy(StrictModel):
    """A limit of accuracy: points below the prototype, or percent. Exactly one of the two."""

    lose_at_most: Annotated[float, Field(ge=0, lt=100)] | None = None
    at_least: Annotated[float, Field(gt=0, le=100)] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.lose_at_most is None) == (self.at_least is None):
            raise ValueError("give exactly one of lose_at_most (points) and at_least (percent)")
        return self

    def requirement(self, metric: str = ACCURACY) -> Requirement:
        """Return the demand as it is judged."""
        if self.at_least is not None:
            return Requirement(metric, Limit(self.at_least), "at_least")
        assert self.lose_at_most is not None
        return Requirement(metric, Limit(self.lose_at_most), "lose_at_most")


def _as_list(written: object) -> object:
    return [written] if isinstance(written, dict) else written


def _of_no_mode(limits: tuple[OfMode, ...]) -> tuple[OfMode, ...]:
    if any(limit.nvpmodel is not None for limit in limits):
        raise ValueError("it is the same in every power mode: leave nvpmodel out")
    return limits


def _each_once(limits: tuple[Any, ...]) -> tuple[Any, ...]:
    for number, limit in enumerate(limits):
        if limit in limits[:number]:
            raise ValueError(f"limit {number + 1} of the list is there twice: remove one")
    return limits


_LISTED = (BeforeValidator(_as_list), AfterValidator(_each_once), Field(strict=False, min_length=1))
Costs = Annotated[tuple[AtMost, ...], *_LISTED]
ExactCosts = Annotated[tuple[AtMost, ...], *_LISTED, AfterValidator(_of_no_mode)]
Gains = Annotated[tuple[AtLeast, ...], *_LISTED]
Accuracies = Annotated[tuple[Accuracy, ...], *_LISTED]


class PlausibleShare(StrictModel):
    """On what share of the plausible boards a network must fit: 0.9, or "90 %"."""

    at_least: Annotated[float, BeforeValidator(parsed_share), Field(gt=0, le=1)]


class Requirements(StrictModel):
    """Every demand on a network; what is left out is not demanded.

    A list stands wherever a single limit may, so that one metric can have several: absolute and
    relative, or one for each power mode.

    Attributes:
        plausible_share: for emulated boards; a measured board leaves nothing in doubt.
    """

    energy_mj: Costs | None = None
    energy_net_mj: Costs | None = None
    inferences_per_joule: Gains | None = None
    latency_p50_ms: Costs | None = None
    latency_p90_ms: Costs | None = None
    latency_p95_ms: Costs | None = None
    latency_p99_ms: Costs | None = None
    power_w: Costs | None = None
    memory_mib: ExactCosts | None = None
    macs: ExactCosts | None = None
    parameters: ExactCosts | None = None
    accuracy: Accuracies | None = None
    plausible_share: PlausibleShare | None = None

    @model_validator(mode="after")
    def _costs_something(self) -> Self:
        if all(r.metric == ACCURACY for r in self.all()):
            raise ValueError("at least one cost must be limited, for example energy_mj")
        return self

    def all(self) -> tuple[Requirement, ...]:
        """Return the demands in the order of the fields, accuracy last."""
        metrics = (name for name in type(self).model_fields if name != "plausible_share")
        return tuple(
            limit.requirement(metric) for metric in metrics for limit in getattr(self, metric) or ()
        )

    def modes(self) -> tuple[int, ...]:
        """Power modes, beside the device file's, that limits are to be kept in."""
        return tuple(sorted({r.mode for r in self.all() if isinstance(r.mode, int)}))

    def on_modes(self, modes: Mapping[str, int]) -> Self:
        """Return the demands with power modes called by their ids (see `Profile.on_modes`).

        Raises:
            ConfigError: a name that the device file does not know.
        """
        changed: dict[str, Any] = {}
        for metric in type(self).model_fields:
            limits = getattr(self, metric)
            if isinstance(limits, tuple) and any(isinstance(n, OfMode) for n in limits):
                changed[metric] = tuple(_with_id(limit, metric, modes) for limit in limits)
        return self.model_copy(update=changed)

    @property
    def least_share(self) -> float | None:
        """The share of plausible boards demanded, None where none is."""
        return None if self.plausible_share is None else self.plausible_share.at_least


def _with_id(limit: OfMode, metric: str, modes: Mapping[str, int]) -> OfMode:
    if not isinstance(limit.nvpmodel, str):
        return limit
    if limit.nvpmodel not in modes:
        raise ConfigError(
            f"requirements.{metric}: the device file knows no power mode {limit.nvpmodel!r}",
            why=f"known: {', '.join(modes)}" if modes else "it names none",
            fix="write the mode's id, or name it in the device file: state: {modes: {NAME: ID}}",
        )
    return limit.model_copy(update={"nvpmodel": modes[limit.nvpmodel]})
