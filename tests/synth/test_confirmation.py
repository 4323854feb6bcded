"""Confirmation as a state: which builds it asks for, when it decides, and that it keeps."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.synth.certificate import Plan
from hil.synth.confirmation import PROTOTYPE, Confirmation, Need
from hil.synth.paired import Paired
from hil.synth.requirements import Limit, Requirement

ENERGY = Requirement("energy_mj", Limit(0.4, relative=True))
LATENCY = Requirement("latency_p99_ms", Limit(2.0))
LOSE_1 = Requirement("accuracy", Limit(1.0), "lose_at_most")
AS_GOOD = Paired(pictures=900, both=890, gained=2, lost=2)
WORSE = Paired(pictures=900, both=860, gained=0, lost=20)

# What each build of a network reads: wandering by 1 % around the network's mean, the prototype's
# in another rhythm.
WANDER = (1.0, 1.01, 0.99, 1.005, 0.995, 1.0, 1.01, 0.99)
STEADY = (1.005, 0.995, 1.0)


def confirmation(requirements=(ENERGY,), networks=("a",), **changes):
    return Confirmation(Plan(requirements, finalists=3, **changes), networks)


def figures(energy, build, latency=1.0, wander=WANDER):
    factor = wander[(build - 1) % len(wander)]
    return {"energy_mj": energy * factor, "latency_p99_ms": latency * factor}


def measure(state, energies):
    """Give every build asked for until no more are; returns the builds given."""
    given_builds = []
    while needs := state.needs_more():
        for need in needs:
            wander = STEADY if need.network == PROTOTYPE else WANDER
            energy = energies[need.network]
            state.add(need.network, need.build, figures(energy, need.build, wander=wander))
            given_builds.append(need)
    return given_builds


def test_a_round_takes_every_finalist_beside_the_prototype():
    state = confirmation(networks=("a", "b"))

    assert state.needs_more() == tuple(Need(n, 1) for n in (PROTOTYPE, "a", "b"))
    state.add("a", 1, figures(2.0, 1))
    assert state.needs_more() == (Need(PROTOTYPE, 1), Need("b", 1))


def test_absolute_limits_need_no_build_of_the_prototype():
    assert confirmation((LATENCY,)).needs_more() == (Need("a", 1),)


def test_a_network_far_inside_is_certified_at_the_first_look():
    state = confirmation()

    taken = measure(state, {PROTOTYPE: 10.0, "a": 2.0})

    ruling = state.ruling("a")
    assert (ruling.word, ruling.final, ruling.builds) == ("feasible", True, 3)
    assert len(taken) == 6
    (finding,) = ruling.findings
    assert finding.value == pytest.approx(0.2, rel=1e-4)
    assert finding.value < finding.bound < finding.limit == 0.4


def test_a_network_far_outside_is_refused_at_the_first_look():
    state = confirmation()
    measure(state, {PROTOTYPE: 10.0, "a": 6.0})

    ruling = state.ruling("a")
    assert (ruling.verdict, ruling.final, ruling.builds) == ("infeasible", True, 3)
    assert ruling.findings[0].bound > 0.4


def test_a_network_at_the_limit_is_not_certified_and_left_when_that_is_hopeless():
    state = confirmation()

    taken = measure(state, {PROTOTYPE: 10.0, "a": 4.0})

    ruling = state.ruling("a")
    assert (ruling.verdict, ruling.final) == ("undecided", True)
    assert ruling.builds in state.plan.looks
    assert ruling.given_up or ruling.builds == state.plan.most_builds
    assert len(taken) == 2 * ruling.builds


def test_a_decided_network_asks_for_no_more_while_others_go_on():
    state = confirmation(networks=("near", "far"))
    taken = measure(state, {PROTOTYPE: 10.0, "near": 3.85, "far": 2.0})

    assert sum(need.network == "far" for need in taken) == 3
    assert sum(need.network == "near" for need in taken) > 3
    assert state.ruling("near").verdict == "feasible"


def test_one_broken_limit_refuses_whatever_the_others_say():
    state = confirmation((ENERGY, LATENCY))
    for build in (1, 2, 3):
        state.add(PROTOTYPE, build, figures(10.0, build))
        state.add("a", build, figures(2.0, build, latency=3.0))

    ruling = state.ruling("a")
    assert [f.verdict for f in ruling.findings] == ["feasible", "infeasible"]
    assert ruling.verdict == "infeasible"


def test_no_certificate_without_the_held_out_answers():
    state = confirmation((ENERGY, LOSE_1))
    measure(state, {PROTOTYPE: 10.0, "a": 2.0})

    assert state.needs_accuracy() == ("a",)
    assert (state.ruling("a").verdict, state.ruling("a").final) == ("undecided", False)
    assert state.needs_more() == ()
    assert state.add_accuracy("a", AS_GOOD).verdict == "feasible"
    assert state.ruling("a").final


def test_a_network_that_lost_too_much_accuracy_is_not_measured_further():
    state = confirmation((ENERGY, LOSE_1))

    assert state.add_accuracy("a", WORSE).verdict == "infeasible"
    assert state.needs_more() == ()


def test_an_emulated_board_s_verdict_says_so():
    state = confirmation(provenance="emulated")
    measure(state, {PROTOTYPE: 10.0, "a": 2.0})

    assert state.ruling("a").word == "feasible_emulated"
    assert state.ruling("a").to_json()["verdict"] == "feasible_emulated"
    assert state.ruling("a").to_json()["scope"] == "build"


def test_a_refusal_on_an_emulated_board_is_a_refusal():
    state = confirmation(provenance="emulated")
    measure(state, {PROTOTYPE: 10.0, "a": 6.0})
    assert state.ruling("a").word == "infeasible"


@settings(deadline=None)
@given(order=st.permutations([(n, k) for n in (PROTOTYPE, "a") for k in range(1, 5)]))
def test_the_ruling_does_not_depend_on_the_order_of_arrival(order):
    def given_in(sequence):
        state = confirmation()
        for network, build in sequence:
            state.add(network, build, figures({PROTOTYPE: 10.0, "a": 3.8}[network], build))
        return state.ruling("a")

    assert given_in(order) == given_in(sorted(order))


def test_later_builds_never_overrule_a_decision():
    state = confirmation()
    measure(state, {PROTOTYPE: 10.0, "a": 2.0})
    state.add(PROTOTYPE, 4, figures(10.0, 4))

    ruling = state.add("a", 4, {"energy_mj": 50.0})

    assert (ruling.verdict, ruling.builds) == ("feasible", 3)


def test_an_interrupted_confirmation_goes_on_where_it_was():
    state = confirmation((ENERGY, LOSE_1), networks=("a", "b"), confidence=0.9)
    for need in state.needs_more()[:5]:
        state.add(need.network, need.build, figures(3.0, need.build))
    state.add_accuracy("b", AS_GOOD)

    again = Confirmation.from_json(json.loads(json.dumps(state.to_json())))

    assert again.to_json() == state.to_json()
    assert again.plan == state.plan
    assert again.needs_more() == state.needs_more()
    assert again.ruling("b") == state.ruling("b")


def test_state_of_another_format_is_not_read():
    with pytest.raises(ValueError, match="hil/confirmation@2"):
        Confirmation.from_json({"schema": "hil/confirmation@7"})


@pytest.mark.parametrize(
    ("network", "build", "energy"),
    [("x", 1, 1.0), ("a", 0, 1.0), ("a", 17, 1.0), ("a", 2, 0.0), ("a", 2, float("nan"))],
)
def test_figures_that_cannot_be_builds_are_refused(network, build, energy):
    with pytest.raises(ValueError, match=network):
        confirmation().add(network, build, {"energy_mj": energy})


def test_a_build_is_given_once_and_with_every_required_figure():
    state = confirmation()
    state.add("a", 1, {"energy_mj": 1.0})
    with pytest.raises(ValueError, match="not wanted"):
        state.add("a", 1, {"energy_mj": 0.5})
    with pytest.raises(ValueError, match="no figure of energy_mj"):
        state.add("a", 2, {"latency_p99_ms": 1.0})


def test_no_more_finalists_than_share_alpha():
    with pytest.raises(ValueError, match="alpha"):
        confirmation(networks=("a", "b", "c", "d"))
    with pytest.raises(ValueError, match="different names"):
        confirmation(networks=("a", "a"))


def rounds_of(taken):
    """Who took part in each round, the prototype left out."""
    shown = {}
    for need in taken:
        if need.network != PROTOTYPE:
            shown.setdefault(need.build, []).append(need.network)
    return [tuple(names) for _, names in sorted(shown.items())]


def test_with_limits_in_their_own_unit_builds_go_to_the_best_until_it_is_decided():
    state = confirmation((LATENCY,), networks=("best", "next"))

    taken = []
    while needs := state.needs_more():
        for need in needs:
            value = {"best": 1.9, "next": 1.0}[need.network]
            state.add(need.network, need.build, figures(1.0, need.build, latency=value))
            taken.append(need)

    alone = rounds_of(taken)
    first = alone.index(("next",))
    assert set(alone[:first]) == {("best",)}
    assert first > 3
    assert state.certified() == ("best", "next")


def test_rounds_are_shared_until_the_best_will_probably_be_certified():
    state = confirmation(networks=("best", "next"))
    taken = rounds_of(measure(state, {PROTOTYPE: 10.0, "best": 3.8, "next": 3.8}))

    assert taken[:3] == [("best", "next")] * 3
    assert ("best",) in taken
    assert state.best_known()


def test_once_the_best_is_known_the_rest_are_measured_together():
    state = confirmation(networks=("best", "next", "last"))
    taken = rounds_of(measure(state, {PROTOTYPE: 10.0, "best": 2.0, "next": 3.85, "last": 3.86}))

    assert taken[0] == ("best", "next", "last")
    assert taken[3] == ("next", "last")


def test_a_hopeless_finalist_is_given_up_and_said_to_be():
    state = confirmation(networks=("a",))
    taken = measure(state, {PROTOTYPE: 10.0, "a": 4.02})

    ruling = state.ruling("a")
    assert (ruling.verdict, ruling.final, ruling.given_up) == ("undecided", True, True)
    assert len(taken) < 2 * state.plan.most_builds
    assert ruling.to_json()["given_up"]


def test_the_share_of_a_certified_finalist_passes_to_the_others():
    # Alone among three it spends a third of alpha; beside two certified ones all of it.
    def after(others):
        state = confirmation(networks=("near", "b", "c"), fewest_builds=5, most_builds=5)
        for build in range(1, 6):
            for name, energy in {PROTOTYPE: 10.0, "near": 3.862, **others}.items():
                wander = STEADY if name == PROTOTYPE else WANDER
                state.add(name, build, figures(energy, build, wander=wander))
        return state.certified()

    assert "near" not in after({"b": 4.2, "c": 4.2})
    assert after({"b": 2.0, "c": 2.0}) == ("near", "b", "c")


def test_each_requirement_is_decided_at_a_look_of_its_own():
    state = confirmation((ENERGY, LATENCY))
    while needs := state.needs_more():
        for need in needs:
            wander = STEADY if need.network == PROTOTYPE else WANDER
            energy = 10.0 if need.network == PROTOTYPE else 3.8
            state.add(need.network, need.build, figures(energy, need.build, 0.5, wander))

    energy, latency = state.ruling("a").findings
    assert state.ruling("a").verdict == "feasible"
    assert (latency.builds, latency.looks) == (3, 1)
    assert energy.builds > latency.builds
    assert energy.looks == state.plan.looks.index(energy.builds) + 1
    assert energy.slack < latency.slack


@settings(deadline=None, max_examples=12)
@given(cut=st.integers(0, 30))
def test_a_confirmation_cut_anywhere_asks_for_the_same_builds(cut):
    energies = {PROTOTYPE: 10.0, "a": 3.8, "b": 3.5, "c": 4.1}
    names = ("a", "b", "c")
    whole = measure(confirmation(networks=names), energies)

    state = confirmation(networks=names)
    for need in whole[:cut]:
        wander = STEADY if need.network == PROTOTYPE else WANDER
        state.add_figures(need.network, need.build, figures(energies[need.network], need.build,
                                                            wander=wander))  # fmt: skip
    again = Confirmation.from_json(json.loads(json.dumps(state.to_json())))
    assert whole[:cut] + measure(again, energies) == whole
