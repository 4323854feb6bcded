"""The main job from the command line, over real SSH to an emulated board, killed and resumed."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.board, pytest.mark.torch]

MEASURED = (
    "energy_mj",
    "energy_net_mj",
    "inferences_per_joule",
    "latency_p50_ms",
    "latency_p99_ms",
    "power_w",
)
ENTRY = (*MEASURED, "accuracy", "macs", "parameters", "netscore", "memory_mib", "onnx_sha256")


def steps(run: Path) -> list[tuple[int, str, str, str]]:
    connection = sqlite3.connect(f"file:{run / 'run.sqlite'}?mode=ro", uri=True)
    try:
        return connection.execute("SELECT seq, kind, key, value FROM steps ORDER BY seq").fetchall()
    finally:
        connection.close()


def test_the_result_keeps_the_contract_and_is_labelled_emulated(uninterrupted):
    result, _, _ = uninterrupted

    assert result["schema"] == "hil/synthesis@1"
    assert result["provenance"] == "emulated"
    assert result["seed"] == 3
    assert {"run", "requirements", "generator", "cost", "least_violating"} <= result.keys()
    for entry in (result["prototype"], *result["certified"]):
        assert set(ENTRY) <= entry.keys()
        assert entry["provenance"] == "emulated"
        for name in MEASURED:
            low, high = entry[f"{name}_ci95"]
            assert low <= entry[name] <= high
            assert entry[name] > 0


def test_what_is_certified_keeps_every_limit_on_three_fresh_builds(uninterrupted):
    result, _, _ = uninterrupted

    assert result["certified"]
    for entry in result["certified"]:
        assert entry["verdict"] == "feasible_emulated"
        assert entry["scope"] == "build"
        assert entry["builds"] >= 3
        assert len(set(entry["engines_sha256"])) == entry["builds"]
        assert entry["energy_mj"] <= 0.85 * result["prototype"]["energy_mj"]
        assert entry["latency_p99_ms"] <= 0.85 * result["prototype"]["latency_p99_ms"]
        assert entry["accuracy"] >= result["prototype"]["accuracy"] - 20.0
        assert entry["macs"] < result["prototype"]["macs"]
        for proof in entry["proofs"]:
            assert proof["verdict"] == "feasible_emulated"
            assert proof["bound" if proof["binds"] == "bound" else "estimate"] <= proof["limit"]


def test_a_network_the_board_refused_was_never_trained(uninterrupted):
    result, run, _ = uninterrupted
    kept = json.loads((run / "result.json").read_text())

    untrained = [row for row in kept["search"] if row["accuracy"] is None]
    for row in untrained:
        # What only tells costs apart is measured and never trained, though it may fit.
        stimulus = row["name"].endswith(("(design)", "(calibration)"))
        assert row["verdict"] == "infeasible" or stimulus
    trained = [key for _, kind, key, _ in steps(run) if kind == "train" and "search:" in key]
    assert len(trained) == sum(row["accuracy"] is not None for row in kept["search"])
    refused = sum(row["verdict"] == "infeasible" for row in untrained)
    assert result["cost"]["refused_before_training"] == refused


def test_the_time_of_both_pools_is_told(uninterrupted):
    cost = uninterrupted[0]["cost"]

    busier_s = max(cost["training_s"], cost["measuring_s"])
    assert 0 < busier_s <= cost["wall_seconds"]
    assert cost["overlap"] == pytest.approx(cost["wall_seconds"] / busier_s)


def test_the_run_leaves_networks_that_anyone_can_open(uninterrupted):
    result, run, _ = uninterrupted

    for entry in (result["prototype"], *result["certified"]):
        folder = run / "networks" / entry["name"]
        model = onnx.load(folder / "network.onnx")
        onnx.checker.check_model(model, full_check=True)
        assert {o.domain: o.version for o in model.opset_import}[""] == 13
        assert json.loads((folder / "certificate.json").read_text())["name"] == entry["name"]


def test_a_run_killed_and_resumed_ends_as_an_uninterrupted_one(uninterrupted, workplace, hil):
    whole, _, _ = uninterrupted
    command = [sys.executable, "-m", "hil.cli.app", "synthesize", "--device", "tx2-emulated.yaml"]
    command += ["--profile", "small.yaml", "--seed", "3", "--run", "killed", "--json"]
    run = workplace / "killed"
    with subprocess.Popen(
        command, cwd=workplace, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and process.poll() is None:
            if (run / "run.sqlite").exists() and _measured(run) >= 4:
                break
            time.sleep(0.05)  # nothing else tells a test when another process got that far
        process.send_signal(signal.SIGKILL)
    before = steps(run)
    assert process.returncode == -signal.SIGKILL
    assert 4 <= _measured(run) < len([s for s in steps(workplace / "whole") if s[1] == "measure"])

    resumed = hil("synthesize", "--resume", "killed", "--json", cwd=workplace)

    assert resumed.returncode == 0, resumed.stderr
    assert steps(run)[: len(before)] == before
    names = [step[1:3] for step in steps(run)]
    assert len(set(names)) == len(names)
    again = json.loads(resumed.stdout)
    assert _comparable(again) == _comparable(whole)


def _comparable(result):
    """All of a result but where it lies, how long it took, and the raw files behind it.

    Raw evidence names the emulated board's temporary folder; every figure computed from it is
    compared.
    """
    kept = json.loads(json.dumps(result))
    del kept["run"]
    for name in ("wall_seconds", "training_s", "measuring_s", "thinking_s", "overlap"):
        del kept["cost"][name]
    for entry in (
        kept["prototype"],
        *kept["baselines"],
        *kept["certified"],
        *kept["not_certified"],
    ):
        del entry["evidence"]
    return kept


def _measured(run: Path) -> int:
    try:
        return sum(kind == "measure" for _, kind, _, _ in steps(run))
    except sqlite3.OperationalError:
        return 0


def test_the_generator_emits_from_seeds_alone_without_the_journal(uninterrupted, workplace, hil):
    _, run, _ = uninterrupted
    words = ("generate", "--run", "whole", "--seeds", "5", "--json")
    first = hil(*words, cwd=workplace)
    assert first.returncode == 0, first.stderr

    copy = workplace / "only-parameters"
    shutil.copytree(run, copy)
    connection = sqlite3.connect(copy / "run.sqlite")
    with connection:  # all that is left of the run: the generator and the prototype's weights
        connection.execute("DELETE FROM steps WHERE NOT (kind = 'train' AND key = 'prototype')")
    connection.close()
    second = hil(*words[:2], "only-parameters", *words[3:], cwd=workplace)

    networks = json.loads(first.stdout)["networks"]
    assert json.loads(second.stdout)["networks"] == networks
    assert any("architecture" in network for network in networks)


def test_a_finished_run_can_be_exported_and_reported_again(uninterrupted, workplace, hil):
    result, run, _ = uninterrupted

    exported = hil("export", "whole", "-o", "taken", cwd=workplace)
    reported = hil("report", "whole", "-o", "again.html", cwd=workplace)

    assert exported.returncode == 0, exported.stderr
    assert reported.returncode == 0, reported.stderr
    best = result["certified"][0]["name"]
    source, copy = run / "networks" / best, workplace / "taken" / best
    assert (copy / "network.onnx").read_bytes() == (source / "network.onnx").read_bytes()
    assert (workplace / "again.html").read_text() == (run / "report.html").read_text()


def test_progress_goes_to_stderr_and_json_alone_to_stdout(uninterrupted):
    _, _, stderr = uninterrupted

    assert "EMULATED" in stderr
    assert "measuring the prototype" in stderr


def test_ctrl_c_checkpoints_and_says_how_to_continue(workplace):
    command = [sys.executable, "-m", "hil.cli.app", "synthesize", "--device", "tx2-emulated.yaml"]
    command += ["--profile", "small.yaml", "--run", "stopped"]
    with subprocess.Popen(
        command, cwd=workplace, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "training the prototype" in line:
                break
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "hil synthesize --resume stopped" in stderr
    assert "Traceback" not in stderr
