"""The board over SSH: login, commands, files."""

from __future__ import annotations

import io
import os
import stat
import time

import paramiko
import pytest

from hil.emulator.sftp import resolve

pytestmark = pytest.mark.board


def run(ssh: paramiko.SSHClient, command: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    given, out, err = ssh.exec_command(command, timeout=30)
    given.channel.sendall(stdin)
    given.channel.shutdown_write()
    said, complained = out.read(), err.read()
    return out.channel.recv_exit_status(), said, complained


def test_streams_stay_apart_and_the_status_arrives(ssh):
    assert run(ssh, "echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")


def test_a_signalled_command_tells_the_shells_status(ssh):
    assert run(ssh, "kill -TERM $$")[0] == 128 + 15


def test_stdin_reaches_the_command_and_ends(ssh):
    assert run(ssh, "cat", b"abc") == (0, b"abc", b"")


def test_megabytes_pass_both_ways_at_once(ssh):
    data = os.urandom(6_000_000)
    _, channel_out, _ = given = ssh.exec_command("cat")
    import threading

    def feed() -> None:
        given[0].channel.sendall(data)
        given[0].channel.shutdown_write()

    feeder = threading.Thread(target=feed)
    feeder.start()
    back = channel_out.read()
    feeder.join()
    assert back == data


def test_commands_start_at_home_with_the_boards_programs_first(ssh, served):
    _, said, _ = run(
        ssh, "pwd; for p in tegrastats nvpmodel python3; do command -v $p; done; echo $HOME"
    )
    home = f"{served.root}/home/nvidia"
    assert said.decode().split() == [
        home,
        f"{served.root}/usr/bin/tegrastats",
        f"{served.root}/usr/sbin/nvpmodel",
        f"{served.root}/usr/bin/python3",
        home,
    ]


def test_the_emulators_own_environment_does_not_leak(ssh, monkeypatch):
    monkeypatch.setenv("HIL_TEST_LEAK", "1")
    assert b"HIL_TEST_LEAK" not in run(ssh, "env")[1]


def test_a_round_trip_takes_about_a_millisecond(ssh):
    channel = ssh.get_transport().open_session()
    channel.exec_command("cat")
    taken = []
    for _ in range(50):
        start = time.perf_counter()
        channel.sendall(b"x\n")
        assert channel.recv(10) == b"x\n"
        taken.append(time.perf_counter() - start)
    channel.close()
    # Without TCP_NODELAY this is 40 ms; the bound leaves room for a busy machine.
    assert sorted(taken)[10] < 0.01


def test_a_wrong_key_is_refused(served, tmp_path):
    from hil.emulator.serve import _make_key

    told = served.served.description()
    with paramiko.Transport((told["host"], told["port"])) as transport:
        transport.start_client()
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_publickey("nvidia", _make_key(tmp_path / "stranger"))


def test_a_password_is_refused(served):
    told = served.served.description()
    with paramiko.Transport((told["host"], told["port"])) as transport:
        transport.start_client()
        with pytest.raises(paramiko.BadAuthenticationType):
            transport.auth_password("nvidia", "nvidia")


def test_only_the_boards_user_may_come_in(served):
    told = served.served.description()
    key = paramiko.Ed25519Key(filename=told["identity"])
    with paramiko.Transport((told["host"], told["port"])) as transport:
        transport.start_client()
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_publickey("root", key)


def test_the_identity_is_readable_by_its_owner_alone(served):
    mode = os.stat(served.served.description()["identity"]).st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_children_die_with_the_connection(served):
    client = served.connect()
    _, out, _ = client.exec_command("sleep 600 & echo $!; echo $$; trap '' HUP TERM; cat; wait")
    pids = [int(out.readline()), int(out.readline())]
    client.close()
    deadline = time.monotonic() + 12
    while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


def test_sftp_starts_at_home_and_takes_relative_paths(ssh, served):
    with ssh.open_sftp() as files:
        files.putfo(io.BytesIO(b"data"), "relative.bin")
        assert files.normalize(".") == "/home/nvidia"
        assert files.normalize("/") == "/"
        assert files.stat("/home/nvidia/relative.bin").st_size == 4
    assert (served.root / "home/nvidia/relative.bin").read_bytes() == b"data"


def test_sftp_carries_megabytes_unharmed(ssh):
    data = os.urandom(3_000_000)
    with ssh.open_sftp() as files:
        files.putfo(io.BytesIO(data), "big.bin")
        back = io.BytesIO()
        files.getfo("big.bin", back)
    assert back.getvalue() == data


def test_posix_rename_overwrites_and_plain_rename_does_not(ssh):
    with ssh.open_sftp() as files:
        files.putfo(io.BytesIO(b"old"), "target")
        files.putfo(io.BytesIO(b"new"), "source")
        with pytest.raises(OSError, match="Failure"):
            files.rename("source", "target")
        files.posix_rename("source", "target")
        with files.open("target") as file:
            assert file.read() == b"new"
        with pytest.raises(FileNotFoundError):
            files.stat("source")


@pytest.mark.parametrize(
    "path", ["../../../../etc/passwd", "/../../etc/passwd", "/etc/../../etc/passwd"]
)
def test_sftp_does_not_climb_out_of_the_root(ssh, path):
    with ssh.open_sftp() as files:
        assert files.normalize(path) == "/etc/passwd"
        with pytest.raises(FileNotFoundError):
            files.stat(path)


def test_links_lead_inside_the_root_wherever_they_point(ssh, served):
    link = served.root / "home/nvidia/way_out"
    link.unlink(missing_ok=True)
    link.symlink_to("/etc")
    up = served.root / "home/nvidia/up"
    up.unlink(missing_ok=True)
    up.symlink_to("../../../../..")
    with ssh.open_sftp() as files:
        assert "passwd" not in files.listdir("way_out")
        assert "nv_tegra_release" in files.listdir("way_out")
        assert sorted(files.listdir("up")) == sorted(files.listdir("/"))
        with pytest.raises(FileNotFoundError):
            files.stat("way_out/passwd")


def test_a_ring_of_links_ends(tmp_path):
    (tmp_path / "a").symlink_to("/b")
    (tmp_path / "b").symlink_to("/a")
    with pytest.raises(OSError, match="too many levels"):
        resolve(tmp_path, "/a")
