"""A table behind the loop's interfaces: lookups, held-out figures, the widest intervals."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.device.config import ReplayDevice
from hil.synth.boardwork import Model
from hil.synth.paired import Paired
from hil.synth.profile import Profile
from hil.synth.progress import Silent
from hil.synth.store import RunStore
from hil.synth.tabular import apart, open_table
from hil.synth.work import Contender

CELLS = np.array(list(itertools.product(range(5), repeat=6)), dtype=np.int8)
ALL_3X3 = (3,) * 6
PROFILE = {
    "schema": "hil/profile@1",
    "name": "t",
    "task": "table",
    "table": {
        "macs": "macs",
        "params": "params",
        "same": "same",
        "accuracy": {"search": "acc", "pictures": 1000, "glance": "quick"},
    },
    "requirements": {"energy_mj": {"at_most": 3.0}},
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    convolutions = (CELLS == 3).sum(axis=1)
    rows = np.arange(len(CELLS))
    path = tmp_path_factory.mktemp("table") / "t.npz"
    np.savez(
        path,
        ops=CELLS,
        energy=1.0 + convolutions,
        acc=50.0 + 5 * convolutions + (rows % 7) / 10,
        quick=20.0 + convolutions,
        macs=1000 + convolutions,
        params=100 + convolutions,
        # Rows 1 and 2 are one network, every other row its own.
        same=np.where(rows == 2, 1, rows),
    )
    return path


@pytest.fixture
def opened(file, tmp_path):
    device = ReplayDevice.model_validate(
        {
            "schema": "hil/device@1",
            "name": "recorded",
            "driver": "replay",
            "board": "jetson-tx2",
            "replay": {
                "table": {
                    "file": str(file),
                    "choices": "ops",
                    "figures": {"energy_mj": "energy"},
                    "rail": "VDD_IN",
                    "noise": {"measurement": 0.0, "build": 0.0},
                }
            },
        }
    )
    profile = Profile.model_validate(PROFILE)
    with RunStore.create(tmp_path / "run", {"seed": 0}) as store:
        board, opener = open_table(profile, device, store, 0)
        yield board, opener(Silent(), lambda _pictures: None), store


def row_of(arch):
    return int((arch == CELLS).all(axis=1).argmax())


def test_figures_are_the_table_s_and_labelled_replayed(opened):
    board, bench, _ = opened
    key = bench.search_space.key(ALL_3X3)

    figures = board.measure(key, lambda: bench.export(ALL_3X3, None), None, stage="search", build=0)

    assert figures.usable
    assert figures.estimate("energy_mj").value == 7.0
    assert figures.estimate("inferences_per_joule").value == pytest.approx(1000 / 7)
    assert figures.result["provenance"] == board.session.provenance == "replayed"
    assert figures.estimate("latency_p99_ms") is None
    assert board.known(key, stage="search")
    assert not board.known(key, stage="confirm", build=1)


def test_a_training_is_a_lookup_that_is_counted_once(opened):
    _, bench, store = opened

    first = bench.train(ALL_3X3, "search")
    again = bench.train(ALL_3X3, "search")

    assert first == again
    assert first.accuracy == pytest.approx((80 + row_of(ALL_3X3) % 7 / 10) / 100)
    assert [s.key for s in store.steps("train")] == [
        "prototype",
        f"search:{bench.search_space.key(ALL_3X3)}",
    ]
    assert bench.glance(ALL_3X3) == pytest.approx(26.0)


def test_held_out_is_another_training_of_the_network_or_else_the_same_figure(opened):
    _, bench, _ = opened
    twin, other = tuple(map(int, CELLS[1])), tuple(map(int, CELLS[2]))

    assert bench.heldout(twin) == pytest.approx(bench.train(other, "final").accuracy)
    assert bench.heldout(other) == pytest.approx(bench.train(twin, "final").accuracy)
    assert bench.heldout(ALL_3X3) == pytest.approx(bench.identity.accuracy)
    assert any("another training" in note for note in bench.notes)


def test_final_accuracies_are_compared_with_the_prototype_s(opened):
    board, bench, store = opened
    arch = (3, 3, 3, 3, 3, 0)
    contenders = [
        Contender(name, a, bench.train(a, "final"), name, Model(b""))
        for name, a in (("prototype", ALL_3X3), ("net", arch))
    ]
    told: list[str] = []

    paired = bench.examine(contenders, board, "finalists", told.append)

    lost = 100 * (bench.heldout(ALL_3X3) - bench.heldout(arch))
    assert -paired["net"].difference == pytest.approx(lost, abs=0.11)
    assert paired["prototype"].difference == 0
    assert told == ["prototype", "net"]
    assert store.find("heldout", "opened")["pictures"] == 1000


def test_the_file_for_the_board_is_the_network_s_choices(opened):
    _, bench, _ = opened

    assert json.loads(bench.export(ALL_3X3, "x").onnx)["choices"] == list(ALL_3X3)
    assert bench.changes((3, 3, 3, 3, 3, 0)) == ("edge 2-3: none",)
    assert bench.changes(ALL_3X3) == ()


@given(st.integers(1, 500), st.floats(0, 1), st.floats(0, 1))
def test_networks_known_by_accuracy_alone_share_as_few_errors_as_can_be(n, own, other):
    paired = apart(n, own, other)

    assert paired.accuracy == pytest.approx(100 * round(n * other) / n, abs=100.5 / n)
    assert paired.prototype_accuracy == pytest.approx(100 * round(n * own) / n, abs=100.5 / n)
    assert min(paired.both, paired.gained, paired.lost) >= 0
    wrong_in_both = n - paired.both - paired.gained - paired.lost
    assert wrong_in_both >= 0
    # Nothing can be moved apart any more: either no error is shared, or no answer is.
    assert wrong_in_both == 0 or paired.both == 0


def test_that_makes_the_interval_of_the_difference_the_widest_there_is():
    rng = np.random.Generator(np.random.Philox(1))
    own, other = np.zeros(400, bool), np.zeros(400, bool)
    own[:380], other[:370] = True, True
    widest = apart(400, 0.95, 0.925).interval()
    for _ in range(30):
        low, high = Paired.count(own, rng.permutation(other)).interval()
        assert high - low <= widest[1] - widest[0] + 1e-9
