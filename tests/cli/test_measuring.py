"""Profiles, comparisons and calibrations on boards in memory whose true figures are known."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import pytest

from hil.cli.calibrate_work import Calibrating
from hil.cli.keeping import keeper
from hil.cli.measuring import find_calibration, setup_of
from hil.cli.network import Network
from hil.cli.profile_work import Wishes, Work
from hil.cli.referenced import referenced
from hil.cli.rescoring import rescored
from hil.cli.rounds import Rounds, Rule
from hil.core.errors import ConfigError, DeviceError, HostError, InterruptedRunError
from hil.measure.stopping import Limit
from hil.measure.sweep import parse_sweep

NOW = datetime(2026, 11, 23, tzinfo=UTC)
NET = Network("net.onnx", b"net", {})
OTHER = Network("other.onnx", b"other", {})


def sha(network, session):
    return session.put_blob(network.data)


@pytest.fixture
def kept(tmp_path):
    return keeper("profile", "net", NOW, keep=True, base=tmp_path)


@pytest.fixture
def wishes():
    def made(**changes):
        given = {
            "precision": None,
            "blocks": None,
            "target": 0.01,
            "limits": (),
            "max_time_s": 600.0,
            "window_s": 5.0,
            "rate_hz": None,
            "layers": False,
            "trtexec": False,
        }
        return Wishes(**(given | changes))

    return made


def test_a_profile_measures_until_its_interval_is_as_tight_as_asked(
    fake_session, desk_of, kept, wishes
):
    board = fake_session(noise_w=0.15)
    loose = Work(desk_of(board), NET, wishes(target=0.02), kept).one()
    tight = Work(desk_of(board), NET, wishes(target=0.004), kept).one()

    for result, target in ((loose, 0.02), (tight, 0.004)):
        low, high = result["energy_mj_ci95"]
        assert result["stopping"]["outcome"] == "target"
        assert (high - low) / 2 / result["energy_mj"] <= target * 1.05
        assert result["energy_mj"] == pytest.approx(5.0 * 10.0, rel=0.02)  # 5 W, 10 ms each
    assert len(tight["blocks"]) > len(loose["blocks"])


def test_a_profile_that_cannot_get_there_ends_at_its_cap_and_says_so(
    fake_session, desk_of, kept, wishes
):
    board = fake_session(noise_w=1.5)

    result = Work(desk_of(board), NET, wishes(target=0.0005, max_time_s=90), kept).one()

    assert result["stopping"]["outcome"] == "undecided"
    assert len(result["blocks"]) == int((90 - 28.5) / 5)


@pytest.mark.parametrize(
    ("at_most", "verdict"), [(60.0, "feasible_emulated"), (40.0, "infeasible_emulated")]
)
def test_a_limit_is_decided_and_its_verdict_bears_the_boards_kind(
    fake_session, desk_of, kept, wishes, at_most, verdict
):
    limits = (Limit("energy_mj", at_most, None),)

    result = Work(desk_of(fake_session()), NET, wishes(target=None, limits=limits), kept).one()

    assert result["limits"][0]["verdict"] == verdict
    assert len(result["blocks"]) <= 6


@pytest.mark.parametrize("end", [InterruptedRunError("by SIGINT"), DeviceError("the link is lost")])
def test_ctrl_c_and_a_lost_link_keep_the_whole_windows_and_what_they_say(
    fake_session, desk_of, kept, wishes, end
):
    board = fake_session(noise_w=0.5, interrupt_at=0, ends_with=end)

    with pytest.raises(type(end), match=end.what):
        Work(desk_of(board), NET, wishes(target=0.0001), kept).one()

    result = json.loads((kept.folder / "result.json").read_text())
    assert result["interrupted"] is True
    assert len(result["blocks"]) == 4
    assert result["energy_mj"] == pytest.approx(50.0, rel=0.02)
    (again,) = rescored(kept.folder, None)
    assert again.changes == ()


def test_time_that_holds_no_interval_is_refused_before_the_board_is_touched(wishes):
    with pytest.raises(ConfigError, match="too short"):
        wishes(max_time_s=30.0).plan(100, None, "tegrastats")

    assert wishes(max_time_s=30.0).plan(100, None, "none").idle_s == 0


def test_builds_are_stated_apart_from_the_runs_own_error(fake_session, desk_of, kept, wishes):
    board = fake_session(build_w=0.2)

    result = Work(desk_of(board), NET, wishes(blocks=4, target=None), kept).builds(3)

    truth = [10 * (5.0 + 0.2 * k) for k in (1, 2, 3)]
    assert [one["energy_mj"] for one in result["builds"]] == pytest.approx(truth, rel=0.005)
    assert result["energy_mj"] == pytest.approx(54.0, rel=0.005)
    spread = result["build_to_build"]["energy_mj"]
    assert spread["sd_between_builds"] == pytest.approx(2.0, rel=0.1)
    assert spread["sd_within_runs"] < 0.5
    low, high = result["energy_mj_ci95"]
    assert high - 54.0 == pytest.approx(4.303 * 2.0 / math.sqrt(3), rel=0.1)  # t of two df
    further = spread["one_build_ci95"]
    # sqrt(1 + 3) times as far from the mean
    assert further[1] - result["energy_mj"] == pytest.approx(2 * (high - result["energy_mj"]))
    assert len({one["engine_sha256"] for one in result["builds"]}) == 3
    assert low < 54.0 < high


@pytest.mark.parametrize(("factor", "verdict"), [(0.99, "agrees"), (0.5, "differs")])
def test_trtexec_stands_beside_our_median_as_a_ratio_with_its_interval(
    fake_session, desk_of, kept, wishes, factor, verdict
):
    board = fake_session(trtexec_factor=factor)

    result = Work(desk_of(board), NET, wishes(blocks=4, target=None, trtexec=True), kept).one()

    check = result["trtexec"]
    assert check["verdict"] == verdict
    assert check["ours_to_trtexec"] == pytest.approx(1 / factor, rel=0.01)
    low, high = check["ours_to_trtexec_ci95"]
    assert low < check["ours_to_trtexec"] < high


def test_a_sweep_pins_each_mode_and_puts_the_board_back(fake_session, desk_of, kept, wishes):
    board = fake_session()
    told = []

    work = Work(desk_of(board), NET, wishes(blocks=3, target=None), kept)
    result = work.sweep(parse_sweep(["nvpmodel=0,2"]), told.append)

    assert [one[1] for one in board.asked if one[0] == "pin"] == [0, 2]
    assert board.asked[-1] == ("restore",)
    assert [row["nvpmodel"] for row in result["points"]] == [0, 2]
    assert len(told) == 2
    assert len(rescored_folder(kept, result)) == 2


def rescored_folder(kept, result):
    kept.result(result)
    again = rescored(kept.folder, None)
    assert all(one.changes == () for one in again)
    return again


def test_rounds_find_a_known_ratio_and_stop_once_it_is_tight(fake_session, desk_of, kept):
    board = fake_session(run_sd=0.004)
    board.watts = {sha(NET, board): 5.0, sha(OTHER, board): 4.5}
    rounds = Rounds(desk_of(board), kept, Rule(0.01, 3600.0))
    info = {
        side: [board.build(spec)]
        for side, spec in {"a": spec_of(NET, board), "b": spec_of(OTHER, board)}.items()
    }

    rounds.run(info, seed=1)

    done = rounds.comparison()
    ratio = done.ratios["energy_mj"].ratio
    assert rounds.outcome == "target"
    assert ratio.low <= 0.9 <= ratio.high
    assert (ratio.high - ratio.low) / 2 / ratio.value <= 0.01
    assert len(rounds.scored) % 2 == 0
    assert len(list(kept.folder.glob("evidence-*.json.gz"))) == 2 * len(rounds.scored)


def spec_of(network, session):
    from hil.device.session import EngineSpec

    return EngineSpec(onnx_sha256=sha(network, session))


def test_rounds_end_at_their_cap_undecided(fake_session, desk_of, kept):
    board = fake_session(run_sd=0.05)
    rounds = Rounds(desk_of(board), kept, Rule(0.0001, 400.0))
    engines = [board.build(spec_of(NET, board))]

    rounds.run({"a": engines, "b": engines}, seed=1)

    assert rounds.outcome == "undecided"
    assert rounds.spent_s <= 400.0


def test_the_references_drift_is_shown_and_divided_out(fake_session, desk_of, kept, wishes):
    board = fake_session(drift_w_per_s=0.001)
    board.watts = {sha(NET, board): 6.0, sha(OTHER, board): 5.0}

    result = referenced(
        Work(desk_of(board), NET, wishes(target=0.001, max_time_s=500), kept), OTHER
    )

    drift = [row["relative"] for row in result["reference"]["drift"]]
    assert drift == sorted(drift)
    assert drift[-1] - drift[0] > 0.03
    low, high = result["energy_mj_ci95"]
    own_low, own_high = result["energy_mj_undivided_ci95"]
    assert high - low < (own_high - own_low) / 3
    assert result["energy_mj_ratio"] == pytest.approx(1.2, rel=0.01)
    kept.result(result)
    (again,) = rescored(kept.folder, None)
    assert again.changes == ()
    assert again.result["energy_mj_ratio"] == result["energy_mj_ratio"]


def test_a_calibration_finds_the_boards_own_noise_and_the_samplers_cost(
    fake_session, desk_of, kept, tmp_path
):
    board = fake_session(run_sd=0.004, sample_j=0.01, seed=3)
    desk = desk_of(board)
    work = Calibrating(desk, NET, kept, rounds=12, slow_ms=1000)

    found = work.go("2026-11-23T00:00:00+00:00")

    assert found.log_ratio_sd == pytest.approx(0.004 * math.sqrt(2), rel=0.5)
    assert found.log_ratio_df == 12
    assert found.sampler_power_w.low <= 0.1 <= found.sampler_power_w.high
    assert found.sampler_latency_ratio.value == pytest.approx(1.0, abs=0.001)
    assert found.lag_s is None
    assert "no steps" in found.unknown["lag_s"]
    assert found.round_s == pytest.approx(2 * 30.0, abs=12)
    assert len(found.evidence) == len(list(kept.folder.glob("evidence*.json.gz")))
    rows = work.detects(found)
    assert [row["energy_fraction"] for row in rows] == sorted(
        (row["energy_fraction"] for row in rows), reverse=True
    )
    path = tmp_path / "fake.calibration.json"
    path.write_text(json.dumps(found.to_json()))
    setup = setup_of(board, desk.config)
    assert found.setup == setup


def test_a_calibration_of_another_state_is_not_used_and_says_why(
    fake_session, desk_of, kept, tmp_path, monkeypatch
):
    board = fake_session(run_sd=0.004)
    desk = desk_of(board)
    found = Calibrating(desk, NET, kept, rounds=4, slow_ms=1000).go("2026-11-23T00:00:00+00:00")
    device = tmp_path / "fake.yaml"
    device.write_text("schema: hil/device@1\n")
    (tmp_path / "fake.calibration.json").write_text(json.dumps(found.to_json()))
    monkeypatch.chdir(tmp_path)
    setup = setup_of(board, desk.config)

    used, told = find_calibration(str(device), desk.config, setup)
    from dataclasses import replace

    other, why = find_calibration(str(device), desk.config, replace(setup, nvpmodel=3))

    assert used == found
    assert "fake.calibration.json" in told
    assert other is None
    assert "nvpmodel None there, 3 here" in why


def test_a_disk_that_is_full_costs_no_figure(fake_session, desk_of, tmp_path, wishes):
    kept = keeper("profile", "net", NOW, keep=True, base=tmp_path)
    kept.folder.rmdir()  # stands for a disk that takes nothing more

    result = Work(desk_of(fake_session()), NET, wishes(blocks=3, target=None), kept).one()

    assert result["energy_mj"] == pytest.approx(50.0, rel=0.02)
    with pytest.raises(HostError):
        kept.result(result)
