"""Augmentation as the training loop takes it: pictures and their answers change alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hil.net.prototypes_dense import pyramid_detector, unet
from hil.tasks.augmenting import augment_for
from hil.tasks.data import load_data
from hil.tasks.inference import marks_of
from hil.tasks.named import task_for
from hil.tasks.recipe import Recipe
from hil.tasks.training import Sitting, Teacher, build, finetune, train

pytestmark = pytest.mark.torch

COUNT = {"segmentation": 60, "detection": 120}
NETWORKS = {
    "segmentation": lambda: unet(3, 4, (8, 12)),
    "detection": lambda: pyramid_detector(3, 3, (8, 16, 24), 1, 16, levels=2),
}


@pytest.fixture(scope="module", params=sorted(COUNT))
def job(request):
    name = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        kind = "masks" if name == "segmentation" else "boxes"
        data = load_data(f"shapes:with_{kind}", {"count": COUNT[name]})
    return name, data, task_for(name, data)


def test_answers_change_with_their_pictures(job):
    name, data, task = job
    pictures, targets = torch.from_numpy(data.train.inputs), task.targets(data.train)

    shown, right = augment_for(task, 1)(pictures, targets, torch.Generator().manual_seed(0))

    assert not torch.equal(shown, pictures)
    assert right.shape == targets.shape
    assert right.dtype == targets.dtype
    if name == "segmentation":
        # Shapes are told by their colour: the strongest channel inside each is still its own.
        for channel, label in enumerate((1, 2, 3)):
            inside = shown.permute(1, 0, 2, 3)[:, right == label]
            assert float((inside.argmax(0) == channel).float().mean()) > 0.9
        return
    for picture, boxes in zip(shown, right.numpy(), strict=True):
        for label, x0, y0, x1, y1 in boxes[boxes[:, 0] >= 0].astype(int):
            middle = picture[:, (y0 + y1) // 2, (x0 + x1) // 2]
            assert int(middle.argmax()) == label


def test_networks_learn_from_changed_pictures_and_from_a_teacher_that_sees_the_same(job):
    name, data, task = job
    augment, recipe = augment_for(task, 1), Recipe(batch=8)
    teacher = build(NETWORKS[name], seed=0)
    train(teacher, task, data, Sitting(25, 0, recipe, augment=augment))
    asked = Teacher(teacher, task, data, 1, table=False)
    student = build(NETWORKS[name], seed=1)
    before = marks_of(task, student, data.search).score

    finetune(student, task, asked, data, Sitting(15, 0, recipe, augment=augment))

    assert marks_of(task, student, data.search).score > before + 0.2
    assert np.isfinite(marks_of(task, teacher, data.search).score)
