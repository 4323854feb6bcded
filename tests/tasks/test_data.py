"""Data: parts that share no picture, a door that counts, and unusable arrays refused in words."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.core.errors import ConfigError
from hil.tasks import digits
from hil.tasks.data import Data, HeldOut, Opening, Split, load_data, split


def pictures(count, seed=0):
    return np.random.default_rng(seed).random((count, 1, 3, 3), dtype=np.float32)


def labels(count, classes=3):
    return np.arange(count, dtype=np.int64) % classes


@pytest.fixture(scope="module")
def digit_data():
    return digits.load()


def test_digits_are_half_held_out_and_the_rest_two_to_one(digit_data):
    sizes = (len(digit_data.train), len(digit_data.search), len(digit_data.heldout))

    assert sum(sizes) == 1797
    assert sizes[2] == pytest.approx(1797 / 2, abs=5)
    assert sizes[0] == pytest.approx(2 * sizes[1], abs=10)
    assert digit_data.classes == 10


def test_digits_hold_every_class_alike_in_every_part(digit_data):
    heldout = digit_data.heldout.open("test", stage="test")
    for part in (digit_data.train, digit_data.search, heldout):
        shares = np.bincount(part.labels, minlength=10) / len(part)
        assert np.all(np.abs(shares - 0.1) < 0.01)


def test_digits_are_the_real_pictures_scaled_to_one(digit_data):
    from sklearn.datasets import load_digits

    originals = {image.astype(np.float32).tobytes() for image in load_digits().images}
    part = digit_data.train

    assert part.inputs.shape[1:] == (1, 8, 8)
    assert (part.inputs.min(), part.inputs.max()) == (0.0, 1.0)
    assert all((16 * picture).tobytes() in originals for picture in part.inputs[:, 0])


def test_the_same_seed_gives_the_same_parts_and_another_seed_others():
    inputs, classes = pictures(90), labels(90)
    first, again = (split(inputs, classes, seed=3) for _ in range(2))

    assert first.train.ids() == again.train.ids()
    assert first.heldout.ids() == again.heldout.ids()
    assert first.train.ids() != split(inputs, classes, seed=4).train.ids()


@given(copies=st.lists(st.integers(0, 59), max_size=30), seed=st.integers(0, 1000))
def test_no_picture_lies_in_two_parts_even_where_pictures_are_doubled(copies, seed):
    inputs = np.concatenate([pictures(60), pictures(60)[copies]])
    classes = np.concatenate([labels(60), labels(60)[copies]])

    data = split(inputs, classes, seed=seed)
    parts = [data.train.ids(), data.search.ids(), data.heldout.ids()]

    assert sum(map(len, parts)) == 60
    assert len(set().union(*parts)) == 60
    assert bool(data.notes) == bool(copies)


def test_parts_that_share_a_picture_are_refused():
    shared = Split(pictures(5), labels(5))
    with pytest.raises(ConfigError, match="5 pictures lie both in train and in heldout"):
        Data(shared, Split(pictures(5, seed=1), labels(5)), HeldOut(shared))


def test_a_class_too_small_for_three_parts_is_named():
    classes = labels(60)
    classes[:] = 0
    classes[:2] = 7
    with pytest.raises(ConfigError, match="class 7 has 2"):
        split(pictures(60), classes, seed=0)


@pytest.mark.parametrize(
    ("inputs", "classes", "words"),
    [
        (pictures(4)[:, 0], labels(4), "4 dimensions"),
        (pictures(4), labels(5), "do not match"),
        (pictures(4), labels(4)[:, None], "do not match"),
        (pictures(4).astype(np.float64), labels(4), "float32, not float64"),
        (pictures(4), labels(4).astype(np.float32), "int64, not float32"),
        (pictures(0), labels(0), "no picture"),
        (pictures(4) * np.float32(np.nan), labels(4), "not finite"),
        (pictures(4), labels(4) - 1, "0 or greater"),
        ([1, 2], [0, 1], "numpy arrays, not list"),
    ],
)
def test_unusable_arrays_are_refused_in_words(inputs, classes, words):
    with pytest.raises(ConfigError, match=words) as caught:
        Split(inputs, classes)
    assert "pictures x channels x height x width" in caught.value.fix


def test_every_opening_of_held_out_data_is_counted_with_its_reason():
    heldout = HeldOut(Split(pictures(6), labels(6)))
    assert heldout.openings == ()
    assert len(heldout) == 6

    heldout.open("accuracy of three finalists", stage="finalists")
    heldout.open("resumed", stage="finalists")

    assert heldout.openings == (
        Opening("finalists", "accuracy of three finalists"),
        Opening("finalists", "resumed"),
    )


def test_held_out_data_is_closed_to_every_stage_but_the_first():
    heldout = HeldOut(Split(pictures(6), labels(6)))
    heldout.open("accuracy of the finalists", stage="finalists")

    with pytest.raises(ConfigError, match="closed to 'search'") as caught:
        heldout.open("a better look", stage="search")

    assert "accuracy of the finalists" in caught.value.why
    assert len(heldout.openings) == 1


def test_a_resumed_run_remembers_who_opened_it():
    heldout = HeldOut(Split(pictures(6), labels(6)), (Opening("finalists", "before"),))
    with pytest.raises(ConfigError, match="closed"):
        heldout.open("again", stage="search")


def test_nobody_opens_held_out_data_without_a_reason():
    with pytest.raises(ValueError, match="reason"):
        HeldOut(Split(pictures(6), labels(6))).open(" ", stage="finalists")


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    (tmp_path / "my_pictures.py").write_text(
        "import numpy as np\n"
        "def arrays(count=60):\n"
        "    rng = np.random.default_rng(0)\n"
        "    x = rng.random((count, 3, 4, 4), dtype=np.float32)\n"
        "    return x, np.arange(count, dtype=np.uint8) % 3\n"
        "def nothing():\n    return None\n"
        "def gone():\n    return open('no-such-file')\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("my_pictures", None)


@pytest.mark.usefixtures("user_module")
def test_a_user_s_arrays_are_split_by_hil():
    data = load_data("my_pictures:arrays", {"count": 90})

    assert len(data.train) + len(data.search) + len(data.heldout) == 90
    assert data.train.labels.dtype == np.int64
    assert data.classes == 3


@pytest.mark.usefixtures("user_module")
@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("nothing", {}, "returned a value of type NoneType"),
        ("gone", {}, "finds no data; because .*no-such-file"),
        ("arrays", {"size": 3}, "does not take the arguments"),
        ("absent", {}, "was not found"),
    ],
)
def test_a_data_function_that_fails_is_named_with_the_next_step(name, args, words):
    with pytest.raises(ConfigError) as caught:
        load_data(f"my_pictures:{name}", args)
    assert re.search(words, str(caught.value))


def test_a_function_may_split_its_data_itself():
    assert load_data("hil.tasks.digits:load", {"seed": 1}).classes == 10
