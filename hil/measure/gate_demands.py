"""What a gate asks of networks: budgets and margins, from a file (hil/gate@1) and from options.

Rule of this file: words become checks here, and nowhere else. A margin that is finer than the board
resolves is raised to what it does, and the check says so.

Format history: hil/gate@1 (first).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field

from hil.core.errors import ConfigError
from hil.core.yamlfile import StrictModel, load_yaml_model
from hil.measure.calibration import Calibration
from hil.measure.gate import METRICS, Check, resolved

DEFAULT_MARGINS: Mapping[str, float] = {"energy_mj": 0.03, "latency_p99_ms": 0.05}
"""Where a baseline is given and nothing is said of margins."""
POWERED = ("energy_mj", "energy_net_mj", "power_w")
_NUMBER = re.compile(r"(?P<value>\d+(?:\.\d+)?)\s*(?P<percent>%)?")
_WORD = re.compile(r"(?P<name>[a-z0-9_]+)\s*=\s*(?P<bound>.+)")


@dataclass(frozen=True)
class Bound:
    """A budget: an amount in the metric's unit, or a share of the baseline's figure."""

    amount: float
    relative: bool = False

    @classmethod
    def parse(cls, written: object) -> Self:
        """Read 5, 5.0 or "85 %".

        Raises:
            ValueError: none of them, or not above zero.
        """
        if isinstance(written, cls):
            return written
        match = None if isinstance(written, bool) else _NUMBER.fullmatch(str(written).strip())
        if match is None or not 0 < float(match["value"]) < math.inf:
            raise ValueError(f"expected a number or a share of the baseline's, got {written!r}")
        relative = match["percent"] is not None
        return cls(float(match["value"]) * (0.01 if relative else 1.0), relative)


def parse_margin(written: object) -> float:
    """Read a margin such as "3 %".

    Raises:
        ValueError: it is none, or not between 0 and 100 %.
    """
    if isinstance(written, float) and not isinstance(written, bool):
        bound = Bound(written, relative=True)
    else:
        bound = Bound.parse(written)
    if not bound.relative or not 0 < bound.amount < 1:
        raise ValueError(f"expected a share such as '3 %', got {written!r}")
    return bound.amount


Metric = Literal["energy_mj", "energy_net_mj", "power_w", "latency_p50_ms", "latency_p99_ms"]
Percent = Annotated[float, Field(gt=0, le=100, strict=False)]
Points = Annotated[float, Field(ge=0, le=100, strict=False)]


class Accuracy(StrictModel):
    """What accuracy may be, over the labelled pictures.

    Attributes:
        at_least: percent.
        lose_at_most: points against the baseline, over the same pictures.
    """

    at_least: Percent | None = None
    lose_at_most: Points | None = None


class Demands(StrictModel):
    """What is asked of one network, or of all of them.

    Attributes:
        budgets: for each metric a number in its unit, or a share of the baseline's.
        margins: for each metric how much worse than the baseline it may be.
    """

    budgets: dict[Metric, Annotated[Bound, BeforeValidator(Bound.parse)]] = Field(
        default_factory=dict
    )
    margins: dict[Metric, Annotated[float, BeforeValidator(parse_margin)]] = Field(
        default_factory=dict
    )
    accuracy: Accuracy = Accuracy()

    def over(self, other: Demands) -> Demands:
        """Return the other's demands with these in front of them, metric by metric."""
        own = {k: v for k, v in self.accuracy.model_dump().items() if v is not None}
        return Demands.model_construct(
            budgets={**other.budgets, **self.budgets},
            margins={**other.margins, **self.margins},
            accuracy=other.accuracy.model_copy(update=own),
        )


class GateFile(Demands):
    """A gate's file; `models` adds to what is asked of all, by the network's path or file name."""

    schema_: Literal["hil/gate@1"] = Field(alias="schema")
    models: dict[str, Demands] = Field(default_factory=dict)


def load_gate_file(path: Path) -> GateFile:
    """Read a gate's file.

    Raises:
        ConfigError: everything wrong with it, one `file:line: field: message` each.
    """
    return load_yaml_model(path, GateFile)


def from_options(
    budgets: Sequence[str],
    margins: Sequence[str],
    at_least: float | None = None,
    lose_at_most: float | None = None,
) -> Demands:
    """Read options such as energy_mj=5, latency_p99_ms=85% and energy_mj=3%.

    Raises:
        ConfigError: one that is none.
    """
    return Demands.model_construct(
        budgets=_read("--budget", budgets, Bound.parse, "energy_mj=5 or energy_mj=85%"),
        margins=_read("--margin", margins, parse_margin, "energy_mj=3%"),
        accuracy=Accuracy.model_construct(at_least=at_least, lose_at_most=lose_at_most),
    )


