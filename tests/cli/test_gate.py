"""Gates on boards in memory whose true figures are known, and questions that are refused."""

from __future__ import annotations

import json
import textwrap
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from hil.cli.gate_answers import Labelled, read_labelled
from hil.cli.gate_ask import Question, asked_of, read_baseline
from hil.cli.gate_entry import Entry
from hil.cli.gate_rounds import Builder
from hil.cli.gate_work import Gating
from hil.cli.gate_write import Outputs
from hil.cli.keeping import keeper
from hil.cli.network import Network
from hil.core.errors import ConfigError, DeviceError, MeasurementError
from hil.core.yamlfile import YamlFileError
from hil.device.session import TensorInfo
from hil.measure.calibration import Calibration
from hil.measure.gate_baseline import Answers, BaselineFile, Recorded
from hil.measure.gate_demands import (
    Asked,
    Bound,
    Demands,
    checks_of,
    from_options,
    load_gate_file,
    parse_margin,
)
from hil.measure.gate_outcome import outcomes

NOW = datetime(2026, 11, 24, tzinfo=UTC)
OLD = Network("old.onnx", b"old", {})
NEW = Network("new.onnx", b"new", {})
WORSE = from_options([], ["energy_mj=3%"])


@pytest.fixture
def gating(desk_of, tmp_path):
    def made(board, **changes):
        desk = desk_of(board, changes.pop("calibration", None))
        kept = keeper("gate", "net", NOW, keep=True, base=tmp_path)
        settings = {"family": 1, "builds": 1, "max_time_s": 900.0, "seed": 1} | changes
        return Gating(desk, kept, Builder(desk, None, 1), **settings)

    return made


def with_watts(board, old, new):
    board.watts = {board.put_blob(OLD.data): old, board.put_blob(NEW.data): new}
    return board


@pytest.mark.parametrize(
    ("new_w", "status", "fresh"),
    [(5.0, "passed", 0), (5.05, "passed", 0), (5.6, "violated", 12)],
)
def test_a_network_is_held_against_its_baseline_by_turns(
    fake_session, gating, new_w, status, fresh
):
    board = with_watts(fake_session(run_sd=0.003), 5.0, new_w)
    work = gating(board)

    (outcome,) = outcomes(work.findings(Entry(NEW, WORSE, base=OLD)))

    assert outcome.status == status
    assert outcome.finding.ratio.value == pytest.approx(new_w / 5.0, rel=0.01)
    told = work.told[0]
    assert len(set(told["fresh_engines_sha256"])) == fresh
    assert not set(told["fresh_engines_sha256"]) & set(told["engines_sha256"])
    kept = {path.parent.name for path in work.keeper.folder.glob("*/evidence-*.json.gz")}
    assert kept == ({"new-screen", "new-fresh-1"} if fresh else {"new-screen"})


def test_an_engine_that_is_slow_by_chance_does_not_fail_its_network(fake_session, gating):
    # The engine of the candidate that screening takes draws a tenth more; none built anew does.
    board = with_watts(fake_session(run_sd=0.002), 5.0, 5.0)
    normal = board._lines

    def lines(rng, plan, info, times, level):
        unlucky = info.spec.build_index == 0 and info.spec.onnx_sha256 == board.put_blob(NEW.data)
        if unlucky:
            board.watts[info.spec.onnx_sha256] = 5.5
        made = normal(rng, plan, info, times, level)
        board.watts[info.spec.onnx_sha256] = 5.0
        return made

    board._lines = lines

    (outcome,) = outcomes(gating(board).findings(Entry(NEW, WORSE, base=OLD)))

    assert outcome.status == "passed"
    assert "one engine had looked worse" in outcome.reason


@pytest.mark.parametrize(("limit", "status"), [("60", "passed"), ("40", "violated")])
def test_a_hard_budget_needs_no_baseline(fake_session, gating, limit, status):
    board = fake_session(run_sd=0.003)  # 5 W, 10 ms: 50 mJ

    wanted = from_options([f"energy_mj={limit}"], [])
    (outcome,) = outcomes(gating(board).findings(Entry(NEW, wanted)))

    assert outcome.status == status
    assert outcome.finding.value.value == pytest.approx(50.0, rel=0.02)


