from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

from hil.core.errors import ConfigError, HostError
from hil.synth.store import DATABASE, RunStore


@pytest.fixture
def store(tmp_path):
    with RunStore.create(tmp_path / "run", {"seed": 3}) as made:
        yield made


def test_a_finished_step_is_never_done_again(store):
    calls = []

    def work():
        calls.append(1)
        return {"energy_mj": 0.1 + 0.2}

    first = store.step("measure", "a", work)
    second = store.step("measure", "a", work)

    assert first == second == {"energy_mj": 0.1 + 0.2}
    assert len(calls) == 1


def test_a_step_that_fails_leaves_nothing_behind(store):
    def fails():
        raise RuntimeError("cable")

    with pytest.raises(RuntimeError):
        store.step("measure", "a", fails)

    assert store.find("measure", "a") is None
    assert store.step("measure", "a", lambda: {"x": 1}) == {"x": 1}


def test_steps_come_back_in_order_after_reopening(tmp_path):
    with RunStore.create(tmp_path / "run", {"seed": 3}) as first:
        for name in "cab":
            first.step("train", name, lambda name=name: {"name": name})

    with RunStore.open(tmp_path / "run") as again:
        assert [step.key for step in again.steps("train")] == ["c", "a", "b"]
        assert again.meta["seed"] == 3


def test_a_run_killed_at_any_moment_keeps_every_finished_step(tmp_path):
    path = tmp_path / "run"
    code = textwrap.dedent(
        f"""
        import os, signal
        from pathlib import Path
        from hil.synth.store import RunStore
        store = RunStore.create(Path({str(path)!r}), {{"seed": 1}})
        for index in range(100):
            if index == 37:
                store.put_blob(b"x" * 1000)
                os.kill(os.getpid(), signal.SIGKILL)
            store.step("measure", str(index), lambda: {{"index": index}})
        """
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False, env=dict(os.environ))

    assert killed.returncode == -signal.SIGKILL
    with RunStore.open(path) as store:
        assert [step.value["index"] for step in store.steps()] == list(range(37))


def test_threads_may_record_steps_at_once(store):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: store.step("t", str(i), lambda: {"i": i}), range(50)))

    assert sorted(step.value["i"] for step in store.steps("t")) == list(range(50))


def test_two_processes_cannot_write_one_run(store):
    with pytest.raises(HostError, match="another process"):
        RunStore.open(store.path)


def test_a_run_can_be_read_while_it_is_written(store):
    store.step("t", "a", lambda: {"x": 1})

    with RunStore.open(store.path, write=False) as reader:
        assert [step.key for step in reader.steps()] == ["a"]
        store.step("t", "b", lambda: {"x": 2})
        assert [step.key for step in reader.steps()] == ["a", "b"]


def test_a_new_run_never_overwrites_an_old_one(store):
    with pytest.raises(ConfigError, match="already holds a run"):
        RunStore.create(store.path, {})


def test_a_missing_run_is_the_callers_error(tmp_path):
    with pytest.raises(ConfigError, match="there is no run"):
        RunStore.open(tmp_path)


def test_a_damaged_journal_is_said_plainly(tmp_path):
    RunStore.create(tmp_path / "run", {"seed": 1}).close()
    (tmp_path / "run" / DATABASE).write_bytes(b"not a database at all" * 100)

    with pytest.raises(HostError, match="damaged"):
        RunStore.open(tmp_path / "run")


def test_a_damaged_file_is_noticed_when_read(store):
    sha256 = store.put_blob(b"weights")
    store.blob_path(sha256).write_bytes(b"weightz")

    with pytest.raises(HostError, match="damaged"):
        store.blob(sha256)


def test_json_files_are_the_same_bytes_for_the_same_value(store):
    assert store.put_json({"b": 1, "a": [1, 2]}) == store.put_json({"a": [1, 2], "b": 1})
    assert store.json_blob(store.put_json({"a": 1.5})) == {"a": 1.5}


def test_a_full_disk_is_a_fault_of_this_host(store, monkeypatch):
    def full(_fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(HostError, match="full"):
        store.put_blob(b"x")
