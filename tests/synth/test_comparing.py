"""Methods side by side: who found what, by hand, and said whoever it was."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hil.core.errors import ConfigError
from hil.core.stats import Estimate
from hil.synth.candidates import Candidate
from hil.synth.comparing import Attempt, compare_json, named_methods
from hil.synth.work import Trained

STEPS = [
    SimpleNamespace(key="search:1:0", value={"device_s": 30.0}),
    SimpleNamespace(key="search:2:0", value={"device_s": 20.0}),
    SimpleNamespace(key="search:2:1", value={"device_s": 20.0}),
    SimpleNamespace(key="confirm:1:w:1", value={"device_s": 99.0}),
]


def candidate(number: int, energy_mj: float, accuracy: float | None, verdict="feasible"):
    trained = None if accuracy is None else Trained("w", accuracy, 1000)
    costs = {"energy_mj": Estimate(energy_mj, energy_mj, energy_mj)}
    return Candidate((number,), "by hand", 1, (), costs, verdict, None, trained)


def compared(*attempts: Attempt):
    space = SimpleNamespace(key=lambda arch: str(arch[0]), cost=lambda arch: (1.0, 1.0))
    setup = SimpleNamespace(utility=lambda accuracy, macs, params: 100 * np.asarray(accuracy))
    job = SimpleNamespace(
        session=SimpleNamespace(provenance="replayed"),
        store=SimpleNamespace(steps=lambda _kind: STEPS),
    )
    inquisitor = SimpleNamespace(space=space, setup=setup)
    return compare_json(job, inquisitor, candidate(0, 10.0, 0.95), attempts)


def test_figures_of_each_method_are_those_counted_by_hand():
    own = Attempt("hil", 0, (candidate(1, 4.0, 0.90), candidate(2, 3.0, 0.80)))
    other = Attempt(
        "evolution",
        0,
        (candidate(2, 3.0, 0.80), candidate(3, 5.0, 0.85), candidate(4, 1.0, None)),
    )

    found = compared(own, other)

    rows = {row["method"]: row for row in found["methods"]}
    assert found["equal_accuracy"] == 90
    assert (rows["hil"]["best_u"], rows["evolution"]["best_u"]) == (90, 85)
    assert rows["hil"]["least_energy_mj"] == 4.0
    assert rows["hil"]["energy_ratio_to_prototype"] == pytest.approx(0.4)
    # None of evolution's networks is as accurate, so there is no energy at equal accuracy.
    assert rows["evolution"]["least_energy_mj"] is None
    assert rows["evolution"]["energy_ratio"] is None
    assert [rows[m]["trainings"] for m in ("hil", "evolution")] == [2, 2]
    assert [rows[m]["measurements"] for m in ("hil", "evolution")] == [2, 3]
    # Board time counts for both, though the journal answered the second of them.
    assert rows["hil"]["device_seconds"] == 70.0
    assert rows["evolution"]["device_seconds"] == 40.0
    assert found["statement"].startswith("synthesis found the best network")


def test_a_peer_that_wins_is_said_to_win():
    own = Attempt("hil", 0, (candidate(1, 4.0, 0.90),))
    better = Attempt("tpe", 0, (candidate(3, 2.0, 0.93),))

    found = compared(own, better)

    assert found["statement"].startswith("tpe found a better network than synthesis")
    assert "50.0 % less energy" in found["statement"]
    assert found["methods"][1]["energy_ratio"] == pytest.approx(0.5)
    assert not found["certified"]


def test_infeasible_and_untrained_networks_do_not_count():
    own = Attempt("hil", 0, (candidate(1, 4.0, 0.9, "infeasible"), candidate(2, 1.0, None)))
    other = Attempt("random", 0, (candidate(3, 4.0, 0.9, "undecided"),))

    found = compared(own, other)

    assert [row["feasible"] for row in found["methods"]] == [0, 0]
    assert "no method found a network" in found["statement"]


def test_nothing_is_compared_where_nobody_else_searched():
    assert compared(Attempt("hil", 0, ())) is None


def test_methods_are_named_once_and_known():
    assert named_methods("evolution, random,evolution") == ("evolution", "random")
    for wrong in ("luck", "evolution,luck", " , "):
        with pytest.raises(ConfigError, match="no search method"):
            named_methods(wrong)
