"""Names on the command line: path first, then ./devices, then what is shipped."""

from __future__ import annotations

import pytest

from hil.core.errors import ConfigError, ExitCode
from hil.core.names import available, resolve


@pytest.fixture
def places(tmp_path):
    for folder in ("cwd/devices", "shipped/devices", "cwd/elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    for file in (
        "cwd/devices/mine.yaml",
        "cwd/devices/both.yaml",
        "shipped/devices/both.yaml",
        "shipped/devices/tx2.yaml",
        "cwd/elsewhere/far.yaml",
    ):
        (tmp_path / file).write_text("x: 1\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("mine", "cwd/devices/mine.yaml"),
        ("mine.yaml", "cwd/devices/mine.yaml"),
        ("both.yaml", "cwd/devices/both.yaml"),
        ("tx2", "shipped/devices/tx2.yaml"),
        ("elsewhere/far.yaml", "cwd/elsewhere/far.yaml"),
        ("elsewhere/far", "cwd/elsewhere/far.yaml"),
    ],
)
def test_a_name_finds_its_file(name, found, places):
    got = resolve(name, "devices", cwd=places / "cwd", shipped=places / "shipped")

    assert got == places / found


def test_an_absolute_path_is_itself(places):
    path = places / "shipped/devices/tx2.yaml"

    assert resolve(str(path), "devices", cwd=places / "cwd", shipped=places) == path


def test_an_unknown_name_lists_the_names_that_exist(places):
    with pytest.raises(ConfigError) as caught:
        resolve("tx22", "devices", cwd=places / "cwd", shipped=places / "shipped")

    assert caught.value.exit_code == ExitCode.USAGE
    assert "both.yaml, mine.yaml, tx2.yaml" in str(caught.value)
    assert "did you mean tx2.yaml?" in str(caught.value)


def test_each_name_is_listed_once(places):
    names = available("devices", cwd=places / "cwd", shipped=places / "shipped")

    assert names == ("both.yaml", "mine.yaml", "tx2.yaml")


@pytest.mark.parametrize("name", ["", ".", "/", "..", "~nobody-here/x", "a" * 5000, "a\0b"])
def test_a_name_that_can_be_no_file_is_unknown(name, places):
    with pytest.raises(ConfigError):
        resolve(name, "devices", cwd=places / "cwd", shipped=places / "shipped")
