"""Small data sets written by the tests themselves, in the formats people have."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image


def pixels(height=12, width=16, seed=0):
    """A picture with structure in it: coarse noise enlarged, as a camera would see shapes."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def voc_xml(size, objects, extra=""):
    """Text of an annotation; objects are (name, xmin, ymin, xmax, ymax)."""
    height, width = size
    items = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for name, a, b, c, d in objects
    )
    return (
        f"{extra}<annotation><size><width>{width}</width><height>{height}</height>"
        f"<depth>3</depth></size>{items}</annotation>"
    )


@pytest.fixture
def make():
    """The writers above, for tests that need a file of their own."""
    return SimpleNamespace(pixels=pixels, save=save, voc_xml=voc_xml)


@pytest.fixture
def real():
    """Finds a real data set, or skips."""
    beside = Path(__file__).parents[4] / "shared" / "data"
    data = Path(os.environ.get("HIL_DATA", beside))

    def find(name):
        if not (data / name).is_dir():
            pytest.skip(f"no real data set at {data / name} (set HIL_DATA)")
        return data / name

    return find


@pytest.fixture
def folders(tmp_path):
    """Two classes of 20 pictures, not split."""
    root = tmp_path / "shapes"
    for number, kind in enumerate(("cat", "dog")):
        for i in range(20):
            save(root / kind / f"{i:02}.png", pixels(seed=100 * number + i))
    return root


@pytest.fixture
def camvid(tmp_path):
    """Six pictures with label pictures in three parts, three classes and void."""
    root = tmp_path / "streets"
    root.mkdir()
    (root / "classes.txt").write_text("0 Sky\n1 Road\n2 Car\n3 Unlabelled (void, ignore)\n")
    rng = np.random.default_rng(5)
    for number, part in enumerate(("train", "val", "test")):
        names = [f"{part}{i}" for i in range(2)]
        (root / f"{part}.txt").write_text("\n".join(names) + "\n")
        for i, name in enumerate(names):
            save(root / part / f"{name}.jpg", pixels(seed=10 * number + i))
            save(root / f"{part}annot" / f"{name}.png", rng.integers(0, 4, (12, 16), np.uint8))
    return root


@pytest.fixture
def voc(tmp_path):
    """Six pictures with a box or two in three parts."""
    root = tmp_path / "cells"
    for number, part in enumerate(("train", "val", "test")):
        names = [f"{part}{i}" for i in range(2)]
        (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(names) + "\n")
        for i, name in enumerate(names):
            save(root / "JPEGImages" / f"{name}.jpg", pixels(seed=10 * number + i))
            path = root / "Annotations" / f"{name}.xml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(voc_xml((12, 16), [("red", 1, 1, 16, 12), ("white", 3, 4, 6, 8)]))
    return root


@pytest.fixture
def coco(tmp_path):
    """Six pictures with boxes in three parts; category ids with gaps, a crowd."""
    root = tmp_path / "things"
    (root / "annotations").mkdir(parents=True)
    categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    for number, part in enumerate(("train", "val", "test")):
        images, annotations = [], []
        for i in range(2):
            name = f"{i:012}.jpg"
            save(root / f"{part}2017" / name, pixels(seed=10 * number + i))
            images.append({"id": 40 + i, "file_name": name, "height": 12, "width": 16})
            annotations += [
                {
                    "id": 1,
                    "image_id": 40 + i,
                    "category_id": 7,
                    "bbox": [1.5, 2, 4, 5],
                    "iscrowd": 0,
                },
                {"id": 2, "image_id": 40 + i, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1},
            ]
        data = {"images": images, "annotations": annotations, "categories": categories}
        path = root / "annotations" / f"instances_{part}2017.json"
        path.write_text(json.dumps(data))
    return root
