"""Comparisons of pooled scores: their bound covers the truth as often as it says."""

from __future__ import annotations

import numpy as np
import pytest

from hil.core.errors import ConfigError
from hil.synth.paired import Paired, score_bound
from hil.synth.resampled import (
    LEAST_PICTURES,
    Resampled,
    compare,
    comparison_from_json,
    require_pictures,
)
from hil.tasks.marks import Right
from hil.tasks.overlap import Overlaps
from hil.tasks.precision import OVERLAPS, Hits

ALPHA = 0.05
COMMON = np.array([3, 2, 1, 0.5, 0.2])  # how much of a picture each class takes
QUALITY = (0.80, 0.77)


def segmented(rng, pictures):
    """Marks of two segmenters on pictures that are hard or easy for both, classes rare or not."""
    area = np.round(4000 * rng.dirichlet(COMMON, pictures)).astype(int)
    hardness = rng.normal(0, 0.6, (pictures, 1))
    marks = []
    for quality in QUALITY:
        logit = np.log(quality / (1 - quality)) + hardness + rng.normal(0, 0.5, area.shape)
        hit = rng.binomial(area, 1 / (1 + np.exp(-logit)))
        wrong = rng.multinomial((area - hit).sum(axis=1), COMMON / COMMON.sum())
        marks.append(Overlaps(np.stack([hit, hit + wrong, area], axis=-1)))
    return marks


def detected(rng, pictures):
    """Marks of two detectors on pictures of five objects of two classes or so."""
    truths = rng.poisson([4, 1], (pictures, 2))
    hardness = np.repeat(rng.normal(0, 0.5, pictures), truths.sum(axis=1))
    picture = np.repeat(np.arange(pictures), truths.sum(axis=1))
    label = np.concatenate([np.repeat([0, 1], row) for row in truths])
    marks = []
    for quality in QUALITY:
        logit = np.log(quality / (1 - quality)) + hardness
        found = rng.random(len(label)) < 1 / (1 + np.exp(-logit))
        overlap = rng.beta(6, 1.5, found.sum())[:, None] >= OVERLAPS
        stray = np.repeat(np.arange(pictures), rng.poisson(2, pictures))
        places = np.concatenate([picture[found], stray])
        labels = np.concatenate([label[found], rng.integers(0, 2, len(stray))])
        sure = [rng.beta(4, 1.5, found.sum()), rng.beta(1.2, 3, len(stray))]
        right = np.concatenate([overlap, np.zeros((len(stray), len(OVERLAPS)), bool)])
        order = np.argsort(places, kind="stable")
        confidence = np.concatenate(sure).astype(np.float32)[order]
        marks.append(Hits(places[order], labels[order], confidence, right[order], truths))
    return marks


# A bound at 95 % is below the truth in 95 of 100 cases. 300 trials tell that to within 2.5 points
# (two standard errors); the seed is fixed, so that this either holds or does not.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("draw", "pictures", "trials"),
    [(segmented, 30, 300), (segmented, 100, 300), (detected, 40, 300)],
    ids=["segmentation-30", "segmentation-100", "detection-40"],
)
def test_the_bound_holds_as_often_as_it_says(draw, pictures, trials):
    rng = np.random.Generator(np.random.Philox(7))
    # What the difference comes to over all pictures there are.
    many = [draw(rng, 2000) for _ in range(5)]
    truth = 100 * np.mean([other.score - own.score for own, other in many])

    compared = [Resampled.of(*draw(rng, pictures)) for _ in range(trials)]

    covered = np.mean([c.lower(ALPHA) <= truth for c in compared])
    assert 1 - ALPHA - 0.025 <= covered <= 1.0
    # It is no empty promise either: it lies a few standard deviations below, not at -100.
    spread = np.std([c.difference for c in compared])
    assert np.median([c.difference - c.lower(ALPHA) for c in compared]) < 3 * spread


def test_a_score_that_is_a_mean_over_pictures_gets_the_textbook_error():
    # Each picture holds one class over as many pixels, all of it answered as itself: then the mean
    # IoU of one class is a mean of the pictures' shares, and the jackknife is the usual error.
    rng = np.random.Generator(np.random.Philox(1))
    share = [rng.integers(60, 100, 25), rng.integers(50, 100, 25)]
    counts = [np.stack([s, s, np.full(25, 100)], axis=-1)[:, None] for s in share]

    compared = Resampled.of(*(Overlaps(c) for c in counts))

    gap = share[1] - share[0]
    assert compared.difference == pytest.approx(gap.mean())
    assert compared.difference_error == pytest.approx(gap.std(ddof=1) / 5)
    assert compared.accuracy_error == pytest.approx(share[1].std(ddof=1) / 5)
    # Student's t of 24 degrees of freedom, from a printed table.
    assert compared.lower(0.05) == pytest.approx(
        gap.mean() - 1.7109 * gap.std(ddof=1) / 5, abs=1e-3
    )
    low, high = compared.interval()
    assert high - low == pytest.approx(2 * 2.0639 * gap.std(ddof=1) / 5, abs=1e-3)


def test_networks_that_answer_alike_are_not_proven_equal():
    own, _ = segmented(np.random.Generator(np.random.Philox(2)), 40)

    compared = compare(own, own)

    assert compared.difference == 0
    assert compared.lower(ALPHA) == pytest.approx(100 * score_bound(40, 0, 0, ALPHA))
    assert compared.lower(ALPHA) < -5


def test_right_or_wrong_is_counted_and_anything_else_resampled():
    rng = np.random.Generator(np.random.Philox(3))
    right = [Right(rng.random(50) < 0.8) for _ in range(2)]

    assert compare(*right) == Paired.count(right[0].right, right[1].right)
    for compared in (compare(*right), compare(*segmented(rng, 30)), compare(*detected(rng, 30))):
        assert comparison_from_json(compared.to_json()) == compared
        assert compared.accuracy_lower(ALPHA) < compared.accuracy
        low, high = compared.accuracy_interval()
        assert low < compared.accuracy < high
    assert compare(*detected(rng, 30)).scores.keys() == {"map", "map50"}


def test_other_pictures_and_too_few_are_refused():
    rng = np.random.Generator(np.random.Philox(4))
    with pytest.raises(ValueError, match="not the same pictures"):
        compare(segmented(rng, 5)[0], segmented(rng, 6)[0])
    require_pictures(LEAST_PICTURES)
    with pytest.raises(ConfigError, match="29 held-out pictures are too few"):
        require_pictures(LEAST_PICTURES - 1)
