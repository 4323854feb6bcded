"""A network whose engine kills its worker costs a search that measurement, with the cause."""

from __future__ import annotations

import pytest

from hil.core.evidence import RunPlan
from hil.device.faults import EngineDiedError, to_error
from hil.device.session import EngineSpec
from hil.device.wire import Failure
from hil.synth.boardwork import ATTEMPTS, BoardWork, Model
from hil.synth.store import RunStore

PLAN = RunPlan(idle_s=2, settle_s=3, window_s=5, blocks=3)


def dying(fake, deaths):
    """A board on which one network's engine dies so many times."""

    class Dying(fake):
        def reset(self, seed):
            self.seed = seed

        def build(self, spec):
            bad = spec.onnx_sha256 == self.put_blob(b"bad")
            self.died = getattr(self, "died", 0) + bad
            if bad and self.died <= deaths:
                failure = Failure(
                    1, "worker_died", "the process died while building", "signal 11", ""
                )
                raise to_error(failure)
            return super().build(spec)

    return Dying()


@pytest.mark.parametrize(("deaths", "measured"), [(ATTEMPTS - 1, True), (ATTEMPTS, False)])
def test_it_is_tried_again_and_then_refused_and_the_next_is_measured(
    fake_session, tmp_path, deaths, measured
):
    with RunStore.create(tmp_path / "run", {"seed": 1}) as store:
        board = BoardWork(
            dying(fake_session, deaths), store, 1, EngineSpec(""), "tegrastats", "VDD_IN"
        )

        bad = board.measure("bad", lambda: Model(b"bad"), PLAN, stage="search")
        good = board.measure("good", lambda: Model(b"good"), PLAN, stage="search")

    assert bad.usable == measured
    assert measured or "signal 11" in bad.refused
    assert measured or f"tried {ATTEMPTS} times" in bad.refused
    assert good.usable


@pytest.mark.parametrize("code", ["worker_died", "timeout", "out_of_memory"])
def test_what_costs_one_measurement_has_an_error_of_its_own(code):
    assert isinstance(to_error(Failure(1, code, "what")), EngineDiedError)
