"""docs/ci.md says what the code does: commands, options, the budget file, where rights stand."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from typer.main import get_command

from hil.core.yamlfile import parse_document, validate
from hil.measure.gate_demands import Bound, GateFile

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)


def options(command):
    names = {name for parameter in command.params for name in parameter.opts}
    return names | {name for p in command.params for name in p.secondary_opts}


def test_every_command_has_the_options_that_are_shown():
    from hil.cli.app import app

    top = get_command(app)
    shown = [
        line.partition("#")[0].removeprefix("host$ ").split()
        for _, block in BLOCKS
        for line in block.splitlines()
        if line.removeprefix("host$ ").startswith("hil ")
    ]
    assert len(shown) >= 7
    for words in shown:
        command = top.commands[words[1]]
        if words[1] == "device":
            command = command.commands[words[2]]
        used = {word for word in words if re.fullmatch(r"--?[a-z][a-z0-9-]*", word)}
        assert used <= options(command), words


def test_options_named_in_the_text_exist_on_the_verb():
    from hil.cli.app import app

    known = options(get_command(app).commands["gate"])
    table = PAGE.partition("| outcome |")[2].partition("## The board")[0]

    assert set(re.findall(r"`(--[a-z-]+)", table)) <= known


def test_the_budget_file_shown_is_one():
    (text,) = [block for kind, block in BLOCKS if kind == "yaml" and "hil/gate@1" in block]

    file = validate(parse_document(Path("gate.yaml"), text), GateFile)

    assert file.budgets["latency_p99_ms"] == Bound(0.85, relative=True)
    assert file.margins == {"energy_mj": 0.03}
    assert file.models["small.onnx"].budgets["energy_mj"] == Bound(2.5)


def test_the_actions_inputs_shown_exist():
    (text,) = [block for kind, block in BLOCKS if kind == "yaml" and "uses:" in block]
    action = yaml.safe_load((ROOT / ".github/actions/hil-gate/action.yml").read_text())

    (step,) = yaml.safe_load(text)

    assert set(step["with"]) <= set(action["inputs"])


def test_rights_stand_in_one_place_which_is_linked():
    setup = (ROOT / "docs" / "setup-tx2.md").read_text(encoding="utf-8")
    (anchor,) = re.findall(r"setup-tx2\.md#([a-z0-9-]+)", PAGE)
    headings = re.findall(r"^## (.*)$", setup, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings}

    assert anchor in anchors
    assert "NOPASSWD" not in PAGE
    assert "```sudoers" in setup.partition("## 5")[2].partition("## 6")[0]
