"""Profile files: the shipped one, what every field becomes, and mistakes named all at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hil.core.yamlfile import YamlFileError
from hil.net.factory import load_factory
from hil.synth.objective import load_objective
from hil.synth.profile import find_profile, load_profile
from hil.synth.requirements import Limit, Requirement

ROOT = Path(__file__).parents[2]
LEAST = """\
schema: hil/profile@1
name: least
task: classification
prototype: {factory: "mine:network"}
data: {factory: "mine:pictures"}
requirements: {energy_mj: {at_most: 4.5}}
"""


def loaded(folder, text):
    path = folder / "p.yaml"
    path.write_text(text, encoding="utf-8")
    return load_profile(path)


def problems(folder, text):
    with pytest.raises(YamlFileError) as caught:
        loaded(folder, text)
    return [(p.line, p.field, p.message) for p in caught.value.problems]


def test_the_shipped_profile_asks_for_what_the_readme_says(tmp_path):
    profile = find_profile("digits.yaml", cwd=tmp_path)

    assert profile.requirements.all() == (
        Requirement("energy_mj", Limit(0.34, relative=True)),
        Requirement("latency_p99_ms", Limit(0.5, relative=True)),
        Requirement("accuracy", Limit(1.0), "lose_at_most"),
    )
    assert (profile.budget.measurements, profile.budget.finalists) == (24, 3)
    assert profile.alpha == 0.05


@pytest.mark.parametrize("name", ["digits.yaml", "cifar10.yaml", "quick-cifar10.yaml"])
def test_the_shipped_copy_is_the_repository_s_file(name):
    copy = ROOT / "hil" / "shipped" / "profiles" / name
    assert copy.read_text(encoding="utf-8") == (ROOT / "profiles" / name).read_text(
        encoding="utf-8"
    )


@pytest.mark.torch
@pytest.mark.parametrize("name", ["cifar10", "quick-cifar10"])
def test_shipped_profiles_of_pictures_name_what_exists(name, tmp_path):
    profile = find_profile(name, cwd=tmp_path)

    network = load_factory(profile.prototype.factory)(**profile.prototype.args)
    assert network.fc.out_features == 10
    assert (profile.data.reader, profile.data.near_duplicates) == ("cifar", "leave_out")
    assert profile.data.source


@pytest.mark.torch
def test_everything_the_shipped_profile_names_exists(tmp_path):
    profile = find_profile("digits", cwd=tmp_path)

    assert load_factory(profile.prototype.factory)(**profile.prototype.args)
    assert load_factory(profile.data.factory)
    assert load_objective(profile.objective)


def test_a_profile_may_be_six_lines_long(tmp_path):
    profile = loaded(tmp_path, LEAST)

    assert profile.requirements.all() == (Requirement("energy_mj", Limit(4.5)),)
    assert profile.confidence is None
    assert profile.objective == "netscore"


PICTURES = LEAST.replace(
    'data: {factory: "mine:pictures"}',
    "data:\n  reader: cifar\n  path: cifar10\n  size: 16\n  mean: [0.5, 0.4, 0.3]\n  search: 10 %",
)


def test_pictures_are_read_by_a_named_reader_or_a_function(tmp_path):
    data = loaded(tmp_path, PICTURES).data

    assert (data.reader, data.path, data.size, data.search) == ("cifar", "cifar10", (16, 16), 0.1)
    assert data.mean == (0.5, 0.4, 0.3)
    assert data.beside == tmp_path
    assert loaded(tmp_path, LEAST).data.factory == "mine:pictures"


@pytest.mark.parametrize(
    ("written", "wrong", "expected"),
    [
        ("reader: cifar", "reader: cifr", [(5, "data", "reader must be one of cifar, folders")]),
        ("size: 16", "size: 0", [(8, "data.size", "greater than or equal to 1")]),
        ("size: 16", "sise: 16", [(8, "data.sise", "did you mean size? known here: path")]),
        ("search: 10 %", "search: 110 %", [(10, "data.search", "less than 1, got")]),
        ("search: 10 %", "search: ten", [(10, "data.search", "a percentage such as '20 %'")]),
        ("[0.5, 0.4, 0.3]", "[0.5, 0.4]", [(5, "data", "mean: 2 numbers for 3 channels")]),
        ("path: cifar10", "args: {}", [(5, "data.path", "required"), (7, "data.args", "unknown")]),
        ("reader: cifar", "factory: cifar", [(6, "data.factory", "expected module:function")]),
    ],
)
def test_mistakes_about_pictures_are_named_by_line_and_field(tmp_path, written, wrong, expected):
    found = problems(tmp_path, PICTURES.replace(written, wrong))

    shown = [(line, field) for line, field, _ in found][: len(expected)]
    assert shown == [(line, field) for line, field, _ in expected]
    for (_, _, message), (_, _, words) in zip(found, expected, strict=False):
        assert words in message


def test_plans_carry_what_was_written(tmp_path):
    text = LEAST + (
        "alpha: 0.1\nconfidence: null\nbudget: {finalists: 2}\n"
        "measure: {confirmation: {window_s: 9, blocks: 5, builds: {at_least: 4, at_most: 6}}}\n"
    )
    profile = loaded(tmp_path, text)

    plan = profile.confirmation_plan("emulated")
    windows = profile.measure.confirmation.plan(interval_ms=50)

    assert (plan.alpha, plan.finalists, plan.looks) == (0.1, 2, (4, 5, 6))
    assert plan.provenance == "emulated"
    assert (windows.window_s, windows.blocks, windows.interval_ms) == (9, 5, 50)


def test_the_recipe_carries_the_training_fields(tmp_path):
    profile = loaded(tmp_path, LEAST + "training: {batch: 32, peak_lr: 0.02, shift_pixels: 0}\n")

    recipe = profile.training.recipe("candidate 7")

    assert recipe.name == "candidate 7"
    assert (recipe.batch, recipe.peak_lr, recipe.shift_pixels) == (32, 0.02, 0)


def test_all_mistakes_are_named_at_once_with_line_and_field(tmp_path):
    text = (
        "schema: hil/profile@1\n"
        "name: job\n"
        "task: poetry\n"
        "prototype: {factory: resnet}\n"
        "data: {factory: 'a:b'}\n"
        "training: {epoch: 3}\n"
        "requirements:\n"
        "  energy_mj: {at_most: 40 mJ}\n"
        "  accuracy: {lose_at_most: 1, at_least: 90}\n"
        "objective: netscor\n"
        "budget: {measurements: 2, finalists: 3, batch: 1, trainings: 1}\n"
        "measure: {confirmation: {builds: {at_least: 5, at_most: 4}}}\n"
    )

    named = [(line, field) for line, field, _ in problems(tmp_path, text)]

    assert named == [
        (3, "task"),
        (4, "prototype.factory"),
        (6, "training.epoch"),
        (8, "requirements.energy_mj.at_most"),
        (9, "requirements.accuracy"),
        (10, "objective"),
        (11, "budget.finalists"),
        (12, "measure.confirmation.builds.at_most"),
    ]


@pytest.mark.parametrize(
    ("replaced", "by", "field", "words"),
    [
        ("4.5", "-1", "requirements.energy_mj.at_most", "greater than 0"),
        ("4.5", "yes", "requirements.energy_mj.at_most", "'40 %'"),
        ("{energy_mj: {at_most: 4.5}}", "{}", "requirements", "at least one cost"),
        (
            "{energy_mj: {at_most: 4.5}}",
            "{accuracy: {at_least: 90}}",
            "requirements",
            "at least one cost",
        ),
        ("name: least", "name: least\nconfidence: 0.95", "confidence", "no accuracy is required"),
        ("name: least", "name: least\nalpha: 0.9", "alpha", "less than 0.5"),
        ("hil/profile@1", "hil/profile@9", "schema", "hil/profile@1"),
    ],
)
def test_a_mistake_is_explained_where_it_is(tmp_path, replaced, by, field, words):
    (problem,) = problems(tmp_path, LEAST.replace(replaced, by))

    assert problem[1] == field
    assert words in problem[2]


def test_reading_a_profile_loads_no_torch():
    code = "import hil.synth.profile, sys; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("written", ["0.9", "90 %", "90%"])
def test_a_share_of_plausible_boards_is_a_fraction_or_a_percentage(tmp_path, written):
    text = LEAST.replace("}}", "}, plausible_share: {at_least: " + written + "}}")

    requirements = loaded(tmp_path, text).requirements

    assert requirements.least_share == pytest.approx(0.9)
    assert [r.metric for r in requirements.all()] == ["energy_mj"]


def test_no_share_of_plausible_boards_is_demanded_unless_written(tmp_path):
    assert loaded(tmp_path, LEAST).requirements.least_share is None


@pytest.mark.parametrize("written", ["0", "1.5", "120 %", "'0.9'", "most"])
def test_a_share_that_is_none_is_refused_by_name(tmp_path, written):
    text = LEAST.replace("}}", "}, plausible_share: {at_least: " + written + "}}")

    fields = [field for _, field, _ in problems(tmp_path, text)]

    assert fields == ["requirements.plausible_share.at_least"]


def test_what_may_be_chosen_is_read(tmp_path):
    text = LEAST + (
        "space: {kernels: true, resolutions: [160, 192], precisions: [fp32, fp16], granule: 4, "
        'freeze: ["head.*"]}\n'
    )

    space = loaded(tmp_path, text).space

    assert space.kernels
    assert space.resolutions == (160, 192)
    assert space.precisions == ("fp32", "fp16")
    assert (space.granule, space.freeze) == (4, ("head.*",))
    assert loaded(tmp_path, LEAST).space is None


@pytest.mark.parametrize(
    ("section", "field", "words"),
    [
        ("{kernel: true}", "space.kernel", ""),
        ("{kernels: 1}", "space.kernels", "true or false"),
        ("{resolutions: [0]}", "space.resolutions[0]", "1"),
        ("{resolutions: [0.75]}", "space.resolutions[0]", "integer"),
        ("{resolutions: [8, 8]}", "space.resolutions", "there twice"),
        ("{resolutions: []}", "space.resolutions", "empty"),
        ("{resolutions: all}", "space.resolutions", "auto"),
        ("{precisions: [fp8]}", "space.precisions[0]", "int8"),
        ("{precisions: [fp32]}", "space", "must hold fp16"),
        ("{granule: 0}", "space.granule", "1"),
        ('{freeze: "head.*"}', "space.freeze", ""),
    ],
)
def test_a_choice_that_is_none_is_refused_on_its_line(tmp_path, section, field, words):
    found = problems(tmp_path, f"{LEAST}space: {section}\n")

    assert {line for line, _, _ in found} == {7}
    assert any(name.startswith(field) and words in message for _, name, message in found), found


def test_a_table_has_no_other_space_than_its_rows(tmp_path):
    text = LEAST.replace("classification", "table") + "space: {kernels: true}\n"

    assert (7, "space") in [(line, field) for line, field, _ in problems(tmp_path, text)]
