"""Vertices by cost and sensitivity say what the truth of a known space says."""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from hil.synth.inquisitor import Inquisitor
from hil.synth.vertices import vertices_json


def _changes(toy):
    base = tuple(v.identity for v in toy.variables)
    return lambda arch: tuple(
        f"{v.name} -> {c}" for v, c, b in zip(toy.variables, arch, base, strict=True) if c != b
    )


def _truths(toy):
    """By vertex: what its cheapest choice truly saves, and what that does to accuracy."""
    base = tuple(v.identity for v in toy.variables)
    start = toy.truth(base)
    found = {}
    for j, variable in enumerate(toy.variables):
        options = [(*base[:j], c, *base[j + 1 :]) for c in range(variable.size)]
        most = min((toy.truth(o) for o in options), key=lambda truth: truth["energy_mj"])
        points = 100 * (most["accuracy"] - start["accuracy"])
        found[variable.name] = (start["energy_mj"] - most["energy_mj"], points)
    return found


def test_costs_by_vertex_rank_as_the_truth_does(searched, toy):
    rows = vertices_json(searched[0], _changes(toy))["rows"]

    truths = _truths(toy)
    assert {row["vertex"] for row in rows} == set(truths)
    saved = [truths[row["vertex"]][0] for row in rows]
    assert spearmanr([row["saves"] for row in rows], saved).statistic > 0.8
    lost = [truths[row["vertex"]][1] for row in rows]
    assert np.corrcoef([row["accuracy_points"] for row in rows], lost)[0, 1] > 0.6


def test_rows_come_costliest_first_and_name_the_change(searched, toy):
    rows = vertices_json(searched[0], _changes(toy))["rows"]

    saves = [row["saves"] for row in rows]
    assert saves == sorted(saves, reverse=True)
    assert min(saves) >= 0.0
    assert all(row["change"].startswith(row["vertex"]) for row in rows if row["saves"] > 0.0)


def test_without_a_measured_cost_there_are_no_vertices(toy, setup):
    assert vertices_json(Inquisitor(toy, setup), _changes(toy)) is None
