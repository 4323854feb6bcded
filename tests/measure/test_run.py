"""Run and score, through a session that hands out recorded evidence."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from hil.core.errors import ConfigError, MeasurementError
from hil.core.evidence import Evidence, RunPlan
from hil.device.session import EngineInfo, EngineSpec
from hil.measure.run import measure

INFO = EngineInfo(
    spec=EngineSpec(onnx_sha256="1" * 64),
    engine_sha256="2" * 64,
    key="3" * 64,
    cached=False,
    build_s=1.0,
    runtime_version="8.2.1.8",
    plan_bytes=1000,
    device_memory_bytes=None,
    inputs=(),
    outputs=(),
)


@dataclass
class Recorded:
    """A session that answers `run` with one recording."""

    recording: Evidence
    asked: list[tuple[EngineInfo, RunPlan, str]] = field(default_factory=list)

    def run(self, info, plan, power):
        self.asked.append((info, plan, power))
        return self.recording


def test_the_run_is_asked_as_planned_and_its_evidence_kept(script):
    session = Recorded(script.evidence())

    got, evidence = measure(session, INFO, script.plan, power="tegrastats", rail="VDD_IN")

    assert session.asked == [(INFO, script.plan, "tegrastats")]
    assert evidence is session.recording
    assert got.energy_mj is not None


@pytest.mark.parametrize(
    ("plan", "power", "told"),
    [
        (RunPlan(blocks=2), "none", "blocks is 2"),
        (RunPlan(window_s=0.0), "none", "window_s is 0"),
        (RunPlan(window_s=1.5), "tegrastats", "window_s is 1.5"),
        (RunPlan(interval_ms=5000), "tegrastats", "interval_ms is 5000"),
    ],
)
def test_a_plan_that_cannot_give_a_figure_never_reaches_the_board(script, plan, power, told):
    session = Recorded(script.evidence())

    with pytest.raises(ConfigError, match=told):
        measure(session, INFO, plan, power=power, rail="VDD_IN")

    assert session.asked == []


def test_missing_power_is_an_error_of_the_measurement(script):
    session = Recorded(script.evidence(power_lines=()))

    with pytest.raises(MeasurementError) as caught:
        measure(session, INFO, script.plan, power="tegrastats", rail="VDD_IN")

    assert caught.value.exit_code == 5
