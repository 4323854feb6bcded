"""Training and fine-tuning: they learn, repeat themselves exactly, and say when they break down."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from hil.core.errors import HilError
from hil.tasks import digits, inference, training
from hil.tasks.classification import Classification, accuracy_percent, correct
from hil.tasks.data import Data, HeldOut, Split
from hil.tasks.inference import recalibrate
from hil.tasks.pictures import shifted
from hil.tasks.recipe import Recipe
from hil.tasks.training import Sitting, build

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


TASK = Classification()


def train(model, data, **sitting):
    return training.train(model, TASK, data, Sitting(**sitting))


def finetune(student, teacher, data, **sitting):
    return training.finetune(student, TASK, teacher, data, Sitting(**sitting))


def teacher_of(network, data, shift):
    return training.Teacher(network, TASK, data, shift)


def predict(model, inputs, batch=256):
    (logits,) = inference.predict(model, inputs, batch=batch)
    return logits


@pytest.fixture(scope="module")
def data():
    return digits.load()


def network(width=8, dropout=0.0):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Flatten(),
        nn.Linear(16 * width, 10),
    )


def search_accuracy(model, data):
    return accuracy_percent(correct(predict(model, data.search.inputs), data.search.labels))


def weights(model):
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def trained(data, seed, epochs=2, dropout=0.0):
    return train(build(lambda: network(dropout=dropout), seed=seed), data, epochs=epochs, seed=seed)


def test_a_small_network_learns_the_digits(data):
    model = build(lambda: network(24), seed=0)
    untrained = search_accuracy(model, data)

    train(model, data, epochs=20, seed=0)
    learned = search_accuracy(model, data)

    assert untrained < 30
    assert learned > 88
    assert not model.training


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(data):
    first, again, other = (weights(trained(data, seed, dropout=0.2)) for seed in (1, 1, 2))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_leaves_the_global_generator_alone(data):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trained(data, seed=1, epochs=1, dropout=0.2)
    assert torch.equal(torch.rand(3), expected)


def test_progress_is_told_after_every_epoch_with_a_falling_loss(data):
    told = []
    train(build(network, seed=0), data, epochs=4, seed=0, on_progress=lambda *a: told.append(a))

    assert [(done, of) for done, of, _ in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert told[-1][2] < told[0][2]


def test_held_out_pictures_are_not_opened_by_training(data):
    before = len(data.heldout.openings)
    finetune(build(network, seed=1), teacher_of(trained(data, 0), data, 1), data, epochs=1, seed=0)
    assert len(data.heldout.openings) == before


def test_a_broken_down_loss_names_the_network_and_the_step(data):
    model = build(network, seed=0)
    with torch.no_grad():
        model[-1].weight.fill_(float("inf"))

    with pytest.raises(HilError, match="candidate 7 broke down at step 0") as caught:
        train(model, data, epochs=1, seed=0, recipe=Recipe(name="candidate 7"))

    assert "nan" in caught.value.why
    assert "peak_lr" in caught.value.fix


def test_distillation_alone_teaches_the_teacher_s_answers(data):
    # Labels do not count here: what the student learns, it can only have from the teacher.
    teacher = trained(data, seed=0, epochs=8)
    student = build(lambda: network(6), seed=3)
    before = weights(teacher)

    finetune(
        student,
        teacher_of(teacher, data, 1),
        data,
        epochs=8,
        seed=0,
        recipe=Recipe(distil_weight=1.0),
    )

    answers = predict(teacher, data.search.inputs).argmax(1)
    assert accuracy_percent(correct(predict(student, data.search.inputs), answers)) > 85
    assert torch.equal(weights(teacher), before)


def test_a_teacher_answers_for_the_picture_as_it_was_moved(data):
    network_ = trained(data, seed=0)
    teacher = teacher_of(network_, data, 1)
    picked, offsets = torch.tensor([4, 0, 4]), torch.tensor([[0, 1, 2], [2, 1, 0]])
    pictures = torch.from_numpy(data.train.inputs)[picked]

    (answers,) = teacher.answers(picked, offsets)

    for answer, picture, row, column in zip(answers, pictures, *offsets, strict=True):
        moved = torch.zeros_like(picture)
        size = picture.shape[-1]
        for y in range(size):
            for x in range(size):
                source_y, source_x = y + row - 1, x + column - 1
                if 0 <= source_y < size and 0 <= source_x < size:
                    moved[:, y, x] = picture[:, source_y, source_x]
        logits = torch.from_numpy(predict(network_, moved[None].numpy()))
        torch.testing.assert_close(answer, torch.softmax(logits / 4.0, dim=1)[0])


def test_a_teacher_of_other_shifts_is_refused(data):
    teacher = teacher_of(trained(data, seed=0), data, 2)
    with pytest.raises(ValueError, match="2 pixels"):
        finetune(build(network, seed=1), teacher, data, epochs=1, seed=0)


def test_fine_tuning_repeats_itself_exactly(data):
    teacher = teacher_of(trained(data, seed=0), data, 1)
    student = build(lambda: network(6), seed=3)
    runs = [finetune(copy.deepcopy(student), teacher, data, epochs=2, seed=4) for _ in range(2)]
    assert torch.equal(weights(runs[0]), weights(runs[1]))


def test_a_training_part_of_awkward_size_leaves_no_batch_of_one():
    # 5 pictures in batches of 2: a last batch of one would make batch norm fail.
    rng = np.random.default_rng(0)

    def part(count):
        return Split(rng.random((count, 1, 8, 8), dtype=np.float32), np.arange(count) % 2)

    data = Data(part(5), part(4), HeldOut(part(4)))
    model = build(lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 2)), seed=0)
    told = []

    train(
        model, data, epochs=1, seed=0, recipe=Recipe(batch=2), on_progress=lambda *a: told.append(a)
    )

    assert len(told) == 1


@pytest.mark.parametrize("steps", range(1, 9))
@pytest.mark.parametrize("rise", [0.1, 0.25, 0.5])
def test_a_schedule_of_few_steps_has_a_learning_rate_at_every_one(steps, rise):
    model = torch.nn.Linear(2, 2)

    run = training._Run.start(model, steps, Sitting(1, 0, Recipe(rise=rise)))

    rates = []
    for _ in range(steps):
        rates.append(run.cycle.get_last_lr()[0])
        run.optimizer.step()
        run.cycle.step()
    assert np.isfinite(rates).all()
    assert min(rates) > 0.0


def test_no_epochs_only_renew_the_statistics(data):
    model = build(network, seed=0)
    before = model[0].weight.detach().clone()

    train(model, data, epochs=0, seed=0)

    assert torch.equal(model[0].weight, before)
    assert not torch.equal(model[1].running_mean, torch.zeros(8))


def test_shifted_pictures_are_the_originals_moved_by_at_most_so_many_pixels():
    pictures = torch.rand(200, 2, 5, 6) + 1
    moved = shifted(pictures, torch.randint(0, 3, (2, len(pictures))), 1)
    padded = np.pad(pictures.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    seen = set()
    for i in range(200):
        offsets = [
            (row, column)
            for row in range(3)
            for column in range(3)
            if np.array_equal(moved[i].numpy(), padded[i, :, row : row + 5, column : column + 6])
        ]
        assert len(offsets) == 1
        seen.update(offsets)
    assert len(seen) == 9


def test_pictures_of_one_channel_stay_in_plain_layout():
    pictures = torch.rand(10, 1, 8, 8)
    moved = shifted(pictures, torch.randint(0, 3, (2, len(pictures))), 1)
    assert moved.stride() == pictures.stride() == (64, 64, 8, 1)


def test_recalibrated_statistics_are_those_of_the_pictures(data):
    model = build(network, seed=0).train()
    before = model[0].weight.detach().clone()

    recalibrate(model, data.train.inputs, batch=600)

    with torch.no_grad():
        features = model[0](torch.from_numpy(data.train.inputs)).numpy().transpose(1, 0, 2, 3)
    flat = features.reshape(len(features), -1).astype(np.float64)
    assert model[1].running_mean.numpy() == pytest.approx(flat.mean(1), rel=1e-4, abs=1e-6)
    assert model[1].running_var.numpy() == pytest.approx(flat.var(1, ddof=1), rel=1e-4)
    assert torch.equal(model[0].weight, before)
    assert model.training
    assert model[1].training
    assert model[1].momentum == 0.1


def test_a_network_without_batch_norm_needs_no_statistics(data):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    before = weights(model)
    assert torch.equal(weights(recalibrate(model, data.train.inputs)), before)


def test_predictions_do_not_depend_on_the_batch_and_keep_the_mode(data):
    model = build(lambda: network(dropout=0.5), seed=0).train()
    whole = predict(model, data.search.inputs, batch=1000)
    parts = predict(model, data.search.inputs, batch=7)

    assert whole.shape == (len(data.search), 10)
    assert parts == pytest.approx(whole, abs=1e-5)
    assert model.training


def test_an_answer_with_a_nan_in_it_is_wrong():
    logits = np.array([[1.0, 2.0], [np.nan, 0.0], [3.0, 1.0], [0.0, np.inf]])
    right = correct(logits, np.array([1, 0, 1, 1]))

    assert right.tolist() == [True, False, False, True]
    assert accuracy_percent(right) == 50.0
