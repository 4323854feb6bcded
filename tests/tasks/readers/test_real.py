"""Real data sets, where they are at hand: counts as published, checked against a second reading."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from hil.tasks.readers.opening import open_data, open_parts
from hil.tasks.readers.section import Cifar, Pairs, Voc


def test_cifar10_has_equal_classes_and_near_duplicates_across_its_parts(real):
    root = real("cifar10")

    data = open_data(Cifar(reader="cifar", path=str(root)))

    assert (len(data.train), len(data.search), len(data.heldout)) == (8000, 2000, 2000)
    assert data.train.inputs.shape[1:] == (3, 32, 32)
    for part in (data.train, data.search, data.heldout.open("test", stage="test")):
        assert np.bincount(part.labels).tolist() == [len(part) // 10] * 10
    raw = (root / "test_batch.bin").read_bytes()
    first = np.frombuffer(raw[1:3073], np.uint8).reshape(3, 32, 32) / np.float32(255)
    assert np.array_equal(data.heldout.open("again", stage="test").inputs[0], first)
    assert any("near duplicates of heldout" in note for note in data.notes)


@pytest.mark.slow
def test_camvid_has_its_published_parts_and_void(real, tmp_path):
    root = real("camvid")

    section = Pairs(reader="pairs", path=str(root), void="Unlabelled", size=(90, 120))
    parts = open_parts(section, tmp_path)

    assert [len(p) for p in (parts.train, parts.search, parts.heldout)] == [367, 101, 233]
    assert (len(parts.classes), parts.train.void) == (11, 11)
    assert parts.classes[0] == "Sky"
    assert parts.train.faults == ()
    # The same share of void as in the label pictures themselves.
    whole = [np.asarray(Image.open(p)) for p in sorted((root / "valannot").glob("*.png"))]
    assert np.mean(parts.search.masks == 11) == pytest.approx(
        np.mean(np.array(whole) == 11), abs=0.003
    )
    # Frames of one drive lie on both sides of the published split.
    assert any("near duplicates" in note for note in parts.notes)


@pytest.mark.slow
def test_bccd_has_its_published_boxes_but_two_without_area(real, tmp_path):
    root = real("bccd")

    parts = open_parts(Voc(reader="voc", path=str(root), size=(120, 160)), tmp_path)

    assert [len(p) for p in (parts.train, parts.search, parts.heldout)] == [205, 87, 72]
    assert parts.classes == ("Platelets", "RBC", "WBC")
    published = sum(
        len(ElementTree.parse(p).getroot().findall("object"))
        for p in (root / "Annotations").glob("*.xml")
    )
    everything = (parts.train, parts.search, parts.heldout)
    read = [box for part in everything for boxes in part.boxes for box in boxes]
    assert len(read) == published - 2
    named = {f.file for part in everything for f in part.faults}
    assert named == {"Annotations/BloodImage_00343.xml", "Annotations/BloodImage_00338.xml"}
    boxes = np.array(read)
    assert boxes[:, 1:].min() == 0
    assert (boxes[:, 3].max(), boxes[:, 4].max()) == (160, 120)
