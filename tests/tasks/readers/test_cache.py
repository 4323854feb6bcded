"""Cache: decoded once, found by content, noticed when damaged, free of anything that could run."""

from __future__ import annotations

import json
import logging
import os

import numpy as np
import pytest

from hil.core.errors import HostError
from hil.tasks.readers import cache, pairs, voc
from hil.tasks.readers.cache import cache_folder, reading_of
from hil.tasks.readers.section import Pairs, Voc


@pytest.fixture
def listing(camvid):
    return lambda: pairs.listings(Pairs(reader="pairs", path="x", void=3), camvid)["train"]


@pytest.fixture
def decodings(monkeypatch):
    """Counts how often a part is decoded."""
    real, count = cache.decoded, []

    def counting(*args):
        count.append(1)
        return real(*args)

    monkeypatch.setattr(cache, "decoded", counting)
    return count


def same(a, b):
    return (
        np.array_equal(a.inputs, b.inputs)
        and np.array_equal(a.masks, b.masks)
        and (a.names, a.classes, a.void, a.faults) == (b.names, b.classes, b.void, b.faults)
    )


def test_a_part_is_decoded_once(listing, tmp_path, decodings):
    first, again = (reading_of(listing(), (8, 8), 3, tmp_path / "c") for _ in range(2))

    assert same(first, again)
    assert len(decodings) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "train" / "train0.jpg").write_bytes(
            (root / "train" / "train1.jpg").read_bytes()
        ),
        lambda root: (root / "trainannot" / "train0.png").write_bytes(
            (root / "trainannot" / "train1.png").read_bytes()
        ),
        lambda root: (root / "train.txt").write_text("train1\ntrain0\n"),
        lambda root: (root / "classes.txt").write_text("Sky\nStreet\nCar\nvoid\n"),
    ],
)
def test_changed_content_is_decoded_anew(change, listing, camvid, tmp_path, decodings):
    reading_of(listing(), (8, 8), 3, tmp_path / "c")
    change(camvid)
    reading_of(listing(), (8, 8), 3, tmp_path / "c")

    assert len(decodings) == 2


def test_another_size_is_another_part(listing, tmp_path, decodings):
    for size in ((8, 8), (8, 9), None):
        reading_of(listing(), size, 3, tmp_path / "c")

    assert len(decodings) == 3


@pytest.mark.parametrize("name", ["pictures.npy", "masks.npy", "index.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_cache_is_noticed_and_made_anew(
    name, damage, listing, tmp_path, decodings, caplog
):
    first = reading_of(listing(), (8, 8), 3, tmp_path / "c")
    (place,) = (tmp_path / "c").iterdir()
    content = bytearray((place / name).read_bytes())
    content[-9] ^= 0x55
    (place / name).write_bytes(content if damage == "flip" else content[:-9])
    if damage == "gone":
        (place / name).unlink()

    with caplog.at_level(logging.WARNING):
        again = reading_of(listing(), (8, 8), 3, tmp_path / "c")

    assert same(first, again)
    assert len(decodings) == 2


def test_boxes_come_back_picture_by_picture(voc_section, tmp_path):
    listing, expected = voc_section

    for _ in range(2):
        got = reading_of(listing, None, 3, tmp_path / "c").boxes
        assert [b.tolist() for b in got] == expected


@pytest.fixture
def voc_section(voc, make):
    (voc / "Annotations" / "train0.xml").write_text(make.voc_xml((12, 16), []))
    listing = voc_listing(voc)
    return listing, [[], [[0, 0, 0, 16, 12], [1, 2, 3, 6, 8]]]


def voc_listing(root):
    return voc.listings(Voc(reader="voc", path="x"), root)["train"]


def test_nothing_in_the_cache_is_a_pickle(listing, tmp_path):
    reading_of(listing(), (8, 8), 3, tmp_path / "c")
    (place,) = (tmp_path / "c").iterdir()

    for path in place.glob("*.npy"):
        assert np.load(path, allow_pickle=False).dtype == np.uint8
    assert set(json.loads((place / "index.json").read_text())) == {
        "names",
        "labels",
        "boxes",
        "faults",
        "arrays",
    }


def test_a_cache_that_cannot_be_written_is_this_host_s_fault(listing, tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(HostError, match="cannot be kept") as caught:
        reading_of(listing(), (8, 8), 3, tmp_path / "file" / "c")

    assert "XDG_CACHE_HOME" in str(caught.value)


def test_the_cache_lies_in_the_user_s_cache_folder(tmp_path):
    assert cache_folder({}, tmp_path) == tmp_path / ".cache" / "hil" / "data"
    named = {"XDG_CACHE_HOME": os.fspath(tmp_path / "x")}
    assert cache_folder(named, tmp_path) == tmp_path / "x" / "hil" / "data"
