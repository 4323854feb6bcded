"""A small job that still takes the whole path: real board process, real SSH, real agent."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

NETS = """
from torch import nn


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(x + self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.blocks = nn.Sequential(*(Block(16) for _ in range(6)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = self.blocks(self.relu(self.bn(self.conv(x))))
        return self.fc(self.pool(x).flatten(1))


def make():
    return Net()
"""
PROFILE = """
schema: hil/profile@1
name: small
task: classification
prototype: {factory: "small_nets:make"}
data: {factory: "hil.tasks.digits:load"}
training: {epochs: 8, finetune_epochs: 3, final_epochs: 3}
requirements:
  energy_mj: {at_most: 85 %}
  latency_p99_ms: {at_most: 85 %}
  accuracy: {lose_at_most: 20.0}
budget: {measurements: 6, batch: 3, trainings: 6, finalists: 1}
measure:
  screening: {idle_s: 2, settle_s: 3, window_s: 5, blocks: 3}
  confirmation: {idle_s: 2, settle_s: 3, window_s: 5, blocks: 3, builds: {at_least: 3, at_most: 4}}
generator: {emit: 4}
"""


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with their own network and profile in it."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "small_nets.py").write_text(NETS, encoding="utf-8")
    (folder / "small.yaml").write_text(textwrap.dedent(PROFILE), encoding="utf-8")
    return folder


def run_hil(*words: str, cwd: Path, timeout_s: float = 280) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "hil.cli.app", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.fixture(scope="session")
def hil():
    """The command line, as a function of its words."""
    return run_hil
