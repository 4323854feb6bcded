"""SSH over a real OpenSSH server: pinned keys only, every refusal explained, nothing hangs."""

from __future__ import annotations

import contextlib
import socket
import statistics
import subprocess
import threading
import time

import pytest

from hil.core.errors import ConfigError, DeviceError, ExitCode
from hil.device.hostkeys import parse_host_key
from hil.device.ssh import connect
from tests.device.conftest import free_port, make_key

pytestmark = pytest.mark.board


def refusal(ssh) -> DeviceError:
    with pytest.raises(DeviceError) as caught, connect(ssh):
        pass
    assert caught.value.exit_code == ExitCode.BOARD
    assert caught.value.fix
    return caught.value


def test_commands_return_status_and_both_streams(ssh_server):
    with connect(ssh_server.ssh()) as connection:
        done = connection.run("echo out; echo err >&2; exit 3")

    assert (done.status, done.out, done.err) == (3, "out\n", "err")


def test_much_output_on_both_streams_does_not_deadlock(ssh_server):
    command = "head -c 5000000 /dev/zero; head -c 5000000 /dev/zero >&2"

    with connect(ssh_server.ssh()) as connection:
        done = connection.run(command)

    assert len(done.out) == 5_000_000


def test_a_key_pinned_inline_is_as_good_as_a_file(ssh_server):
    ssh = ssh_server.ssh(known_hosts=None, host_key=str(ssh_server.host_key))

    with connect(ssh) as connection:
        assert connection.run("true").status == 0


def test_our_socket_does_not_wait_for_more_bytes(ssh_server):
    with connect(ssh_server.ssh()) as connection:
        sock = connection.client.get_transport().sock
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000


def test_a_round_trip_over_the_open_channel_is_quick(ssh_server):
    with connect(ssh_server.ssh()) as connection:
        agent = connection.open_agent("exec cat")
        times_ms = []
        for _ in range(100):
            start_s = time.perf_counter()
            agent.send(b"x\n")
            agent.receive()
            times_ms.append((time.perf_counter() - start_s) * 1e3)
        agent.close()

    assert statistics.median(times_ms) < 20  # Nagle's delay alone would be 40


def test_another_host_key_is_refused_and_both_fingerprints_are_shown(ssh_server, tmp_path):
    make_key(tmp_path / "other")
    other = parse_host_key((tmp_path / "other.pub").read_text(encoding="utf-8"))

    error = refusal(ssh_server.ssh(known_hosts=None, host_key=str(other)))

    assert other.fingerprint in str(error)
    assert ssh_server.host_key.fingerprint in str(error)
    assert "hil device add" in str(error)


def test_a_pin_of_another_type_is_not_enough(ssh_server, tmp_path):
    argv = ["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(tmp_path / "ecdsa")]
    subprocess.run(argv, check=True)
    other = parse_host_key((tmp_path / "ecdsa.pub").read_text(encoding="utf-8"))

    error = refusal(ssh_server.ssh(known_hosts=None, host_key=str(other)))

    assert "another host key" in error.what


def test_a_host_that_is_not_pinned_is_not_even_dialled(ssh_server, tmp_path):
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text("elsewhere " + str(ssh_server.host_key) + "\n", encoding="utf-8")

    error = refusal(ssh_server.ssh(known_hosts=known_hosts, port=free_port()))

    assert "no host key is pinned" in error.what


def test_a_refused_login_names_the_key_file(ssh_server, tmp_path):
    make_key(tmp_path / "stranger")

    error = refusal(ssh_server.ssh(identity=tmp_path / "stranger"))

    assert "refuses the login" in error.what
    assert str(tmp_path / "stranger") in str(error)


def test_a_refused_connection_is_explained(ssh_server):
    ssh = ssh_server.ssh(known_hosts=None, host_key=str(ssh_server.host_key), port=free_port())

    assert "refuses connections" in refusal(ssh).what


def test_an_unknown_host_name_is_explained(ssh_server):
    ssh = ssh_server.ssh(
        known_hosts=None, host_key=str(ssh_server.host_key), host="no-such-board.invalid"
    )

    assert "'no-such-board.invalid' is unknown" in refusal(ssh).what


def test_a_host_that_does_not_answer_times_out(ssh_server):
    # a listener whose queue is full drops what comes next, as a dead address does
    with socket.socket() as listener, contextlib.ExitStack() as held:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(3):
            filler = held.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        key = str(ssh_server.host_key)
        ssh = ssh_server.ssh(known_hosts=None, host_key=key, port=port, timeout_s=0.3)

        assert "does not answer" in refusal(ssh).what


def test_a_server_that_is_not_ssh_is_explained(ssh_server):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=greet_as_mail_server, args=(listener,))
        thread.start()
        key = str(ssh_server.host_key)
        ssh = ssh_server.ssh(known_hosts=None, host_key=key, port=port, timeout_s=2.0)

        error = refusal(ssh)
        thread.join()

    assert "no SSH connection" in error.what


def greet_as_mail_server(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    connection.sendall(b"220 mail ready\r\n")
    connection.close()


@pytest.mark.parametrize(
    ("passphrase", "content", "expected"),
    [
        (None, None, "does not exist"),
        (None, "not a key\n", "cannot be used"),
        ("secret", None, "passphrase"),
    ],
)
def test_an_unusable_key_file_is_the_file_author_s_fault(
    passphrase, content, expected, ssh_server, tmp_path
):
    key = tmp_path / "key"
    if content is not None:
        key.write_text(content, encoding="utf-8")
    if passphrase is not None:
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(key)]
        subprocess.run(argv, check=True)

    with pytest.raises(ConfigError, match=expected), connect(ssh_server.ssh(identity=key)):
        pass


def test_a_board_behind_a_jump_host_is_reached_through_it(ssh_server):
    hop = ssh_server.ssh().model_dump(exclude={"jump"})

    with connect(ssh_server.ssh(jump=hop)) as connection:
        assert connection.run("echo there").out == "there\n"
        assert len(ssh_server.connections()) == 2


def test_a_jump_host_that_cannot_reach_the_board_is_named(ssh_server):
    hop = ssh_server.ssh().model_dump(exclude={"jump"})
    key = str(ssh_server.host_key)
    ssh = ssh_server.ssh(known_hosts=None, host_key=key, port=free_port(), jump=hop)

    assert "the jump host 127.0.0.1 cannot reach" in refusal(ssh).what


def test_a_jump_host_s_key_is_pinned_too(ssh_server, tmp_path):
    make_key(tmp_path / "other")
    other = (tmp_path / "other.pub").read_text(encoding="utf-8")
    hop = ssh_server.ssh(known_hosts=None, host_key=other).model_dump(exclude={"jump"})

    assert "another host key" in refusal(ssh_server.ssh(jump=hop)).what


def test_a_command_on_a_cut_link_fails_at_once(ssh_server):
    with connect(ssh_server.ssh()) as connection:
        ssh_server.cut()
        start_s = time.monotonic()

        with pytest.raises(DeviceError):
            connection.run("sleep 60")

        assert time.monotonic() - start_s < 10


def test_a_command_that_does_not_end_is_given_up(ssh_server):
    with connect(ssh_server.ssh()) as connection, pytest.raises(DeviceError, match="did not end"):
        connection.run("sleep 60", timeout_s=0.2)
