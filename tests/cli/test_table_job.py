"""The whole loop on a table, from the command line and killed at every single step."""

from __future__ import annotations

import itertools
import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hil.cli.watching import Lines
from hil.device.config import load_device
from hil.synth.ablating import VARIANTS, ablations, summary, without_certificate
from hil.synth.comparing import compare
from hil.synth.loop import prepare, synthesize
from hil.synth.opening import open_job
from hil.synth.profile import load_profile
from hil.synth.results import result_json
from hil.synth.store import RunStore

CELLS = np.array(list(itertools.product(range(5), repeat=6)), dtype=np.int8)
DEVICE = """\
schema: hil/device@1
name: recorded
driver: replay
board: jetson-tx2
replay:
  table:
    file: cells.npz
    choices: ops
    figures: {energy_mj: energy, latency_p50_ms: latency}
    rail: VDD_IN
"""
PROFILE = """\
schema: hil/profile@1
name: cells
task: table
table:
  macs: macs
  params: params
  accuracy: {search: acc, pictures: 5000, glance: quick}
requirements:
  energy_mj: {at_most: 75 %}
  accuracy: {lose_at_most: 8.0}
budget: {measurements: 6, batch: 2, trainings: 4, promote: 50 %, finalists: 1}
measure: {confirmation: {builds: {at_least: 3, at_most: 4}}}
generator: {emit: 4, components: 2}
"""
TIMES = ("wall_seconds", "training_s", "measuring_s", "thinking_s", "overlap")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A user's folder: a table whose truth is simple, its device and a profile."""
    folder = tmp_path_factory.mktemp("table-job")
    kernels = np.array([0.0, 0.1, 1.0, 3.0, 0.5])[CELLS].sum(axis=1)
    wiggle = np.sin(np.arange(len(CELLS)))
    np.savez(
        folder / "cells.npz",
        ops=CELLS,
        energy=5 + kernels * (1 + 0.02 * wiggle),
        latency=2 + 0.2 * kernels,
        acc=70 + 6 * np.log1p(kernels) + 0.3 * wiggle,
        quick=40 + 9 * np.log1p(kernels) - wiggle,
        macs=(1e6 * (1 + kernels)).astype(np.int64),
        params=(1e4 * (1 + kernels)).astype(np.int64),
    )
    (folder / "recorded.yaml").write_text(DEVICE, encoding="utf-8")
    (folder / "cells.yaml").write_text(PROFILE, encoding="utf-8")
    return folder


class Killed(BaseException):
    """The process ends here."""


class Doomed(RunStore):
    """A journal whose process is killed as soon as it would begin one step too many."""

    left = 0

    def step(self, kind, key, compute):
        if self.find(kind, key) is None:
            if self.left < 1:
                raise Killed
            self.left -= 1
        return super().step(kind, key, compute)


def run(place: Path, store: RunStore, names: tuple[str, ...] = ("random",)) -> dict:
    profile = load_profile(place / "cells.yaml")
    device = load_device(place / "recorded.yaml")
    with open_job(profile, device, store, 5, Lines(), owner="test") as job:
        outcome = synthesize(job)
        attempts = compare(job, outcome.start, outcome.candidates, names)
        return comparable(result_json(outcome, "run", 1.0, attempts))


def comparable(result: dict) -> dict:
    """All of a result but how long it took and where it lies."""
    kept = json.loads(json.dumps(result))
    kept.pop("run")
    for name in TIMES:
        kept["cost"].pop(name)
    return kept


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory):
    """What an uninterrupted run comes to, and its steps."""
    with RunStore.create(tmp_path_factory.mktemp("whole") / "run", {"seed": 5}) as store:
        return run(place, store), {(s.kind, s.key): s.value for s in store.steps()}


def test_the_result_has_the_shape_of_any_synthesis_and_is_labelled_replayed(whole):
    result, _ = whole

    assert result["schema"] == "hil/synthesis@1"
    assert result["provenance"] == "replayed"
    assert result["certified"], result["not_certified"]
    for entry in result["certified"]:
        assert entry["verdict"] == "feasible_replayed"
        assert entry["builds"] >= 3
        assert entry["energy_mj"] <= 0.75 * result["prototype"]["energy_mj"]
        assert entry["onnx_sha256"] is None
        assert entry["latency_p99_ms"] is None
    assert result["cost"]["measurements"] == 6
    assert result["cost"]["trainings"] <= 4 + 1
    assert result["cost"]["device_seconds"] is None


def test_what_is_learned_from_is_never_the_cheap_accuracy(whole):
    _, steps = whole
    trained = {key.removeprefix("search:") for kind, key in steps if kind == "train"}
    glanced = {key for kind, key in steps if kind == "glance"}

    assert glanced
    assert glanced - trained  # some promised too little
    assert all(key in trained for kind, key in steps if kind == "train" and key in glanced)


def test_a_run_killed_at_every_single_step_ends_as_an_uninterrupted_one(place, tmp_path):
    with RunStore.create(tmp_path / "whole", {"seed": 5}) as store:
        expected = run(place, store, names=())
        steps = {(s.kind, s.key): s.value for s in store.steps()}
    Doomed.create(tmp_path / "run", {"seed": 5}).close()

    for _life in range(len(steps) + 1):
        with Doomed.open(tmp_path / "run") as store:
            store.left = 1
            try:
                result = run(place, store, names=())
            except Killed:
                continue
        break

    assert result == expected
    with RunStore.open(tmp_path / "run", write=False) as store:
        assert {(s.kind, s.key): s.value for s in store.steps()} == steps