def _read(option: str, given: Sequence[str], parse: Any, example: str) -> dict[Any, Any]:
    read: dict[str, Any] = {}
    for text in given:
        match = _WORD.fullmatch(text.strip())
        if match is None or match["name"] not in METRICS:
            raise ConfigError(
                f"{option} {text!r} is none",
                fix=f"write it as {option} {example}; metrics are {', '.join(METRICS)}",
            )
        if match["name"] in read:
            raise ConfigError(f"{option} names {match['name']} twice", fix="give it once")
        try:
            read[match["name"]] = parse(match["bound"])
        except ValueError as error:
            raise ConfigError(
                f"{option} {text!r}: {error}", fix=f"write it as {option} {example}"
            ) from error
    return read


@dataclass(frozen=True)
class Asked:
    """What is asked of every network of one gate.

    Attributes:
        everyone: of all of them.
        named: more, by the network's path or file name.
        options: from the command line, in front of both.
        baseline: whether there is one.
        latency_only: no joules are read.
    """

    options: Demands
    everyone: Demands = field(default_factory=Demands)
    named: Mapping[str, Demands] = field(default_factory=dict)
    baseline: bool = False
    latency_only: bool = False

    def of(self, model: str) -> Demands:
        """Return what is asked of one network, defaults filled in.

        Raises:
            ConfigError: something relative is asked, and there is no baseline.
        """
        own = self.named.get(model) or self.named.get(Path(model).name) or Demands()
        wanted = self.options.over(own.over(self.everyone))
        if self.baseline and not wanted.margins and not _relative(wanted):
            margins = {
                metric: margin
                for metric, margin in DEFAULT_MARGINS.items()
                if not self.latency_only or metric not in POWERED
            }
            wanted = Demands.model_construct(
                budgets=wanted.budgets, margins=margins, accuracy=wanted.accuracy
            )
        self._refuse(wanted)
        return wanted

    def strangers(self, models: Sequence[str]) -> list[str]:
        """Return names in the file that are none of the networks gated."""
        known = {*models, *(Path(model).name for model in models)}
        return sorted(set(self.named) - known)

    def _refuse(self, wanted: Demands) -> None:
        if not self.baseline:
            relative = [f"the margin of {name}" for name in wanted.margins] + _relative(wanted)
            if wanted.accuracy.lose_at_most is not None:
                relative.append("lose_at_most")
            if relative:
                raise ConfigError(
                    f"{relative[0]} is relative, and there is no baseline",
                    fix="name one: --baseline-model BEFORE.onnx, or --baseline FILE",
                )
        powered = [m for m in (*wanted.budgets, *wanted.margins) if m in POWERED]
        if self.latency_only and powered:
            raise ConfigError(f"{powered[0]} needs power", fix="leave --latency-only out")


def _relative(wanted: Demands) -> list[str]:
    return [f"the budget of {name}" for name, bound in wanted.budgets.items() if bound.relative]


def checks_of(
    model: str, wanted: Demands, calibration: Calibration | None = None, rounds: int = 0
) -> tuple[Check, ...]:
    """Return the checks of one network, budgets first.

    Args:
        model: its name.
        wanted: what is asked of it.
        calibration: of the board in this state; None holds no margin against it.
        rounds: the most that screening may take.
    """
    checks = [
        Check(model, metric, "ratio" if bound.relative else "limit", bound.amount)
        for metric, bound in wanted.budgets.items()
    ]
    for metric, margin in wanted.margins.items():
        check = Check(model, metric, "ratio", 1 + margin, "regression")
        checks.append(_raised(check, margin, calibration, rounds))
    return (*checks, *accuracy_checks(model, wanted))


def accuracy_checks(model: str, wanted: Demands) -> tuple[Check, ...]:
    """Return the checks of one network's accuracy."""
    least, most = wanted.accuracy.at_least, wanted.accuracy.lose_at_most
    checks = []
    if least is not None:
        checks.append(Check(model, "accuracy", "accuracy", least))
    if most is not None:
        checks.append(Check(model, "accuracy", "accuracy_loss", most, "regression"))
    return tuple(checks)


def _raised(check: Check, margin: float, calibration: Calibration | None, rounds: int) -> Check:
    """Return the check with its margin raised to what the board resolves in so many rounds."""
    if calibration is None:
        return check
    noise = {
        "energy_mj": calibration.log_ratio_sd,
        "power_w": calibration.log_ratio_sd,
        "latency_p50_ms": calibration.latency_log_ratio_sd,
    }
    if check.metric not in noise:
        return check
    least = resolved(noise[check.metric], rounds)
    if least is None or least <= margin:
        return check
    note = (
        f"margin raised from {100 * margin:.3g} to {100 * least:.3g} %: against itself this board "
        f"resolves no less in {rounds} rounds (calibrated {calibration.created})"
    )
    return replace(check, bound=1 + least, note=note)
