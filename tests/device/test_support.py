"""Boards that are too old are refused with what was found, where, and the way up."""

from __future__ import annotations

import pytest

from hil.core.errors import DeviceError
from hil.device.support import refuse_old, release_in


@pytest.mark.parametrize(
    ("probe", "told"),
    [
        ({"l4t": "28.2.1", "l4t_read_in": "/etc/nv_tegra_release"}, "/etc/nv_tegra_release on"),
        ({"l4t": "32.7"}, "L4T 32.7 is older"),
        ({"l4t": "32.6.1", "tensorrt": "8.0.1"}, "32.6.1"),
        ({"l4t": None, "tensorrt": "7.1.3"}, "imports TensorRT 7.1.3"),
    ],
)
def test_an_old_board_is_refused(probe, told):
    with pytest.raises(DeviceError) as caught:
        refuse_old(probe, "tensorrt")

    assert told in str(caught.value)
    assert "JetPack 4.6.1" in caught.value.fix
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("probe", "runtime"),
    [
        ({"l4t": "32.7.1", "tensorrt": "8.2.1.8"}, "tensorrt"),
        ({"l4t": "36.4.0", "tensorrt": "10.3.0"}, "tensorrt"),
        ({"l4t": None, "tensorrt": None}, "tensorrt"),
        ({"l4t": None, "tensorrt": "7.1"}, "onnxruntime"),
    ],
)
def test_a_board_that_will_do_is_not(probe, runtime):
    refuse_old(probe, runtime)


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("# R28 (release), REVISION: 2.1, GCID: 11272647, BOARD: t186ref, EABI: aarch64", "28.2.1"),
        ("# R32 (release), REVISION: 7.1, GCID: 29818004", "32.7.1"),
        ("# R36 (release), REVISION: 4.3, GCID: 38968081", "36.4.3"),
        ("Welcome to this board", None),
        ("", None),
    ],
)
def test_the_release_is_read_as_the_board_writes_it(text, release):
    assert release_in(text) == release
