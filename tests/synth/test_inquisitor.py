"""Asking repeats itself exactly, telling is all the state there is, refusals have reasons."""

from __future__ import annotations

import numpy as np
import pytest

from hil.synth.inquisitor import Inquisitor
from hil.synth.records import Observation
from hil.synth.searchspace import random_archs


def _rng(k: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[1, k]))


def _sizes(toy, arch):
    return (np.array([x]) for x in toy.cost(arch))


def test_a_resumed_inquisitor_asks_for_the_same_networks(searched, toy, setup):
    inquisitor, told = searched
    again = Inquisitor(toy, setup)
    again.tell(told)  # all rounds at once
    assert again.generator.to_json() == inquisitor.generator.to_json()
    assert again.ask(8, _rng(5)) == inquisitor.ask(8, _rng(5))


def test_asking_changes_nothing(searched):
    inquisitor = searched[0]
    first = inquisitor.ask(6, _rng(5))
    inquisitor.ask(3, _rng(6))
    assert inquisitor.ask(6, _rng(5)) == first


def test_nothing_is_asked_twice(searched, toy):
    inquisitor, told = searched
    proposals = [p.arch for p in inquisitor.ask(40, _rng(2))]
    assert len(proposals) == len(set(proposals)) == 40
    assert not set(proposals) & {o.arch for o in told}


def test_the_first_round_is_the_design_and_the_prototype_comes_first(toy, setup):
    proposals = Inquisitor(toy, setup).ask(5, _rng(0))
    assert {p.source for p in proposals} == {"design"}
    assert proposals[0].arch == tuple(v.identity for v in toy.variables)


def test_the_design_is_asked_for_in_pieces_too(toy, setup, lab):
    inquisitor, seen = Inquisitor(toy, setup), []
    for k in range(4):
        proposals = inquisitor.ask(2, _rng(k))
        seen += [p.arch for p in proposals]
        inquisitor.tell([lab.observe(toy, p.arch, k) for p in proposals])
    assert seen == [p.arch for p in Inquisitor(toy, setup).ask(8, _rng(9))]


def test_the_search_finds_feasible_networks_and_the_generator_advances(searched):
    inquisitor, told = searched
    assert sum(o.verdict == "feasible" for o in told) >= 3
    assert inquisitor.generator.generation >= 1


def test_the_search_beats_random_search_at_the_same_measurements(searched, toy, lab):
    def best(observations) -> float:
        scores = [
            float(lab.netscore(np.array([toy.truth(o.arch)["accuracy"]]), *_sizes(toy, o.arch))[0])
            for o in observations
            if o.verdict == "feasible"
        ]
        return max(scores, default=-np.inf)

    told = searched[1]
    random = []
    for seed in range(20):
        archs = random_archs(toy, len(told), np.random.default_rng(seed))
        random.append(best([lab.observe(toy, a) for a in archs]))
    assert best(told) > np.quantile(random, 0.75)


def test_an_accuracy_told_later_completes_the_measurement(toy, setup, lab):
    arch = Inquisitor(toy, setup).ask(2, _rng(0))[1].arch
    costs = lab.observe(toy, arch).costs
    inquisitor = Inquisitor(toy, setup)
    inquisitor.tell([Observation(arch, costs, None, "undecided", 0)])
    inquisitor.tell([Observation(arch, {}, 0.97, "feasible", 1, 0.002)])
    (merged,) = inquisitor.observations
    assert merged.costs == costs
    assert (merged.accuracy, merged.verdict) == (0.97, "feasible")
    assert inquisitor.incumbents() == [arch]


def test_a_receipt_names_what_to_cut_first(toy, setup, lab):
    inquisitor = Inquisitor(toy, setup)
    archs = random_archs(toy, 50, np.random.default_rng(0))
    inquisitor.tell([lab.observe(toy, a) for a in dict.fromkeys(archs)])
    base = tuple(v.identity for v in toy.variables)
    heavy = (*base[:7], 2)
    receipt = next(r for r in inquisitor.receipts(heavy) if r.metric == "energy_mj")
    deltas = [line.delta for line in receipt.contributions]
    assert deltas == sorted(deltas, reverse=True)
    assert receipt.value > receipt.limit
    assert receipt.excess == pytest.approx(receipt.value - receipt.limit)
    # By construction `op` at its third choice is the costliest of all variables.
    assert receipt.contributions[0].variable == "op"
    truth = toy.truth(heavy)["energy_mj"] - toy.truth((*base[:7], 0))["energy_mj"]
    assert receipt.contributions[0].delta == pytest.approx(truth, rel=0.3)
    assert receipt.to_json()["contributions"][0]["variable"] == "op"


def test_a_feasible_network_has_no_receipt(searched):
    inquisitor = searched[0]
    assert inquisitor.receipts(inquisitor.incumbents()[0]) == []


def test_insights_know_which_choices_save_energy(searched, toy):
    found = {(i.variable, i.choice): i.changes for i in searched[0].insights()}
    assert found["width0", 3]["energy_mj"] == pytest.approx(0.0, abs=1e-9)
    assert found["width0", 0]["energy_mj"] < 0
    assert found["op", 2]["energy_mj"] > 0
    assert set(found["op", 0]) == {"energy_mj", "latency_p99_ms", "accuracy", "macs", "params"}


def test_the_least_violating_network_is_known_when_nothing_fits(toy, setup, lab):
    inquisitor = Inquisitor(toy, setup)
    base = tuple(v.identity for v in toy.variables)
    half = (*[1] * 5, 0, 0, 2)
    assert inquisitor.least_violating() is None
    inquisitor.tell([lab.observe(toy, base), lab.observe(toy, half)])
    violations = {a: sum(r.excess / r.limit for r in inquisitor.receipts(a)) for a in (base, half)}
    found, total = inquisitor.least_violating()
    assert found == min(violations, key=lambda a: violations[a])
    assert total >= 0


def test_a_failed_measurement_is_remembered_but_never_proposed_again(toy, setup):
    inquisitor = Inquisitor(toy, setup)
    first = inquisitor.ask(1, _rng(0))[0].arch
    inquisitor.tell([Observation(first, {}, None, "infeasible", 0)])
    assert first not in [p.arch for p in inquisitor.ask(7, _rng(1))]