def test_a_budget_within_the_error_is_inconclusive_at_the_cap(fake_session, gating):
    board = fake_session(run_sd=0.02)

    wanted = from_options(["energy_mj=50"], [])
    (outcome,) = outcomes(gating(board, max_time_s=400.0).findings(Entry(NEW, wanted)))

    assert outcome.status == "inconclusive"
    assert outcome.exit_code == 5
    assert "measure longer" in outcome.next_step


def test_figures_of_a_file_are_compared_where_conditions_are_alike(fake_session, gating):
    first = gating(with_watts(fake_session(run_sd=0.003), 5.0, 5.0), writes=True)
    first.findings(Entry(NEW, Demands()))
    data = json.loads(json.dumps(BaselineFile("2026", first.records).to_json()))
    kept = BaselineFile.from_json(data)
    assert len(kept.models["new.onnx"].values["energy_mj"]) >= 8

    slower = with_watts(fake_session(run_sd=0.003, seed=5), 5.0, 5.6)
    entry = Entry(NEW, WORSE, recorded=kept.of("somewhere/new.onnx"))
    (outcome,) = outcomes(gating(slower).findings(entry))

    assert outcome.status == "violated"
    assert outcome.change.value == pytest.approx(6.0, rel=0.05)  # mJ


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("l4t", "32.7.1", "L4T release: 32.7.1 there"),
        ("nvpmodel", 3, "power mode (nvpmodel): 3 there"),
        ("clocks", True, "pinned clocks: True there"),
        ("rail", "VDD_SYS_GPU", "rail: VDD_SYS_GPU there, VDD_IN here"),
        ("precision", "fp32", "precision: fp32 there, fp16 here"),
        ("runtime", "tensorrt 10.3.0", "runtime release: tensorrt 10.3.0 there"),
        ("inputs", {"input": [8, 3, 64, 64]}, "inputs (batch and shape): input 8x3x64x64 there"),
        ("energy_unit", "J", "unit of the energy: J there"),
        ("provenance", "measured", "provenance: measured there, emulated here"),
    ],
)
def test_unlike_is_not_compared_and_what_differs_is_named(
    fake_session, gating, field, value, named
):
    first = gating(fake_session())
    first.findings(Entry(NEW, Demands()))
    data = BaselineFile("2026", first.records).to_json()
    data["models"]["new.onnx"]["conditions"][field] = value
    recorded = BaselineFile.from_json(data).of("new.onnx")

    with pytest.raises(ConfigError, match="not measured alike") as told:
        gating(fake_session()).findings(Entry(NEW, WORSE, recorded=recorded))

    assert named in told.value.why
    assert told.value.why.count(";") == 0


def test_a_baseline_of_another_batch_is_refused_before_a_run(fake_session, gating):
    board = fake_session()
    normal = board.build

    def build(spec):
        rows = 8 if spec.onnx_sha256 == board.put_blob(OLD.data) else 1
        return replace(normal(spec), inputs=(TensorInfo("input", "float32", (rows, 3, 8, 8)),))

    board.build = build

    with pytest.raises(ConfigError, match="not measured alike") as told:
        gating(board).findings(Entry(NEW, WORSE, base=OLD))

    assert "8x3x8x8 there, input 1x3x8x8 here" in told.value.why
    assert board.runs == 0


def test_what_befalls_one_network_leaves_the_others_measured(fake_session, gating):
    board = fake_session(run_sd=0.003)
    normal = board.build

    def build(spec):
        if spec.onnx_sha256 == board.put_blob(OLD.data):
            raise DeviceError("the link is lost", fix="look at the cable")
        return normal(spec)

    board.build = build
    work, wanted = gating(board, family=2), from_options(["energy_mj=60"], [])

    lost, fine = outcomes([*work.findings(Entry(OLD, wanted)), *work.findings(Entry(NEW, wanted))])

    assert (lost.status, lost.exit_code, lost.next_step) == ("error", 3, "look at the cable")
    assert fine.status == "passed"
    assert work.faults[0]["exit_code"] == 3


