"""What one run comes to: figures with intervals, a verdict on the run, and its JSON form.

Rule of this file: records only. A figure that could not be had is None, and `unknown` says why.

Format history: hil/result@1 (first).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

from hil.core.stats import Estimate

SCHEMA = "hil/result@1"
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
        unknown: for each figure that is None, why.
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

    def __post_init__(self) -> None:
        silent = [name for name in FIGURES if self.figure(name) is None and not self.why(name)]
        if silent:
            raise ValueError(f"unknown without a reason: {', '.join(silent)}")

    def figure(self, name: str) -> Estimate | None:
        """Return a figure by its name.

        Raises:
            KeyError: not one of `FIGURES`.
        """
        if name not in FIGURES:
            raise KeyError(name)
        estimate: Estimate | None = getattr(self, name)
        return estimate

    def why(self, name: str) -> str | None:
        """Return why a figure is unknown, None where it is known."""
        return self.unknown.get(name)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; `from_json` gives back an equal record."""
        data: dict[str, Any] = {"schema": SCHEMA, "provenance": self.provenance}
        for name in FIGURES:
            estimate = self.figure(name)
            data[name] = None if estimate is None else estimate.value
            data[f"{name}_ci95"] = None if estimate is None else [estimate.low, estimate.high]
            if estimate is None:
                data[f"{name}_reason"] = self.why(name)
        return data | {
            "rail": self.rail,
            "rails_mj": None if self.rails_mj is None else dict(self.rails_mj),
            "latency_copies": self.copies,
            "sample_period_ms": self.sample_period_ms,
            "validity": self.validity,
            "reasons": list(self.reasons),
            "blocks": [asdict(block) for block in self.blocks],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: the schema is not one this version reads, or the verdict is no verdict.
        """
        if data.get("schema") != SCHEMA:
            raise ValueError(f"result of schema {data.get('schema')!r}; this reads {SCHEMA}")
        if data["validity"] not in get_args(Validity):
            raise ValueError(f"validity {data['validity']!r} is none of {get_args(Validity)}")
        return cls(
            **{name: _estimate(data, name) for name in FIGURES},
            rails_mj=data["rails_mj"],
            blocks=tuple(Block(**block) for block in data["blocks"]),
            sample_period_ms=data["sample_period_ms"],
            validity=data["validity"],
            reasons=tuple(data["reasons"]),
            provenance=data["provenance"],
            rail=data["rail"],
            copies=data["latency_copies"],
            unknown={n: data[f"{n}_reason"] for n in FIGURES if data[n] is None},
        )


def _estimate(data: Mapping[str, Any], name: str) -> Estimate | None:
    if data[name] is None:
        return None
    low, high = data[f"{name}_ci95"]
    return Estimate(data[name], low, high)
