"""The real agent, as a process on its own interpreter: protocol, lease and leaving."""

import os
import signal

import pytest


def wait_until(condition, seconds=20.0):
    """Polls for something that another process does."""
    import time

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_hello_says_what_is_needed_to_talk(bench):
    said = bench.start().hello()

    assert said["protocol"] == 2
    assert said["root"] == str(bench.board.root)
    assert said["state_dir"] == str(bench.board.home / ".hil")
    assert said["boot_id"] == "boot-one"
    assert said["python"].startswith(("3.6.", "3.1"))
    assert (bench.board.home / ".hil").stat().st_mode & 0o777 == 0o700


def test_nothing_works_before_hello(bench):
    agent = bench.start()

    assert agent.error("probe")["code"] == "protocol"
    assert agent.error("hello", protocols=[99])["code"] == "protocol"
    assert agent.error("lease_status")["code"] == "protocol"
    agent.hello()
    assert agent.call("lease_status")["held"] is False


def test_probe_tells_the_board_apart_from_what_is_unknown(bench):
    told = bench.greeted().call("probe")

    assert told["model"] == "NVIDIA Jetson TX2"
    assert told["l4t"] == "32.7.1"
    assert told["tensorrt"] is None
    assert told["nvpmodel"] == {"id": 3, "name": "MODE_3"}
    assert told["sudo"] == {"nvpmodel": True, "jetson_clocks": True}
    assert told["tegrastats"] == str(bench.board.root / "usr/bin/tegrastats")
    assert told["trtexec"] is None
    assert told["memory_bytes"] == 8042320 * 1024
    assert told["emulated"] is True
    assert told["disk_free_bytes"] > 0


@pytest.mark.parametrize(
    "line",
    [b"{", b"7", b'{"id": 1}', b'{"id": 1, "method": "ping", "params": 3}', b"\xff\xfe", b""],
)
def test_what_is_no_request_is_refused_and_the_agent_lives_on(bench, line):
    agent = bench.start()
    agent.send_bytes(line + b"\n")

    assert agent.receive()["error"]["code"] == "bad_request"
    assert agent.call("ping") == {}


def test_a_line_over_the_limit_is_refused_and_the_agent_lives_on(bench):
    agent = bench.start()
    agent.send_bytes(b'{"id": 1, "method": "' + b"x" * (9 << 20) + b'"}\n')

    assert agent.receive()["error"]["code"] == "bad_request"
    assert agent.call("ping") == {}


def test_a_half_line_at_the_end_is_not_carried_out(bench):
    agent = bench.greeted()
    agent.send_bytes(b'{"id": 50, "method": "lease_acquire", "params": {"owner": "x"}}')

    assert agent.end_input() == 0
    assert agent.receive() is None
    assert bench.greeted().call("lease_status")["held"] is False


def test_unknown_methods_and_wrong_parameters_are_named(bench):
    agent = bench.greeted()

    assert "teleport" in agent.error("teleport")["message"]
    assert "owner" in agent.error("lease_acquire", owner="")["message"]
    assert "sha256" in agent.error("blob_stat", sha256="../../etc/passwd")["message"]
    for name in ("../upload", "/etc/passwd", ".hidden", "a/b"):
        assert agent.error("blob_commit", name=name, sha256="0" * 64)["code"] == "bad_request"


def test_blobs_are_verified_on_arrival(bench):
    agent = bench.greeted()
    good = bench.upload(b"network", "one")
    agent.call("blob_commit", name="one", sha256=good)
    bench.upload(b"damaged on the way", "two")

    assert agent.call("blob_stat", sha256=good) == {"bytes": 7}
    assert agent.error("blob_commit", name="two", sha256="f" * 64)["code"] == "checksum"
    assert agent.call("blob_stat", sha256="f" * 64) == {"bytes": None}


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("board_pin", {"nvpmodel": 0}),
        ("board_restore", {}),
        ("engine_build", {}),
        ("engine_run", {}),
        ("engine_infer", {}),
        ("engine_layers", {}),
        ("engine_trtexec", {}),
        ("step_response", {"steps": 1}),
    ],
)
def test_without_the_lease_nobody_touches_the_board(bench, method, params):
    assert bench.greeted().error(method, **params)["code"] == "lease_lost"
    assert bench.board.calls() == []


def test_two_agents_contend_for_one_board(bench):
    first, second = bench.greeted(), bench.greeted()
    first.lease("alice")

    refusal = second.error("lease_acquire", owner="bob", ttl_s=60, steal_reason=None)
    assert refusal["code"] == "lease_held"
    assert "alice" in refusal["message"]

    first.end_input()
    second.lease("bob")


def test_a_lease_that_nobody_renews_runs_out(bench):
    first, second = bench.greeted(), bench.greeted()
    first.lease("alice", ttl_s=0.3)

    def taken():
        message, _ = second.finish(second.start("lease_acquire", owner="bob", ttl_s=60))
        return "result" in message

    assert wait_until(taken)
    assert first.error("board_restore")["code"] == "lease_lost"


def test_a_stolen_board_is_lost_to_its_holder(bench):
    first, second = bench.greeted(), bench.greeted()
    first.lease("alice")

    second.call("lease_acquire", owner="bob", ttl_s=60, steal_reason="alice went home")

    assert first.error("board_restore")["code"] == "lease_lost"
    assert second.call("lease_status")["owner"] == "bob"


