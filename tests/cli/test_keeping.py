"""What a verb leaves on the disk: whole files, names that never clash, and a full disk told."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hil.cli.keeping import keeper, write_whole
from hil.core.errors import HostError
from hil.core.evidence import Evidence, Mark, RunPlan

NOW = datetime(2026, 11, 23, 12, 34, 56, tzinfo=UTC)


@pytest.fixture
def evidence() -> Evidence:
    marks = (Mark("block", 0, 0, 10**9, 100),)
    return Evidence({}, {}, RunPlan(), marks, ((10**7,) * 100,), (), "replayed")


def test_the_folder_is_named_by_the_network_and_the_clock_that_was_given(tmp_path):
    first = keeper("profile", "my net/v1", NOW, keep=True, base=tmp_path)
    second = keeper("profile", "my net/v1", NOW, keep=True, base=tmp_path)

    assert first.folder == tmp_path / "profile" / "my-net-v1-20261123-123456"
    assert second.folder == tmp_path / "profile" / "my-net-v1-20261123-123456-2"


@pytest.mark.parametrize("name", ["..", "../../etc", "", "a" * 40 + "/b"])
def test_no_name_of_a_network_leads_out_of_the_folder_of_runs(tmp_path, name):
    kept = keeper("profile", name, NOW, keep=True, base=tmp_path)

    assert kept.folder is not None
    assert kept.folder.resolve().parent == (tmp_path / "profile").resolve()


def test_evidence_is_kept_compressed_and_named_by_the_hash_of_its_content(tmp_path, evidence):
    kept = keeper("profile", "n", NOW, keep=True, base=tmp_path)

    sha256 = kept.evidence(evidence)

    data = gzip.decompress((kept.folder / "evidence.json.gz").read_bytes())
    assert hashlib.sha256(data).hexdigest() == sha256 == kept.files["evidence.json.gz"]
    assert Evidence.from_json(json.loads(data)) == evidence


def test_nothing_is_kept_where_nothing_is_wanted_but_the_file_asked_for(tmp_path, evidence):
    plain = tmp_path / "e.json"
    kept = keeper("profile", "n", NOW, keep=False, also=plain, base=tmp_path)

    kept.evidence(evidence)
    kept.result({"schema": "x"})

    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.json"]
    assert Evidence.from_json(json.loads(plain.read_text())) == evidence


def test_a_file_asked_for_in_a_folder_that_is_not_there_is_refused_before_anything(tmp_path):
    with pytest.raises(HostError, match="cannot write"):
        keeper("profile", "n", NOW, keep=True, also=tmp_path / "no" / "e.json", base=tmp_path)

    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_not_left_behind_and_a_filled_one_is(tmp_path, evidence):
    empty = keeper("profile", "a", NOW, keep=True, base=tmp_path)
    filled = keeper("profile", "b", NOW, keep=True, base=tmp_path)
    filled.evidence(evidence)

    empty.clear()
    filled.clear()

    assert not empty.folder.exists()
    assert filled.folder.exists()


def test_a_file_replaces_an_older_one_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "f"
    write_whole(path, b"old" * 1000)

    write_whole(path, b"new")

    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_folder_that_may_not_be_written_is_the_hosts_fault(tmp_path):
    (tmp_path / "runs").write_text("a file where the folder should be")

    with pytest.raises(HostError) as caught:
        keeper("profile", "n", NOW, keep=True, base=tmp_path / "runs")

    assert caught.value.exit_code == 8


FILL = """
from pathlib import Path
from hil.cli.keeping import write_whole
from hil.core.errors import HostError
folder = Path({folder!r})
write_whole(folder / "small", b"x")
try:
    write_whole(folder / "large", bytes(1 << 20))
except HostError as error:
    print(error.exit_code, error.what)
print(sorted(p.name for p in folder.iterdir()))
"""


def test_a_full_disk_is_told_as_such_and_leaves_no_half_file(tmp_path):
    if shutil.which("unshare") is None:
        pytest.skip("no unshare on this machine: a small disk cannot be made")
    program = tmp_path.parent / f"{tmp_path.name}.py"
    program.write_text(FILL.format(folder=str(tmp_path)), encoding="utf-8")
    mount = 'mount -t tmpfs -o size=64k none "$1" && exec "$2" "$3"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [*command, str(tmp_path), sys.executable, str(program)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"a small disk cannot be made here: {done.stderr.strip()}")

    assert done.returncode == 0, done.stderr
    told, names = done.stdout.splitlines()
    assert told.startswith("8 the disk that holds")
    assert told.endswith("is full")
    assert names == "['small']"
