"""Posterior of one metric over architectures: shrunken linear model plus a Gaussian process.

Observations carry their own standard deviation (from the measured interval); what comes on top
(builds differ, the model is wrong between points) is a learned jitter. Hyperparameters are those
of highest posterior density: marginal likelihood times a log-normal prior, so that eight points
do not talk the model into certainty. The scale in which effects add (linear or logarithmic) is
itself chosen by evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from hil.synth.kernels import CONSTANT_VARIANCE, Kernel, View
from hil.synth.paths import PriorPaths, draw_prior
from hil.synth.records import Arch, FloatArray
from hil.synth.searchspace import Batch, Encoder

Warp = Literal["linear", "log", "error"]
# Log variances of the terms, of the noise multiplier and of the jitter: prior mean and spread.
_PRIOR_MEAN = np.log([0.3, 0.3, 1.0, 0.1, 0.05, 1.0, 1e-3])
_PRIOR_SPREAD = np.array([1.0, 1.5, 1.5, 1.5, 1.5, 0.7, 2.0])
_TERMS = 5
_ERROR_FLOOR = 0.005
_LEAST_FRACTION = 1e-3  # keeps a utility that takes the logarithm of accuracy finite
_MIN_SCALE = 0.3  # of the warped values; relative to their size on the linear scale
_SIGNAL_SCALE = 0.15  # the same where training-free signals say most of it
_MAX_STEPS = 40
_FIT_MOST = 128  # observations that hyperparameters are fitted to


def warp(values: FloatArray, kind: Warp) -> FloatArray:
    """Values on the scale where effects add; monotone increasing in every kind.

    `error` is minus the logarithm of the error of a fraction that should be near one.
    """
    if kind == "linear":
        return np.asarray(values, dtype=np.float64)
    if kind == "log":
        return np.asarray(np.log(values), dtype=np.float64)
    return np.asarray(-np.log(1.0 + _ERROR_FLOOR - values), dtype=np.float64)


def unwarp(values: FloatArray, kind: Warp) -> FloatArray:
    """Inverse of `warp`."""
    if kind == "linear":
        return np.asarray(values, dtype=np.float64)
    if kind == "log":
        return np.asarray(np.exp(np.minimum(values, 700.0)), dtype=np.float64)
    fraction = 1.0 + _ERROR_FLOOR - np.exp(np.minimum(-values, 50.0))
    return np.asarray(np.clip(fraction, _LEAST_FRACTION, 1.0), dtype=np.float64)


def warp_slope(values: FloatArray, kind: Warp) -> FloatArray:
    """Derivative of `warp`."""
    if kind == "linear":
        return np.ones_like(values)
    return 1.0 / values if kind == "log" else 1.0 / (1.0 + _ERROR_FLOOR - values)


@dataclass(frozen=True)
class Trend:
    """Prior mean on the warped scale.

    Attributes:
        tables: per variable, the expected value of each choice relative to the identity's; None
            where nothing was probed.
        capacity: expected change when MACs and parameters both fall by a factor e.
        signal: expected change with one standard deviation of the first training-free signal.
    """

    tables: tuple[FloatArray, ...] | None = None
    capacity: float = 0.0
    signal: float = 0.0

    def read(self, batch: Batch, reference: Batch) -> FloatArray:
        """Prior means relative to the reference architecture's, (len(batch),)."""
        log_macs = np.log((batch.macs + 1.0) / (reference.macs[0] + 1.0))
        log_params = np.log((batch.params + 1.0) / (reference.params[0] + 1.0))
        values: FloatArray = 0.5 * self.capacity * (log_macs + log_params)
        for j, table in enumerate(self.tables or ()):
            values = values + table[batch.choices[:, j]]
        if self.signal:
            values = values + self.signal * (batch.signals[:, 0] - reference.signals[0, 0])
        return values

    def to_json(self) -> dict[str, Any]:
        """The trend as plain data."""
        tables = None if self.tables is None else [t.tolist() for t in self.tables]
        return {"tables": tables, "capacity": self.capacity, "signal": self.signal}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Trend:
        """Inverse of `to_json`."""
        tables = data["tables"]
        arrays = None if tables is None else tuple(np.array(t, dtype=np.float64) for t in tables)
        return Trend(arrays, float(data["capacity"]), float(data.get("signal", 0.0)))


@dataclass(frozen=True)
class Data:
    """Observations of one metric: architectures, values and their standard deviations."""

    archs: tuple[Arch, ...]
    values: FloatArray
    sds: FloatArray


@dataclass(frozen=True)
class Prediction:
    """Predictive mean and standard deviation on the warped scale, one per architecture."""

    mean: FloatArray
    sd: FloatArray


