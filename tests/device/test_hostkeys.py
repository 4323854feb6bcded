"""Pins and fingerprints, checked against OpenSSH's own ssh-keygen."""

from __future__ import annotations

import subprocess

import pytest

from hil.core.errors import ConfigError
from hil.device.hostkeys import (
    HostKey,
    name_in_known_hosts,
    parse_host_key,
    pin,
    read_known_hosts,
)

KEY = parse_host_key(
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl a comment"
)
OTHER = parse_host_key(
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVMUGmkUYDkUkbKqbX/Lo8rYxjLAtkaTZSHvnGwlZNX"
)


def test_a_published_fingerprint_comes_out():
    # GitHub's Ed25519 key and the fingerprint GitHub publishes for it
    assert KEY.fingerprint == "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"


@pytest.mark.parametrize(
    ("host", "port", "name"), [("tx2", 22, "tx2"), ("tx2", 2222, "[tx2]:2222")]
)
def test_a_pin_is_found_by_openssh(host, port, name, tmp_path):
    path = tmp_path / "new" / "known_hosts"

    pin(path, host, port, KEY)

    assert name_in_known_hosts(host, port) == name
    argv = ["ssh-keygen", "-F", name, "-f", str(path)]
    found = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    assert KEY.body in found.stdout


def test_a_key_hashed_by_openssh_is_found(tmp_path):
    path = tmp_path / "known_hosts"
    pin(path, "tx2", 22, KEY)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(path)], check=True, capture_output=True)

    assert "tx2" not in path.read_text(encoding="utf-8")
    assert read_known_hosts(path).lookup("tx2")


def test_pinning_the_same_key_again_changes_nothing(tmp_path):
    path = tmp_path / "known_hosts"
    path.write_text("elsewhere ssh-rsa AAAA", encoding="utf-8")
    pin(path, "tx2", 22, KEY)
    before = path.read_text(encoding="utf-8")

    pin(path, "tx2", 22, KEY)

    assert path.read_text(encoding="utf-8") == before
    assert before.splitlines() == ["elsewhere ssh-rsa AAAA", f"tx2 {KEY}"]


def test_a_pin_is_never_replaced(tmp_path):
    path = tmp_path / "known_hosts"
    pin(path, "tx2", 22, KEY)

    with pytest.raises(ConfigError) as caught:
        pin(path, "tx2", 22, OTHER)

    assert KEY.fingerprint in str(caught.value)
    assert OTHER.fingerprint in str(caught.value)
    assert OTHER.body not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 !!!",
        "ssh-dss AAAA",
        "x AAAA",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA",
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQAB",
        f"ssh-rsa {KEY.body}",
    ],
)
def test_what_is_no_key_is_refused(text):
    with pytest.raises(ConfigError):
        parse_host_key(text)


def test_a_key_prints_as_known_hosts_holds_it():
    assert str(HostKey("ssh-ed25519", "AAAA")) == "ssh-ed25519 AAAA"


def test_a_broken_known_hosts_file_is_named(tmp_path):
    path = tmp_path / "known_hosts"
    path.write_text("tx2 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA\n", encoding="utf-8")

    with pytest.raises(ConfigError, match="known_hosts"):
        read_known_hosts(path)
