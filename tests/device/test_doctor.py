"""The doctor stops at the first thing that hides the rest, and always says what to do."""

from __future__ import annotations

import pytest

from hil.device.config import SshDevice
from hil.device.doctor import diagnose
from tests.device.conftest import free_port
from tests.device.test_hostkeys import OTHER
from tests.device.test_sessions import board_root, network

pytestmark = pytest.mark.board


def bench(server, folder, **changes) -> SshDevice:
    fields = {
        "schema": "hil/device@1",
        "name": "bench",
        "driver": "ssh",
        "board": "host",
        "ssh": server.ssh(),
        "runtime": {"name": "onnxruntime", "precision": "fp32"},
        "agent": {"root": board_root(folder / "root")},
    }
    return SshDevice.model_validate({**fields, **changes})


def test_a_working_board_is_examined_to_the_end(ssh_server, tmp_path):
    device = bench(ssh_server, tmp_path)

    checks = list(diagnose(device, owner="test"))

    names = [check.name for check in checks]
    assert names == [
        "reachable",
        "host key",
        "agent",
        "board",
        "python",
        "jetpack",
        "onnxruntime",
        "power source",
        "sudo rights",
        "disk",
        "lease",
    ]
    assert {check.name for check in checks if check.status != "ok"} <= {"power source", "disk"}


@pytest.mark.parametrize(
    ("change", "last", "step"),
    [
        (lambda: {"port": free_port()}, "reachable", "systemctl start ssh"),
        (lambda: {"known_hosts": None, "host_key": str(OTHER)}, "host key", "ssh-keygen -lf"),
        (lambda: {"user": "nobody-here"}, "agent", "ssh-copy-id"),
    ],
)
def test_the_first_failure_ends_the_examination(change, last, step, ssh_server, tmp_path):
    device = bench(ssh_server, tmp_path, ssh=ssh_server.ssh(**change()))

    checks = list(diagnose(device, owner="test"))

    assert [check.name for check in checks if check.status == "fail"] == [last]
    assert checks[-1].name == last
    assert step in checks[-1].next_step


def test_an_agent_that_cannot_start_is_told_with_its_words(ssh_server, tmp_path):
    device = bench(
        ssh_server, tmp_path, agent={"python": "python3-gone", "root": board_root(tmp_path / "r")}
    )

    last = list(diagnose(device, owner="test"))[-1]

    assert (last.name, last.status) == ("agent", "fail")
    assert "python3-gone" in last.detail
    assert "install python3" in last.next_step


@pytest.mark.slow
def test_a_short_run_judges_clocks(ssh_server, tmp_path):
    checks = list(diagnose(bench(ssh_server, tmp_path), owner="test", sample_network=network()))

    assert [check.name for check in checks[-2:]] == ["short run", "clocks"]
    assert checks[-2].status == "ok"
    assert all(check.next_step for check in checks if check.status != "ok")
