"""A run on a user's own pictures: opened from the profile, and the same when it is continued."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hil.core.errors import ConfigError
from hil.synth.profile import load_profile
from hil.synth.progress import Silent
from hil.synth.store import RunStore
from hil.synth.workbench import open_workbench

pytestmark = pytest.mark.torch

PROFILE = """\
schema: hil/profile@1
name: shapes
task: classification
prototype: {factory: "hil.net.prototypes:resnet20", args: {in_channels: 3, classes: 2}}
data: {reader: folders, path: shapes, size: 8, broken_at_most: 10 %}
training: {epochs: 1, batch: 4, shift_pixels: 0}
requirements: {energy_mj: {at_most: 50 %}, accuracy: {lose_at_most: 1.0}}
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with a profile and twelve pictures of each of two classes, one of them broken."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for kind in ("bright", "dark"):
        folder = tmp_path / "shapes" / kind
        folder.mkdir(parents=True)
        for i in range(12):
            low = 128 if kind == "bright" else 0
            pixels = rng.integers(low, low + 128, (9, 11, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    (tmp_path / "shapes" / "dark" / "bad.png").write_bytes(b"\x89PNG no more")
    (tmp_path / "p.yaml").write_text(PROFILE, encoding="utf-8")
    return tmp_path


def test_a_run_continues_on_its_own_pictures_only(home):
    profile = load_profile(home / "p.yaml")
    told = []
    with RunStore.create(home / "run", {"seed": 0}) as store:
        bench = open_workbench(profile, store, 0, 13, Silent(), told.append)
        again = open_workbench(profile, store, 0, 13, Silent())

        assert again.identity.weights_sha256 == bench.identity.weights_sha256
        assert told == [len(bench.data.heldout)] == [8]
        assert any("dark/bad.png" in note for note in bench.notes)
        assert bench.data.train.inputs.shape[1:] == (3, 8, 8)

        (home / "shapes" / "dark" / "3.png").write_bytes(
            (home / "shapes" / "bright" / "3.png").read_bytes()
        )
        with pytest.raises(ConfigError, match="not the one this run was started with"):
            open_workbench(profile, store, 0, 13, Silent())
