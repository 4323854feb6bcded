"""Evidence as a device: what was recorded comes back as it is, and everything else is refused."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hil.core.errors import ConfigError, HostError, MeasurementError
from hil.core.evidence import Evidence, Mark, PowerRecord, RunPlan
from hil.device.agent_session import engine_record
from hil.device.config import ReplayDevice
from hil.device.opening import device_link, open_session
from hil.device.session import EngineInfo, EngineSpec, Session, TensorInfo

NETWORK = b"a network"
PLAN = RunPlan(blocks=2)


def info(sha256: str, build: int = 0) -> EngineInfo:
    tensor = TensorInfo("x", "float32", (1, 3))
    return EngineInfo(
        EngineSpec(sha256, build_index=build),
        f"plan-{build}", "key", True, 2.5, "8.2.1.8", 1000, 1 << 20, (tensor,), (tensor,),
    )  # fmt: skip


def evidence(sha256: str, build: int = 0, count: int = 100) -> Evidence:
    return Evidence(
        board={"name": "bench", "model": "quill", "l4t": "32.7.4", "python": "3.6.9"},
        engine=engine_record(info(sha256, build)),
        plan=PLAN,
        marks=(Mark("block", 0, 0, 10**9, count),),
        latency_ns=((10**7,) * count,),
        states=(),
        provenance="measured",
        power=(PowerRecord("tegrastats", ((5, "VDD_IN 5000/5000"),)),),
    )


def keep(folder: Path, name: str, kept: Evidence) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(gzip.compress(json.dumps(kept.to_json()).encode()))


def device(folder: Path) -> ReplayDevice:
    return ReplayDevice.model_validate(
        {
            "schema": "hil/device@1",
            "name": "old",
            "driver": "replay",
            "board": "jetson-tx2",
            "replay": {"evidence": str(folder)},
            "power": {"source": "tegrastats", "rail": "VDD_IN"},
        }
    )


@pytest.fixture
def session(tmp_path):
    sha256 = "ab" * 32
    keep(tmp_path / "one", "evidence.json.gz", evidence(sha256))
    keep(tmp_path / "two", "evidence-again.json.gz", evidence(sha256, count=70))
    keep(tmp_path / "two", "evidence-build-1.json.gz", evidence(sha256, build=1))
    with open_session(device(tmp_path), owner="test") as opened:
        yield opened, sha256


def test_the_recorded_run_comes_back_whole_and_is_labelled(session):
    replayed, sha256 = session
    engine = replayed.build(EngineSpec(sha256))

    got = replayed.run(engine, RunPlan(blocks=9), "tegrastats", decide=lambda _seen: True)

    assert got == replace(evidence(sha256), provenance="replayed")
    assert replayed.provenance == "replayed"
    assert not replayed.board.emulated
    assert (replayed.board.model, replayed.name) == ("quill", "old")
    assert engine.engine_sha256 == "plan-0"
    assert engine.inputs == (TensorInfo("x", "float32", (1, 3)),)


def test_several_runs_of_an_engine_come_in_turn_and_builds_are_kept_apart(session):
    replayed, sha256 = session
    first, fresh = (replayed.build(EngineSpec(sha256, build_index=k)) for k in (0, 1))

    counts = [replayed.run(first, PLAN, "tegrastats").marks[0].inferences for _ in range(3)]

    assert counts == [100, 70, 100]
    assert fresh.engine_sha256 == "plan-1"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (EngineSpec("cd" * 32), "no record of this network"),
        (EngineSpec("ab" * 32, build_index=7), "build 7"),
        (EngineSpec("ab" * 32, precision="fp32"), "fp32"),
        (EngineSpec("ab" * 32, runtime="onnxruntime"), "onnxruntime"),
    ],
)
def test_what_was_not_recorded_is_refused_with_what_was_and_what_to_do(session, spec, said):
    replayed, _ = session

    with pytest.raises(ConfigError, match=said) as caught:
        replayed.build(spec)

    assert caught.value.why
    assert caught.value.fix


def test_nothing_beyond_the_record_is_made_up(session):
    replayed, sha256 = session
    engine = replayed.build(EngineSpec(sha256))

    refused = (
        lambda: replayed.infer(engine, {"x": np.zeros((1, 3), np.float32)}),
        lambda: replayed.layers(engine),
        lambda: replayed.trtexec(engine),
        lambda: replayed.step_response(engine, "tegrastats", 100, 2),
        lambda: replayed.get_blob(sha256),
        lambda: replayed.pin(nvpmodel=2),
        lambda: replayed.run(engine, PLAN, "ina3221"),
    )
    for asked in refused:
        with pytest.raises(MeasurementError, match="old"):
            asked()
    assert replayed.plausible([engine]) is None
    for harmless in (replayed.pin, replayed.restore, lambda: replayed.reset(3)):
        harmless()


def test_a_record_of_an_emulated_board_says_so(tmp_path):
    keep(tmp_path, "evidence.json.gz", replace(evidence("ab"), provenance="emulated"))

    with open_session(device(tmp_path), owner="test") as replayed:
        assert replayed.board.emulated
        assert replayed.provenance == "replayed"


def test_an_empty_folder_and_a_damaged_file_are_told_apart(tmp_path):
    with (
        pytest.raises(ConfigError, match="no evidence"),
        open_session(device(tmp_path), owner="test"),
    ):
        pass
    (tmp_path / "evidence.json.gz").write_bytes(b"\x1f\x8b not gzip")
    with (
        pytest.raises(HostError, match="cannot be read"),
        open_session(device(tmp_path), owner="test"),
    ):
        pass


def test_there_is_no_board_to_reach(tmp_path):
    with pytest.raises(ConfigError, match="no board behind old"), device_link(device(tmp_path)):
        pass


def test_it_answers_the_interface_of_every_session(session):
    replayed, _ = session
    asked: Session = replayed

    assert asked.put_blob(NETWORK) == asked.put_blob(NETWORK)
