"""The posterior is the textbook's, its samples are its own, and its bounds keep their promise."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.stats import spearmanr

from hil.bench.search_table import read_table
from hil.synth import posterior as module
from hil.synth.calibration import Calibrator
from hil.synth.cells import Cells
from hil.synth.kernels import CONSTANT_VARIANCE, Kernel
from hil.synth.paths import draw_prior
from hil.synth.posterior import Data, Posterior, Trend, fit, unwarp, warp
from hil.synth.searchspace import Encoder, random_archs


@pytest.fixture(scope="module")
def encoder(toy):
    return Encoder(toy)


def _data(toy, count: int, seed: int, noise: float = 0.01) -> Data:
    rng = np.random.default_rng(seed)
    archs = tuple(dict.fromkeys(random_archs(toy, count, rng)))
    truth = np.array([toy.truth(a)["energy_mj"] for a in archs])
    values = truth * np.exp(noise * rng.standard_normal(len(archs)))
    return Data(archs, values, noise * values)


def test_leave_one_out_residuals_equal_refits_without_the_point(toy, encoder):
    data = _data(toy, 12, 0)
    full = Posterior(encoder, data, "log", Trend(), None)
    for i in (0, 5):
        keep = [k for k in range(len(data.archs)) if k != i]
        some = Data(tuple(data.archs[k] for k in keep), data.values[keep], data.sds[keep])
        # The same standardisation, so that only the point is missing.
        part = Posterior(encoder, some, "log", Trend(), full.hyper)
        part.scale, part._location = full.scale, full._location
        part._variance = full._variance[keep]
        part._target, part._terms = full._target[keep], full._terms[:, keep][:, :, keep]
        part._factorise()
        belief = part.predict(encoder.encode([data.archs[i]]))
        own = np.exp(full.hyper[5]) * full._variance[i] * full.scale**2
        z = (np.log(data.values[i]) - belief.mean[0]) / np.sqrt(belief.sd[0] ** 2 + own)
        assert full.residuals()[i] == pytest.approx(z, rel=1e-6)


def test_the_gradient_of_the_hyperparameters_is_right(toy, encoder):
    post = Posterior(encoder, _data(toy, 15, 1), "log", Trend(), None)
    args = (post._terms, post._target, post._variance)
    point = module._PRIOR_MEAN + 0.3
    error = check_grad(
        lambda h: module._loss(h, *args)[0], lambda h: module._loss(h, *args)[1], point
    )
    assert error < 1e-3


def test_prior_functions_have_the_kernel_s_covariance(toy, encoder):
    kernel = Kernel(toy.variables, np.full(8, 1 / 8), "linear")
    rng = np.random.default_rng(0)
    batch = encoder.encode(random_archs(toy, 5, rng))
    none = np.zeros(5)
    for term in (1, 2, 3, 4):
        variances = np.full(5, 1e-12)
        variances[term] = 1.0
        draws = [draw_prior(kernel, variances, 3, 64, rng).read(batch, none) for _ in range(40)]
        values = np.hstack(draws)
        exact = kernel.components(batch, batch, (none, none))[term] + CONSTANT_VARIANCE
        # Relative to the diagonal: 2,560 functions know a covariance to a few per cent.
        scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
        assert (values @ values.T / values.shape[1]) / scale == pytest.approx(
            exact / scale, abs=0.12
        )


def test_samples_agree_with_the_prediction(toy, encoder):
    post = fit(encoder, _data(toy, 20, 2), ("log",), Trend())
    batch = encoder.encode(random_archs(toy, 30, np.random.default_rng(9)))
    values = np.log(
        np.hstack([post.sampler(64, np.random.default_rng(s)).read(batch) for s in range(10)])
    )
    belief = post.predict(batch)
    assert np.abs((values.mean(1) - belief.mean) / belief.sd).max() < 0.35
    assert values.std(1) / belief.sd == pytest.approx(np.ones(30), abs=0.35)


def test_more_measurements_predict_better(toy, encoder):
    batch = encoder.encode(random_archs(toy, 300, np.random.default_rng(11)))
    truth = np.array([toy.truth(a)["energy_mj"] for a in batch.archs])
    errors = []
    for count in (6, 16, 60):
        post = fit(encoder, _data(toy, count, 3), ("log", "linear"), Trend())
        errors.append(float(np.abs(post.mean(batch) / truth - 1).mean()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.03


def test_noisy_measurements_count_less(toy, encoder):
    data = _data(toy, 20, 4)
    values, sds = data.values.copy(), data.sds.copy()
    values[0], sds[0] = 3.0 * values[0], 3.0 * values[0]
    batch = encoder.encode([data.archs[0]])
    wild = fit(encoder, Data(data.archs, values, sds), ("log",), Trend()).mean(batch)[0]
    assert wild == pytest.approx(data.values[0], rel=0.2)


def test_json_keeps_predictions_to_the_bit(toy, encoder):
    post = fit(encoder, _data(toy, 14, 5), ("log", "linear"), Trend(None, 0.2))
    again = Posterior.from_json(post.to_json(), encoder)
    batch = encoder.encode(random_archs(toy, 50, np.random.default_rng(1)))
    assert again.predict(batch).mean.tolist() == post.predict(batch).mean.tolist()
    assert again.predict(batch).sd.tolist() == post.predict(batch).sd.tolist()


def test_without_training_accuracy_follows_the_stimuli(toy, encoder):
    tables = tuple(-0.1 * v.identity + 0.1 * np.arange(v.size) for v in toy.variables[:1])
    tables += tuple(np.zeros(v.size) for v in toy.variables[1:])
    base = encoder.identity
    post = Posterior(
        encoder, Data((base,), np.array([0.98]), np.array([0.0])), "error", Trend(tables), None
    )
    accuracy = post.mean(encoder.encode([(c, *base[1:]) for c in range(4)]))
    assert all(a < b for a, b in pairwise(accuracy))
    assert accuracy[-1] == pytest.approx(0.98, abs=1e-3)


@pytest.mark.parametrize("kind", ["linear", "log", "error"])
def test_warps_invert(kind):
    values = np.array([0.1, 0.5, 0.99])
    assert unwarp(warp(values, kind), kind) == pytest.approx(values)


def test_calibrated_bounds_cover_what_they_say(toy, encoder):
    """Upper bounds at 10 % over fresh random networks, 24 observations, 40 repeats."""
    misses = []
    for seed in range(40):
        post = fit(encoder, _data(toy, 24, 100 + seed, noise=0.03), ("log",), Trend())
        batch = encoder.encode(random_archs(toy, 100, np.random.default_rng(500 + seed)))
        truth = np.array([toy.truth(a)["energy_mj"] for a in batch.archs])
        belief = post.predict(batch)
        away = Calibrator.of(post.residuals()).quantile(0.1, "max")
        misses.append(np.mean(np.log(truth) > belief.mean + away * belief.sd))
    assert np.mean(misses) <= 0.13


def test_conformal_quantiles_repair_a_wrong_scale():
    """Residuals three times as wide as believed: coverage must still be the nominal one."""
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(2000):
        draws = 3.0 * rng.standard_normal(20)
        hits.append(draws[-1] <= Calibrator.of(draws[:-1]).quantile(0.1, "max"))
    assert np.mean(hits) == pytest.approx(0.9, abs=0.03)


def test_few_observations_widen_and_say_so():
    few, many = Calibrator.of(np.zeros(4)), Calibrator.of(np.linspace(-1, 1, 40))
    assert not few.exact(0.1)
    assert few.quantile(0.1, "max") > 1.6  # a t quantile, though every residual is zero
    assert Calibrator.of(np.zeros(1)).quantile(0.1, "max") > few.quantile(0.1, "max")
    assert many.exact(0.1)
    assert many.quantile(0.1, "max") == pytest.approx(many.quantile(0.1, "min"))
    assert Calibrator.of(np.array([9.0, 0.0])).quantile(0.1, "max") >= 9.0


def test_real_tx2_energy_and_latency_are_predicted_from_fifty_measurements():
    """R^2 and rank correlation over a thousand other cells, TX2 table of HW-NAS-Bench."""
    root = Path(__file__).parents[2]
    path = Path(os.environ.get("HIL_DATA", root / "../shared/data"))
    path = path / "nb201_tx2" / "nb201_tx2_cifar10.npz"
    if not path.exists():
        pytest.skip(f"no measured table at {path}; set HIL_DATA")
    table = read_table(path, "c10", "c10_valid_acc_200ep")
    cells = Cells(table.ops, table.params, table.macs)
    figures = {"energy_mj": table.energy_mj, "latency_p99_ms": table.latency_ms}
    encoder, rng = Encoder(cells), np.random.default_rng(0)
    archs = tuple(dict.fromkeys(random_archs(cells, 50, rng)))
    batch = encoder.encode(random_archs(cells, 1000, rng))
    for metric in ("energy_mj", "latency_p99_ms"):
        values = np.array([figures[metric][cells.row(a)] for a in archs])
        post = fit(encoder, Data(archs, values, 0.02 * values), ("log", "linear"), Trend())
        truth = np.array([figures[metric][cells.row(a)] for a in batch.archs])
        predicted = post.mean(batch)
        assert 1 - np.mean((predicted - truth) ** 2) / truth.var() > 0.75
        assert spearmanr(predicted, truth).statistic > 0.87
