"""Measuring verbs from the command line to an emulated board and back, as a user runs them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from hil.net.reference import reference_network
from hil.net.sample import sample_network

pytestmark = [pytest.mark.slow, pytest.mark.board]
DEVICE = ("-d", "tx2-emulated.yaml")
FAST = ("--blocks", "3", "--json")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with two networks, as a user has them."""
    folder = tmp_path_factory.mktemp("measuring")
    (folder / "large.onnx").write_bytes(reference_network())
    (folder / "small.onnx").write_bytes(sample_network())
    return folder


def figures(done: subprocess.CompletedProcess[str]):
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_a_profile_reaches_its_target_and_keeps_what_it_rests_on(place, hil):
    done = hil("profile", "large.onnx", *DEVICE, "--target-ci", "3%", "--json", cwd=place)

    result = figures(done)
    assert done.returncode == 0, done.stderr
    assert result["provenance"] == "emulated"
    assert result["stopping"]["outcome"] == "target"
    low, high = result["energy_mj_ci95"]
    assert (high - low) / 2 / result["energy_mj"] <= 0.03 * 1.02
    wide_low, wide_high = result["energy_mj_u95_total"]
    assert wide_low < low
    assert wide_high > high
    assert result["state"]["clocks_pinned"] is True

    again = hil("rescore", result["folder"], "--json", cwd=place)
    assert again.returncode == 0, again.stderr
    (one,) = json.loads(again.stdout)["results"]
    assert one["compared_with_stored"]
    assert one["changes"] == []

    (place / result["folder"] / "result.json").unlink()
    alone = hil("rescore", result["folder"] + "/evidence.json.gz", "--json", cwd=place)
    assert json.loads(alone.stdout)["results"][0]["result"]["energy_mj"] == result["energy_mj"]


def test_limits_decide_the_exit_code(place, hil):
    kept = hil("profile", "large.onnx", *DEVICE, "--limit", "energy_mj=900", "--json", cwd=place)
    broken = hil("profile", "large.onnx", *DEVICE, "--limit", "latency_p99_ms=0.01", cwd=place)

    assert kept.returncode == 0, kept.stderr
    assert figures(kept)["limits"][0]["verdict"] == "feasible_emulated"
    assert broken.returncode == 1
    assert "infeasible (EMULATED)" in broken.stdout
    assert "latency_p99_ms" in broken.stderr


def test_a_limit_within_the_error_is_undecided_at_the_cap(place, hil):
    probe = figures(hil("profile", "small.onnx", *DEVICE, *FAST, "--no-keep", cwd=place))
    limit = f"energy_mj={probe['energy_mj']:.6f}"

    done = hil(
        *("profile", "small.onnx", *DEVICE, "--limit", limit, "--max-time", "50s", "--json"),
        cwd=place,
    )

    assert done.returncode == 5, (done.stdout, done.stderr)
    assert figures(done)["limits"][0]["verdict"] == "undecided"


def test_every_mode_of_a_sweep_is_measured_though_one_fails(place, hil):
    done = hil("profile", "large.onnx", *DEVICE, *FAST, "--sweep", "nvpmodel=0,9,1", cwd=place)

    fast, failed, slow = figures(done)["points"]
    assert done.returncode == failed["error"]["exit_code"] == 3
    assert fast["result"]["state"]["nvpmodel"]["id"] == 0
    assert slow["result"]["state"]["nvpmodel"]["id"] == 1
    assert slow["result"]["latency_p50_ms"] > fast["result"]["latency_p50_ms"]
    assert slow["result"]["power_w"] < fast["result"]["power_w"]


def test_a_paced_run_costs_idle_too(place, hil):
    paced = figures(hil("profile", "small.onnx", *DEVICE, *FAST, "--rate", "30", cwd=place))
    free = figures(hil("profile", "small.onnx", *DEVICE, *FAST, cwd=place))

    assert paced["rate"]["achieved_hz"] == pytest.approx(30.0, rel=0.01)
    assert paced["energy_mj"] > 5 * free["energy_mj"]
    assert paced["energy_mj"] == pytest.approx(1000 * paced["power_w"] / 30, rel=0.01)


