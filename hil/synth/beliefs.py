"""Observations to beliefs: which posterior each metric gets, and the budget problem they imply."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hil.synth.calibration import Calibrator
from hil.synth.fitting import Relaxation
from hil.synth.posterior import Data, Posterior, Trend, Warp, fit, warp
from hil.synth.receipts import insight_archs, single_changes
from hil.synth.records import ACCURACY, EXACT_METRICS, FloatArray, Limit, Observation, Utility
from hil.synth.screen import Screen
from hil.synth.searchspace import Encoder, SignalSpace

_COST_WARPS: tuple[Warp, ...] = ("log", "linear")
_STIMULUS_DROP = 1.5  # log-error expected between the prototype and the least of all networks
_SIGNAL_SLOPE = 0.3  # log-error per standard deviation of the first training-free signal
_CAPACITY_SLOPE = 0.25  # log-error per e-fold of capacity where no task stimuli are given

_GUESS, _GUESS_SD = 0.5, 0.25  # an accuracy of which nothing is known

Stimuli = tuple[FloatArray, ...]


def believe(
    encoder: Encoder,
    limits: tuple[Limit, ...],
    stimuli: Stimuli | None,
    observations: Sequence[Observation],
) -> Screen:
    """Posteriors and calibrators of every metric that was observed and is asked for.

    Args:
        encoder: the space's.
        limits: the requirements; the metrics modelled are theirs, and accuracy.
        stimuli: per variable, harm of each choice by task stimuli, or None.
        observations: all so far.
    """
    posteriors = {}
    for metric in sorted({limit.metric for limit in limits} - {ACCURACY, *EXACT_METRICS}):
        seen = [o for o in observations if metric in o.costs]
        if seen:
            values = np.array([o.costs[metric][0] for o in seen])
            sds = np.array([o.costs[metric][1] for o in seen])
            data = Data(tuple(o.arch for o in seen), values, sds)
            posteriors[metric] = fit(encoder, data, _COST_WARPS, Trend())
    trained = [o for o in observations if o.accuracy is not None]
    signals = stimuli is None and isinstance(encoder.space, SignalSpace)
    if trained or signals:
        posteriors[ACCURACY] = _accuracy(encoder, stimuli, trained or [_guess(encoder)])
    calibrators = {m: Calibrator.of(p.residuals()) for m, p in posteriors.items()}
    return Screen(encoder, limits, posteriors, calibrators)


def relaxation(screen: Screen, utility: Utility) -> Relaxation:
    """The budget problem with every variable on its own, from single-variable predictions."""
    encoder = screen.encoder
    batch = encoder.encode(insight_archs(encoder))
    accuracy = np.ones(len(batch))
    if ACCURACY in screen.posteriors:
        accuracy = screen.mean(ACCURACY, batch)
    gains = single_changes(encoder, utility(accuracy, batch.macs, batch.params))
    limits = [m for m in screen.limits if m.metric in (*screen.posteriors, *EXACT_METRICS)]
    logs = [_log_cost(limit, screen.mean(limit.metric, batch)) for limit in limits]
    edges = [_log_cost(limit, np.array([limit.bound]))[0] for limit in limits]
    budgets = np.array([edge - log[0] for edge, log in zip(edges, logs, strict=True)])
    return Relaxation(gains, tuple(single_changes(encoder, log) for log in logs), budgets)


def _log_cost(limit: Limit, values: FloatArray) -> FloatArray:
    """Logarithm of what must not grow: a cost, an inverse gain, or an accuracy's error."""
    if limit.metric == ACCURACY:
        return -warp(values, "error")
    floor = 1e-3 * abs(limit.bound) + 1e-300
    logs: FloatArray = np.log(np.maximum(values, floor))
    return logs if limit.sense == "max" else -logs


def _accuracy(
    encoder: Encoder, stimuli: Stimuli | None, trained: Sequence[Observation]
) -> Posterior:
    values = np.array([o.accuracy for o in trained], dtype=np.float64)
    sds = np.array([o.accuracy_sd or 0.0 for o in trained])
    data = Data(tuple(o.arch for o in trained), values, sds)
    signals = isinstance(encoder.space, SignalSpace)
    return fit(encoder, data, ("error",), _accuracy_trend(encoder, stimuli), signals=signals)


def _guess(encoder: Encoder) -> Observation:
    """Stands for all that was never trained, so that training-free signals can be gone by alone.

    A level nobody knows with a deviation to match; only differences follow from it.
    """
    return Observation(encoder.identity, {}, _GUESS, "undecided", 0, accuracy_sd=_GUESS_SD)


def _accuracy_trend(encoder: Encoder, stimuli: Stimuli | None) -> Trend:
    """Prior mean of accuracy: falls with probed harm, or with capacity where nothing was probed.

    Training-free signals take capacity's place where a space has any.
    """
    if stimuli is None and isinstance(encoder.space, SignalSpace):
        return Trend(signal=_SIGNAL_SLOPE)
    if stimuli is None:
        return Trend(None, _CAPACITY_SLOPE)
    harms = [s - s[v.identity] for s, v in zip(stimuli, encoder.space.variables, strict=True)]
    scale = _STIMULUS_DROP / max(sum(float(h.max()) for h in harms), 1e-12)
    return Trend(tuple(-scale * h for h in harms))
