"""What one run comes to: figures with intervals, a verdict on the run, and its JSON form.

Rule of this file: records only. A figure that could not be had is None, and `unknown` says why.

Two intervals. `x_ci95` is the repeatability of the reading: where the figure would come to lie if
the run were made again on the same sensor. `x_u95_total` adds what the sensor itself may be off,
which no repetition shows: 95 % of it should hold the true value.

Format history: hil/result@1 (first); hil/result@2 (total uncertainty and its budget, more
percentiles, start-up, rate, stopping, other sources; `fallbacks` since, absent is none). Both are
read, the second is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, get_args

from hil.core.fallbacks import Fallback
from hil.core.fallbacks import from_json as fallback_from
from hil.core.stats import Estimate

SCHEMA = "hil/result@2"
FIRST_SCHEMA = "hil/result@1"
Validity = Literal["valid", "suspect", "invalid"]
FIGURES = (
    "energy_mj",
    "energy_net_mj",
    "inferences_per_joule",
    "latency_p50_ms",
    "latency_p99_ms",
    "power_w",
    "idle_power_w",
)
"""Known with an interval, or unknown with a reason, in every result."""
MORE_FIGURES = ("latency_p90_ms", "latency_p95_ms", "lag_s", "sampler_power_w")
"""Likewise; a result of the first format has none of them."""
TOTALS = ("energy_mj", "energy_net_mj", "power_w", "inferences_per_joule")
"""Figures that have an `x_u95_total` beside `x_ci95`."""
NOT_COMPUTED = "not computed"
_PLAIN = (
    "first_inference_ms",
    "engine_load_ms",
    "warmup_inferences",
    "latency_effective_samples",
    "resolution_w",
)


@dataclass(frozen=True)
class Block:
    """One window of steady load: the unit of replication. Energy is gross and per inference.

    Attributes:
        energy_mj: None, like `power_w`, where the run had no power source.
        latency_p99_ms: as seen, however few inferences; the run's figure says whether it holds.
    """

    energy_mj: float | None
    power_w: float | None
    latency_p50_ms: float
    latency_p99_ms: float
    inferences: int
    duration_s: float


@dataclass(frozen=True)
class Term:
    """One source of error of one figure.

    Attributes:
        name: what errs, e.g. "sensor offset".
        figure: which figure it is a term of, and whose unit `half_width` is in.
        half_width: 95 % half width of this term alone; None where it is not known.
        share: of the figure's total variance, 0 to 1; None for a term that is unknown, that
            another one already holds, or that is no error of the reading (see `part_of`).
        source: where the number comes from.
        reducible_by: what would make it smaller.
        part_of: the term that already holds this one, or why it is told and not added.
    """

    name: str
    figure: str
    half_width: float | None
    share: float | None
    source: str
    reducible_by: str
    part_of: str | None = None


@dataclass(frozen=True)
class OtherSource:
    """What another power source said of the same windows.

    Attributes:
        energy_mj: per inference, on its own rail, with its repeatability.
        ratio: of its energy to that of the source figures are read on, window by window.
        reason: why either is None.
    """

    source: str
    rail: str
    energy_mj: Estimate | None
    ratio: Estimate | None
    reason: str | None = None


@dataclass(frozen=True)
class Measurement:
    """One engine on one board, from one run. Intervals are two-sided 95 % over blocks.

    Attributes:
        energy_mj: per inference, as read on `rail`, idle included.
        energy_net_mj: per inference, less the mean of idle before and after the load.
        latency_p50_ms: host to host on the board, pooled over blocks; copies per `copies`.
        rails_mj: gross energy per inference of every rail the line names (they may nest:
            never add them up); None without a power source.
        sample_period_ms: median spacing of the power samples as they arrived.
        reasons: what makes the run suspect or invalid, each with its figure.
        unknown: for each figure that is None, why; totals by their full name.
        lag_s: time constant of the sensor as this run's own load steps show it.
        sampler_power_w: what reading power costs, from the calibration.
        first_inference_ms: the very first one; it is in no percentile.
        engine_load_ms: to load the engine and make it ready.
        warmup_inferences: inferences from the first until latency was steady; None where it
            was not before the first block, or is not told.
        latency_effective_samples: as how many independent ones the inferences count, for the
            percentile where they count least.
        resolution_w: one step of the rail's register.
        running_mode: how the board's power monitors read (0 triggered, 1 continuous), by
            monitor; None where the board does not tell.
        error_budget: what `x_u95_total` is made of.
        stopping: {outcome, looks, blocks, why, verdicts}; None for a run of fixed length.
        others: further power sources beside the first.
        fallbacks: what was done otherwise than planned, each with reason and next step.
        rate: {asked_hz, achieved_hz, missed}; None for inferences back to back.
    """

    energy_mj: Estimate | None
    energy_net_mj: Estimate | None
    inferences_per_joule: Estimate | None
    latency_p50_ms: Estimate | None
    latency_p99_ms: Estimate | None
    power_w: Estimate | None
    idle_power_w: Estimate | None
    rails_mj: Mapping[str, float] | None
    blocks: tuple[Block, ...]
    sample_period_ms: float | None
    validity: Validity
    reasons: tuple[str, ...]
    provenance: str
    rail: str | None
    copies: str
    unknown: Mapping[str, str]
    energy_mj_u95_total: Estimate | None = None
    energy_net_mj_u95_total: Estimate | None = None
    power_w_u95_total: Estimate | None = None
    inferences_per_joule_u95_total: Estimate | None = None
    latency_p90_ms: Estimate | None = None
    latency_p95_ms: Estimate | None = None
    lag_s: Estimate | None = None
    sampler_power_w: Estimate | None = None
    first_inference_ms: float | None = None
    engine_load_ms: float | None = None
    warmup_inferences: int | None = None
    latency_effective_samples: float | None = None
    resolution_w: float | None = None
    running_mode: Mapping[str, int] | None = None
    error_budget: tuple[Term, ...] = ()
    stopping: Mapping[str, Any] | None = None
    others: tuple[OtherSource, ...] = field(default=())
    rate: Mapping[str, Any] | None = None
    fallbacks: tuple[Fallback, ...] = ()

    def __post_init__(self) -> None:
        silent = [name for name in FIGURES if self.figure(name) is None and not self.why(name)]
        if silent:
            raise ValueError(f"unknown without a reason: {', '.join(silent)}")

    def figure(self, name: str) -> Estimate | None:
        """Return a figure by its name.

        Raises:
            KeyError: not one of `FIGURES` and `MORE_FIGURES`.
        """
        if name not in FIGURES and name not in MORE_FIGURES:
            raise KeyError(name)
        estimate: Estimate | None = getattr(self, name)
        return estimate

    def total(self, name: str) -> Estimate | None:
        """Return a figure with its total uncertainty, None where that is unknown.

        Raises:
            KeyError: not one of `TOTALS`.
        """
        if name not in TOTALS:
            raise KeyError(name)
        estimate: Estimate | None = getattr(self, f"{name}_u95_total")
        return estimate

    def why(self, name: str) -> str | None:
        """Return why a figure (or an `x_u95_total`) is unknown, None where it is known."""
        return self.unknown.get(name)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; `from_json` gives back an equal record."""
        data: dict[str, Any] = {"schema": SCHEMA, "provenance": self.provenance}
        for name in (*FIGURES, *MORE_FIGURES):
            estimate = self.figure(name)
            data |= _estimate_json(name, "ci95", estimate)
            if estimate is None:
                data[f"{name}_reason"] = self.why(name) or NOT_COMPUTED
        for name in TOTALS:
            key, total = f"{name}_u95_total", self.total(name)
            data[key] = None if total is None else [total.low, total.high]
            if total is None:
                data[f"{key}_reason"] = self.why(key) or NOT_COMPUTED
        data |= {name: getattr(self, name) for name in _PLAIN}
        data |= {f"{n}_reason": why for n in _PLAIN if (why := self.why(n)) is not None}
        return data | {
            "rail": self.rail,
            "rails_mj": None if self.rails_mj is None else dict(self.rails_mj),
            "latency_copies": self.copies,
            "sample_period_ms": self.sample_period_ms,
            "running_mode": None if self.running_mode is None else dict(self.running_mode),
            "validity": self.validity,
            "reasons": list(self.reasons),
            "blocks": [asdict(block) for block in self.blocks],
            "error_budget": [asdict(term) for term in self.error_budget],
            "stopping": None if self.stopping is None else dict(self.stopping),
            "others": [_other_json(other) for other in self.others],
            "rate": None if self.rate is None else dict(self.rate),
            "fallbacks": [each.to_json() for each in self.fallbacks],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote, now or in an earlier release.

        Raises:
            ValueError: the schema is not one this version reads, or the verdict is no verdict.
        """
        schema = data.get("schema")
        if schema not in (SCHEMA, FIRST_SCHEMA):
            raise ValueError(f"result of schema {schema!r}; this reads {SCHEMA}")
        if data["validity"] not in get_args(Validity):
            raise ValueError(f"validity {data['validity']!r} is none of {get_args(Validity)}")
        figures: dict[str, Any] = {name: _estimate(data, name) for name in FIGURES}
        return cls(
            **figures,
            rails_mj=data["rails_mj"],
            blocks=tuple(Block(**block) for block in data["blocks"]),
            sample_period_ms=data["sample_period_ms"],
            validity=data["validity"],
            reasons=tuple(data["reasons"]),
            provenance=data["provenance"],
            rail=data["rail"],
            copies=data["latency_copies"],
            unknown=_unknown(data),
            **({} if schema == FIRST_SCHEMA else _later(data)),
        )


def _later(data: Mapping[str, Any]) -> dict[str, Any]:
    """Read what the second format added."""
    totals = {}
    for name in TOTALS:
        ends = data[f"{name}_u95_total"]
        totals[f"{name}_u95_total"] = None if ends is None else Estimate(data[name], *ends)
    return {
        **totals,
        **{name: _estimate(data, name) for name in MORE_FIGURES},
        **{name: data[name] for name in _PLAIN},
        "running_mode": data["running_mode"],
        "error_budget": tuple(Term(**term) for term in data["error_budget"]),
        "stopping": data["stopping"],
        "others": tuple(_other(other) for other in data["others"]),
        "rate": data["rate"],
        "fallbacks": tuple(map(fallback_from, data.get("fallbacks", ()))),
    }


def _unknown(data: Mapping[str, Any]) -> dict[str, str]:
    names = (*FIGURES, *MORE_FIGURES, *_PLAIN, *(f"{name}_u95_total" for name in TOTALS))
    told = {name: data[f"{name}_reason"] for name in names if f"{name}_reason" in data}
    return {name: why for name, why in told.items() if why != NOT_COMPUTED}


def _estimate_json(name: str, kind: str, estimate: Estimate | None) -> dict[str, Any]:
    ends = None if estimate is None else [estimate.low, estimate.high]
    return {name: None if estimate is None else estimate.value, f"{name}_{kind}": ends}


def _estimate(data: Mapping[str, Any], name: str) -> Estimate | None:
    if data[name] is None:
        return None
    low, high = data[f"{name}_ci95"]
    return Estimate(data[name], low, high)


def _other_json(other: OtherSource) -> dict[str, Any]:
    return {
        "source": other.source,
        "rail": other.rail,
        **_estimate_json("energy_mj", "ci95", other.energy_mj),
        **_estimate_json("ratio", "ci95", other.ratio),
        "reason": other.reason,
    }


def _other(data: Mapping[str, Any]) -> OtherSource:
    figures = {name: _estimate(data, name) for name in ("energy_mj", "ratio")}
    return OtherSource(data["source"], data["rail"], reason=data["reason"], **figures)
