"""What a first contact asks of the agent, here and on Python 3.6: it reads and changes nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import zipfile
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hil.agent import blobs, inflate, transcript
from hil.agent.errors import AgentError
from tests.agent.conftest import script

CHANGING = ("nvpmodel -m", "jetson_clocks")


@pytest.fixture
def store(tmp_path):
    made = blobs.Store(str(tmp_path / "state"))
    made.prepare()
    return made


def test_the_transcript_reads_the_lists_and_changes_nothing(bench):
    monitor = "sys/bus/i2c/drivers/ina3221x/0-0041/iio:device1"
    for name, text in (
        ("rail_name_0", "VDD_IN"),
        ("in_power0_input", "4823"),
        ("in_voltage0_input", "19144"),
        ("in_current0_input", "252"),
    ):
        bench.board.write(f"{monitor}/{name}", text)
    bench.board.write(f"{monitor}/running_mode", "1")
    agent = bench.greeted()
    before = bench.board.calls()

    told = agent.call("transcript")

    assert set(told["commands"]) == {name for name, _ in transcript.COMMANDS}
    assert set(told["files"]) == set(transcript.FILES)
    assert told["files"]["proc/device-tree/model"] == "NVIDIA Jetson TX2"
    assert told["commands"]["mode"]["output"].startswith("NV Power Mode: MODE_3")
    assert told["commands"]["packages"]["status"] is None  # this board has no dpkg-query
    (channel,) = told["channels"]
    assert channel["rail"] == "VDD_IN"
    assert (channel["power_mw"], channel["voltage_mv"], channel["current_ma"]) == (4823, 19144, 252)
    assert told["monitors"] == {"running_mode": {"0-0041": 1}}
    assert told["owned"]["var/lib/hil"]["mode"] == "755"
    asked = [call for call in bench.board.calls()[len(before) :] if call.startswith(CHANGING)]
    assert asked == []  # sudo was asked, and ran none of it


def test_what_sudo_allows_is_asked_line_by_line(bench):
    refuses = 'case "$*" in *--restore*chosen*) exit 1;; *"-m 4") exit 1;; esac\nexit 0\n'
    script(bench.board.root / "usr/bin/sudo", refuses)

    sudo = bench.greeted().call("transcript")["sudo"]

    denied = [row["arguments"] for row in sudo["wanted"] if not row["allowed"]]
    assert denied == [["-m", "4"]]
    assert len(sudo["wanted"]) == 8
    assert [row["allowed"] for row in sudo["too_much"]] == [False, False]


def test_power_is_watched_without_a_lease_or_an_engine(bench):
    agent = bench.greeted()

    identity = agent.start(
        "power_watch", interval_ms=20, duration_s=0.3, power=[{"source": "tegrastats"}]
    )
    answer, events = agent.finish(identity)

    lines = [line for e in events if e["kind"] == "power" for line in e["lines"]]
    (mark,) = [e for e in events if e["kind"] == "mark"]
    assert mark["stop_ns"] - mark["start_ns"] >= 300_000_000
    assert len(lines) >= 5
    assert lines == sorted(lines)
    assert answer["result"]["power"][0]["source"] == "tegrastats"
    assert agent.call("lease_status")["held"] is False


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"power": []}, "bad_request"),
        ({"interval_ms": 1}, "bad_request"),
        ({"duration_s": 1e6}, "bad_request"),
        ({"power": [{"source": "ina3221"}]}, "no_power"),
    ],
)
def test_a_watch_that_makes_no_sense_is_refused(bench, changes, code):
    fields = {"interval_ms": 20, "duration_s": 0.1, "power": [{"source": "tegrastats"}], **changes}

    assert bench.greeted().error("power_watch", **fields)["code"] == code


def test_an_upload_may_travel_compressed(bench):
    data = b"weights " * 100_000
    sha256 = hashlib.sha256(data).hexdigest()
    agent = bench.greeted()
    bench.upload(zlib.compress(data), "packed")

    agent.call("blob_commit", name="packed", sha256=sha256, inflated_bytes=len(data))

    assert bench.blob(sha256) == data
    assert list((bench.board.home / ".hil/incoming").iterdir()) == []


def test_the_self_test_holds_on_this_interpreter(zipapp, interpreter, tmp_path):
    done = subprocess.run(
        [interpreter, str(zipapp), "selftest"],
        stdout=subprocess.PIPE,
        env={"HOME": str(tmp_path)},
        check=False,
    )

    told = json.loads(done.stdout)
    assert [one["name"] for one in told["checks"] if not one["ok"]] == []
    assert (done.returncode, len(told["checks"])) == (0, 5)


def self_test(interpreter, zipapp, home):
    (home / "tmp").mkdir()
    done = subprocess.run(
        [interpreter, str(zipapp), "selftest"],
        stdout=subprocess.PIPE,
        env={"HOME": str(home), "TMPDIR": str(home / "tmp")},
        check=False,
    )
    return done.returncode, {one["name"]: one for one in json.loads(done.stdout)["checks"]}


def test_the_self_test_names_what_is_broken(zipapp, interpreter, tmp_path):
    broken = tmp_path / "broken.pyz"
    shutil.copy(str(zipapp), str(broken))
    with zipfile.ZipFile(broken, "a") as archive:
        archive.writestr("hil_agent/broken.py", "raise ValueError('this part is not for here')")

    status, checks = self_test(interpreter, broken, tmp_path)

    assert status == 1
    assert [name for name, one in checks.items() if not one["ok"]] == ["modules"]
    assert "this part is not for here" in checks["modules"]["detail"]


def test_the_self_test_says_where_files_go_if_not_where_they_belong(zipapp, interpreter, tmp_path):
    (tmp_path / ".hil").write_text("a file where the folder should be")

    status, checks = self_test(interpreter, zipapp, tmp_path)

    assert status == 0
    assert str(tmp_path / "tmp") in checks["store"]["detail"]


# -- inflating, without a process


def leave(store, data):
    with open(store.path("incoming", "up"), "wb") as file:
        file.write(data)
    return "up"


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40
)
@given(st.binary(max_size=5000), st.integers(0, 9))
def test_whatever_was_compressed_comes_out(store, data, level):
    name = inflate.unpack(store, leave(store, zlib.compress(data, level)), len(data))

    with open(store.path("incoming", name), "rb") as file:
        assert file.read() == data


@pytest.mark.parametrize("size", [0, 10, 99_999, 100_001])
def test_what_is_not_as_large_as_announced_is_refused_and_leaves_nothing(store, size):
    name = leave(store, zlib.compress(b"x" * 100_000))

    with pytest.raises(AgentError, match="does not unpack"):
        inflate.unpack(store, name, size)

    assert store_is_empty(store)


def test_a_bomb_stops_soon_after_what_was_announced(store, monkeypatch):
    monkeypatch.setattr(inflate, "_CHUNK", 1000)
    written = []

    class Plain:
        def write(self, data):
            written.append(len(data))

    with open(store.path("incoming", leave(store, zlib.compress(b"x" * 10_000_000))), "rb") as up:
        inflate._stream(up, Plain(), 5000)

    assert sum(written) <= 6000


@pytest.mark.parametrize("data", [b"not zlib", zlib.compress(b"x" * 5000)[:-20], b""])
def test_damaged_uploads_are_refused_and_leave_nothing(store, data):
    with pytest.raises(AgentError, match="does not unpack"):
        inflate.unpack(store, leave(store, data), 5000)

    assert store_is_empty(store)


def test_an_upload_that_is_not_there_is_named(store):
    with pytest.raises(AgentError, match="no upload named"):
        inflate.unpack(store, "nothing", 5)


def store_is_empty(store):
    import os

    return os.listdir(store.path("incoming")) == []
