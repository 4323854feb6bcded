"""docs/setup-tx2.md says what the code does: the rights it needs, its commands, its targets."""

from __future__ import annotations

import re
from pathlib import Path

from hil.agent.clocks import Clocks
from hil.device.bringup_read import BUSY_TIMERS
from hil.device.checks import sudoers_line
from hil.device.config import load_device

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "setup-tx2.md").read_text(encoding="utf-8")


class BoardWithPlainPaths:
    root = "/"

    def program(self, name):
        return {"nvpmodel": "/usr/sbin/nvpmodel", "jetson_clocks": "/usr/bin/jetson_clocks"}[name]


def rights(line: str) -> list[str]:
    """Return the command lines that a sudoers line allows, whoever it is for."""
    return line.partition("NOPASSWD: ")[2].split(", ")


def test_the_sudoers_line_is_exactly_what_the_agent_runs_and_the_doctor_asks_for():
    (written,) = re.findall(r"```sudoers\n(.*?)\n```", PAGE, re.DOTALL)

    assert rights(written) == rights(Clocks(BoardWithPlainPaths(), None).sudoers_line())
    assert rights(written) == rights(sudoers_line(load_device(ROOT / "devices" / "tx2.yaml")))
    assert written.startswith("hil ALL=(root) NOPASSWD: ")
    assert "*" not in written


def test_the_clock_store_is_roots():
    assert "sudo install -d -m 0755 -o root -g root /var/lib/hil" in PAGE


def test_every_timer_that_the_bring_up_looks_for_is_switched_off():
    disabled = next(line for line in PAGE.splitlines() if "disable --now" in line)

    assert [name for name in BUSY_TIMERS if name not in disabled and name not in PAGE] == []


def test_the_commands_and_targets_exist():
    from typer.main import get_command

    from hil.cli.app import app

    verbs = set(get_command(app).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"host\$ hil ([a-z]+)", PAGE))
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert {"device", "doctor", "bringup", "profile"} <= named <= verbs
    assert set(re.findall(r"`make ([a-z-]+)", PAGE)) <= targets
