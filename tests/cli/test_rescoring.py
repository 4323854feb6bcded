"""Old results from their raw evidence: the same figures again, and every change told."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest

from hil.cli.keeping import evidence_bytes
from hil.cli.rescoring import Change, changes_between, rescored
from hil.core.errors import ConfigError, HostError, MeasurementError
from hil.core.evidence import RunPlan
from hil.device.session import EngineSpec
from hil.measure.numbers import measurement
from hil.synth.store import RunStore


@pytest.fixture
def evidence(fake_session):
    board = fake_session()
    info = board.build(EngineSpec(onnx_sha256="1" * 64))
    return board.run(info, RunPlan(window_s=5.0, blocks=4), "tegrastats")


@pytest.fixture
def run_folder(tmp_path, evidence):
    """A synthesis run with a sound measurement, one whose figure was stored wrong, one refused."""
    result = measurement(evidence, "VDD_IN").to_json()
    with RunStore.create(tmp_path / "run", {"seed": 0}) as store:
        sha256 = store.put_json(evidence.to_json())
        kept = {"engine": {}, "onnx": "", "evidence": sha256, "refused": None}
        store.step("measure", "search:good:0", lambda: {**kept, "result": result})
        wrong = {**result, "energy_mj": result["energy_mj"] * 1.1}
        store.step("measure", "search:wrong:0", lambda: {**kept, "result": wrong})
        refused = {"engine": {}, "onnx": "", "evidence": "", "refused": "no", "result": {}}
        store.step("measure", "search:refused:0", lambda: refused)
    return tmp_path / "run"


def test_every_measurement_of_a_synthesis_run_is_rescored(run_folder):
    good, wrong = rescored(run_folder, None)

    assert (good.name, good.changes) == ("search:good:0", ())
    assert [change.figure for change in wrong.changes] == ["energy_mj"]
    assert wrong.changes[0].relative == pytest.approx(1 / 1.1 - 1)
    assert good.result["energy_mj"] == wrong.result["energy_mj"]


def test_a_damaged_evidence_costs_no_other_result(run_folder):
    with RunStore.open(run_folder, write=False) as store:
        sha256 = store.steps("measure")[0].value["evidence"]
    (run_folder / "blobs" / sha256).write_bytes(b"rotten")

    done = rescored(run_folder, None)

    assert len(done) == 2
    assert all(isinstance(one.error, HostError) for one in done)
    assert all(one.result is None for one in done)


@pytest.mark.parametrize("packed", [True, False])
def test_evidence_alone_is_scored_on_the_rail_of_the_whole_module(tmp_path, evidence, packed):
    path = tmp_path / "e.json"
    data = evidence_bytes(evidence)
    path.write_bytes(gzip.compress(data) if packed else data)

    (total,) = rescored(path, None)
    (gpu,) = rescored(path, "VDD_SYS_GPU")

    assert total.rail == "VDD_IN"
    assert total.stored is None
    assert total.result["energy_mj"] == pytest.approx(50.0, rel=0.01)
    assert gpu.result["energy_mj"] == pytest.approx(50.0 / 3, rel=0.01)


def test_a_rail_that_cannot_be_told_must_be_named(tmp_path, evidence):
    record = evidence.power[0]
    lines = tuple((t, text.replace("VDD_IN", "VDD_WHO")) for t, text in record.lines)
    strange = replace(evidence, power=(replace(record, lines=lines),))
    (tmp_path / "e.json").write_bytes(evidence_bytes(strange))

    with pytest.raises(MeasurementError, match="which rail") as caught:
        rescored(tmp_path / "e.json", None)

    assert "--rail" in caught.value.fix
    assert rescored(tmp_path / "e.json", "VDD_WHO")[0].result["energy_mj"] > 0


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"hello, I am a cat", ConfigError),
        (b"{}", ConfigError),
        (b"[1, 2]", ConfigError),
        (b'{"schema": "hil/evidence@2"}', ConfigError),
        (b'{"schema": "hil/evidence@99"}', ConfigError),
        (gzip.compress(b"x" * 10_000, mtime=0)[:40], HostError),
        (b"\xff\xfe\x00", ConfigError),
    ],
)
def test_a_file_that_is_no_evidence_is_named_as_such(tmp_path, content, error):
    (tmp_path / "e").write_bytes(content)

    with pytest.raises(error, match="e"):
        rescored(tmp_path / "e", None)


def test_a_path_or_folder_with_nothing_in_it_is_a_usage_error(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ConfigError):
            rescored(path, None)


def test_changes_are_told_by_name_and_rounding_is_none():
    old = {"a": 1.0, "b": [1.0, 2.0], "c": {"d": "x", "e": None}, "f": 0.0, "only old": 1}
    new = {"a": 1.0 + 1e-15, "b": [1.0, 2.5], "c": {"d": "y", "e": 3.0}, "f": 1.0, "only new": 2}

    changes = list(changes_between(old, new))

    assert changes == [
        Change("b[1]", 2.0, 2.5),
        Change("c.d", "x", "y"),
        Change("c.e", None, 3.0),
        Change("f", 0.0, 1.0),
    ]
    assert [change.relative for change in changes] == [0.25, None, None, None]


def test_evidence_of_the_first_format_is_read(tmp_path, evidence):
    data = json.loads(evidence_bytes(evidence))
    (record,) = data.pop("power")
    del data["start"], data["plan"]["max_blocks"], data["plan"]["rate_hz"]
    data |= {"schema": "hil/evidence@1", "power_source": record["source"]}
    data |= {"power_lines": record["lines"], "power_argv": record["argv"]}
    (tmp_path / "old.json").write_text(json.dumps(data))

    (one,) = rescored(tmp_path / "old.json", None)

    assert one.result["energy_mj"] == measurement(evidence, "VDD_IN").energy_mj.value
