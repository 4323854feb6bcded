"""What a check says, and what all of them come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from hil.core.stats import Spread
from hil.measure.result import Validity

DRIFT_SUSPECT_FRACTION = 0.03
DRIFT_CONFIDENCE = 0.99
# A block that stands out: by chance in under one run of a hundred, and by enough to matter.
OUTLIER_CHANCE = 0.01
OUTLIER_SUSPECT_FRACTION = 0.05


@dataclass(frozen=True)
class Finding:
    """One thing wrong with a run."""

    severity: Literal["suspect", "invalid"]
    reason: str


@dataclass(frozen=True)
class Verdict:
    """The worst of the findings, and all of their reasons."""

    validity: Validity
    reasons: tuple[str, ...]


def verdict(findings: Sequence[Finding]) -> Verdict:
    """Return the worst of the findings and all reasons, in order."""
    severities = {finding.severity for finding in findings}
    worst: Validity = "invalid" if "invalid" in severities else "suspect" if severities else "valid"
    return Verdict(worst, tuple(finding.reason for finding in findings))


def suspect(reason: str) -> Finding:
    """Return a finding to look into."""
    return Finding("suspect", reason)


def invalid(reason: str) -> Finding:
    """Return a finding after which the run is not about what it is said to be about."""
    return Finding("invalid", reason)


def steady_change(values: Sequence[float]) -> float | None:
    """Return the fitted relative change from first to last, where it is large and no accident.

    Both must hold: over 3 % along the line, and a slope that differs from none at 99 %. Bursts
    of the operating system alone make single blocks differ by more than 1 %.
    """
    n = len(values)
    if n < 3:
        return None
    x = np.arange(n) - (n - 1) / 2
    y = np.asarray(values, dtype=float)
    slope = float(x @ y / (x @ x))
    residual = y - y.mean() - slope * x
    error = float(np.sqrt(residual @ residual / (n - 2) / (x @ x)))
    change = slope * (n - 1) / float(y.mean())
    interval = Spread(slope, error, n - 2).interval(DRIFT_CONFIDENCE)
    accident = interval.low <= 0 <= interval.high
    return None if accident or abs(change) <= DRIFT_SUSPECT_FRACTION else change


def outlier(values: Sequence[float]) -> tuple[int, float] | None:
    """Return (index, relative distance) of a value that stands out from all others, else None.

    Both must hold: over 5 % from the median of the others, and beyond Grubbs's two-sided limit
    at 1 %, taken as a t statistic of the value against the rest (the two are equivalent).
    """
    y = np.asarray(values, dtype=float)
    n = y.size
    if n < 4:
        return None
    index = int(np.argmax(np.abs(y - y.mean())))
    rest = np.delete(y, index)
    middle = float(np.median(rest))
    distance = (float(y[index]) - middle) / middle if middle else 0.0
    if abs(distance) <= OUTLIER_SUSPECT_FRACTION:
        return None
    error = float(rest.std(ddof=1)) * float(np.sqrt(1 + 1 / rest.size))
    limit = float(special.stdtrit(n - 2, 1 - OUTLIER_CHANCE / (2 * n)))
    beyond = abs(float(y[index]) - float(rest.mean())) > limit * error
    return (index, distance) if beyond else None
