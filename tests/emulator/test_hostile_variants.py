"""Every variant alone does on the board what it says, seen by plain commands over SSH."""

from __future__ import annotations

import ast
import base64
import contextlib
import json
import re
import shlex
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import paramiko
import pytest
import yaml

from hil.emulator.client import BoardRefusedError
from hil.emulator.hostile.variants import VARIANTS
from hil.emulator.serve import EmulatedBoard, Options
from hil.net.sample import sample_network

pytestmark = pytest.mark.board
R = "$HIL_BOARD_ROOT"
LINE = """python3 -c '
import subprocess
p = subprocess.Popen(["tegrastats", "--interval", "100"], stdout=subprocess.PIPE)
print(p.stdout.readline().decode())
p.kill()'"""
LATER = """python3 -c '
import subprocess, threading, time
p = subprocess.Popen(["tegrastats", "--interval", "100"], stdout=subprocess.PIPE)
got = []
t = threading.Thread(target=lambda: got.extend(p.stdout))
t.start(); time.sleep(2); p.kill(); t.join()
print(got[-1].decode())'"""
GONE = (OSError, EOFError, paramiko.SSHException)
SHOWS = yaml.safe_load(Path(__file__).with_name("hostile_variants.yaml").read_text("utf-8"))


@dataclass
class Said:
    """What one command said."""

    status: int
    out: str
    err: str


@contextmanager
def served(*names: str) -> Iterator[EmulatedBoard]:
    board = EmulatedBoard(Options(hostile=0, hostile_only=names, seed=1))
    try:
        yield board
    finally:
        board.close()


@contextmanager
def login(board: EmulatedBoard) -> Iterator[paramiko.SSHClient]:
    told = board.description()
    kind, text = told["host_key"].split()
    client = paramiko.SSHClient()
    client.get_host_keys().add(
        f"[127.0.0.1]:{told['port']}",
        kind,
        paramiko.PKey.from_type_string(kind, base64.b64decode(text)),
    )
    link = socket.create_connection((told["host"], told["port"]))
    client.connect(
        told["host"],
        told["port"],
        told["user"],
        key_filename=told["identity"],
        sock=link,
        allow_agent=False,
        look_for_keys=False,
    )
    try:
        yield client
    finally:
        client.close()


def say(client: paramiko.SSHClient, command: str) -> Said:
    stdin, out, err = client.exec_command(command, timeout=60)
    stdin.channel.shutdown_write()
    texts = [each.read().decode("utf-8", errors="replace") for each in (out, err)]
    return Said(out.channel.recv_exit_status(), *texts)


@pytest.mark.parametrize("name", SHOWS)
def test_a_variant_alone_shows_on_the_board(name):
    shown = SHOWS[name]
    command = shown["run"].replace("LINE\n", LINE + "\n").replace("LATER\n", LATER + "\n")
    with served(name) as board, login(board) as client:
        said = say(client, command)
    assert said.status == shown["status"], said
    assert re.search(shown.get("out", ""), said.out.rstrip("\n")), said
    assert re.search(shown.get("err", ""), said.err), said


OTHERWISE = {
    "bashrc-breaks-sftp", "no-sftp", "max-sessions-1", "sessions-end", "slow-login", "slow-link",
    "link-cut", "monitors-stuck", "tegrastats-buffers", "tegrastats-dies", "tegrastats-half-lines",
    "build-killed", "brown-out",
}  # fmt: skip
"""Seen in the tests below, which need more than one command."""


def test_every_variant_is_seen_somewhere():
    assert set(SHOWS) | OTHERWISE == set(VARIANTS)
    assert not set(SHOWS) & OTHERWISE


@pytest.mark.parametrize("name", ["bashrc-breaks-sftp", "no-sftp"])
def test_a_board_without_usable_sftp_runs_commands_all_the_same(name):
    with served(name) as board, login(board) as client:
        assert say(client, "echo works").out.endswith("works\n")
        with pytest.raises((paramiko.SSHException, paramiko.SFTPError, EOFError, OSError)):
            client.open_sftp().listdir(".")


def test_what_bashrc_prints_comes_before_the_first_packet_of_sftp():
    with served("bashrc-breaks-sftp") as board, login(board) as client:
        channel = client.get_transport().open_session()
        channel.invoke_subsystem("sftp")
        assert channel.recv(40).startswith(b"Welcome to the lab\n")


def test_a_noise_that_leaves_sftp_alone_does_so():
    with served("bashrc-echo") as board, login(board) as client:
        assert ".bashrc" in client.open_sftp().listdir(".")


def test_one_channel_at_a_time_is_one():
    with served("max-sessions-1") as board, login(board) as client:
        transport = client.get_transport()
        first = transport.open_session()
        first.exec_command("cat")
        with pytest.raises(paramiko.ChannelException) as refused:
            transport.open_session()
        assert refused.value.code == 1  # administratively prohibited
        first.shutdown_write()
        assert first.recv_exit_status() == 0
        first.close()
        assert say(client, "echo again").out == "again\n"


def test_a_connection_is_ended_after_its_time():
    with served("sessions-end") as board, login(board) as client:
        began_s = time.monotonic()
        assert say(client, "sleep 30").status == -1
        assert 2.0 < time.monotonic() - began_s < 8.0


def test_a_slow_login_is_slow():
    began_s = time.monotonic()
    with served("slow-login") as board, login(board) as client:
        assert time.monotonic() - began_s > 3.0
        assert say(client, "echo in").out == "in\n"