def test_a_process_killed_outright_resumes_with_nothing_done_twice(whole, place, hil):
    expected, _ = whole
    words = ("synthesize", "--device", "recorded.yaml", "--profile", "cells.yaml", "--seed", "5")
    command = [sys.executable, "-m", "hil.cli.app", *words, "--run", "killed"]
    with subprocess.Popen(
        [*command, "--compare", "random"],
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if recorded(place / "killed") >= 9:
                break
            time.sleep(0.01)  # nothing else tells a test when another process got that far
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL

    done = hil("synthesize", "--resume", "killed", "--json", cwd=place)

    assert done.returncode == 0, done.stderr
    assert "REPLAYED" in done.stderr
    assert comparable(json.loads(done.stdout)) == expected
    for entry in expected["certified"]:
        folder = place / "killed" / "networks" / entry["name"]
        assert [file.name for file in folder.iterdir()] == ["certificate.json"]
    assert "REPLAYED" in (place / "killed" / "report.html").read_text(encoding="utf-8")


def recorded(folder: Path) -> int:
    """Steps in a journal that another process writes."""
    try:
        with sqlite3.connect(f"file:{folder / 'run.sqlite'}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM steps").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_methods_are_compared_on_the_same_budget_and_the_journal_answers_twice(whole, place, hil):
    result, steps = whole
    compared = result["compare"]

    assert [row["method"] for row in compared["methods"]] == ["hil", "random"]
    assert all(row["measurements"] == 6 for row in compared["methods"])
    assert not compared["certified"]
    assert "certified" in compared["statement"]
    measured = [key for kind, key in steps if kind == "measure" and key.startswith("search:")]
    assert len(set(measured)) == len(measured)

    shown = hil("synthesize", "--resume", "killed", cwd=place)
    assert "methods on the same budget" in shown.stdout
    assert compared["statement"] in shown.stderr


def test_a_table_and_a_board_are_not_mixed_up(place, hil):
    table_on_board = hil(
        *("synthesize", "-d", "tx2-emulated.yaml", "-p", "cells.yaml", "--run", "mixed"), cwd=place
    )
    digits_on_table = hil("synthesize", "-d", "recorded.yaml", "--run", "mixed2", cwd=place)
    profiled = hil("profile", "recorded.yaml", "-d", "recorded.yaml", "--latency-only", cwd=place)
    unknown = hil(
        *("synthesize", "-d", "recorded.yaml", "-p", "cells.yaml", "--compare", "luck"), cwd=place
    )

    for done in (table_on_board, digits_on_table, profiled, unknown):
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
    assert "replay-nb201.yaml" in table_on_board.stderr
    assert "holds a table" in digits_on_table.stderr
    assert "there is no search method" in unknown.stderr


def test_every_seed_of_a_learned_generator_is_checked_and_refusals_count_against_it(place, hil):
    words = ("generate", "--run", "killed", "--seeds", "12", "--first", "500", "--check", "--json")
    done = hil(*words, cwd=place)

    checked = json.loads(done.stdout)
    rows = checked["networks"]
    assert done.returncode == (0 if checked["satisfied"] else 1), done.stderr
    assert [row["seed"] for row in rows] == list(range(500, 512))
    assert "REPLAYED" in done.stderr
    assert not checked["certified"]
    limit = 0.75 * 5 * (1 + 18 / 5)  # of the prototype's energy, read off the table's own rule
    for row in rows:
        if row["verdict"] == "feasible":
            assert row["energy_mj"] <= 1.1 * limit
            assert row["accuracy_loss_points"] <= 8.0
    verdicts = [row["verdict"] for row in rows]
    assert checked["satisfied"] == verdicts.count("feasible")
    assert checked["refused"] == verdicts.count("refused")
    assert checked["distinct"] == len({row["key"] for row in rows if "key" in row})
    low, high = checked["satisfied_share_ci95"]
    assert low <= checked["satisfied"] / 12 <= high

    steps = recorded(place / "killed")
    assert json.loads(hil(*words, cwd=place).stdout) == checked
    assert recorded(place / "killed") == steps  # the journal answered all of it


def test_parts_are_taken_out_of_the_pair_on_one_journal(place, tmp_path):
    profile = load_profile(place / "cells.yaml")
    device = load_device(place / "recorded.yaml")
    with (
        RunStore.create(tmp_path / "run", {"seed": 5}) as store,
        open_job(profile, device, store, 5, Lines(), owner="test") as job,
    ):
        start = prepare(job)
        done = list(ablations(job, start, seeds=1, emit=8))
        rows, kept = summary(done), without_certificate(job, start, done)

    assert list(rows) == list(VARIANTS)
    assert rows["full"]["median_u_against_full"] == 0.0
    assert all(row["emission_seeds"] == 8 for row in rows.values())
    # Without stimuli for their own sake every network measured may be trained.
    sources = {one.variant: {c.source for c in one.attempt.candidates} for one in done}
    assert "design" in sources["full"]
    assert "design" not in sources["no hardware stimuli"]
    assert 0 <= kept["refuted"] <= kept["accepted"]