class Posterior:
    """One metric's posterior, a pure function of what it is constructed from."""

    def __init__(
        self,
        encoder: Encoder,
        data: Data,
        kind: Warp,
        trend: Trend,
        hyper: FloatArray | None,
        signals: bool = False,
    ) -> None:
        self.encoder, self.data, self.kind, self.trend = encoder, data, kind, trend
        self.signals = signals
        variables = encoder.space.variables
        shares = _shares(trend, len(variables))
        view: View = "signals" if signals else "linear" if kind == "linear" else "logs"
        self.kernel = Kernel(variables, shares, view)
        self._reference = encoder.encode([encoder.identity])
        self._batch = encoder.encode(data.archs)
        self._prepare()
        self.hyper = _fit(self._terms, self._target, self._variance) if hyper is None else hyper
        self._factorise()

    def predict(self, batch: Batch) -> Prediction:
        """Predictive means and standard deviations, jitter included."""
        trend = self._trend(batch)
        weights = np.exp(self.hyper[:_TERMS])
        cross = self._cross(batch, trend)
        prior = weights @ self.kernel.diagonal(batch, trend) + CONSTANT_VARIANCE
        explained = np.einsum("ij,ji->i", cross, cho_solve(self._factor, cross.T))
        variance = np.maximum(prior - explained, 0.0) + np.exp(self.hyper[_TERMS + 1])
        mean = self._location + self.scale * (trend + cross @ self._alpha)
        return Prediction(mean, self.scale * np.sqrt(variance))

    def mean(self, batch: Batch) -> FloatArray:
        """Predicted medians in the metric's own unit."""
        trend = self._trend(batch)
        values = trend + self._cross(batch, trend) @ self._alpha
        return unwarp(self._location + self.scale * values, self.kind)

    def spread_of_one(self, batch: Batch) -> tuple[FloatArray, FloatArray]:
        """Predicted medians, and what one observation shows one standard deviation above them.

        The deviation is that of the chance of a single observation alone (the learned jitter).
        """
        trend = self._trend(batch)
        middle = self._location + self.scale * (trend + self._cross(batch, trend) @ self._alpha)
        chance = self.scale * float(np.exp(0.5 * self.hyper[_TERMS + 1]))
        return unwarp(middle, self.kind), unwarp(middle + chance, self.kind)

    def residuals(self) -> FloatArray:
        """Leave-one-out residuals over their predictive standard deviations, (observations,)."""
        inverse = cho_solve(self._factor, np.eye(len(self._target)))
        result: FloatArray = self._alpha / np.sqrt(np.diag(inverse))
        return result

    def sampler(self, count: int, rng: np.random.Generator) -> Sampler:
        """`count` joint posterior samples as functions."""
        width = self.kernel.read(self._batch).shape[1]
        prior = draw_prior(self.kernel, np.exp(self.hyper[:_TERMS]), width, count, rng)
        noise = rng.standard_normal((len(self._target), count)) * np.sqrt(self._noise())[:, None]
        gap = self._target[:, None] - prior.read(self._batch, self._trend(self._batch)) - noise
        return Sampler(self, prior, np.asarray(cho_solve(self._factor, gap)))

    def evidence(self) -> float:
        """Log density of the observations and hyperparameters in the metric's own unit."""
        slope = np.log(np.abs(warp_slope(self.data.values, self.kind))).sum()
        count = len(self._target)
        loss = _loss(self.hyper, self._terms, self._target, self._variance)[0]
        return float(slope - count * np.log(self.scale) - loss)

    def to_json(self) -> dict[str, Any]:
        """All it was constructed from; floats survive JSON exactly."""
        return {
            "archs": [list(a) for a in self.data.archs],
            "values": self.data.values.tolist(),
            "sds": self.data.sds.tolist(),
            "warp": self.kind,
            "trend": self.trend.to_json(),
            "hyper": self.hyper.tolist(),
            "signals": self.signals,
        }

    @staticmethod
    def from_json(data: dict[str, Any], encoder: Encoder) -> Posterior:
        """Inverse of `to_json`, on the same space."""
        archs = tuple(tuple(int(c) for c in a) for a in data["archs"])
        observed = Data(archs, np.array(data["values"]), np.array(data["sds"]))
        trend = Trend.from_json(data["trend"])
        hyper, signals = np.array(data["hyper"]), bool(data.get("signals", False))
        return Posterior(encoder, observed, data["warp"], trend, hyper, signals)

    def _prepare(self) -> None:
        warped = warp(self.data.values, self.kind)
        prior = self.trend.read(self._batch, self._reference)
        floor = _SIGNAL_SCALE if self.signals else _MIN_SCALE
        if self.kind == "linear":
            floor *= float(np.abs(warped).mean()) + 1e-300
        self.scale = max(float(np.std(warped - prior)), floor)
        self._location = float(np.mean(warped - prior))
        sds = self.data.sds * warp_slope(self.data.values, self.kind) / self.scale
        self._variance = sds**2
        trend = self._trend(self._batch)
        self._target = (warped - self._location) / self.scale - trend
        self._terms = self.kernel.components(self._batch, self._batch, (trend, trend))

    def _trend(self, batch: Batch) -> FloatArray:
        result: FloatArray = self.trend.read(batch, self._reference) / self.scale
        return result

    def _noise(self) -> FloatArray:
        scale, jitter = np.exp(self.hyper[_TERMS:])
        result: FloatArray = scale * self._variance + jitter
        return result

    def _factorise(self) -> None:
        covariance = np.tensordot(np.exp(self.hyper[:_TERMS]), self._terms, axes=1)
        covariance += CONSTANT_VARIANCE + np.diag(self._noise())
        self._factor = cho_factor(covariance, lower=True)
        self._alpha: FloatArray = np.asarray(cho_solve(self._factor, self._target))

    def _cross(self, batch: Batch, trend: FloatArray) -> FloatArray:
        terms = self.kernel.components(batch, self._batch, (trend, self._trend(self._batch)))
        cross: FloatArray = np.tensordot(np.exp(self.hyper[:_TERMS]), terms, axes=1)
        return cross + CONSTANT_VARIANCE


