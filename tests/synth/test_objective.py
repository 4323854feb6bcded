"""NetScore's published form and units, and a user's own U."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from hil.core.errors import ConfigError
from hil.synth.objective import load_objective, netscore


@pytest.mark.parametrize(
    ("accuracy", "params", "macs", "score"),
    [
        (70.6, 4.2, 0.569, 70.17),  # MobileNetV1
        (57.5, 1.24, 0.349, 74.02),  # SqueezeNet 1.1
        (76.1, 25.6, 4.1, 55.05),  # ResNet-50
    ],
)
def test_known_networks_score_what_the_formula_gives_in_percent_millions_and_billions(
    accuracy, params, macs, score
):
    assert float(netscore(accuracy, params, macs)) == pytest.approx(score, abs=0.01)


def test_the_logarithm_is_base_ten_as_a_published_score_shows():
    # Son and Weiland 2022: 76.7 % mIoU, 65.7 frames a second, 25 GFLOPs, 4.55 M parameters, and a
    # "modified Net score" (times the square of the frame rate) of 127.53.
    modified = float(netscore(76.7, 4.55, 25)) + 40 * math.log10(65.7)
    assert modified == pytest.approx(127.53, abs=0.01)


def test_no_accuracy_scores_below_everything():
    assert float(netscore(0.0, 1.0, 1.0)) == -math.inf


@pytest.mark.parametrize("bad", [(-1.0, 1.0, 1.0), (90.0, 0.0, 1.0), (90.0, 1.0, -2.0)])
def test_impossible_figures_are_refused(bad):
    with pytest.raises(ValueError, match="NetScore needs"):
        netscore(*bad)


def test_the_search_s_units_are_converted_and_arrays_scored_elementwise():
    utility = load_objective("netscore")
    scores = utility(
        accuracy=np.array([0.706, 0.761]),
        macs=np.array([0.569e9, 4.1e9]),
        params=np.array([4.2e6, 25.6e6]),
    )
    assert scores == pytest.approx([70.17, 55.05], abs=0.01)


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    (tmp_path / "my_utility.py").write_text(
        "def dense(accuracy, macs, params):\n    return accuracy / params\n"
        "def wrong_names(a, b):\n    return a\n"
        "def scalar(accuracy, macs, params):\n    return 3.0\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("my_utility", None)


@pytest.mark.usefixtures("user_module")
def test_a_user_s_function_takes_netscore_s_place():
    utility = load_objective("my_utility:dense")
    scores = utility(accuracy=np.array([0.5]), macs=np.array([1.0]), params=np.array([2.0]))
    assert scores.tolist() == [0.25]


@pytest.mark.usefixtures("user_module")
@pytest.mark.parametrize(
    ("name", "words"), [("wrong_names", "def utility"), ("scalar", "one finite number a network")]
)
def test_a_function_that_does_not_keep_to_the_signature_is_refused_before_the_search(name, words):
    with pytest.raises(ConfigError, match=words):
        load_objective(f"my_utility:{name}")