def test_a_trace_that_ends_early_is_left_out_and_too_many_are_an_error(fake_session, gating):
    def board(bad):
        made = fake_session(run_sd=0.003)
        normal = made.run

        def run(info, plan, power, decide=None):
            evidence = normal(info, plan, power, decide)
            if made.runs not in bad:
                return evidence
            (record,) = evidence.power
            half_ns = evidence.named("block")[1].start_ns
            lines = tuple(line for line in record.lines if line[0] <= half_ns)
            return replace(evidence, power=(replace(record, lines=lines),))

        made.run = run
        return made

    wanted = from_options(["energy_mj=60"], [])
    one = gating(board({2}))
    assert outcomes(one.findings(Entry(NEW, wanted)))[0].status == "passed"
    assert one.told[0]["rounds_dropped"] == 1

    (outcome,) = outcomes(gating(board(range(100))).findings(Entry(NEW, wanted)))
    assert outcome.status == "error"
    assert outcome.exit_code == MeasurementError.exit_code


def calibration(sd):
    return Calibration.from_json(
        {
            "schema": "hil/calibration@1",
            "setup": {
                "device": "fake", "model": "quill", "l4t": "32.7.4", "provenance": "emulated",
                "nvpmodel": None, "clocks": False, "source": "tegrastats", "rail": "VDD_IN",
                "interval_ms": 100,
            },
            "log_ratio_sd": sd, "log_ratio_df": 10, "latency_log_ratio_sd": 0.001, "round_s": 60.0,
            "block_variance_rel": 1e-6, "block_window_s": 5.0, "block_df": 10, "minutes": 10,
            "sampler_power_w": None, "sampler_latency_ratio": None, "lag_s": None,
            "onnx_sha256": "a", "engine_sha256": "b", "evidence": [], "created": "2026-11-20",
            "unknown": {},
        }
    )  # fmt: skip


def test_a_margin_finer_than_the_board_resolves_is_raised_and_said(fake_session, gating):
    fine, coarse = (
        checks_of("net.onnx", from_options([], ["energy_mj=1%"]), calibration(sd), 15)[0]
        for sd in (0.002, 0.02)
    )

    assert (fine.bound, fine.note) == (pytest.approx(1.01), None)
    assert coarse.bound == pytest.approx(1.0156, abs=0.0005)  # noncentral t, 15 rounds of 2 %
    assert "margin raised from 1 to 1.57 %" in coarse.note
    work = gating(fake_session(), calibration=calibration(0.02))
    (check,) = work.checks(Entry(NEW, from_options([], ["energy_mj=1%"]), base=OLD))
    assert check == replace(coarse, model="new.onnx")


@pytest.mark.parametrize(("wrong", "status"), [(0, "passed"), (40, "violated")])
def test_points_lost_are_counted_on_the_engines(fake_session, gating, wrong, status):
    board = fake_session()
    normal = board.build
    tensor = (TensorInfo("input", "float32", (1, 3)),)
    board.build = lambda spec: replace(
        normal(spec), inputs=tensor, outputs=(TensorInfo("scores", "float32", (1, 3)),)
    )

    def infer(info, inputs):
        scores = inputs["input"].copy()
        if info.spec.onnx_sha256 == board.put_blob(NEW.data):
            scores[:wrong] = -scores[:wrong]
        return {"scores": scores}

    board.infer = infer
    labels = np.arange(300) % 3
    pictures = Labelled("sha", np.eye(3, dtype=np.float32)[labels], labels)
    wanted = from_options([], [], at_least=80.0, lose_at_most=2.0)

    found = outcomes(
        gating(board, family=2, labelled=pictures).findings(Entry(NEW, wanted, base=OLD))
    )

    loss = found[-1]
    assert loss.status == status
    assert loss.change.value == pytest.approx(-100 * wrong / 300)
    assert loss.change.low < loss.change.value < loss.change.high
    assert found[0].status == "passed"


