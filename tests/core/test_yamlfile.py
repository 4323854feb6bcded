"""Strict YAML: any model, every mistake with its line, whatever its depth."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from hil.core.errors import ConfigError, ExitCode
from hil.core.yamlfile import StrictModel, YamlFileError, dotted, load_yaml_model


class Cat(StrictModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(StrictModel):
    kind: Literal["dog"]
    dog: str


class Zoo(StrictModel):
    name: str
    budget: float = 1.0
    depths: list[int] = Field(default_factory=list)
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = Field(default_factory=list)
    keeper: Dog | None = None


def problems(folder, text):
    path = folder / "zoo.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(YamlFileError) as caught:
        load_yaml_model(path, Zoo)
    assert caught.value.exit_code == ExitCode.USAGE
    return [(p.line, p.field, p.message) for p in caught.value.problems]


def test_a_good_file_becomes_its_model(tmp_path):
    path = tmp_path / "zoo.yaml"
    path.write_text("name: z\nbudget: 3\npets:\n  - {kind: cat}\n", encoding="utf-8")

    zoo = load_yaml_model(path, Zoo)

    assert (zoo.name, zoo.budget, zoo.pets) == ("z", 3.0, [Cat(kind="cat")])


def test_items_of_lists_have_their_own_lines(tmp_path):
    text = "name: z\ndepths:\n  - 1\n  - three\n  - 2.5\n"

    assert problems(tmp_path, text) == [
        (4, "depths[1]", "expected an integer, got 'three'"),
        (5, "depths[2]", "expected an integer, got 2.5"),
    ]


def test_members_of_unions_are_named_by_field_not_by_member(tmp_path):
    text = "name: z\npets:\n  - kind: cat\n    lives: many\n  - kind: dog\n  - kind: cow\n"

    assert problems(tmp_path, text) == [
        (4, "pets[0].lives", "expected an integer, got 'many'"),
        (5, "pets[1].dog", "required, and not given"),
        (6, "pets[2]", problems(tmp_path, text)[2][2]),
    ]
    assert "'cow'" in problems(tmp_path, text)[2][2]


def test_an_optional_part_is_checked_like_any_other(tmp_path):
    text = "name: z\nkeeper:\n  kind: dog\n  dog: rex\n  tail: 1\n"

    assert problems(tmp_path, text) == [(5, "keeper.tail", "unknown field; known here: kind, dog")]


def test_numbers_written_as_text_are_not_converted(tmp_path):
    text = "name: 5\nbudget: '3'\n"

    assert problems(tmp_path, text) == [
        (1, "name", "expected text, got 5"),
        (2, "budget", "expected a number, got '3'"),
    ]


def test_a_key_given_twice_at_any_depth_is_refused(tmp_path):
    text = "name: z\nkeeper:\n  kind: dog\n  dog: rex\n  dog: max\n"

    assert problems(tmp_path, text) == [(5, "keeper.dog", "given twice, first on line 4")]


def test_anchors_and_merges_keep_working(tmp_path):
    path = tmp_path / "zoo.yaml"
    text = "name: z\npets:\n  - &a {kind: cat, lives: 3}\n  - *a\n  - {<<: *a, lives: 4}\n"
    path.write_text(text, encoding="utf-8")

    assert [cat.lives for cat in load_yaml_model(path, Zoo).pets] == [3, 3, 4]


def test_deep_nesting_is_refused_not_crashed(tmp_path):
    assert problems(tmp_path, "name: " + "[" * 5000)[0][0] == 1


def test_no_python_object_is_ever_made(tmp_path):
    [(line, field, message)] = problems(tmp_path, "name: !!python/object/apply:os.getcwd []\n")

    assert (line, field) == (1, "")
    assert "could not determine a constructor" in message


def test_a_missing_file_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml_model(tmp_path / "none.yaml", Zoo)


def test_locations_are_written_as_people_do():
    assert dotted(("search", "depth", 2, "max")) == "search.depth[2].max"