@dataclass(frozen=True)
class Sampler:
    """Posterior sample functions: prior functions corrected at the observations (Matheron)."""

    posterior: Posterior
    prior: PriorPaths
    correction: FloatArray

    def read(self, batch: Batch) -> FloatArray:
        """Sampled values in the metric's own unit, (len(batch), samples)."""
        post = self.posterior
        trend = post._trend(batch)
        values = self.prior.read(batch, trend) + post._cross(batch, trend) @ self.correction
        return unwarp(post._location + post.scale * (trend[:, None] + values), post.kind)


def fit(
    encoder: Encoder, data: Data, kinds: Sequence[Warp], trend: Trend, *, signals: bool = False
) -> Posterior:
    """Posterior on the scale of highest evidence among `kinds`.

    Args:
        encoder: the space's.
        data: what was observed.
        kinds: scales to try.
        trend: prior mean.
        signals: whether it reads training-free signals instead of hardware features.
    """
    usable = [k for k in kinds if k != "log" or bool((data.values > 0).all())]
    fits = [Posterior(encoder, data, kind, trend, None, signals) for kind in usable]
    return max(fits, key=lambda p: p.evidence())


def _shares(trend: Trend, count: int) -> FloatArray:
    """Variance shares of the variables: half even, half by the range of the probed effects."""
    if trend.tables is None:
        return np.full(count, 1.0 / count)
    spans = np.array([float(np.ptp(t)) for t in trend.tables])
    total = spans.sum()
    probed = spans / total if total > 0 else np.full(count, 1.0 / count)
    return np.asarray(0.5 / count + 0.5 * probed, dtype=np.float64)


def _fit(terms: FloatArray, target: FloatArray, variance: FloatArray) -> FloatArray:
    if len(target) < 2:
        return _PRIOR_MEAN.copy()
    if len(target) > _FIT_MOST:
        # Seven numbers do not need more; the time to fit them grows with the cube.
        rows = np.linspace(0, len(target) - 1, _FIT_MOST).astype(np.int64)
        terms, target, variance = terms[:, rows][:, :, rows], target[rows], variance[rows]
    bounds = [(m - 4 * s, m + 4 * s) for m, s in zip(_PRIOR_MEAN, _PRIOR_SPREAD, strict=True)]
    found = minimize(
        _loss,
        _PRIOR_MEAN,
        args=(terms, target, variance),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": _MAX_STEPS},
    )
    return np.asarray(found.x, dtype=np.float64)


def _loss(
    hyper: FloatArray, terms: FloatArray, target: FloatArray, variance: FloatArray
) -> tuple[float, FloatArray]:
    """Negative log posterior density of the hyperparameters and its gradient."""
    weights, (scale, jitter) = np.exp(hyper[:_TERMS]), np.exp(hyper[_TERMS:])
    noise = scale * variance + jitter
    covariance = np.tensordot(weights, terms, axes=1) + CONSTANT_VARIANCE + np.diag(noise)
    lower = np.linalg.cholesky(covariance)
    inverse = cho_solve((lower, True), np.eye(len(target)))
    alpha = inverse @ target
    pull = (hyper - _PRIOR_MEAN) / _PRIOR_SPREAD
    loss = 0.5 * target @ alpha + np.log(np.diag(lower)).sum() + 0.5 * pull @ pull
    loss += 0.5 * len(target) * np.log(2 * np.pi)
    half = 0.5 * (inverse - np.outer(alpha, alpha))
    gradient = np.empty_like(hyper)
    gradient[:_TERMS] = weights * np.tensordot(terms, half, axes=([1, 2], [0, 1]))
    gradient[_TERMS] = scale * (np.diag(half) @ variance)
    gradient[_TERMS + 1] = jitter * np.trace(half)
    return float(loss), gradient + pull / _PRIOR_SPREAD