def test_points_lost_need_the_same_pictures_in_a_file(fake_session, gating):
    board = fake_session()
    tensor = (TensorInfo("input", "float32", (1, 3)),)
    normal = board.build
    board.build = lambda spec: replace(normal(spec), inputs=tensor, outputs=tensor)
    board.infer = lambda info, inputs: dict(inputs)
    labels = np.arange(30) % 3
    pictures = Labelled("sha", np.eye(3, dtype=np.float32)[labels], labels)
    work = gating(board, labelled=pictures)
    work.findings(Entry(NEW, Demands()))
    record = work.records["new.onnx"]
    wanted = from_options([], [], lose_at_most=2.0)
    other = replace(record, answers=Answers("other", record.answers.right))

    with pytest.raises(ConfigError, match="other labelled pictures"):
        gating(board, labelled=pictures).findings(Entry(NEW, wanted, recorded=other))
    again = Recorded.from_json(json.loads(json.dumps(record.to_json())))
    assert again.answers.right.tolist() == record.answers.right.tolist()


def test_fresh_engines_are_new_to_the_board(fake_session, desk_of):
    board = fake_session()
    normal = board.build
    board.build = lambda spec: replace(normal(spec), cached=spec.build_index in (2, 3))
    builder = Builder(desk_of(board), None, 1)

    made = builder.fresh(NEW, 3)

    assert [info.spec.build_index for info in made] == [4, 5, 6]
    board.build = lambda spec: replace(normal(spec), cached=True)
    with pytest.raises(DeviceError, match="builds no new engine"):
        builder.fresh(NEW, 3)


# What is asked.


QUESTION = Question((Path("net.onnx"),), None, (), None, (), (), None, None, False, False, False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "nothing is asked"),
        ({"margins": ("energy_mj=3%",)}, "there is no baseline"),
        ({"budgets": ("energy_mj=85%",)}, "there is no baseline"),
        ({"budgets": ("joules=3",)}, "'joules=3' is none"),
        ({"budgets": ("energy_mj=5", "energy_mj=6")}, "twice"),
        ({"budgets": ("energy_mj=-5",)}, "expected a number"),
        ({"budgets": ("energy_mj=5",), "latency_only": True}, "needs power"),
        ({"margins": ("energy_mj=3",)}, "expected a share"),
        ({"at_least": 90.0}, "no labelled pictures"),
        ({"lose_at_most": 1.0, "labelled": True}, "there is no baseline"),
        ({"baseline": Path("b.json"), "baseline_models": (Path("o.onnx"),)}, "contradict"),
        ({"baseline_models": (Path("a.onnx"), Path("b.onnx"))}, "do not belong"),
        ({"models": (Path("net.onnx"), Path("net.onnx"))}, "named twice"),
    ],
)
def test_what_cannot_be_asked_is_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        asked_of(replace(QUESTION, **changes))


def test_a_baseline_alone_asks_for_the_usual_margins():
    asked = asked_of(replace(QUESTION, baseline_models=(Path("old.onnx"),)))

    assert asked.of("net.onnx").margins == {"energy_mj": 0.03, "latency_p99_ms": 0.05}
    quick = asked_of(replace(QUESTION, baseline_models=(Path("old.onnx"),), latency_only=True))
    assert quick.of("net.onnx").margins == {"latency_p99_ms": 0.05}