def test_two_networks_are_compared_by_turns_and_rescored(place, hil):
    done = hil(
        *("compare", "large.onnx", "small.onnx", *DEVICE, "--target-ci", "8%", "--json"), cwd=place
    )

    result = figures(done)
    assert done.returncode == 0, done.stderr
    assert result["schema"] == "hil/comparison@1"
    low, high = result["energy_mj_ratio_ci95"]
    assert low < result["energy_mj_ratio"] < high < 1
    assert (high - low) / 2 / result["energy_mj_ratio"] <= 0.08
    ratio = result["b"]["energy_mj"] / result["a"]["energy_mj"]
    assert result["energy_mj_ratio"] == pytest.approx(ratio, rel=0.02)
    starts = [row["first"] for row in result["rounds"]]
    assert all(set(starts[k : k + 2]) == {"a", "b"} for k in range(0, len(starts), 2))
    again = json.loads(hil("rescore", result["folder"], "--json", cwd=place).stdout)
    assert again["results"][0]["changes"] == []


def test_a_calibration_is_written_found_and_named(place, hil):
    done = hil("device", "calibrate", *DEVICE, "--rounds", "4", "--json", cwd=place)
    made = figures(done)
    assert done.returncode == 0, done.stderr
    assert made["schema"] == "hil/calibration@1"
    assert made["lag_s"] == pytest.approx(0.42, abs=0.06)  # what the board's model is made with
    assert made["detects"][-1]["energy_fraction"] > 0
    path = place / "devices" / "tx2-emulated.calibration.json"
    assert json.loads(path.read_text())["log_ratio_sd"] == made["log_ratio_sd"]

    used = figures(hil("profile", "small.onnx", *DEVICE, *FAST, "--no-keep", cwd=place))

    assert "tx2-emulated.calibration.json" in used["calibration"]
    assert used["sampler_power_w"] == made["sampler_power_w"]
    path.unlink()


def test_ctrl_c_keeps_what_was_measured_and_exits_130(place):
    command = [sys.executable, "-m", "hil.cli.app", "profile", "large.onnx", *DEVICE]
    command += ["--target-ci", "0.01%", "--max-time", "2h"]
    before = set(place.glob("runs/profile/*"))
    with subprocess.Popen(
        command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "windows," in line:
                break
        process.send_signal(signal.SIGINT)
        started_s = time.monotonic()
        _, stderr = process.communicate(timeout=60)
        took_s = time.monotonic() - started_s

    assert process.returncode == 130, stderr
    assert "the board is as it was found" in stderr
    assert took_s < 30
    (folder,) = set(place.glob("runs/profile/*")) - before
    result = json.loads((folder / "result.json").read_text())
    assert result["interrupted"] is True
    assert result["energy_mj"] > 0


def test_nothing_of_an_earlier_session_needs_unlocking_or_cleaning(place, hil):
    free = hil("device", "unlock", *DEVICE, "--reason", "a test", cwd=place)
    clean = hil("device", "clean", *DEVICE, "--yes", cwd=place)

    assert free.returncode == 0, free.stderr
    assert "is free" in free.stderr
    assert clean.returncode == 0, clean.stderr
    assert "removed 0 files" in clean.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--target-ci", "none"), 2, "--target-ci"),
        (("--limit", "joules=3"), 2, "no limit"),
        (("--sweep", "nvpmodel=a"), 2, "power modes are numbers"),
        (("--sweep", "nvpmodel=0", "--builds", "2"), 2, "together"),
        (("--blocks", "4", "--target-ci", "1%"), 2, "contradict"),
        (("--max-time", "20s"), 2, "too short"),
        (("--batch", "4"), 2, "fixed batch"),
        (("--evidence", "no/such/folder/e.json"), 8, "cannot write"),
        (("--latency-only", "--explain-energy"), 2, "needs power"),
        (("--reference", "none.onnx"), 2, "none.onnx"),
    ],
)
def test_what_cannot_be_is_refused_before_the_board_is_touched(place, hil, words, code, said):
    before = set(place.glob("runs/profile/*"))

    done = hil("profile", "large.onnx", *DEVICE, *words, cwd=place)

    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert set(place.glob("runs/profile/*")) == before
