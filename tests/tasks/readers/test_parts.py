"""Parts: no picture in two of them, near duplicates said, all drawn by the seed alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hil.core.errors import ConfigError
from hil.tasks.data import Data
from hil.tasks.named import task_for
from hil.tasks.readers.near import mirrored, near_pairs, thumbnails
from hil.tasks.readers.opening import data_of, normalised
from hil.tasks.readers.parts import Cut, content_ids, three_parts
from hil.tasks.readers.reading import Reading
from hil.tasks.readers.section import Cifar

CUT = Cut(search=0.2, heldout=0.3, seed=0, most={})


def reading(count, seed=0, classes=3, inputs=None):
    rng = np.random.default_rng(seed)
    if inputs is None:
        coarse = rng.integers(0, 256, (count, 3, 4, 4), np.uint8)
        inputs = coarse.repeat(4, 2).repeat(4, 3)
    return Reading(
        inputs=inputs,
        labels=np.arange(len(inputs), dtype=np.int64) % classes,
        masks=None,
        boxes=None,
        classes=tuple("abcdefghij"[:classes]),
        void=None,
        names=tuple(f"s{seed}-{i}" for i in range(len(inputs))),
        faults=(),
    )


def all_ids(parts):
    return [content_ids(p) for p in (parts.train, parts.search, parts.heldout)]


def disjoint(parts):
    ids = all_ids(parts)
    return sum(len(set(x)) for x in ids) == len(set().union(*ids))


@given(
    published=st.sets(st.sampled_from(["train", "val", "test"]), min_size=1),
    seed=st.integers(0, 5),
    copies=st.integers(0, 6),
)
@settings(deadline=None)
def test_no_picture_is_in_two_parts_whatever_is_published(published, seed, copies):
    given_parts = {p: reading(60, seed=n) for n, p in enumerate(sorted(published | {"train"}))}
    train = given_parts["train"]
    for part in sorted(published - {"train"}):  # copies of training pictures on the other side
        pixels = given_parts[part].inputs.copy()
        pixels[:copies] = train.inputs[:copies]
        given_parts[part] = reading(60, inputs=pixels)

    parts = three_parts(given_parts, Cut(0.2, 0.3, seed, {}))

    assert disjoint(parts)
    data = data_of(parts, Cifar(reader="cifar", path="x"))
    assert isinstance(data, Data)  # which proves it once more, on what networks take
    if copies and len(given_parts) > 1:
        assert "copies of pictures of a part that counts more" in " ".join(parts.notes)


def test_copies_within_an_unsplit_set_are_kept_once():
    pixels = reading(60).inputs.copy()
    pixels[30:] = pixels[:30]

    parts = three_parts({"all": reading(60, inputs=pixels)}, CUT)

    assert sum(len(x) for x in all_ids(parts)) == 30
    assert disjoint(parts)


def test_what_is_drawn_holds_every_class_alike_and_depends_on_the_seed_alone():
    one, again, other = (
        three_parts({"train": reading(90), "test": reading(30, seed=1)}, Cut(0.2, 0.3, seed, {}))
        for seed in (4, 4, 5)
    )

    assert np.bincount(one.search.labels).tolist() == [6, 6, 6]
    assert one.search.names == again.search.names != other.search.names


def test_parts_may_be_made_smaller_and_stay_even():
    most = {"train": 31, "heldout": 9}

    parts = three_parts({"train": reading(90), "test": reading(30, seed=1)}, Cut(0.2, 0.3, 0, most))

    assert (len(parts.train), len(parts.search), len(parts.heldout)) == (31, 18, 9)
    assert sorted(np.bincount(parts.train.labels)) == [10, 10, 11]
    assert "train: 31 of 72 pictures are used (data.most)" in parts.notes


def test_sizes_and_small_parts_are_said():
    parts = three_parts({"train": reading(90), "test": reading(30, seed=1, classes=5)}, CUT)

    assert "pictures: train 72, search 18, heldout 30" in parts.notes
    assert "heldout has 30 pictures only: its figures are rough" in parts.notes
    assert "heldout has few pictures of some classes: a 6, b 6, c 6 and 2 more" in parts.notes


def test_too_few_pictures_of_a_class_are_refused():
    few = reading(40, classes=3)
    few.labels[:] = 0
    few.labels[7] = 2

    with pytest.raises(ConfigError, match="1 pictures of class c, too few"):
        three_parts({"train": few, "test": reading(30, seed=1)}, CUT)


def test_classes_that_training_does_not_hold_are_refused():
    parts = three_parts({"train": reading(60), "test": reading(30, seed=1, classes=5)}, CUT)

    with pytest.raises(ConfigError, match="heldout holds classes that train does not: d, e"):
        data_of(parts, Cifar(reader="cifar", path="x"))


def photo(seed):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 7, 3), np.uint8))
    return np.asarray(coarse.resize((40, 32), Image.Resampling.BICUBIC)).transpose(2, 0, 1)


def disguised(pixels, how):
    upright = pixels.transpose(1, 2, 0)
    if how == "mirror":
        return pixels[:, :, ::-1]
    if how == "dark":
        return (pixels * 0.6 + 10).astype(np.uint8)
    if how == "grey":
        return np.repeat(pixels.mean(axis=0, keepdims=True).astype(np.uint8), 3, axis=0)
    if how == "jpeg":
        import io

        kept = io.BytesIO()
        Image.fromarray(upright).save(kept, "JPEG", quality=30)
        return np.asarray(Image.open(kept)).transpose(2, 0, 1)
    small = Image.fromarray(upright).resize((20, 16)).resize((40, 32))
    return np.asarray(small).transpose(2, 0, 1)


@pytest.mark.parametrize("how", ["mirror", "dark", "grey", "jpeg", "small"])
def test_a_disguised_copy_is_found_and_strangers_are_not(how):
    held = np.stack([photo(i) for i in range(40)])
    train = np.stack([photo(1000 + i) for i in range(60)])
    train[17] = disguised(held[5], how)

    pairs = near_pairs(thumbnails(train), thumbnails(held))

    assert [(p.first, p.second) for p in pairs] == [(17, 5)]


def test_the_mirrored_descriptor_is_that_of_the_mirrored_picture():
    # A width that is a multiple of the thumbnail's, so that no pixel is cut by its grid.
    pictures = np.stack([photo(i)[:, :, :32] for i in range(5)])

    turned = thumbnails(np.ascontiguousarray(pictures[:, :, :, ::-1]))

    assert np.allclose(mirrored(thumbnails(pictures)), turned, atol=1e-5)


def test_flat_pictures_are_like_nothing():
    flat = np.full((4, 3, 32, 32), 90, np.uint8)

    assert near_pairs(thumbnails(flat), thumbnails(flat)) == ()


@pytest.mark.parametrize(("leave_out", "left"), [(False, 60), (True, 59)])
def test_near_duplicates_across_published_parts_are_said_and_left_out_where_asked(leave_out, left):
    test = np.stack([photo(i) for i in range(30)])
    train = np.stack([photo(1000 + i) for i in range(60)])
    train[3] = disguised(test[8], "jpeg")
    val = np.stack([photo(2000 + i) for i in range(30)])
    made = {
        name: reading(len(x), seed=n, inputs=np.ascontiguousarray(x))
        for n, (name, x) in enumerate((("train", train), ("val", val), ("test", test)))
    }

    parts = three_parts(made, Cut(0.2, 0.3, 0, {}, leave_out))

    assert len(parts.train) == left
    assert any("near duplicates" in note and "s0-3 like s2-8" in note for note in parts.notes)


def test_what_a_network_takes_is_said_and_so_computed():
    pixels = np.array([[[[0, 255]], [[51, 102]], [[1, 2]]]], np.uint8)

    taken = normalised(pixels, (0.5, 0.2, 0.0), (0.5, 0.1, 1.0))

    by_hand = [[[[-1, 1]], [[0, 2]], [[1 / 255, 2 / 255]]]]
    assert taken.dtype == np.float32
    assert np.allclose(taken, by_hand, atol=1e-6)
    section = Cifar(reader="cifar", path="x", mean=(0.5, 0.2, 0), std=(0.5, 0.1, 1))
    data = data_of(three_parts({"train": reading(90), "test": reading(30, seed=1)}, CUT), section)
    assert "(value / 255 - mean) / std" in data.notes[-1]
    assert "mean 0.5, 0.2, 0; std 0.5, 0.1, 1" in data.notes[-1]


def test_masks_and_boxes_reach_their_tasks_with_void_and_names():
    def part(count, seed, kind):
        plain = reading(count, seed=seed)
        rng = np.random.default_rng(seed)
        masks = rng.choice([0, 1, 2, 9], (count, *plain.inputs.shape[2:])).astype(np.uint8)
        boxes = tuple(np.array([[1, 0, 0, 2, 2]], np.float32) for _ in range(count))
        given = {"masks": masks, "void": 9} if kind == "masks" else {"boxes": boxes}
        return replace(plain, labels=None, **given)

    for kind, name in (("masks", "segmentation"), ("boxes", "detection")):
        parts = three_parts({"train": part(60, 0, kind), "test": part(30, 1, kind)}, CUT)
        data = data_of(parts, Cifar(reader="cifar", path="x"))
        task = task_for(name, data)

        assert (data.train.kind, data.names) == (kind, parts.classes)
        assert task.classes == len(parts.classes)
        if kind == "masks":
            assert task.void == 9
