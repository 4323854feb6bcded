"""What a board was found to resolve: the record that `hil device calibrate` leaves.

Rule of this file: pure; who asks the board for its figures is the command line.

Format history: hil/calibration@1 (first).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from hil.core.stats import Estimate, mean_interval

SCHEMA = "hil/calibration@1"


@dataclass(frozen=True)
class Setup:
    """What a calibration was made on; it holds for nothing else.

    Attributes:
        device: the name in the device file.
        model: of the board, as probed; None is unknown.
        l4t: release of the board's system, as probed.
        nvpmodel: id of the power mode during the runs, None where the board has none.
        clocks: whether clocks were pinned.
        source: power source that figures were read from.
        interval_ms: its period as asked for.
    """

    device: str
    model: str | None
    l4t: str | None
    provenance: str
    nvpmodel: int | None
    clocks: bool | None
    source: str
    rail: str
    interval_ms: int

    def differences(self, other: Setup) -> tuple[str, ...]:
        """Say in words where the other setup differs; empty where it is the same."""
        mine, theirs = asdict(self), asdict(other)
        return tuple(
            f"{name} {mine[name]} there, {theirs[name]} here"
            for name in mine
            if mine[name] != theirs[name]
        )


@dataclass(frozen=True)
class Calibration:
    """What a board resolves, found by measuring one engine against itself.

    Attributes:
        setup: the board, its state and its power source.
        log_ratio_sd: standard deviation, around zero, of ln(energy of one run / energy of the
            next run of the same engine); the true ratio is 1, so this is error alone.
        log_ratio_df: degrees of freedom it was estimated with.
        latency_log_ratio_sd: the same of the median latency.
        round_s: board time of two such runs, in seconds.
        block_variance_rel: variance of the mean power of blocks within a run, relative to that
            power squared.
        block_window_s: length of those blocks.
        block_df: degrees of freedom of that variance, pooled over runs.
        sampler_power_w: what reading power costs at `setup.interval_ms`, extrapolated from two
            intervals to none; None where it was not measured.
        sampler_latency_ratio: median latency with the sampler over that without.
        lag_s: time constant of the sensor from load steps; None where they did not tell.
        minutes: board time of the whole calibration.
        onnx_sha256: the network used.
        engine_sha256: its engine.
        evidence: sha256 of each raw evidence the figures rest on.
        created: when, in UTC (ISO 8601); given by the caller.
        unknown: for each figure that is None, why.
    """

    setup: Setup
    log_ratio_sd: float
    log_ratio_df: float
    latency_log_ratio_sd: float
    round_s: float
    block_variance_rel: float
    block_window_s: float
    block_df: float
    sampler_power_w: Estimate | None
    sampler_latency_ratio: Estimate | None
    lag_s: Estimate | None
    minutes: float
    onnx_sha256: str
    engine_sha256: str
    evidence: tuple[str, ...]
    created: str
    unknown: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; `from_json` gives back an equal record."""
        data = {"schema": SCHEMA, "provenance": self.setup.provenance, **asdict(self)}
        for name in _ESTIMATES:
            estimate: Estimate | None = getattr(self, name)
            data[name] = None if estimate is None else estimate.value
            data[f"{name}_ci95"] = None if estimate is None else [estimate.low, estimate.high]
        data["evidence"] = list(self.evidence)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: another schema, or a field is missing or of another kind.
        """
        if data.get("schema") != SCHEMA:
            raise ValueError(f"calibration of schema {data.get('schema')!r}; this reads {SCHEMA}")
        try:
            fields: dict[str, Any] = {name: float(data[name]) for name in _NUMBERS}
            fields |= {name: _estimate(data, name) for name in _ESTIMATES}
            fields |= {name: str(data[name]) for name in _TEXTS}
            fields["evidence"] = tuple(str(sha256) for sha256 in data["evidence"])
            return cls(setup=Setup(**data["setup"]), unknown=dict(data["unknown"]), **fields)
        except (KeyError, TypeError) as error:
            raise ValueError(f"the calibration cannot be read: {error!r}") from error


_ESTIMATES = ("sampler_power_w", "sampler_latency_ratio", "lag_s")
_NUMBERS = (
    "log_ratio_sd",
    "log_ratio_df",
    "latency_log_ratio_sd",
    "round_s",
    "block_variance_rel",
    "block_window_s",
    "block_df",
    "minutes",
)
_TEXTS = ("onnx_sha256", "engine_sha256", "created")


def _estimate(data: Mapping[str, Any], name: str) -> Estimate | None:
    if data[name] is None:
        return None
    low, high = data[f"{name}_ci95"]
    return Estimate(float(data[name]), float(low), float(high))


def sampler_power(
    fast_w: Sequence[float], slow_w: Sequence[float], *, fast_ms: int, slow_ms: int, at_ms: int
) -> Estimate:
    """Return what reading power costs at a period, from pairs of runs at two periods.

    Each reading is taken to cost the same energy, so the power is c / period; two periods give c
    and with it the power at no reading at all. Pairs are the unit of replication.

    Args:
        fast_w: mean power of each pair's run at the short period.
        slow_w: at the long one.
        fast_ms: the short period.
        slow_ms: the long one.
        at_ms: the period asked about.

    Raises:
        ValueError: fewer than two pairs, or periods that do not differ.
    """
    if slow_ms <= fast_ms:
        raise ValueError(f"periods of {fast_ms} and {slow_ms} ms tell no slope")
    scale = (1 / at_ms) / (1 / fast_ms - 1 / slow_ms)
    return mean_interval([scale * (f - s) for f, s in zip(fast_w, slow_w, strict=True)])


def latency_ratio(with_ms: Sequence[float], without_ms: Sequence[float]) -> Estimate:
    """Return median latency with the sampler over that without, from pairs of runs.

    Raises:
        ValueError: fewer than two pairs.
    """
    pairs = zip(with_ms, without_ms, strict=True)
    log = mean_interval([math.log(one / other) for one, other in pairs])
    return Estimate(math.exp(log.value), math.exp(log.low), math.exp(log.high))


def block_noise(runs_w: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return (relative variance of block means within a run, degrees of freedom), pooled.

    Args:
        runs_w: for each run the mean power of its blocks, in W.

    Raises:
        ValueError: no run has two blocks.
    """
    kept = [np.asarray(run, dtype=float) for run in runs_w if len(run) > 1]
    df = float(sum(run.size - 1 for run in kept))
    if df == 0:
        raise ValueError("the noise of blocks needs a run of two blocks or more")
    squares = sum(float(np.sum((run / run.mean() - 1) ** 2)) for run in kept)
    return squares / df, df
