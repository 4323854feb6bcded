"""The cache on the board stays within its limit; what is in use and what is newest stays."""

import hashlib
import json
import os

import pytest

from hil.agent.blobs import Store
from hil.agent.cache import TIMING_LIMIT_BYTES, Cache


@pytest.fixture
def store(tmp_path):
    made = Store(str(tmp_path / "state"))
    made.prepare()
    return made


def blob(store, content, used_s):
    """A blob as an earlier session left it, last used then."""
    sha256 = hashlib.sha256(content).hexdigest()
    path = store.blob_path(sha256)
    with open(path, "wb") as file:
        file.write(content)
    os.utime(path, (used_s, used_s))
    return sha256


def record(store, key, engine, onnx):
    store.write_json({"engine": engine, "onnx": onnx, "plan_bytes": 10}, "engines", key + ".json")


def names(store, folder):
    return set(os.listdir(store.path(folder)))


def test_what_was_longest_not_used_goes_first_and_its_record_with_it(store):
    old = blob(store, b"o" * 100, 1000)
    new = blob(store, b"n" * 100, 2000)
    record(store, "a", old, new)
    record(store, "b", new, new)

    told = Cache(store).trim(150)

    assert told == {"files": 2, "bytes": 100, "kept_bytes": 100}
    assert names(store, "blobs") == {new}
    assert names(store, "engines") == {"b.json"}


@pytest.mark.parametrize(("limit", "kept"), [(300, 3), (299, 2), (100, 1), (99, 0), (0, 0)])
def test_exactly_as_much_goes_as_must(store, limit, kept):
    for index in range(3):
        blob(store, bytes([index]) * 100, 1000 + index)

    told = Cache(store).trim(limit)

    assert len(names(store, "blobs")) == kept
    assert told["kept_bytes"] == 100 * kept
    assert told["bytes"] == 300 - 100 * kept


def test_using_a_blob_makes_it_the_newest(store):
    first = blob(store, b"1" * 100, 1000)
    second = blob(store, b"2" * 100, 2000)
    store.require(first, "it")

    later = Store(store.folder)  # another session: nothing is in use by it
    Cache(later).trim(100)

    assert names(store, "blobs") == {first}
    assert second not in names(store, "blobs")


def test_what_this_session_touched_stays_whatever_the_limit(store):
    mine = blob(store, b"m" * 100, 1000)
    blob(store, b"x" * 100, 2000)
    store.require(mine, "it")

    assert Cache(store).trim(0, unused=True)["kept_bytes"] == 100
    assert names(store, "blobs") == {mine}


def test_what_no_build_names_is_unused(store):
    engine = blob(store, b"e" * 10, 1000)
    onnx = blob(store, b"o" * 20, 1000)
    blob(store, b"outputs of long ago", 3000)
    record(store, "a", engine, onnx)
    with open(store.path("incoming", "half-an-upload"), "wb") as file:
        file.write(b"12345")

    told = Cache(store).trim(unused=True)

    assert told == {"files": 2, "bytes": 24, "kept_bytes": 30}
    assert names(store, "blobs") == {engine, onnx}
    assert names(store, "incoming") == set()
    assert Cache(store).trim(unused=True)["files"] == 0


def test_records_of_nothing_are_removed(store):
    record(store, "gone", "a" * 64, "b" * 64)
    with open(store.path("engines", "damaged.json"), "w") as file:
        file.write("{")

    assert Cache(store).trim()["files"] == 2
    assert names(store, "engines") == set()


def test_timing_caches_have_a_limit_of_their_own(store):
    for index, name in enumerate(("old", "new")):
        path = store.path("timing", name)
        with open(path, "wb") as file:
            file.truncate(TIMING_LIMIT_BYTES - 10)
        os.utime(path, (1000 + index, 1000 + index))

    told = Cache(store).trim()

    assert told["bytes"] == TIMING_LIMIT_BYTES - 10
    assert names(store, "timing") == {"new"}


def test_the_agent_tells_what_it_freed(bench):
    agent = bench.greeted()
    assert agent.error("cache_clean")["code"] in ("lease_lost", "lease_held")
    agent.lease()
    folder = bench.board.home / ".hil/blobs"
    asked = folder / hashlib.sha256(b"asked for").hexdigest()
    asked.write_bytes(b"asked for")
    assert agent.call("blob_stat", sha256=asked.name) == {"bytes": 9}
    old = folder / hashlib.sha256(b"old").hexdigest()
    old.write_bytes(b"old")
    kept = bench.put(agent, b"shipped now")

    told = agent.call("cache_clean", keep_bytes=0)

    assert told == {"files": 1, "bytes": 3, "kept_bytes": len(b"shipped now") + 9}
    assert {path.name for path in folder.iterdir()} == {kept, asked.name}
    assert agent.error("cache_clean", keep_bytes=-1)["code"] == "bad_request"
    json.dumps(told)
