"""Places: beside the profile first, then the folder of data sets; nothing outside a data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.synth.profile import load_profile, load_run_profile
from hil.tasks.readers.places import candidates, find_root, inside

PROFILE = """\
schema: hil/profile@1
name: p
task: classification
prototype: {factory: "hil.net.prototypes:resnet20"}
data: {reader: cifar, path: mine}
requirements: {energy_mj: {at_most: 4.5}}
"""


def test_a_path_is_beside_the_profile_or_in_the_folder_of_data_sets(tmp_path):
    places = candidates("mine", tmp_path, {"HIL_DATA": "/data"})

    assert places == (tmp_path / "mine", Path("/data/mine"))
    assert candidates("/abs/x", tmp_path, {}) == (Path("/abs/x"),)
    assert candidates("mine", None, {}) == (Path("../shared/data/mine"),)


def test_the_copy_of_a_profile_in_a_run_finds_the_same_data(tmp_path):
    home, run = tmp_path / "home", tmp_path / "runs" / "1"
    (home / "mine").mkdir(parents=True)
    run.mkdir(parents=True)
    (home / "p.yaml").write_text(PROFILE)
    (run / "profile.yaml").write_text(PROFILE)

    def root(profile):
        return find_root(profile.data.path, profile.data.beside, layout="x")

    assert root(load_profile(home / "p.yaml")) == home / "mine"
    assert root(load_run_profile(run, {"profile_folder": str(home)})) == home / "mine"


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "link/x", "a\0b"])
def test_nothing_outside_the_data_set_is_named(name, tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)

    assert inside(root, name) is None


def test_what_is_inside_is_found(tmp_path):
    assert inside(tmp_path, "a/b.png") == (tmp_path / "a" / "b.png").resolve()
