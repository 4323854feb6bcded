"""Why a network was refused, and what each vertex costs: insights as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hil.synth.records import ACCURACY, Arch, FloatArray, Limit
from hil.synth.screen import Screen
from hil.synth.searchspace import Encoder


@dataclass(frozen=True)
class Contribution:
    """What one variable's choice costs against its best choice, all others as they are.

    Attributes:
        variable: its name.
        choice: index of the refused network's choice.
        better: index of the choice that serves this limit best.
        delta: metric's change between the two, in its unit, positive where `choice` costs.
        share: of the excess over the limit that `better` alone would remove (may exceed 1).
    """

    variable: str
    choice: int
    better: int
    delta: float
    share: float


@dataclass(frozen=True)
class Receipt:
    """One broken limit, and who broke it.

    Attributes:
        metric: what the limit is on.
        limit: the bound, in the metric's unit.
        value: measured where it was measured, else predicted.
        measured: which of the two.
        excess: distance between value and limit, positive where broken.
        contributions: costliest variable first; variables that cost nothing are left out.
    """

    metric: str
    limit: float
    value: float
    measured: bool
    excess: float
    contributions: tuple[Contribution, ...]

    def to_json(self) -> dict[str, Any]:
        """The receipt as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Insight:
    """What one choice of one variable does to the prototype, all else unchanged.

    Attributes:
        variable: its name.
        choice: index of the choice.
        changes: metric to predicted change against the prototype, in its unit.
    """

    variable: str
    choice: int
    changes: dict[str, float]


def receipts(screen: Screen, arch: Arch, measured: dict[str, float]) -> list[Receipt]:
    """A receipt for every limit the network breaks, by measurement or else by prediction.

    Args:
        screen: posteriors and limits.
        arch: the refused network.
        measured: metric to measured value, for those that were measured.
    """
    found = []
    for limit in screen.limits:
        if limit.metric not in measured and not _known(screen, limit.metric):
            continue
        value = measured.get(limit.metric)
        if value is None:
            value = float(screen.mean(limit.metric, screen.encoder.encode([arch]))[0])
        over = value - limit.bound if limit.sense == "max" else limit.bound - value
        if over > 0:
            lines = _contributions(screen, arch, limit, over)
            is_measured = limit.metric in measured
            found.append(Receipt(limit.metric, limit.bound, value, is_measured, over, lines))
    return found


def insights(screen: Screen) -> list[Insight]:
    """Predicted effect of every single-variable change of the prototype, on every metric."""
    variables = screen.encoder.space.variables
    batch = screen.encoder.encode(insight_archs(screen.encoder))
    metrics = [*sorted(screen.posteriors), "macs", "params"]
    changes = {m: single_changes(screen.encoder, screen.mean(m, batch)) for m in metrics}
    return [
        Insight(variable.name, choice, {m: float(changes[m][j][choice]) for m in metrics})
        for j, variable in enumerate(variables)
        for choice in range(variable.size)
    ]


def single_changes(encoder: Encoder, values: FloatArray) -> tuple[FloatArray, ...]:
    """Values at `insight_archs` regrouped per variable, relative to the prototype's."""
    groups, start = [], 1
    for variable in encoder.space.variables:
        groups.append(values[start : start + variable.size] - values[0])
        start += variable.size
    return tuple(groups)


def insight_archs(encoder: Encoder) -> list[Arch]:
    """The prototype, then each choice of each variable put into it."""
    base = encoder.identity
    spots = [(j, c) for j, v in enumerate(encoder.space.variables) for c in range(v.size)]
    return [base, *(_with(base, j, c) for j, c in spots)]


def _contributions(
    screen: Screen, arch: Arch, limit: Limit, over: float
) -> tuple[Contribution, ...]:
    if not _known(screen, limit.metric):
        return ()
    sign = 1.0 if limit.sense == "max" else -1.0
    lines = []
    for j, variable in enumerate(screen.encoder.space.variables):
        options = [_with(arch, j, c) for c in range(variable.size)]
        values = sign * screen.mean(limit.metric, screen.encoder.encode(options))
        better = int(np.argmin(values))
        delta = float(values[arch[j]] - values[better])
        if delta > 0:
            lines.append(Contribution(variable.name, arch[j], better, delta, delta / over))
    return tuple(sorted(lines, key=lambda line: -line.delta))


def _known(screen: Screen, metric: str) -> bool:
    return metric in screen.posteriors or (metric != ACCURACY and metric in ("macs", "params"))


def _with(arch: Arch, j: int, choice: int) -> Arch:
    return (*arch[:j], choice, *arch[j + 1 :])