def test_a_slow_link_is_slow():
    with served("slow-link") as board, login(board) as client:
        began_s = time.monotonic()
        assert len(say(client, "head -c 60000 /dev/zero").out) == 60000
        assert time.monotonic() - began_s > 0.9


def test_a_link_is_cut_once():
    with served("link-cut") as board:
        with login(board) as client, contextlib.suppress(*GONE):
            assert say(client, "head -c 200000 /dev/zero").status == -1
        deadline_s = time.monotonic() + 5.0
        while True:
            try:
                with login(board) as client:
                    assert len(say(client, "head -c 200000 /dev/zero").out) == 200000
                return
            except GONE:
                assert time.monotonic() < deadline_s


LINES = """
import subprocess, sys, threading, time
p = subprocess.Popen(["tegrastats", "--interval", "100"], stdout=subprocess.PIPE)
got = []
read = lambda: [got.append(x) for x in iter(lambda: p.stdout.read1(65536), b"")]
t = threading.Thread(target=read)
t.start(); time.sleep(9)
if "dies" not in sys.argv: p.terminate()
p.wait(); t.join()
sys.stdout.write(repr([x.decode() for x in got])); sys.stderr.write(str(p.returncode))
"""


def lines_of(name: str) -> tuple[list[str], int]:
    with served(name) as board, login(board) as client:
        said = say(client, f"python3 -c {shlex.quote(LINES)} {name.rpartition('-')[2]}")
    assert said.status == 0, said
    return ast.literal_eval(said.out), int(said.err)


def test_stuck_monitors_repeat_themselves():
    chunks, _ = lines_of("monitors-stuck")
    readings = re.findall(r"VDD_IN (\d+)/", "".join(chunks))
    assert len(set(readings[-20:])) == 1
    assert len(set(readings[:50])) > 1


def test_a_wrapper_that_buffers_hands_on_blocks():
    chunks, _ = lines_of("tegrastats-buffers")
    assert chunks
    assert all(len(chunk) % 4096 == 0 for chunk in chunks)


def test_a_tegrastats_that_dies_tells_its_status():
    chunks, status = lines_of("tegrastats-dies")
    assert "".join(chunks).count("RAM ") == 40
    assert status == 1


def test_half_lines_are_glued():
    chunks, _ = lines_of("tegrastats-half-lines")
    whole = "".join(chunks).splitlines()
    assert any(line.count("RAM ") == 2 for line in whole)


def test_a_build_is_killed_every_time():
    with served("build-killed") as board, login(board) as client:
        with client.open_sftp().open("net.onnx", "wb") as file:
            file.write(sample_network())
        trtexec = f"{R}/usr/src/tensorrt/bin/trtexec --onnx=net.onnx --buildOnly"
        assert [say(client, trtexec).status for _ in range(2)] == [137, 137]


def test_a_weak_supply_resets_the_board_once():
    with served("brown-out") as board:
        boot_id = board.root / "proc/sys/kernel/random/boot_id"
        first = boot_id.read_text()
        with login(board) as client, contextlib.suppress(*GONE):
            say(client, "python3 -c 'import time; time.sleep(14)'; echo survived")
        deadline_s = time.monotonic() + 5.0
        while boot_id.read_text() == first and time.monotonic() < deadline_s:
            time.sleep(0.02)
        assert boot_id.read_text() != first
        assert "brown-out" in board.quirks.names
        assert "reboot" not in board.faults()


def test_what_a_small_board_is_asked_for_memory_is_told_without_taking_it():
    ask = """
import tensorrt as t
logger = t.Logger(t.Logger.ERROR)
engine = t.Runtime(logger).deserialize_cuda_engine(open("net.plan", "rb").read())
print(engine.device_memory_size, engine.create_execution_context())
"""
    with served("memory-full") as board, login(board) as client:
        with client.open_sftp().open("net.onnx", "wb") as file:
            file.write(sample_network())
        trtexec = f"{R}/usr/src/tensorrt/bin/trtexec --onnx=net.onnx --saveEngine=net.plan"
        assert say(client, trtexec + " --buildOnly").status == 0
        hog = "import pycuda.autoinit, pycuda.driver as d\n"
        hog += "m = d.mem_alloc(d.mem_get_info()[0] - 12000)\n"
        said = say(client, f"python3 -c {shlex.quote(hog + ask)}")
    assert re.fullmatch(r"\d{5,} None", said.out.splitlines()[-1]), said


def test_the_truth_about_an_engine_is_that_of_a_board_left_alone():
    truths = {}
    for name in ("jetpack-4.6.x", "foreign-gpu", "rails-swapped"):
        with served(name) as board, login(board) as client:
            with client.open_sftp().open("net.onnx", "wb") as file:
                file.write(sample_network())
            run = f"{R}/usr/src/tensorrt/bin/trtexec --onnx=net.onnx --duration=0 --iterations=1"
            assert say(client, run).status == 0
            truths[name] = json.loads(say(client, "hil-board quiet --mode 0").out)
    alone = truths.pop("jetpack-4.6.x")
    assert alone["energy_mj"] == pytest.approx(alone["power_w"] * alone["latency_ms"])
    assert all(truth == pytest.approx(alone, rel=1e-3) for truth in truths.values())


def test_no_engine_has_run_on_a_fresh_board():
    with served() as board, pytest.raises(BoardRefusedError):
        board.quiet_truth()
