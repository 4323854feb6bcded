"""Each assumption is used somewhere, settled by something, and on the page; no more and no less."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.cli.bringup_stages import stages
from hil.device.assumptions import ASSUMPTIONS
from hil.device.bringup import Lengths
from hil.device.unverified import marks, page, used

ROOT = Path(__file__).parents[2]


def test_every_assumption_is_used_and_every_mark_is_one():
    assert set(used()) == {one.id for one in ASSUMPTIONS}


def test_ids_are_unique_and_there_are_enough_to_be_honest():
    ids = [one.id for one in ASSUMPTIONS]

    assert len(ids) == len(set(ids))
    assert len(ids) >= 25


def test_stages_and_assumptions_belong_together():
    names = {stage.name for stage in stages(Lengths())}
    settling = {one.stage for one in ASSUMPTIONS if one.stage is not None}

    assert settling == names


def test_what_no_stage_settles_says_what_would():
    assert [one.id for one in ASSUMPTIONS if (one.stage is None) != bool(one.settled_else)] == []


def test_the_page_is_what_the_code_says():
    written = (ROOT / "docs" / "unverified.md").read_text(encoding="utf-8")

    assert written == page(ASSUMPTIONS, used()), "run `make docs`"


def test_all_stages_fit_the_time_that_they_have():
    needed_s = sum(stage.takes_s for stage in stages(Lengths()) if stage.name != "published-vgg16")

    assert needed_s <= 600, needed_s


def test_the_readme_says_so_while_nothing_was_checked_on_a_board():
    first_screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:24])
    nothing_checked = all(one.verified is None for one in ASSUMPTIONS)

    assert ("`hil` has not yet been run on a real Jetson" in first_screen) == nothing_checked


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("# assumes: a-b\nx = 1\n", ["a-b"]),
        ("x = 1  # assumes: a-b, c\n", ["a-b", "c"]),
        ('x = "# assumes: a-b"\n', []),
        ('"""Text.\n\n# assumes: a-b\n"""\n', []),
        ("# it assumes: a-b\n", []),
    ],
)
def test_only_comments_are_marks(source, found):
    assert list(marks(source)) == found
