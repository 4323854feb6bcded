"""Segmentation and detection: they learn, follow a teacher, and go on where they were cut off."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hil.core.errors import ConfigError
from hil.net.prototypes_dense import pyramid_detector, unet
from hil.tasks.checkpoints import Checkpoint
from hil.tasks.data import Split, load_data
from hil.tasks.detection import Detection
from hil.tasks.inference import marks_of, mean_loss, predict, recalibrate
from hil.tasks.named import task_for
from hil.tasks.pictures import shifted
from hil.tasks.place import Place
from hil.tasks.recipe import Recipe
from hil.tasks.segmentation import Segmentation
from hil.tasks.training import Sitting, Teacher, build, finetune, train

pytestmark = pytest.mark.torch

HERE = Path(__file__).parent
NETWORKS = {
    "segmentation": lambda: unet(3, 4, (8, 12)),
    "detection": lambda: pyramid_detector(3, 3, (8, 16, 24), 1, 16, levels=2),
}
RECIPE = Recipe(batch=8, shift_pixels=2)


@pytest.fixture(autouse=True, scope="module")
def _place():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def masks(_place):
    return load_data("shapes:with_masks", {"count": 120})


@pytest.fixture(scope="module")
def boxes(_place):
    return load_data("shapes:with_boxes", {"count": 160})


def parts(request, name):
    data = request.getfixturevalue("masks" if name == "segmentation" else "boxes")
    return data, task_for(name, data)


def weights(model):
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def learn(name, task, data, epochs=3, seed=0, **more):
    sitting = Sitting(epochs, seed, more.pop("recipe", RECIPE), **more)
    return train(build(NETWORKS[name], seed=seed), task, data, sitting)


def test_a_segmenter_learns_the_shapes(masks):
    task = task_for("segmentation", masks)
    untrained = marks_of(task, build(NETWORKS["segmentation"], seed=0), masks.search)

    learned = marks_of(task, learn("segmentation", task, masks, epochs=20), masks.search)

    # Answering "ground" everywhere gets three pixels of four, and a quarter of the mean IoU.
    assert untrained.score < 0.3
    assert learned.score > 0.8
    assert learned.pixel_accuracy > 0.95


def test_a_detector_learns_the_shapes(boxes):
    task = task_for("detection", boxes)
    untrained = marks_of(task, build(NETWORKS["detection"], seed=0), boxes.search)

    learned = marks_of(task, learn("detection", task, boxes, epochs=25), boxes.search)

    assert untrained.at_half < 0.05
    assert learned.at_half > 0.7
    assert learned.score > 0.35


@pytest.mark.parametrize("name", ["segmentation", "detection"])
def test_distillation_alone_teaches_the_teacher_s_answers(request, name):
    data, task = parts(request, name)
    teacher = learn(name, task, data, epochs=12)
    before, student = weights(teacher), build(NETWORKS[name], seed=5)
    recipe = Recipe(batch=8, shift_pixels=2, distil_weight=1.0)

    def distance(network):
        with torch.no_grad():
            softened = task.soften(teacher(torch.from_numpy(data.search.inputs)))
            return float(task.distillation(network(torch.from_numpy(data.search.inputs)), softened))

    untaught = distance(recalibrate(copy.deepcopy(student), data.train.inputs).eval())
    finetune(student, task, Teacher(teacher, task, data, 2), data, Sitting(12, 1, recipe))

    # Labels did not count: what the student knows, it has from the teacher.
    assert distance(student) < 0.5 * untaught
    assert distance(teacher) == pytest.approx(0, abs=1e-5)
    assert (
        marks_of(task, student, data.search).score
        > 0.6 * marks_of(task, teacher, data.search).score
    )
    assert torch.equal(weights(teacher), before)


@pytest.mark.parametrize("name", ["segmentation", "detection"])
def test_a_teacher_without_a_table_answers_alike(request, name):
    data, task = parts(request, name)
    teacher = build(NETWORKS[name], seed=0).eval()
    picked, offsets = torch.tensor([3, 0]), torch.tensor([[0, 1], [2, 1]])
    pictures = shifted(torch.from_numpy(data.train.inputs)[picked], offsets, 1)

    held = Teacher(teacher, task, data, 1).answers(picked, offsets)
    asked = Teacher(teacher, task, data, 1, table=False).answers(picked, offsets, pictures)

    for one, other in zip(held, asked, strict=True):
        torch.testing.assert_close(one, other)


def test_masks_and_boxes_move_with_their_pictures(masks, boxes):
    # The mask itself as a picture: what `shifted` does to it, `moved` must do.
    truth = torch.from_numpy(masks.train.masks)
    offsets = torch.randint(0, 7, (2, len(truth)), generator=torch.Generator().manual_seed(1))
    moved = Segmentation(4, 255).moved(truth, offsets, 3)
    expected = shifted(truth[:, None].float() + 1, offsets, 3)[:, 0]
    assert torch.equal(moved.float(), torch.where(expected == 0, 255.0, expected - 1))

    # A box as the picture of its inside: the box around what is left of it.
    task, split = task_for("detection", boxes), boxes.train
    size = split.inputs.shape[2:]
    targets = task.targets(split)
    offsets = torch.randint(0, 25, (2, len(targets)), generator=torch.Generator().manual_seed(2))
    moved = task.moved(targets, offsets, 12)
    gone = 0
    for n, own in enumerate(split.boxes):
        for k, (label, x0, y0, x1, y1) in enumerate(own.astype(int)):
            inside = torch.zeros(1, 1, *size)
            inside[:, :, y0:y1, x0:x1] = 1
            rows, columns = torch.nonzero(
                shifted(inside, offsets[:, n : n + 1], 12)[0, 0], as_tuple=True
            )
            if not len(rows):
                gone += 1
                assert moved[n, k, 0] == -1
                continue
            corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert moved[n, k].tolist() == [label, *map(int, corners)]
        assert (moved[n, len(own) :, 0] == -1).all()
    assert gone


def test_void_pixels_teach_nothing(masks):
    task = task_for("segmentation", masks)
    logits = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    truth = torch.arange(72, dtype=torch.uint8).reshape(2, 6, 6) % 4
    truth[:, :3] = 255

    task.loss(logits, truth).backward()

    assert torch.count_nonzero(logits.grad[:, :, :3]) == 0
    assert torch.count_nonzero(logits.grad[:, :, 3:]) == logits.grad[:, :, 3:].numel()
    logits = logits.detach()
    known = functional.cross_entropy(logits[:, :, 3:], truth[:, 3:].long())
    assert float(task.loss(logits, truth)) == pytest.approx(float(known))
    assert float(task.loss(logits, torch.full_like(truth, 255))) == 0


def test_coarse_answers_are_judged_at_the_masks_size(masks):
    task, split = task_for("segmentation", masks), masks.search.pick(np.arange(3))
    coarse = np.random.default_rng(0).normal(size=(3, 4, 16, 16)).astype(np.float32)

    marks = task.mark((coarse,), split)

    large = functional.interpolate(torch.from_numpy(coarse), size=(32, 32), mode="bilinear")
    assert np.array_equal(marks.counts, task.mark((large.numpy(),), split).counts)
    assert task.mark((np.full_like(coarse, np.nan),), split).counts[:, 1:, 0].sum() == 0


def perfect(task, targets, shapes):
    """Answers that give every cell the box it answers for, found by looking at each cell."""
    _, width = task.size
    maps = []
    reach = [0.0, *(4.0 * width / s[1] for s in shapes[:-1]), math.inf]
    for level, (rows, columns) in enumerate(shapes):
        answers = torch.full((len(targets), task.classes + 4, rows, columns), -12.0)
        cell = width / columns
        for n, boxes in enumerate(targets):
            for row in range(rows):
                for column in range(columns):
                    x, y = (column + 0.5) * cell, (row + 0.5) * cell
                    best = math.inf
                    for label, x0, y0, x1, y1 in boxes.tolist():
                        sides = (x - x0, y - y0, x1 - x, y1 - y)
                        apart = max(abs(x - (x0 + x1) / 2), abs(y - (y0 + y1) / 2)) / cell
                        fits = reach[level] < max(sides) <= reach[level + 1]
                        if label < 0 or min(sides) <= 0 or apart >= 1.5 or not fits:
                            continue
                        if (x1 - x0) * (y1 - y0) < best:
                            best = (x1 - x0) * (y1 - y0)
                            own = torch.full((task.classes,), -12.0)
                            own[int(label)] = 12.0
                            distance = torch.tensor([math.log(s / cell) for s in sides])
                            answers[n, :, row, column] = torch.cat([own, distance])
        maps.append(answers)
    return tuple(maps)


def test_a_perfect_detector_loses_nothing_and_scores_everything(boxes):
    task, split = task_for("detection", boxes), boxes.search.pick(np.arange(8))
    targets = task.targets(split)

    answers = perfect(task, targets, [(16, 16), (8, 8)])

    assert float(task.loss(answers, targets)) == pytest.approx(0, abs=1e-3)
    marks = task.mark(tuple(a.numpy() for a in answers), split)
    assert marks.score == pytest.approx(1.0)
    # Every picture's marks are the same whether it comes alone or among others.
    singles = [tuple(a[i : i + 1].numpy() for a in answers) for i in range(8)]
    alone = task.join([task.mark(a, split.pick([i])) for i, a in enumerate(singles)])
    assert alone.score == marks.score
    assert np.array_equal(alone.picture, marks.picture)


def test_pictures_without_boxes_and_crossed_boxes_train_too():
    task = Detection(2, (32, 32))
    targets = torch.tensor([[[-1.0] * 5], [[1.0, 4, 4, 12, 12]]])
    outputs = tuple(torch.zeros(2, 6, side, side, requires_grad=True) for side in (8, 4))

    for chosen in (targets, targets[:1].expand(2, -1, -1)):
        loss = task.loss(outputs, chosen)
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(o.grad).all() for o in outputs)


@pytest.mark.parametrize("name", ["segmentation", "detection"])
def test_a_training_that_was_cut_off_ends_as_one_that_was_not(request, tmp_path, name):
    data, task = parts(request, name)
    recipe = Recipe(batch=8, shift_pixels=1, ema_decay=0.9)
    whole = learn(name, task, data, epochs=4, recipe=recipe)

    class CutOffError(Exception):
        pass

    def cut(done, _of, _loss):
        if done == 3:
            raise CutOffError

    def kept():
        return Checkpoint(tmp_path / "folder" / "one.pt", every_s=0.0)

    with pytest.raises(CutOffError):
        learn(name, task, data, epochs=4, recipe=recipe, on_progress=cut, checkpoint=kept())
    told = []
    resumed = learn(
        *(name, task, data, 4),
        recipe=recipe,
        on_progress=lambda done, *_: told.append(done),
        checkpoint=kept(),
    )

    assert told == [3, 4]  # two epochs were kept
    assert torch.equal(weights(resumed), weights(whole))
    assert not list((tmp_path / "folder").iterdir())


def test_a_state_is_kept_no_more_often_than_asked(tmp_path):
    now, states = [0.0], iter(range(10))
    kept = Checkpoint(tmp_path / "one.pt", every_s=60.0, clock=lambda: now[0])

    for now[0] in (10.0, 59.0, 61.0, 100.0, 122.0):
        kept.save(lambda: {"n": next(states)}, last=False)

    assert kept.load() == {"n": 1}
    kept.save(dict, last=True)
    assert kept.load() is None


def test_averaged_weights_are_the_moving_average(masks):
    task = task_for("segmentation", masks)
    recipe = Recipe(batch=40, shift_pixels=0, ema_decay=0.5)
    seen = []

    class Spy(nn.Conv2d):
        """Keeps its weights as they are at each training step."""

        def forward(self, x):
            if self.training:
                seen.append(self.weight.detach().clone())
            return super().forward(x)

    model = build(lambda: nn.Sequential(Spy(3, 4, 1)), seed=0)
    train(model, task, masks, Sitting(3, 0, recipe))
    last = build(lambda: nn.Sequential(Spy(3, 4, 1)), seed=0)
    train(last, task, masks, Sitting(3, 0, Recipe(batch=40, shift_pixels=0)))

    steps = [*seen[1 : len(seen) // 2], last[0].weight.detach()]  # weights after each step
    average = steps[0]  # the first average is the weights after the first step
    for step in steps[1:]:
        average = 0.5 * average + 0.5 * step
    torch.testing.assert_close(model[0].weight.detach(), average)


def test_the_loss_over_portions_is_that_of_all(masks):
    task, model = task_for("segmentation", masks), build(NETWORKS["segmentation"], seed=0).eval()
    split = Split(masks.train.inputs[:40], np.minimum(masks.train.masks[:40], 3))
    assert len(split) > task.portion

    (logits,) = predict(model, split.inputs)

    whole = functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(split.masks).long())
    assert mean_loss(task, model, split) == pytest.approx(float(whole), rel=1e-5)


def test_data_of_another_task_are_refused(masks, boxes):
    with pytest.raises(ConfigError, match="needs boxes"):
        task_for("detection", masks)
    with pytest.raises(ConfigError, match="needs a mask"):
        task_for("segmentation", boxes)
    assert task_for("segmentation", masks).classes == 4
    assert task_for("detection", boxes).classes == 3


def test_masks_and_boxes_are_split_so_that_no_picture_is_twice(masks, boxes):
    for data, count in ((masks, 120), (boxes, 160)):
        held = data.heldout.open("test", stage="test")
        assert (len(held), len(data.train), len(data.search)) == (
            count // 2,
            count - count // 2 - round(count / 6),
            round(count / 6),
        )
        ids = {*data.train.ids(), *data.search.ids(), *held.ids()}
        assert len(ids) == count


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (np.zeros((2, 4, 5), np.uint8), "do not match inputs of shape"),
        (np.zeros((2, 4, 4), np.int64), "masks must be uint8"),
        ((np.zeros((1, 5), np.float32),), "boxes of 1 pictures"),
        ((np.zeros((1, 4), np.float32),) * 2, "k x 5"),
        ((np.zeros((1, 5), np.float64),) * 2, "boxes must be float32"),
        ((np.array([[0.5, 0, 0, 1, 1]], np.float32),) * 2, "whole number"),
        ((np.array([[0, 3, 0, 1, 1]], np.float32),) * 2, "lower corner first"),
        ((np.array([[0, np.nan, 0, 1, 1]], np.float32),) * 2, "not finite"),
    ],
)
def test_masks_and_boxes_that_cannot_be_are_refused_in_words(targets, words):
    with pytest.raises(ConfigError, match=words):
        Split(np.zeros((2, 3, 4, 4), np.float32), targets)


def test_a_gpu_is_asked_for_in_vain_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert not Place.named("auto").on_gpu
    with pytest.raises(ConfigError, match="finds no GPU"):
        Place.named("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("name", ["segmentation", "detection"])
def test_training_on_a_gpu_learns_and_leaves_the_network_on_the_host(request, name):
    data, task = parts(request, name)
    recipe = Recipe(batch=8, shift_pixels=2, device="cuda", ema_decay=0.9)
    teacher = learn(name, task, data, epochs=25, recipe=recipe)
    student = build(NETWORKS[name], seed=5)

    for table in (True, False):
        answers = Teacher(teacher, task, data, 2, table=table)
        finetune(student, task, answers, data, Sitting(8, 1, recipe))

    for network in (teacher, student):
        assert {p.device.type for p in network.parameters()} == {"cpu"}
        assert marks_of(task, network, data.search).score > 0.3
