"""A bundle's claim measured again: it reproduces, it does not, or builds do not decide it."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from hil.cli.bundling import bundle_files, packed
from hil.cli.verify import _end, _told
from hil.cli.verifying import measured_again, read_claim
from hil.core.errors import ConfigError, ExitCode, LimitViolatedError, MeasurementError
from hil.device.config import EmulatedDevice
from hil.synth.store import RunStore

pytestmark = [pytest.mark.slow, pytest.mark.board, pytest.mark.torch]


@pytest.fixture(scope="module")
def bundle(uninterrupted, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundled") / "run.hil"
    path.write_bytes(packed(bundle_files(uninterrupted[1])))
    return path


def device(rail: str = "VDD_IN") -> EmulatedDevice:
    return EmulatedDevice.model_validate(
        {
            "schema": "hil/device@1",
            "name": "fake",
            "driver": "emulated",
            "board": "jetson-tx2",
            "power": {"source": "tegrastats", "rail": rail, "interval_ms": 100},
        }
    )


@pytest.fixture
def again(bundle, fake_session, tmp_path):
    """Measures the claim on a board in memory whose network takes a share of the prototype's W."""

    @dataclass
    class Resettable(fake_session):  # type: ignore[misc, valid-type]
        def reset(self, seed: int) -> None:
            self.asked.append(("reset", seed))

    def measured(share: float, build_w: float = 0.0):
        claim = read_claim(bundle, None)
        own, base = claim.entry["onnx_sha256"], claim.prototype["onnx_sha256"]
        session = Resettable(
            watts={own: 10.0 * share, base: 10.0},
            latency_ms={own: 5.0, base: 10.0},
            idle_w=1.0,
            build_w=build_w,
        )
        session.watts[own] *= 2  # in half the time
        with RunStore.create(tmp_path / "run", {"seed": 0}) as store:
            ruling = measured_again(claim, device(), session, store, 0)
        return ruling, _told(claim, ruling, session, tmp_path / "run"), session

    return measured


def test_a_claim_that_holds_here_too_reproduces_and_says_where(again, capsys):
    ruling, told, session = again(0.6)

    _end(ruling, told)

    assert told["reproduced"] is True
    assert told["verdict"] == "feasible_emulated"
    assert "EMULATED" in capsys.readouterr().err
    energy = next(one for one in told["limits"] if one["metric"] == "energy_mj")
    assert energy["estimate"] == pytest.approx(0.6, rel=0.01)
    built = [ask[2] for ask in session.asked if ask[0] == "build"]
    assert len(built) == 6  # three pairs, each build fresh
    assert sorted(set(built)) == [1, 2, 3]


def test_a_claim_that_breaks_here_is_a_broken_limit(again):
    ruling, told, _ = again(0.99)

    with pytest.raises(LimitViolatedError, match=r"does not reproduce.*EMULATED") as raised:
        _end(ruling, told)

    assert raised.value.exit_code == ExitCode.LIMIT_VIOLATED
    assert told["reproduced"] is False


def test_a_claim_too_near_its_limit_is_inconclusive(again):
    ruling, told, _ = again(0.845)

    with pytest.raises(MeasurementError, match="do not decide") as raised:
        _end(ruling, told)

    assert raised.value.exit_code == ExitCode.MEASUREMENT
    assert told["reproduced"] is None


def test_joules_of_another_rail_are_not_compared(bundle, fake_session, tmp_path):
    with (
        RunStore.create(tmp_path / "run", {"seed": 0}) as store,
        pytest.raises(ConfigError, match="rail"),
    ):
        measured_again(read_claim(bundle, None), device("VIN_SYS"), fake_session(), store, 0)


def test_a_bundle_that_contradicts_itself_is_not_measured(uninterrupted, tmp_path):
    files = bundle_files(uninterrupted[1])
    files["profile.json"] = files["profile.json"].replace(b"85 %", b"95 %")
    path = tmp_path / "forged.hil"
    path.write_bytes(packed(files))

    with pytest.raises(LimitViolatedError, match="contradicts itself"):
        read_claim(path, None)


def test_what_is_no_bundle_and_a_network_that_is_not_in_it_are_told(bundle, tmp_path):
    (tmp_path / "none.hil").write_bytes(b"none")

    with pytest.raises(ConfigError, match="is no bundle"):
        read_claim(tmp_path / "none.hil", None)
    with pytest.raises(ConfigError, match="no certified network net-other"):
        read_claim(bundle, "net-other")


def test_a_claim_reproduces_on_the_emulated_board_under_other_noise(bundle, workplace, hil):
    done = hil(
        *("verify", str(bundle), "--device", "tx2-emulated.yaml", "--seed", "8"),
        *("--run", "again", "--json"),
        cwd=workplace,
    )

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["reproduced"] is True
    assert told["provenance"] == told["stated_provenance"] == "emulated"
    for one in told["limits"]:
        assert one["estimate"] == pytest.approx(one["stated"], rel=0.05)