def gate_file(folder, text):
    path = folder / "gate.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def test_a_file_asks_of_all_and_of_some_and_options_come_first(tmp_path):
    path = gate_file(
        tmp_path,
        """\
        schema: hil/gate@1
        budgets: {energy_mj: 5, latency_p99_ms: 85 %}
        margins: {energy_mj: 3 %}
        accuracy: {at_least: 91}
        models:
          small.onnx:
            budgets: {energy_mj: 2.5}
            accuracy: {lose_at_most: 1}
        """,
    )
    file = load_gate_file(path)
    asked = Asked(from_options([], ["energy_mj=4%"]), file, file.models, baseline=True)

    large, small = asked.of("nets/large.onnx"), asked.of("nets/small.onnx")

    assert large.budgets == {"energy_mj": Bound(5.0), "latency_p99_ms": Bound(0.85, True)}
    assert small.budgets["energy_mj"] == Bound(2.5)
    assert large.margins == {"energy_mj": 0.04}
    assert (small.accuracy.at_least, small.accuracy.lose_at_most) == (91, 1)
    assert large.accuracy.lose_at_most is None
    assert asked.strangers(["nets/large.onnx"]) == ["small.onnx"]
    asks = [check.asked for check in checks_of("s", small)]
    assert asks == [
        "at most 2.5 mJ",
        "at most 85 % of the baseline's",
        "at most +4 % of the baseline's",
        "at least 91 %",
        "at most 1 points lost",
    ]


def test_a_file_that_is_wrong_is_told_line_by_line(tmp_path):
    path = gate_file(
        tmp_path,
        """\
        schema: hil/gate@1
        budgets:
          joules: 5
          power_w: lots
        margins:
          energy_mj: 3
        acuracy: {at_least: 91}
        """,
    )

    with pytest.raises(YamlFileError) as told:
        load_gate_file(path)

    lines = {problem.line for problem in told.value.problems}
    assert lines == {3, 4, 6, 7}
    assert "did you mean accuracy" in str(told.value)


@pytest.mark.parametrize("written", ["3 %", "3%", 0.03])
def test_margins_are_shares(written):
    assert parse_margin(written) == pytest.approx(0.03)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "hil/gate-baseline@1"}', "1"])
def test_a_file_that_is_no_baseline_is_refused(tmp_path, text):
    path = tmp_path / "base.json"
    path.write_text(text)

    with pytest.raises(ConfigError, match="no baseline"):
        read_baseline(path)


def test_a_baseline_names_the_networks_it_holds(fake_session, gating):
    work = gating(fake_session())
    work.findings(Entry(NEW, Demands()))
    record = work.records["new.onnx"]
    file = BaselineFile("2026", {"a/net.onnx": record, "b/net.onnx": record})

    assert file.of("a/net.onnx") is record
    with pytest.raises(ConfigError, match="2 networks named"):
        file.of("net.onnx")
    with pytest.raises(ConfigError, match="no networks named other"):
        file.of("other.onnx")


@pytest.mark.parametrize(
    "arrays",
    [
        {"inputs": np.zeros((3, 2))},
        {"inputs": np.zeros((3, 2)), "labels": np.zeros(4, dtype=int)},
        {"inputs": np.zeros((3, 2)), "labels": np.zeros(3)},
        {"inputs": np.array([{}], dtype=object), "labels": np.zeros(1, dtype=int)},
    ],
)
def test_what_holds_no_labelled_pictures_is_refused(tmp_path, arrays):
    path = tmp_path / "held-out.npz"
    np.savez(path, **arrays)

    with pytest.raises(ConfigError):
        read_labelled(path)


def test_githubs_own_places_are_used_where_a_workflow_runs(tmp_path):
    told = {"GITHUB_STEP_SUMMARY": str(tmp_path / "s.md"), "GITHUB_ACTIONS": "true"}
    nothing = (None,) * 6

    assert Outputs.of(told, *nothing, None).summary == tmp_path / "s.md"
    assert Outputs.of(told, *nothing, None).annotations
    assert not Outputs.of(told, *nothing, False).annotations
    assert not Outputs.of({}, *nothing, None).annotations
    with pytest.raises(ConfigError, match="cannot write"):
        replace(Outputs.of({}, *nothing, None), junit=tmp_path / "no" / "j.xml").check()
