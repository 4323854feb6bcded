"""Seeds mean the same networks everywhere, and every network emitted is let through."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hil.core.errors import ConfigError, NothingFeasibleError
from hil.synth.emission import Mixture, draw, repair, uniforms
from hil.synth.generator import Generator
from hil.synth.records import Limit

SEEDS = range(100, 160)

CHILD = """
import runpy, sys
from hil.synth.generator import Generator
toy = runpy.run_path(sys.argv[1])["Toy"]()
generator = Generator.from_json(open(sys.argv[2]).read(), toy)
print([list(generator.emit(s).arch) for s in range(100, 120)])
"""


@pytest.fixture(scope="module")
def generator(searched):
    return searched[0].generator


def test_the_saved_text_alone_emits_the_same_networks_in_another_process(generator, tmp_path):
    saved = tmp_path / "generator.json"
    saved.write_text(generator.to_json())
    conftest = Path(__file__).with_name("conftest.py")
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(conftest), str(saved)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(child.stdout) == [list(generator.emit(s).arch) for s in SEEDS[:20]]


def test_saving_and_loading_changes_nothing(generator, toy):
    text = generator.to_json()
    assert Generator.from_json(text, toy).to_json() == text


def test_a_generator_opens_only_on_its_own_space(generator, toy):
    with pytest.raises(ConfigError, match="another search space"):
        Generator.from_json(generator.to_json(), replace(toy, name="other"))


@pytest.mark.parametrize("text", ["", "[]", '{"schema": "hil/run@1"}'])
def test_other_files_are_refused(toy, text):
    with pytest.raises(ConfigError, match="no saved generator"):
        Generator.from_json(text, toy)


def test_what_is_emitted_holds_every_bound_and_mostly_the_truth(generator, toy):
    archs = [generator.emit(s).arch for s in SEEDS]
    batch = generator.screen.encoder.encode(archs)
    for limit in generator.screen.limits:
        bound = generator.screen.bound(limit.metric, batch, limit.sense, limit.alpha)
        margin = limit.bound - bound if limit.sense == "max" else bound - limit.bound
        assert (margin >= 0).all()
    truths = [toy.truth(a) for a in archs]
    energy, _, accuracy = generator.screen.limits
    fits = [t["energy_mj"] <= energy.bound and t["accuracy"] >= accuracy.bound for t in truths]
    assert np.mean(fits) >= 0.8


def test_networks_never_proposed_are_emitted_and_fit(generator, searched, toy):
    measured = {o.arch for o in searched[1]}
    fresh = {a for s in SEEDS if (a := generator.emit(s).arch) not in measured}
    energy, _, accuracy = generator.screen.limits
    good = [
        a
        for a in fresh
        if toy.truth(a)["energy_mj"] <= energy.bound and toy.truth(a)["accuracy"] >= accuracy.bound
    ]
    assert len(good) >= 10


def test_seeds_give_many_different_networks(generator):
    assert len({generator.emit(s).arch for s in SEEDS}) >= 20


def test_no_choice_ever_dies_out(generator):
    for table in generator.mixture.tables:
        assert table.min() >= 0.9 * 0.06 / table.shape[1]


def test_limits_that_nothing_meets_are_said_to_be(generator):
    screen = replace(generator.screen, limits=(Limit("energy_mj", 0.1),))
    with pytest.raises(NothingFeasibleError, match="energy_mj"):
        replace(generator, screen=screen, attempts=3).emit(0)


def test_a_limit_on_a_metric_nobody_measured_never_holds(generator):
    screen = replace(generator.screen, limits=(Limit("memory_mib", 1e9),))
    with pytest.raises(NothingFeasibleError):
        replace(generator, screen=screen, attempts=1).emit(0)


def test_repair_only_ever_removes_excess(generator, toy):
    screen, start = generator.screen, tuple(v.identity for v in toy.variables)
    before = screen.excess(screen.encoder.encode([start]))[0]
    arch, edits = repair(screen, start, 2)
    assert 0 < edits <= 2
    assert screen.excess(screen.encoder.encode([arch]))[0] < before
    assert sum(a != b for a, b in zip(arch, start, strict=True)) <= 2


def test_draws_follow_the_mixture():
    tables = (np.array([[0.7, 0.3], [0.1, 0.9]]), np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]))
    mixture = Mixture(np.array([0.25, 0.75]), tables)
    archs = draw(mixture, range(8000), 0)
    for arch in [(0, 0), (1, 0), (0, 2), (1, 1)]:
        i, j = arch
        expected = (
            0.25 * tables[0][0, i] * tables[1][0, j] + 0.75 * tables[0][1, i] * tables[1][1, j]
        )
        assert archs.count(arch) / 8000 == pytest.approx(expected, abs=0.02)


def test_uniforms_depend_on_seed_and_attempt_alone():
    assert uniforms([5], 2, 4)[0].tolist() == uniforms([5], 2, 8)[0, :4].tolist()
    assert uniforms([5], 2, 4)[0].tolist() != uniforms([5], 3, 4)[0].tolist()
    assert uniforms([5], 2, 4)[0].tolist() != uniforms([6], 2, 4)[0].tolist()
