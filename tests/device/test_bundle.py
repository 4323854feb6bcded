"""The agent's zipapp: the same bytes wherever and whenever it is built, and it starts."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import zipfile

import pytest

from hil.device.bundle import AGENT_SOURCES, agent_bundle, bundle_of, hash_told, zip_bytes

# Built once by hand from two files and checked with unzip -v; any change here means that every
# board would be sent a new agent.
KNOWN = {"b/x.py": b"print(1)\n", "__main__.py": b"import b.x\n"}
KNOWN_SHA256 = "e603596e10e8add1cae91410dc347f2f5f3e04f056e9865da820df2ffb32b2cd"


def test_the_bytes_depend_on_names_and_contents_alone():
    backwards = dict(reversed(KNOWN.items()))

    assert zip_bytes(KNOWN) == zip_bytes(backwards)
    assert hashlib.sha256(zip_bytes(KNOWN)).hexdigest() == KNOWN_SHA256


def test_times_and_modes_of_the_sources_do_not_matter(tmp_path):
    source = tmp_path / "agent"
    source.mkdir()
    for path in AGENT_SOURCES.glob("*.py"):
        copy = source / path.name
        copy.write_bytes(path.read_bytes())
        os.utime(copy, (1, 1))
        copy.chmod(0o600)

    assert bundle_of(source) == bundle_of(AGENT_SOURCES)


def test_the_agent_travels_whole_and_with_nothing_else():
    with zipfile.ZipFile(io.BytesIO(agent_bundle().data)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()

    expected = {f"hil_agent/{path.name}" for path in AGENT_SOURCES.glob("*.py")} | {"__main__.py"}
    assert names == sorted(expected)


def test_it_is_named_by_its_hash():
    bundle = agent_bundle()

    assert bundle.file_name == hashlib.sha256(bundle.data).hexdigest() + ".pyz"


def test_the_same_bytes_come_from_another_process_with_another_hash_seed():
    code = "from hil.device.bundle import agent_bundle; print(agent_bundle().sha256)"
    env = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu"}

    done = subprocess.run(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True, check=True
    )

    assert done.stdout.strip() == agent_bundle().sha256


@pytest.mark.parametrize("path", ["agent.pyz", "/home/lab user's tx2/agent.pyz", "-odd name"])
def test_the_hash_is_found_whatever_the_path_holds_and_the_login_shell_says(path):
    digest = hashlib.sha256(b"agent").hexdigest()

    assert hash_told(f"Welcome!\n{'0' * 64} is no hash\n{digest}  {path}\n") == digest
    assert hash_told(f"\\{digest}  a\\nb\n") == digest  # how it writes a name with a line break
    assert hash_told("sha256sum: not found") is None