def test_pinning_stores_first_and_leaving_gives_everything_back(bench):
    agent = bench.greeted()
    agent.lease()

    state = agent.call("board_pin", nvpmodel=0, clocks=True)["state"]

    assert state["nvpmodel"] == {"id": 0, "name": "MODE_0"}
    assert state["gpu_hz"] == 1300500000
    assert state["temps_c"] == {"GPU-therm": 41.5}  # the unpowered sensor is none
    assert state["clocks_pinned"] is False  # the CPU may still go slower
    assert state["throttle"] == []  # a turning fan slows nothing down
    assert bench.board.restore_file.exists()
    assert agent.end_input() == 0
    conf = bench.board.clocks_conf
    assert [call.strip() for call in bench.board.calls() if "-q" not in call] == [
        "nvpmodel -m 0",
        f"jetson_clocks --store {conf}",
        "jetson_clocks",
        f"jetson_clocks --restore {conf}",
        "nvpmodel -m 3",
    ]
    assert not bench.board.restore_file.exists()
    assert bench.greeted().call("lease_status")["held"] is False


def test_an_older_store_of_clocks_is_replaced(bench):
    bench.board.write("var/lib/hil/clocks.conf", "old")
    agent = bench.greeted()
    agent.lease()

    agent.call("board_pin", nvpmodel=None, clocks=True)

    assert (bench.board.root / "var/lib/hil/clocks.conf").read_text() == "stored\n"


def test_what_was_found_survives_pinning_twice(bench):
    agent = bench.greeted()
    agent.lease()
    agent.call("board_pin", nvpmodel=0, clocks=True)
    agent.call("board_pin", nvpmodel=1, clocks=True)

    assert agent.call("board_restore") == {"restored": ["clocks", "nvpmodel"]}
    assert (bench.board.root / "mode").read_text() == "3"
    assert sum("--store" in call for call in bench.board.calls()) == 1
    assert agent.call("board_restore") == {"restored": []}


def test_a_killed_agents_changes_are_given_back_by_the_next(bench):
    agent = bench.greeted()
    agent.lease(ttl_s=0.2)
    agent.call("board_pin", nvpmodel=0, clocks=True)
    agent.process.kill()
    agent.process.wait()
    assert (bench.board.root / "mode").read_text() == "0"

    def given_back():
        bench.greeted().end_input()
        return (bench.board.root / "mode").read_text() == "3"

    assert wait_until(given_back)
    assert not bench.board.restore_file.exists()
    assert f"jetson_clocks --restore {bench.board.clocks_conf}" in bench.board.calls()


def test_another_agent_does_not_undo_what_the_holder_pinned(bench):
    holder = bench.greeted()
    holder.lease()
    holder.call("board_pin", nvpmodel=0, clocks=True)

    visitor = bench.greeted()  # same user, same state folder
    visitor.end_input()

    assert (bench.board.root / "mode").read_text() == "0"
    assert bench.board.restore_file.exists()


def test_after_a_reboot_only_the_power_mode_is_given_back(bench):
    agent = bench.greeted()
    agent.lease()
    agent.call("board_pin", nvpmodel=0, clocks=True)
    agent.process.kill()
    agent.process.wait()
    bench.board.write("proc/sys/kernel/random/boot_id", "boot-two\n")

    bench.greeted()

    assert (bench.board.root / "mode").read_text() == "3"
    assert not any("--restore" in call for call in bench.board.calls())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_agent_in_order(bench, number):
    agent = bench.greeted()
    agent.lease()
    agent.call("board_pin", nvpmodel=0, clocks=False)

    agent.process.send_signal(number)

    assert agent.process.wait(20) == 0
    assert (bench.board.root / "mode").read_text() == "3"


def test_a_ctrl_c_meant_for_the_host_does_not_end_the_agent(bench):
    agent = bench.greeted()
    agent.process.send_signal(signal.SIGINT)

    assert agent.call("ping") == {}


def test_what_sudo_refuses_comes_with_the_line_to_add(bench):
    bench.board.program("sudo", "echo 'sudo: a password is required' >&2; exit 1\n")
    agent = bench.greeted()
    agent.lease()

    refusal = agent.error("board_pin", nvpmodel=0, clocks=True)

    assert refusal["code"] == "not_permitted"
    assert "a password is required" in refusal["why"]
    assert "NOPASSWD" in refusal["fix"]
    assert f"{bench.board.root}/usr/sbin/nvpmodel -m 0" in refusal["fix"]
    assert '/jetson_clocks ""' in refusal["fix"]  # bare would allow any argument
    assert agent.call("probe")["sudo"] == {"nvpmodel": False, "jetson_clocks": False}


def test_a_mode_the_board_did_not_take_is_said(bench):
    bench.board.program("nvpmodel", 'printf "NV Power Mode: MAXN\\n3\\n"\n')
    agent = bench.greeted()
    agent.lease()

    assert "did not take power mode 0" in agent.error("board_pin", nvpmodel=0)["message"]


def test_a_board_without_nvpmodel_says_what_to_set(bench):
    os.unlink(bench.board.root / "usr/sbin/nvpmodel")
    agent = bench.greeted()
    agent.lease()

    refusal = agent.error("board_pin", nvpmodel=0, clocks=False)

    assert refusal["code"] == "not_permitted"
    assert "nvpmodel" in refusal["message"]
    assert agent.call("probe")["nvpmodel"] is None
