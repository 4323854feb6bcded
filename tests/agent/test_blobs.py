"""A blob is there whole and verified, or not at all; names never leave the folder."""

import errno
import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.agent import blobs, checks
from hil.agent.errors import AgentError, from_exception


@pytest.fixture
def store(tmp_path):
    made = blobs.Store(str(tmp_path / "state"))
    made.prepare()
    return made


def sha(data):
    return hashlib.sha256(data).hexdigest()


def leave(store, name, data):
    with open(store.path("incoming", name), "wb") as file:
        file.write(data)


def test_a_good_upload_becomes_a_private_blob(store):
    leave(store, "u1", b"engine")

    store.commit("u1", sha(b"engine"))

    assert store.size(sha(b"engine")) == 6
    assert os.stat(store.blob_path(sha(b"engine"))).st_mode & 0o777 == 0o600
    assert os.listdir(store.path("incoming")) == []


def test_a_damaged_upload_is_refused_and_removed(store):
    leave(store, "u1", b"engin")

    with pytest.raises(AgentError) as refusal:
        store.commit("u1", sha(b"engine"))

    assert refusal.value.code == "checksum"
    assert store.size(sha(b"engine")) is None
    assert os.listdir(store.path("incoming")) == []


def test_an_upload_that_is_not_there_is_a_bad_request(store):
    with pytest.raises(AgentError) as refusal:
        store.commit("u1", sha(b""))

    assert refusal.value.code == "bad_request"


@pytest.mark.parametrize("kind", ["link", "folder", "fifo"])
def test_only_plain_files_are_taken_in(store, tmp_path, kind):
    path = store.path("incoming", "u1")
    (tmp_path / "secret").write_bytes(b"secret")
    {
        "link": lambda: os.symlink(str(tmp_path / "secret"), path),
        "folder": lambda: os.mkdir(path),
        "fifo": lambda: os.mkfifo(path),
    }[kind]()

    with pytest.raises(AgentError) as refusal:
        store.commit("u1", sha(b"secret"))

    assert refusal.value.code == "bad_request"
    assert store.size(sha(b"secret")) is None


@pytest.mark.parametrize(
    "name", ["../blobs/x", "/etc/passwd", ".", "..", "", "a/b", "a\0b", ".hidden", "a\n", 7, None]
)
def test_names_that_could_leave_the_folder_are_refused(store, name):
    with pytest.raises(AgentError) as refusal:
        store.commit(name, sha(b""))

    assert refusal.value.code == "bad_request"


@given(st.text(max_size=70))
def test_an_accepted_name_is_one_path_component(name):
    try:
        checks.file_name(name)
    except AgentError:
        return
    assert os.path.basename(name) == name
    assert name not in ("", ".", "..")


@given(st.text(max_size=70))
def test_an_accepted_hash_is_64_hexadecimal_digits(text):
    try:
        checks.sha256(text)
    except AgentError:
        return
    assert len(text) == 64
    assert set(text) <= set("0123456789abcdef")


def test_the_state_folder_is_private(store):
    for folder in ("", "incoming", "blobs", "engines", "timing", "log"):
        assert os.stat(store.path(folder)).st_mode & 0o777 == 0o700


def test_json_is_replaced_as_a_whole_and_damage_reads_as_absent(store):
    store.write_json({"a": 1}, "engines", "k.json")
    store.write_json({"a": 2}, "engines", "k.json")
    assert store.read_json("engines", "k.json") == {"a": 2}

    with open(store.path("engines", "k.json"), "w") as file:
        file.write('{"a":')
    assert store.read_json("engines", "k.json") is None
    assert store.read_json("engines", "other.json") is None


def test_a_full_disk_has_its_own_code():
    assert from_exception(OSError(errno.ENOSPC, "No space left on device")).code == "disk_full"
    assert from_exception(OSError(errno.EROFS, "Read-only file system")).code == "unwritable"
    assert from_exception(OSError(errno.EIO, "Input/output error")).code == "internal"


def test_running_out_of_memory_has_its_own_code_whoever_says_it():
    assert from_exception(MemoryError()).code == "out_of_memory"
    assert from_exception(RuntimeError("cuMemAlloc failed: out of memory")).code == "out_of_memory"
