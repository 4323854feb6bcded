"""Finding a user's function: by name, from the working folder, with errors that help."""

from __future__ import annotations

import sys

import pytest

from hil.core.errors import ConfigError
from hil.net.factory import load_factory


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    names = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - names:
        del sys.modules[name]


def test_a_function_beside_the_profile_is_found(folder):
    (folder / "my_prototypes.py").write_text("class Nets:\n    @staticmethod\n    def small():\n"
                                             "        return 7\n\ndef other(): pass\n")  # fmt: skip

    assert load_factory("my_prototypes:Nets.small")() == 7


def test_functions_of_installed_packages_are_found():
    import json

    assert load_factory("json:dumps") is json.dumps


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("resnet20", "module:function"),
        (":f", "module:function"),
        ("m:", "module:function"),
        ("no_such_module_here:f", "No module named"),
        ("json:no_such_function", "has no"),
        ("json:__name__", "is a str"),
        ("broken_module:f", "SyntaxError"),
        (".relative:f", "module:function"),
    ],
)
def test_what_names_nothing_is_refused(folder, reference, message):
    (folder / "broken_module.py").write_text("def f(:\n")

    with pytest.raises(ConfigError) as caught:
        load_factory(reference)

    assert message in str(caught.value)
    assert caught.value.fix


def test_the_functions_that_exist_are_suggested(folder):
    (folder / "nets_with_typo.py").write_text("def resnet(): pass\n")

    with pytest.raises(ConfigError, match="it has resnet"):
        load_factory("nets_with_typo:renset")
