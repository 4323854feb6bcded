"""Data from outside: whatever bytes come, what comes of them is a picture, a fault or an error."""

from __future__ import annotations

import io
import json
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hil.core.errors import ConfigError
from hil.tasks.readers import cifar, coco
from hil.tasks.readers.boxes import judged
from hil.tasks.readers.pictures import BrokenPictureError, class_picture, picture, stored_size
from hil.tasks.readers.section import Cifar, Coco
from hil.tasks.readers.xml_boxes import BrokenAnnotationError, parse

XML = (
    b"<annotation><size><width>9</width><height>7</height></size><object><name>red</name><bndbox>"
    b"<xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>"
)
IN_PLACE = [HealthCheck.function_scoped_fixture]


def encoded(kind):
    kept = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
    Image.fromarray(noise).save(kept, kind)
    return kept.getvalue()


WHOLE = {kind: encoded(kind) for kind in ("JPEG", "PNG", "BMP", "WEBP", "PPM")}


@st.composite
def wrecked(draw):
    """A picture file cut, or with bytes changed, or bytes that never were one."""
    if draw(st.booleans()) and draw(st.booleans()):
        return draw(st.binary(max_size=200))
    content = bytearray(WHOLE[draw(st.sampled_from(sorted(WHOLE)))])
    for _ in range(draw(st.integers(0, 8))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))])


@given(content=wrecked())
@settings(max_examples=300, deadline=None)
def test_wrecked_pictures_are_pictures_or_broken(content):
    for read in (picture, class_picture, stored_size):
        with suppress(BrokenPictureError):
            assert read(content) is not None


@pytest.mark.parametrize("kind", sorted(WHOLE))
def test_whole_pictures_of_every_kind_are_read(kind):
    assert picture(WHOLE[kind]).shape == (3, 24, 20)
    assert picture(WHOLE[kind], 1).shape == (1, 24, 20)
    assert stored_size(WHOLE[kind]) == (24, 20)


def test_a_picture_made_to_exhaust_memory_is_refused_by_its_header():
    kept = io.BytesIO()
    Image.new("1", (10_000, 9_000)).save(kept, "PNG")
    # A header that claims more than there is: 60,000 x 60,000 pixels.
    claimed = bytearray(kept.getvalue())
    claimed[16:24] = (60_000).to_bytes(4, "big") * 2
    claimed[29:33] = zlib.crc32(claimed[12:29]).to_bytes(4, "big")

    for content in (kept.getvalue(), bytes(claimed)):
        with pytest.raises(BrokenPictureError, match="more pixels than any picture should"):
            picture(content)


@given(cut=st.integers(0, len(XML)), at=st.integers(0, len(XML) - 1), byte=st.integers(0, 255))
@settings(deadline=None)
def test_wrecked_annotations_are_annotations_or_broken(cut, at, byte):
    content = bytearray(XML)
    content[at] = byte

    with suppress(BrokenAnnotationError):
        assert all(len(edges) == 4 for _, edges in parse(bytes(content[:cut])).objects)


def test_entities_are_never_expanded():
    bomb = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 9}">' for i in range(1, 12))
    text = f'<!DOCTYPE a [<!ENTITY e0 "ha">{bomb}]><annotation>&e11;</annotation>'

    with pytest.raises(BrokenAnnotationError, match="document type or entities"):
        parse(text.encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 50) | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["id", "image_id", "category_id", "bbox", "file_name", "name", "height"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
ROWS = st.lists(st.dictionaries(st.sampled_from(["id", "image_id", "bbox", "name"]), JSON) | JSON)


@given(
    whole=st.fixed_dictionaries({"images": ROWS, "annotations": ROWS, "categories": ROWS}) | JSON
)
@settings(suppress_health_check=IN_PLACE, deadline=None)
def test_any_json_is_coco_or_refused(whole, tmp_path):
    (tmp_path / "annotations").mkdir(exist_ok=True)
    (tmp_path / "train2017").mkdir(exist_ok=True)
    path = tmp_path / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps(whole))

    try:
        found = coco.listings(Coco(reader="coco", path="x"), tmp_path)
    except ConfigError:
        return
    assert set(found) == {"train"}


@given(content=st.binary(max_size=7000))
@settings(suppress_health_check=IN_PLACE, deadline=None)
def test_any_bytes_are_cifar_records_and_what_is_left_is_named(content, tmp_path):
    (tmp_path / "data_batch_1.bin").write_bytes(content)

    read = cifar.readings(Cifar(reader="cifar", path="x"), tmp_path)["train"]

    records = -(-len(content) // 3073)
    assert len(read) + len(read.faults) == records


EDGE = st.floats(-20, 40) | st.integers(-5, 25).map(float)


@given(boxes=st.lists(st.tuples(st.sampled_from("abz"), st.tuples(EDGE, EDGE, EDGE, EDGE))))
@settings(deadline=None)
def test_boxes_kept_lie_in_the_picture_and_the_others_are_named(boxes):
    kept, faults = judged("f", boxes, {"a": 0, "b": 1}, (12, 16))

    for kind, x0, y0, x1, y1 in kept:
        assert kind in (0, 1)
        assert 0 <= x0 < x1 <= 16
        assert 0 <= y0 < y1 <= 12
    gone = [fault for fault in faults if "left out" in fault.what]
    assert len(kept) + len(gone) == len(boxes)
