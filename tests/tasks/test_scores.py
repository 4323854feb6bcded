"""Scores equal the reference implementations', and hand-worked cases."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from hil.tasks.decoding import centres, decode, suppress
from hil.tasks.marks import Right
from hil.tasks.overlap import Overlaps, overlaps
from hil.tasks.precision import Hits, hits, iou

pytestmark = pytest.mark.torch

VOID = 255


def masks_of(rng, pictures=4, classes=5, side=9):
    truth = rng.integers(0, classes, (pictures, side, side)).astype(np.uint8)
    answers = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, classes, truth.shape))
    truth[rng.random(truth.shape) < 0.1] = VOID
    return answers, truth


@pytest.mark.parametrize("seed", range(4))
def test_mean_iou_and_pixel_accuracy_equal_torchmetrics(seed):
    rng = np.random.Generator(np.random.Philox(seed))
    answers, truth = masks_of(rng)

    marks = overlaps(answers, truth, 5, VOID)

    pair = torch.from_numpy(answers.astype(np.int64)), torch.from_numpy(truth.astype(np.int64))
    jaccard = MulticlassJaccardIndex(5, average="macro", ignore_index=VOID)(*pair)
    pixels = MulticlassAccuracy(5, average="micro", ignore_index=VOID)(*pair)
    assert marks.score == pytest.approx(float(jaccard), rel=1e-6)
    assert marks.pixel_accuracy == pytest.approx(float(pixels), rel=1e-6)


def test_mean_iou_of_a_worked_case():
    truth = np.array([[[0, 0, 1, VOID]], [[1, 1, 0, 0]]], dtype=np.uint8)
    answers = np.array([[[0, 1, 1, 0]], [[1, 0, 0, 0]]])

    marks = overlaps(answers, truth, 3, VOID)

    # Class 0: 3 shared of 5 pixels; class 1: 2 of 4; class 2 occurs nowhere; 5 of 7 are right.
    assert marks.class_iou == (3 / 5, 2 / 4, None)
    assert marks.score == pytest.approx((3 / 5 + 2 / 4) / 2)
    assert marks.scores["pixel_accuracy"] == pytest.approx(100 * 5 / 7)


def test_void_pixels_and_classes_out_of_range_are_told_apart():
    truth = np.full((1, 2, 2), VOID, dtype=np.uint8)

    assert overlaps(np.zeros((1, 2, 2), int), truth, 3, VOID).score == 0
    with pytest.raises(ValueError, match=r"outside 0\.\.2"):
        overlaps(np.zeros((1, 2, 2), int), truth, 3, None)
    with pytest.raises(ValueError, match="do not match"):
        overlaps(np.zeros((1, 2, 3), int), truth, 3, VOID)


def boxes_of(rng, count, classes):
    corner = rng.uniform(0, 60, (count, 2))
    size = rng.uniform(12, 40, (count, 2))
    label = rng.integers(0, classes, (count, 1))
    return np.concatenate([label, corner, corner + size], axis=1).astype(np.float32)


def detections_of(rng, truth, classes, coarse):
    """The truth moved a little, some of it twice, some missed, and boxes that match nothing."""
    twice = np.concatenate([truth, truth[rng.random(len(truth)) < 0.4]])
    found = twice[rng.random(len(twice)) < 0.8]
    found[:, 1:] += rng.uniform(-4, 4, found[:, 1:].shape)
    found = np.concatenate([found, boxes_of(rng, rng.integers(4), classes)])
    score = rng.random(len(found))
    score = np.round(score, 1) if coarse else score
    return np.concatenate([found, score[:, None]], axis=1).astype(np.float32)


def by_pycocotools(detections, truths, classes):
    """(mAP at 0.5:0.95, mAP at 0.5) as pycocotools computes them."""

    def wide(box):
        x0, y0, x1, y1 = map(float, box)
        return {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}

    marked = [
        {"image_id": i, "category_id": int(row[0]), **wide(row[1:5])}
        for i, rows in enumerate(truths)
        for row in rows
    ]
    found = [
        {"image_id": i, "category_id": int(row[0]), "score": float(row[5]), **wide(row[1:5])}
        for i, rows in enumerate(detections)
        for row in rows
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": i} for i in range(len(truths))],
            "categories": [{"id": c} for c in range(classes)],
            "annotations": [{"id": k + 1, **one} for k, one in enumerate(marked)],
        }
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats[0], judge.stats[1]


@pytest.mark.parametrize("coarse", [False, True], ids=["scores differ", "scores tie"])
@pytest.mark.parametrize("seed", range(8))
def test_average_precision_equals_pycocotools(seed, coarse):
    rng = np.random.Generator(np.random.Philox(seed))
    classes = 3
    truths = [boxes_of(rng, rng.integers(0, 9), classes) for _ in range(12)]
    detections = [detections_of(rng, t, classes, coarse) for t in truths]

    marks = hits(detections, truths, classes)

    both, half = by_pycocotools(detections, truths, classes)
    assert 0.1 < half < 0.95
    assert marks.score == pytest.approx(both, abs=1e-9)
    assert marks.at_half == pytest.approx(half, abs=1e-9)
    assert marks.scores == {"map": 100 * marks.score, "map50": 100 * marks.at_half}


def test_more_than_a_hundred_detections_of_a_class_count_as_pycocotools_counts_them():
    rng = np.random.Generator(np.random.Philox(3))
    truths = [boxes_of(rng, 60, 1) for _ in range(2)]
    found = [np.concatenate([detections_of(rng, t, 1, False) for _ in range(3)]) for t in truths]
    assert max(map(len, found)) > 100

    marks = hits(found, truths, 1)

    both, half = by_pycocotools(found, truths, 1)
    assert (marks.score, marks.at_half) == (pytest.approx(both), pytest.approx(half))


def test_average_precision_of_a_worked_case():
    truths = [np.array([[0, 0, 0, 10, 10], [0, 20, 0, 30, 10]], dtype=np.float32)]
    found = [
        np.array(
            [[0, 0, 0, 10, 10, 0.9], [0, 50, 50, 60, 60, 0.8], [0, 20, 0, 30, 8, 0.7]],
            dtype=np.float32,
        )
    ]

    marks = hits(found, truths, 1)

    # The third overlaps its box by 0.8: right up to 0.80. Recalls to 0.5 have precision 1 (51 of
    # the 101), higher ones 2/3 at seven overlaps of ten and nothing at the other three.
    good, poor = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert marks.at_half == pytest.approx(good)
    assert marks.score == pytest.approx(0.7 * good + 0.3 * poor)


def test_nothing_found_and_nothing_to_find_count_as_they_should():
    empty, box = np.zeros((0, 5), np.float32), np.array([[1, 0, 0, 5, 5]], np.float32)

    assert hits([np.zeros((0, 6), np.float32)], [box], 2).score == 0
    # A class without a true box says nothing, whatever is found of it.
    stray = np.array([[0, 0, 0, 5, 5, 0.9], [1, 0, 0, 5, 5, 0.9]], np.float32)
    assert hits([stray], [box], 2).score == 1
    assert hits([stray], [empty], 2).score == 0
    with pytest.raises(ValueError, match=r"outside 0\.\.0"):
        hits([stray], [box], 1)
    with pytest.raises(ValueError, match="2 answers to 1 pictures"):
        hits([stray, stray], [box], 2)


def some_marks(kind, rng, pictures=9):
    if kind == "right":
        return Right(rng.random(pictures) < 0.7)
    if kind == "overlaps":
        return overlaps(*masks_of(rng, pictures), 5, VOID)
    truths = [boxes_of(rng, rng.integers(1, 9), 3) for _ in range(pictures)]
    return hits([detections_of(rng, t, 3, False) for t in truths], truths, 3)


def some_pictures(marks, chosen):
    """Marks of the chosen pictures alone, worked out anew."""
    if isinstance(marks, Right):
        return Right(marks.right[chosen])
    if isinstance(marks, Overlaps):
        return Overlaps(marks.counts[chosen])
    # Each picture under a number of its own, in the order in which they are chosen.
    rows = [np.flatnonzero(marks.picture == p) for p in chosen]
    numbers = np.repeat(np.arange(len(chosen)), [len(r) for r in rows])
    order = np.concatenate(rows).astype(int)
    columns = (marks.label[order], marks.confidence[order], marks.hit[order])
    return Hits(numbers, *columns, marks.truths[chosen])


@pytest.mark.parametrize("kind", ["right", "overlaps", "hits"])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_weights_leave_pictures_out_and_count_them_more_than_once(kind, seed):
    rng = np.random.Generator(np.random.Philox(seed))
    marks = some_marks(kind, rng)
    chosen = np.sort(rng.integers(0, 9, 9))
    weights = np.stack([np.bincount(chosen, minlength=9), np.ones(9)]).astype(np.float64)

    again, whole = marks.weighted(weights)

    assert again == pytest.approx(some_pictures(marks, chosen).score)
    assert whole == pytest.approx(marks.score)
    assert type(marks).from_bytes(marks.to_bytes()).score == marks.score


def test_boxes_overlap_as_areas():
    one = np.array([[0, 0, 2, 2], [0, 0, 0, 0]], np.float32)
    others = np.array([[1, 1, 3, 3], [0, 0, 2, 1], [5, 5, 6, 6], [0, 0, 0, 0]], np.float32)

    assert iou(one, others).tolist() == [[1 / 7, 1 / 2, 0, 0], [0, 0, 0, 0]]


def test_suppression_keeps_the_most_confident_of_each_heap_and_class():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 8], [30, 0, 40, 10]], np.float32)
    scores = np.array([0.5, 0.9, 0.8, 0.5])

    assert suppress(boxes, scores, np.array([0, 0, 1, 0])).tolist() == [1, 2, 3]
    # What was dropped drops nothing itself: 1 drops 0 and 2, which overlap it by 0.9 and 8/9.
    assert suppress(boxes, scores, np.zeros(4, int)).tolist() == [1, 3]
    assert suppress(boxes[:0], scores[:0], np.zeros(0, int)).tolist() == []


def maps_of(truths, shapes, size, classes):
    """Answers of a detector that is sure of every box at the cell nearest to its centre."""
    maps = []
    for height, width in shapes:
        level = np.full((len(truths), classes + 4, height, width), -9.0, dtype=np.float32)
        for n, rows in enumerate(truths):
            for label, x0, y0, x1, y1 in rows:
                middle = centres(height, width, size)
                gap = np.abs(middle - [(x0 + x1) / 2, (y0 + y1) / 2]).sum(axis=1)
                row, column = divmod(int(gap.argmin()), width)
                x, y = middle[gap.argmin()]
                cell = np.array([size[1] / width, size[0] / height] * 2)
                level[n, int(label), row, column] = 4.0
                distance = np.array([x - x0, y - y0, x1 - x, y1 - y]) / cell
                level[n, classes:, row, column] = np.log(distance)
        maps.append(level)
    return maps


@pytest.mark.parametrize("shapes", [[(12, 16), (6, 8)], [(9, 12), (5, 6)]], ids=["even", "uneven"])
def test_what_a_perfect_detector_says_is_decoded_into_the_truth(shapes):
    size, classes = (48, 64), 3
    truths = [
        np.array([[2, 10, 10, 30, 26], [0, 40, 20, 60, 44]], np.float32),
        np.array([[1, 3, 5, 17, 30]], np.float32),
    ]

    found = decode(maps_of(truths, shapes, size, classes), size)

    assert hits(found, truths, classes).score == pytest.approx(1.0)
    assert [len(f) for f in found] == [2, 1]  # both levels found each box: one is suppressed


def test_answers_that_are_not_numbers_detect_nothing():
    maps = [np.full((1, 6, 4, 4), np.nan, dtype=np.float32)]

    assert decode(maps, (16, 16))[0].shape == (0, 6)
