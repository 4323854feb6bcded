"""The space of the digits job, pinned: saved generators and runs open on no other."""

from __future__ import annotations

import pytest
import torch

from hil.net.features import hardware_matrix
from hil.net.prototypes import resnet32
from hil.net.space import build_space
from hil.net.trace import trace
from hil.synth.searchspace import digest
from hil.synth.traced import TracedSpace

pytestmark = pytest.mark.torch

WIDTHS = {16: (4, 6, 8, 10, 12, 14, 16), 32: (8, 16, 24, 32), 64: (16, 24, 32, 40, 48, 56, 64)}
BLOCKS = [(stage, block) for stage in (1, 2, 3) for block in range(5)]


@pytest.fixture(scope="module")
def traced():
    return trace(resnet32(in_channels=1, classes=10), (torch.rand(1, 1, 8, 8),))


@pytest.fixture(scope="module")
def space(traced):
    return build_space(traced)


def test_its_variables_are_what_they_were(space):
    widths = [("width:conv1", WIDTHS[16], 6, 6)]
    for stage, block in BLOCKS:
        choices = WIDTHS[8 << stage]
        widths.append((f"width:stage{stage}.{block}.conv1", choices, len(choices) - 1, 1))
        if stage > 1 and block == 0:
            widths.append((f"width:stage{stage}.0.conv2", choices, len(choices) - 1, 6))
    depths = [(f"depth:stage{stage}.{block}", (0, 1), 1, 6) for stage, block in BLOCKS]

    found = [(v.name, v.choices, v.identity, len(v.vertices)) for v in space.variables]

    assert found == widths + depths


def test_its_digest_and_keys_are_what_they_were(traced, space):
    assert traced.identifier == "1711cd6f6adb8430bc0b48ea7cac272fc1823658c5015c0eda8568c5eb907b48"
    key = "a10fde89a5b48dbad24538191f4baf4959d8b65b8746f0f9f8df52b7d92ce7b9"
    assert space.key(space.identity) == key
    made = digest(TracedSpace(traced, space))
    assert made == "95654b17c06b4de1a8b9630b216a8fa7dd751420f4b7dc6fed61fb0dc27ff1db"


def test_its_features_are_what_they_were(traced, space):
    count = len(space.variables)

    rows = hardware_matrix(traced, space, [space.identity, (0,) * count, (1,) * count]).tolist()

    assert rows == [
        [31, 2, 0, 1, 46, 1, 0, 4285440, 16384, 0, 640, 0, 210324, 933236],
        [1, 2, 0, 1, 16, 1, 0, 2304, 1024, 0, 160, 0, 11988, 844],
        [31, 2, 0, 1, 46, 1, 0, 756864, 3072, 0, 240, 0, 86260, 153496],
    ]
