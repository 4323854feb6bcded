"""Making a board known: nothing is pinned without a yes or a matching fingerprint."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.core.errors import ConfigError, DeviceError
from hil.core.yamlfile import parse_document, validate
from hil.device.config import SshDevice, load_device
from hil.device.enroll import (
    Target,
    board_kind,
    decide,
    device_fields,
    device_text,
    enroll,
    fetch_host_key,
    normal_fingerprint,
)
from hil.device.opening import device_link
from tests.device.test_hostkeys import KEY, OTHER

TX2 = {
    "model": "quill",
    "l4t": "32.7.1",
    "tensorrt": "8.2.1.8",
    "sudo": {"nvpmodel": True, "jetson_clocks": True},
    "tegrastats": "/usr/bin/tegrastats",
}


def target(server, **changes) -> Target:
    ssh = server.ssh()
    fields = {
        "host": ssh.host,
        "port": ssh.port,
        "user": ssh.user,
        "identity": ssh.identity,
        "folder": server.folder / "devices",
        "name": "bench",
    }
    return Target(**{**fields, **changes})


def never(_fingerprint: str) -> bool:
    raise AssertionError("nobody should have been asked")


@pytest.mark.parametrize(
    ("pinned", "fingerprint", "verdict"),
    [
        (None, None, "ask"),
        (None, KEY.fingerprint, "pin"),
        (None, KEY.fingerprint.removeprefix("SHA256:"), "pin"),
        (None, OTHER.fingerprint, "refuse"),
        (KEY, None, "pinned"),
        (KEY, KEY.fingerprint, "pinned"),
        (KEY, OTHER.fingerprint, "refuse"),
        (OTHER, None, "refuse"),
        (OTHER, KEY.fingerprint, "refuse"),
    ],
)
def test_trust_is_decided_by_this_table(pinned, fingerprint, verdict):
    assert decide(KEY, pinned, fingerprint) == verdict


@pytest.mark.parametrize("text", ["", "MD5:aa:bb", "SHA256:short", "SHA256:" + "*" * 43])
def test_what_is_no_fingerprint_is_refused(text):
    with pytest.raises(ConfigError):
        normal_fingerprint(text)


@pytest.mark.board
def test_the_key_is_shown_without_being_trusted(ssh_server):
    assert fetch_host_key("127.0.0.1", ssh_server.port) == ssh_server.host_key


@pytest.mark.board
def test_a_confirmed_board_is_pinned_probed_and_written(ssh_server):
    shown = []

    done = enroll(target(ssh_server), confirm=lambda text: shown.append(text) or True)

    assert shown == [ssh_server.host_key.fingerprint]
    device = load_device(done.device_file)
    assert device.runtime.name == "onnxruntime"
    with device_link(device) as link:
        assert link.client.request("probe")["python"] == done.probe["python"]


@pytest.mark.board
def test_a_matching_fingerprint_needs_no_question(ssh_server):
    fingerprint = ssh_server.host_key.fingerprint

    done = enroll(target(ssh_server), confirm=never, fingerprint=fingerprint)

    assert done.key == ssh_server.host_key


@pytest.mark.board
@pytest.mark.parametrize(
    ("confirm", "fingerprint"), [(lambda _text: False, None), (never, OTHER.fingerprint)]
)
def test_without_trust_nothing_is_pinned_and_nothing_written(confirm, fingerprint, ssh_server):
    board = target(ssh_server)

    with pytest.raises(DeviceError):
        enroll(board, confirm=confirm, fingerprint=fingerprint)

    assert not board.known_hosts.exists()
    assert not board.device_file.exists()


@pytest.mark.board
def test_a_device_file_is_never_overwritten(ssh_server):
    board = target(ssh_server)
    board.folder.mkdir()
    board.device_file.write_text("mine\n", encoding="utf-8")

    with pytest.raises(ConfigError, match="exists already"):
        enroll(board, confirm=never)

    assert board.device_file.read_text(encoding="utf-8") == "mine\n"


@pytest.mark.parametrize("name", ["", "../tx2", "my tx2", "tx2\n", ".hidden"])
def test_a_name_that_no_file_should_have_is_refused_before_anything_is_asked(name, tmp_path):
    board = Target("tx2.invalid", "nvidia", tmp_path / "key", tmp_path, name)

    with pytest.raises(ConfigError, match="cannot name a device"):
        enroll(board, confirm=never)


def test_a_host_that_hangs_up_shows_no_key():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        port = listener.getsockname()[1]
        listener.listen(1)
        # nobody accepts: the banner never comes
        with pytest.raises(DeviceError, match="no host key"):
            fetch_host_key("127.0.0.1", port, timeout_s=0.2)


@pytest.mark.parametrize(
    ("change", "path", "expected"),
    [
        ({}, ("power", "rail"), "VDD_IN"),
        ({}, ("state", "nvpmodel"), 0),
        ({}, ("runtime", "name"), "tensorrt"),
        ({"tegrastats": None}, ("power", "source"), "none"),
        ({"model": "NVIDIA Jetson AGX Xavier"}, ("power", "source"), "none"),
        ({"sudo": {"nvpmodel": False, "jetson_clocks": False}}, ("state", "nvpmodel"), None),
        ({"sudo": {"nvpmodel": False, "jetson_clocks": False}}, ("state", "clocks"), False),
        ({"tensorrt": None}, ("runtime", "name"), "onnxruntime"),
    ],
)
def test_the_file_claims_only_what_the_probe_found(change, path, expected, tmp_path):
    board = Target("tx2", "nvidia", tmp_path / "key", tmp_path, "bench")

    text = device_text(board, {**TX2, **change})

    document = parse_document(tmp_path / "bench.yaml", text)
    validate(document, SshDevice)
    assert document.data[path[0]][path[1]] == expected


@settings(max_examples=40)
@given(
    model=st.none() | st.text(max_size=40) | st.text("\n\x85\u2028:# a", max_size=9),
    name=st.from_regex(r"[A-Za-z0-9._-]{1,9}", fullmatch=True),
)
def test_any_probe_gives_a_file_that_loads(model, name, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    name = "d" + name
    board = Target("tx2", "nvidia", folder / "key", folder, name)

    text = device_text(board, {**TX2, "model": model})

    device = validate(parse_document(folder / "x.yaml", text), SshDevice)
    assert device.name == name
    assert device.ssh.known_hosts == folder / "known_hosts"


def test_kinds_of_boards_are_told_by_their_device_tree():
    assert board_kind("NVIDIA Jetson TX2", "32.7.1") == "jetson-tx2"
    assert board_kind("NVIDIA Orin Nano Developer Kit", "36.4") == "jetson-orin-nano"
    assert board_kind("something new", "39.2") == "jetson"
    assert board_kind(None, None) == "host"


@pytest.mark.parametrize(
    ("model", "offered"),
    [
        ("NVIDIA Jetson Xavier NX Developer Kit", ["fp16", "fp32", "int8"]),
        ("NVIDIA Orin Nano Developer Kit", ["fp16", "fp32", "int8"]),
        ("NVIDIA Jetson TX2 Developer Kit", None),
        ("Some other board", None),
    ],
)
def test_int8_is_offered_where_the_board_is_known_to_have_it(model, offered, tmp_path):
    board = Target("board.local", "hil", tmp_path / "id", tmp_path, "board")

    fields = device_fields(board, {"model": model, "l4t": "35.4", "tensorrt": "8.5.2"})

    assert fields["runtime"].get("precisions") == offered
