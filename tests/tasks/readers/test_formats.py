"""Formats: what is written comes back, and what is broken is named, counted and never silent."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from hil.core.errors import ConfigError
from hil.tasks.readers.opening import open_parts
from hil.tasks.readers.places import MissingDataError
from hil.tasks.readers.section import Arrays, Cifar, Coco, Folders, Pairs, Voc


@pytest.fixture
def read(tmp_path):
    """Reads a data set with a cache of its own."""
    return lambda section: open_parts(section, tmp_path / "cache")


def told(parts):
    return " | ".join(parts.notes)


def faults(parts):
    return [f for part in (parts.train, parts.search, parts.heldout) for f in part.faults]


# Image folders


def test_a_folder_a_class_gives_each_picture_its_class(folders, read, make):
    parts = read(Folders(reader="folders", path=str(folders), heldout=0.25, search=1 / 3))

    assert parts.classes == ("cat", "dog")
    assert [len(p) for p in (parts.train, parts.search, parts.heldout)] == [20, 10, 10]
    for part in (parts.train, parts.search, parts.heldout):
        assert np.bincount(part.labels).tolist() == [len(part) // 2] * 2
        for name, label, picture in zip(part.names, part.labels, part.inputs, strict=True):
            kind, number = name.removesuffix(".png").split("/")
            assert parts.classes[label] == kind
            written = make.pixels(seed=100 * int(label) + int(number))
            assert np.array_equal(picture.transpose(1, 2, 0), written)


def test_published_folders_are_the_parts(folders, read, make):
    (folders / "train").mkdir()
    for kind in ("cat", "dog"):
        (folders / kind).rename(folders / "train" / kind)
        for part, seed in (("valid", 900), ("test", 950)):
            for i in range(3):
                path = folders / part / kind / f"{i}.png"
                make.save(path, make.pixels(seed=seed + 10 * i + (kind == "dog")))

    parts = read(Folders(reader="folders", path=str(folders)))

    assert [len(p) for p in (parts.train, parts.search, parts.heldout)] == [40, 6, 6]
    assert all(name.startswith("test/") for name in parts.heldout.names)
    assert "published test part" in told(parts)


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        ("truncated.jpg", "cannot be decoded"),
        ("text.png", "is no JPEG"),
        ("empty.jpg", "is no JPEG"),
        ("note.txt", "no picture by its name"),
        ("deep.png", "only 8 bits"),
        ("odd.png", "most are 16x12"),
    ],
)
def test_a_broken_picture_is_named_and_left_out(broken, what, folders, read, make):
    whole = make.save(folders / "cat" / "x.jpg", make.pixels(64, 64)).read_bytes()
    (folders / "cat" / "x.jpg").unlink()
    path = folders / "cat" / broken
    content = {
        "truncated.jpg": whole[: len(whole) // 2],
        "text.png": b"no picture",
        "empty.jpg": b"",
    }
    path.write_bytes(content.get(broken, b""))
    if broken == "deep.png":
        Image.fromarray(np.zeros((12, 16), np.uint16)).save(path)
    if broken == "odd.png":
        make.save(path, make.pixels(13, 17))

    parts = read(Folders(reader="folders", path=str(folders), broken_at_most="5 %"))

    assert sum(len(p) for p in (parts.train, parts.search, parts.heldout)) == 40
    assert re.search(
        rf"1 files had faults, 1 pictures were left out: cat/{broken}: .*{what}", told(parts)
    )


def test_too_many_broken_files_end_the_run(folders, read):
    for i in range(3):
        (folders / "dog" / f"bad{i}.jpg").write_bytes(b"\xff\xd8 nothing")

    with pytest.raises(ConfigError, match="3 of 43 files of part all are broken") as caught:
        read(Folders(reader="folders", path=str(folders)))

    assert "dog/bad0.jpg" in str(caught.value)
    assert "broken_at_most" in str(caught.value)


def test_a_class_that_training_does_not_have_is_a_fault(folders, read, make):
    (folders / "train").mkdir()
    for kind in ("cat", "dog"):
        (folders / kind).rename(folders / "train" / kind)
        for i in range(9):
            make.save(
                folders / "test" / kind / f"{i}.png", make.pixels(seed=500 + i + 20 * len(kind))
            )
    make.save(folders / "test" / "cow" / "0.png", make.pixels(seed=777))

    parts = read(Folders(reader="folders", path=str(folders), broken_at_most=0.1))

    assert [f.file for f in parts.heldout.faults] == ["test/cow/0.png"]
    assert "class cow is none" in told(parts)


def test_pictures_are_resized_turned_upright_and_made_grey_where_asked(tmp_path, read, make):
    root = tmp_path / "phone"
    for kind in "ab":
        for i in range(8):
            make.save(root / kind / f"{i}.png", make.pixels(30, 20, seed=i + 50 * (kind == "b")))
    lying = Image.fromarray(np.rot90(make.pixels(30, 20, seed=99)))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    lying.save(root / "a" / "turned.png", exif=exif)

    parts = read(Folders(reader="folders", path=str(root), size=(15, 10), channels=1, heldout=0.4))

    shown = {
        name: x
        for p in (parts.train, parts.search, parts.heldout)
        for name, x in zip(p.names, p.inputs, strict=True)
    }
    upright = Image.fromarray(make.pixels(30, 20, seed=99)).convert("L")
    expected = np.asarray(upright.resize((10, 15), Image.Resampling.BILINEAR))
    assert np.array_equal(shown["a/turned.png"][0], expected)
    assert {x.shape for x in shown.values()} == {(1, 15, 10)}


# CIFAR


def cifar10(root, train=40, test=20, classes=10):
    rng = np.random.default_rng(1)
    root.mkdir()
    made = {}
    for name, count in (("data_batch_1.bin", train), ("test_batch.bin", test)):
        labels = (np.arange(count) % classes).astype(np.uint8)
        planes = rng.integers(0, 256, (count, 3, 32, 32), np.uint8)
        rows = np.concatenate([labels[:, None], planes.reshape(count, -1)], axis=1)
        (root / name).write_bytes(rows.tobytes())
        made[name] = (labels, planes)
    return made


def test_cifar_records_are_a_label_and_three_planes(tmp_path, read):
    made = cifar10(tmp_path / "c")

    parts = read(Cifar(reader="cifar", path=str(tmp_path / "c"), search=0.25))

    labels, planes = made["test_batch.bin"]
    assert np.array_equal(parts.heldout.inputs, planes)
    assert np.array_equal(parts.heldout.labels, labels)
    assert (len(parts.train), len(parts.search)) == (30, 10)


def test_cifar_100_is_known_by_its_fine_class(tmp_path, read):
    root = tmp_path / "c100"
    root.mkdir()
    rng = np.random.default_rng(3)
    for name in ("train.bin", "test.bin"):
        fine = np.repeat(np.arange(100, dtype=np.uint8), 5)
        rows = rng.integers(0, 256, (500, 3074), np.uint8)
        rows[:, 0], rows[:, 1] = fine // 5, fine
        (root / name).write_bytes(rows.tobytes())

    parts = read(Cifar(reader="cifar", path=str(root)))

    assert len(parts.classes) == 100
    assert parts.heldout.labels.tolist() == np.repeat(np.arange(100), 5).tolist()


def test_a_cifar_file_that_ends_early_or_holds_a_strange_class_says_so(tmp_path, read):
    cifar10(tmp_path / "c", train=100)
    path = tmp_path / "c" / "data_batch_1.bin"
    content = bytearray(path.read_bytes())[:-7]
    content[3073 * 4] = 77
    path.write_bytes(content)

    parts = read(Cifar(reader="cifar", path=str(tmp_path / "c"), broken_at_most=0.05))

    assert len(parts.train) + len(parts.search) == 98
    assert "data_batch_1.bin#99: the file ends within it (3066 of 3073 bytes)" in told(parts)
    assert "data_batch_1.bin#4: class 77 is none of 0 to 9" in told(parts)


# Pairs


def test_pairs_keep_pictures_and_classes_together(camvid, read):
    parts = read(Pairs(reader="pairs", path=str(camvid), void="Unlabelled"))

    assert parts.classes == ("Sky", "Road", "Car")
    assert parts.train.void == 3
    for name, mask in zip(parts.heldout.names, parts.heldout.masks, strict=True):
        stem = name.split("/")[1].removesuffix(".jpg")
        assert np.array_equal(mask, np.asarray(Image.open(camvid / "testannot" / f"{stem}.png")))


def test_masks_are_resized_without_inventing_classes(camvid, read):
    parts = read(Pairs(reader="pairs", path=str(camvid), void=3, size=(24, 32)))

    assert parts.train.masks.shape[1:] == parts.train.inputs.shape[2:] == (24, 32)
    plain = read(Pairs(reader="pairs", path=str(camvid), void=3))
    assert np.array_equal(parts.train.masks, plain.train.masks.repeat(2, 1).repeat(2, 2))


@pytest.mark.parametrize(
    ("wreck", "what"),
    [
        (lambda root: (root / "trainannot" / "train0.png").unlink(), "has no label picture"),
        (
            lambda root: Image.new("L", (9, 9)).save(root / "trainannot" / "train0.png"),
            "it is 16x12, and its label picture is 9x9",
        ),
        (
            lambda root: Image.new("L", (16, 12), 200).save(root / "trainannot" / "train0.png"),
            "class 200 is none of the 3 known",
        ),
        (
            lambda root: Image.new("RGB", (16, 12)).save(root / "trainannot" / "train0.png"),
            "it is of kind RGB",
        ),
        (
            lambda root: (root / "train.txt").write_text("train1\n../../../etc/passwd\n"),
            "outside the data set",
        ),
    ],
)
def test_a_broken_pair_is_named(wreck, what, camvid, read):
    wreck(camvid)

    parts = read(Pairs(reader="pairs", path=str(camvid), void=3, broken_at_most=0.5))

    assert len(parts.train) == 1
    assert [what in fault.what for fault in parts.train.faults] == [True]


def test_a_list_may_name_both_files_of_a_pair(camvid, read):
    (camvid / "train.txt").write_text("train/train1.jpg trainannot/train1.png\n")

    assert read(Pairs(reader="pairs", path=str(camvid), void=3)).train.names == (
        "train/train1.jpg",
    )


def test_void_before_the_last_class_and_unknown_void_are_refused(camvid, read):
    for void, what in (("Road", "must come before"), ("Fog", "not a class")):
        with pytest.raises(ConfigError, match=what):
            read(Pairs(reader="pairs", path=str(camvid), void=void))


# Boxes


def test_voc_boxes_count_pixels_from_one_and_scale_with_the_picture(voc, read):
    parts = read(Voc(reader="voc", path=str(voc), size=(24, 64)))

    assert parts.classes == ("red", "white")
    expected = [[0, 0, 0, 64, 24], [1, 2 * 4, 3 * 2, 6 * 4, 8 * 2]]
    assert parts.heldout.boxes[0].tolist() == expected


@pytest.mark.parametrize(
    ("box", "what", "left"),
    [
        (("red", 5, 5, 5, 9), "has no area; left out", 0),
        (("red", 17, 1, 20, 9), "lies outside the picture; left out", 0),
        (("red", 10, 1, 20, 9), "oversteps the picture; clipped", 1),
        (("green", 1, 1, 9, 9), "class green is none of red, white; left out", 0),
    ],
)
def test_a_box_that_cannot_be_is_named_and_its_picture_kept(box, what, left, voc, read, make):
    (voc / "Annotations" / "test0.xml").write_text(make.voc_xml((12, 16), [box]))

    parts = read(Voc(reader="voc", path=str(voc), broken_at_most=0.5))

    assert len(parts.heldout) == 2
    assert [(what in f.what, f.mended) for f in faults(parts)] == [(True, True)]
    assert len(parts.heldout.boxes[0]) == left
    if left:
        assert parts.heldout.boxes[0].tolist() == [[0, 9, 0, 16, 9]]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("<annotation><object>", "is not XML"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>', "document type or entities"),
        (
            '<!DOCTYPE a SYSTEM "http://localhost/x.dtd"><annotation/>',
            "document type or entities",
        ),
        ("<annotation><object><name>red</name></object></annotation>", "has no bndbox"),
        (
            "<annotation><object><name>red</name><bndbox><xmin>a</xmin><ymin>1</ymin><xmax>2</xmax>"
            "<ymax>3</ymax></bndbox></object></annotation>",
            "xmin is 'a', not a number",
        ),
        (None, "there is no such file"),
    ],
)
def test_an_annotation_that_cannot_be_read_is_named(text, what, voc, read):
    path = voc / "Annotations" / "test1.xml"
    path.unlink() if text is None else path.write_text(text)

    parts = read(Voc(reader="voc", path=str(voc), broken_at_most=0.5))

    assert len(parts.heldout) == 1
    assert [(f.file, what in f.what) for f in faults(parts)] == [("Annotations/test1.xml", True)]


def test_an_annotation_for_another_size_is_named(voc, read, make):
    (voc / "Annotations" / "val0.xml").write_text(make.voc_xml((99, 16), [("red", 1, 1, 2, 2)]))

    parts = read(Voc(reader="voc", path=str(voc), broken_at_most=0.5))

    assert "val0.jpg: it is 16x12, and its annotation is for 16x99" in told(parts)


def test_coco_boxes_are_corner_and_extent_and_crowds_are_left_out(coco, read):
    parts = read(Coco(reader="coco", path=str(coco)))

    assert parts.classes == ("cat", "dog")  # in the order of their ids, 3 and 7
    assert parts.heldout.boxes[0].tolist() == [[1, 1.5, 2, 5.5, 7]]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"image_id": 40, "category_id": 7, "bbox": [1, 2, "x", 4]}, "cannot be used"),
        ({"image_id": 40, "category_id": 7, "bbox": [1, 2, 0, 4]}, "has no area"),
        ({"image_id": 40, "category_id": 99, "bbox": [1, 2, 3, 4]}, "class category 99 is none"),
        ({"image_id": 1234, "category_id": 7, "bbox": [1, 2, 3, 4]}, "boxes are of no picture"),
    ],
)
def test_a_coco_annotation_that_cannot_be_is_named(row, what, coco, read):
    path = coco / "annotations" / "instances_test2017.json"
    data = json.loads(path.read_text())
    data["annotations"].append(row)
    path.write_text(json.dumps(data))

    parts = read(Coco(reader="coco", path=str(coco), broken_at_most=0.5))

    assert [(what in f.what, f.mended) for f in faults(parts)] == [(True, True)]
    assert len(parts.heldout.boxes[0]) == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"images": 1}', '{"images": [3], "annotations": []}'])
def test_a_file_that_is_not_coco_is_refused(text, coco, read):
    (coco / "annotations" / "instances_test2017.json").write_text(text)

    with pytest.raises(ConfigError, match="is not"):
        read(Coco(reader="coco", path=str(coco)))


def test_coco_pictures_outside_the_data_set_are_not_opened(coco, read):
    path = coco / "annotations" / "instances_test2017.json"
    data = json.loads(path.read_text())
    data["images"][0]["file_name"] = "../../secret.jpg"
    path.write_text(json.dumps(data))

    parts = read(Coco(reader="coco", path=str(coco), broken_at_most=0.9))

    assert len(parts.heldout) == 1
    assert any("file_name cannot be used" in f.what for f in faults(parts))


# Arrays


def arrays(rng, shape=(12, 10, 3), count=30):
    return rng.integers(0, 256, (count, *shape), np.uint8), np.arange(count) % 3


@pytest.mark.parametrize("names", [("{}_images", "{}_labels"), ("x_{}", "y_{}")])
def test_arrays_are_known_by_their_names(names, tmp_path, read):
    rng = np.random.default_rng(2)
    made = {p: arrays(rng) for p in ("train", "val", "test")}
    kept = {n.format(p): a for p in made for n, a in zip(names, made[p], strict=True)}
    np.savez(tmp_path / "a.npz", **kept)
    (tmp_path / "folder").mkdir()
    for name, array in kept.items():
        np.save(tmp_path / "folder" / f"{name}.npy", array)

    for path in ("a.npz", "folder"):
        parts = read(Arrays(reader="arrays", path=str(tmp_path / path)))
        assert np.array_equal(parts.search.inputs, made["val"][0].transpose(0, 3, 1, 2))
        assert np.array_equal(parts.search.labels, made["val"][1])
        assert parts.classes == ("0", "1", "2")


def test_masks_may_come_as_arrays(tmp_path, read):
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (20, 8, 8), np.uint8)
    masks = rng.choice([0, 1, 255], (20, 8, 8))
    np.savez(tmp_path / "a.npz", images=images, masks=masks)

    parts = read(Arrays(reader="arrays", path=str(tmp_path / "a.npz"), channels=1, void=255))

    assert parts.classes == ("0", "1")
    assert parts.train.masks.dtype == np.uint8
    assert set(np.unique(parts.train.masks)) == {0, 1, 255}


@pytest.mark.parametrize(
    ("kept", "what"),
    [
        ({"images": np.zeros((9, 8, 8)), "labels": np.zeros(9, int)}, "pictures are uint8"),
        ({"images": np.zeros((9, 8, 8), np.uint8)}, "no labels"),
        ({"images": np.zeros((9, 3, 8, 3), np.uint8), "labels": np.zeros(9, int)}, "nhwc, nchw"),
        (
            {"images": np.zeros((9, 8, 8), np.uint8), "labels": np.zeros(8, int)},
            r"\(9,\) would fit",
        ),
        ({"images": np.zeros((9, 8, 8), np.uint8), "labels": np.zeros(9)}, "are integers"),
        ({"pictures": np.zeros(3)}, "holds no pictures"),
        ({"images": np.array([object()])}, "cannot be read"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused_in_words(kept, what, tmp_path, read):
    np.savez(tmp_path / "a.npz", **kept)

    with pytest.raises(ConfigError, match=what):
        read(Arrays(reader="arrays", path=str(tmp_path / "a.npz")))


# Missing data


@pytest.mark.parametrize(
    "section",
    [
        Cifar(reader="cifar", path="nowhere", source="https://example.org/x.tar.gz"),
        Voc(reader="voc", path="nowhere", source="https://example.org/x.tar.gz"),
    ],
)
def test_a_missing_data_set_says_where_to_put_it_and_how_to_get_it(
    section, tmp_path, read, monkeypatch
):
    monkeypatch.setenv("HIL_DATA", str(tmp_path / "here"))

    with pytest.raises(MissingDataError) as caught:
        read(section)

    told = str(caught.value)
    assert caught.value.exit_code == 2
    assert str(tmp_path / "here" / "nowhere") in told
    assert "https://example.org/x.tar.gz" in told
    assert "HIL_DATA" in told


@pytest.mark.parametrize(
    "section",
    [
        lambda p: Cifar(reader="cifar", path=p),
        lambda p: Folders(reader="folders", path=p),
        lambda p: Pairs(reader="pairs", path=p),
        lambda p: Voc(reader="voc", path=p),
        lambda p: Coco(reader="coco", path=p),
        lambda p: Arrays(reader="arrays", path=p),
    ],
)
def test_an_empty_folder_says_what_belongs_there(section, tmp_path, read):
    (tmp_path / "empty").mkdir()

    with pytest.raises(MissingDataError) as caught:
        read(section(str(tmp_path / "empty")))

    assert caught.value.fix
