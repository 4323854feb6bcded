"""Every variant alone does on the board what it says, seen by plain commands over SSH."""

from __future__ import annotations

import base64
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import paramiko
import pytest

from hil.emulator.client import BoardRefusedError
from hil.emulator.hostile.variants import VARIANTS
from hil.emulator.serve import EmulatedBoard, Options

pytestmark = pytest.mark.board
R = "$HIL_BOARD_ROOT"
INA = f"{R}/sys/bus/i2c/drivers/ina3221x"
PY = "python3 -c "
LINE = f"timeout 3 {PY}" + (
    '\'import subprocess as s; p = s.Popen(["tegrastats", "--interval", "100"], stdout=s.PIPE);'
    " print(p.stdout.readline().decode()); p.kill()'"
)
SPEND = PY + "'import time; time.sleep({})'; "


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


# A command, the exit status, and what its output and its errors must hold (regular expressions).
SHOWS: dict[str, tuple[str, int, str, str]] = {
    "jetpack-3.3": (f"cat {R}/etc/nv_tegra_release; ls ~; {PY}'import tensorrt'", 1,
                    r"(?s)# R28.*tegrastats", "tensorrt"),
    "jetpack-4.4": (f"{PY}'import tensorrt as t; print(t.__version__, "
                    "hasattr(t.Builder, \"build_serialized_network\"), hasattr(t, \"EngineInspector\"),"
                    " hasattr(t.Builder, \"build_engine\"))'", 0, r"7\.1\.3\.0 False False True", ""),
    "jetpack-4.5": (f"cat {R}/etc/nv_tegra_release; {PY}'import tensorrt as t; print(t.__version__)'",
                    0, r"(?s)REVISION: 5\.1.*7\.1\.3", ""),
    "jetpack-4.6": (f"{PY}'import tensorrt as t; print(t.__version__, "
                    "hasattr(t.Builder, \"build_serialized_network\"), "
                    "hasattr(t.ICudaEngine, \"create_engine_inspector\"))'", 0,
                    r"8\.0\.1\.6 True False", ""),
    "jetpack-4.6.x": (f"cat {R}/etc/nv_tegra_release", 0, r"REVISION: 7\.[2-6]", ""),
    "unknown-release": (f"cat {R}/etc/nv_tegra_release; {PY}'import tensorrt as t; "
                        "print(t.__version__)'", 0, r"(?s)REVISION: 9\.1.*8\.2\.5\.1", ""),
    "no-sbin-in-path": ("nvpmodel -q", 127, "", "not found"),
    "no-python3": (f"python3.6 -c 'import tensorrt; print(\"has it\")'; {PY}''", 127, "has it",
                   "python3.*not found"),
    "newer-python3": (f"python3.6 -c 'import tensorrt'; {PY}'import tensorrt'", 1, "",
                      "No module named 'tensorrt'"),
    "conda": (f"command -v python3; {PY}'import tensorrt'", 1, "miniconda3/bin/python3",
              "No module named 'tensorrt'"),
    "no-tensorrt-in-python": (f"{R}/usr/src/tensorrt/bin/trtexec --help >/dev/null && "
                              f"{PY}'import tensorrt'", 1, "", "No module named 'tensorrt'"),
    "no-pycuda": (f"{PY}'import tensorrt, numpy, pycuda.driver'", 1, "", "No module named 'pycuda'"),
    "no-numpy": (f"{PY}'import tensorrt; import pycuda.driver'; {PY}'import numpy'", 1, "",
                 "(?s)numpy.*No module named 'numpy'"),
    "no-trtexec": (f"{R}/usr/src/tensorrt/bin/trtexec", 127, "", "not found"),
    "numpy-illegal-instruction": (f"OPENBLAS_CORETYPE=ARMV8 {PY}'import numpy; print(\"fine\")'; "
                                  f"{PY}'import numpy'", 132, "fine", ""),
    "bashrc-echo": ("echo done", 0, "(?s)^(.+done|done)$", ""),
    "bashrc-floods": ("echo done", 0, r"line 1: (?s:.*)line 300: do not unplug the boards\ndone", ""),
    "bashrc-no-newline": ("echo done", 0, r"loading modules\.\.\. done done", ""),
    "bashrc-colours": ("echo done", 0, "(?s)\x1b\\[33m.*\r\n.*\ufffd.*done", ""),
    "sudo-none": ("sudo -n nvpmodel -m 0", 1, "", "a password is required"),
    "sudo-not-a-sudoer": ("sudo -n jetson_clocks", 1, "", "nvidia is not in the sudoers file"),
    "sudo-without-nvpmodel": ("sudo -n jetson_clocks && sudo -n nvpmodel -m 0", 1, "", "password"),
    "sudo-without-store": ("sudo -n jetson_clocks && "
                           "sudo -n jetson_clocks --store /var/lib/hil/clocks.conf", 1, "", "password"),
    "sudo-requires-tty": ("sudo -n jetson_clocks", 1, "", "you must have a tty"),
    "sudo-cannot-resolve-host": ("sudo -n jetson_clocks", 0, "", "unable to resolve host tx2-lab"),
    "sudo-lectures": ("sudo -n nvpmodel -m 1; nvpmodel -q", 0, "(?s)usual lecture.*MAXQ", "lecture"),
    "locale-c": (f"{PY}'print(\"\\u00b0C\")'", 1, "", "UnicodeEncodeError"),
    "locale-posix": ("echo $LC_ALL", 0, "POSIX", ""),
    "locale-german": ("sudo -n reboot", 1, "", "sudo: Ein Passwort ist notwendig"),
    "locale-turkish": ("echo $LANG; sudo -n reboot", 1, "tr_TR.UTF-8", "parola"),
    "odd-home": (f"cat {R}/etc/hostname; echo $USER; pwd", 0,
                 r"(?s)^\S{63}\nlab-user@corp.*lab user's tx2$", ""),
    "older-agent": ("ls .hil/agent; cat .hil/blobs/abab*", 0,
                    "(?s)hil-agent-0+.pyz.*not what its name says", ""),
    "state-is-a-file": ("mkdir .hil", 1, "", "File exists"),
    "rails-renamed": (f"cat {INA}/0-0041/iio:device1/rail_name_0; {LINE}", 0,
                      r"(?s)^VIN_MOD.*VIN_MOD \d+/\d+", ""),
    "total-rail-missing": (f"ls {INA}/0-0041/iio:device1; {LINE}", 0,
                           r"(?s)^(?!.*rail_name_0)(?!.*VDD_IN).*rail_name_1.*VDD_SYS_CPU \d+", ""),
    "rails-swapped": (f"cat {INA}/0-0041/iio:device1/rail_name_0; {LINE}", 0,
                      r"(?s)^VDD_SYS_GPU.*VDD_SYS_GPU 1\d\d\d/", ""),
    "no-monitors": (f"ls {R}/sys/bus/i2c 2>&1; {LINE}", 0, r"(?s)No such file.*Tdiode@[\d.]+C\s*$", ""),
    "i2c-renumbered": (f"cat {INA}/7-0041/iio:device3/rail_name_0 {INA}/7-0041/iio:device3/"
                       f"in_power0_input {R}/proc/device-tree/model", 0,
                       r"(?s)VDD_IN\n1\d\d\d\n.*third-party", ""),
    "triggered-monitors": (f"cat {INA}/0-0041/iio:device1/running_mode", 0, "^0$", ""),
    "monitors-die": (SPEND.format(7) + LINE, 0, r"(?s)Tdiode@[\d.]+C\s*$", ""),
    "no-tegrastats": ("tegrastats", 127, "", "not found"),
    "tegrastats-in-sbin": ("command -v tegrastats", 0, "/usr/sbin/tegrastats", ""),
    "tegrastats-runs-already": ("tegrastats --interval 100", 255, "exits as an instance", ""),
    "tegrastats-without-interval": ("tegrastats --interval 100", 255, "Unknown option", ""),
    "tegrastats-wants-root": ("tegrastats --interval 100", 255, "not invoking as root", ""),
    "tegrastats-cache-of-root": ("tegrastats --interval 100", 255, r"tstats.txt: Permission", ""),
    "tegrastats-of-r39": (LINE, 0, r"^\d\d-\d\d-\d{4} .*VDD_IN (\d+)mW/\d+mW/\1mW", ""),
    "tegrastats-of-the-future": (LINE, 0, r"^v2 mem=.*VDD_IN=1\.\d{3}W~", ""),
    "clock-1970": (f"{PY}'import time; print(time.gmtime().tm_year)'", 0, "^1970$", ""),
    "clock-jumps": (f"{PY}'import time; a = time.time(); time.sleep(5); print(a, time.time() - a)'", 0,
                    r"^\d\d\d\.\d+ \d{10}\.", ""),
    "disk-full": (f"{PY}'open(\"x\", \"w\")'", 1, "", "No space left"),
    "tmp-full": (f"{PY}'import tempfile; open(\"x\", \"w\"); tempfile.TemporaryFile()'", 1, "",
                 "No space left"),
    "home-quota": (f"{PY}'import os; os.mkdir(\"x\")'", 1, "", "quota exceeded"),
    "home-read-only": (f"{PY}'open(\"x\", \"w\")'", 1, "", "Read-only file system"),
    "home-of-root": (f"{PY}'open(\"x\", \"w\")'", 1, "", "Permission denied"),
    "tmp-noexec": (f"cp $(command -v true) {R}/tmp/t; {PY}'import os, subprocess; "
                   "subprocess.call([os.environ[\"TMPDIR\"] + \"/t\"])'", 1, "", "Permission denied"),
    "slow-card": (f"{PY}'import os, time; f = open(\"x\", \"w\"); a = time.monotonic(); "
                  "os.fsync(f.fileno()); print(time.monotonic() - a)'", 0, r"^0\.[67]\d*|^0\.7", ""),
    "one-core": (f"cat {R}/sys/devices/system/cpu/cpu?/online; {LINE}", 0,
                 r"(?s)^1\n0\n0\n0\n0\n0\n.*CPU \[\d+%@\d+,off,off,off,off,off\]", ""),
    "nvpmodel-asks": ("sudo -n nvpmodel -m 0; echo ended $?; nvpmodel -q", 0,
                      "(?s)REBOOT NOW.*ended 0.*MAXP_CORE_ARM\n3", ""),
    "nvpmodel-unset": ("nvpmodel -q; sudo -n nvpmodel -m 0; nvpmodel -q", 0,
                       "(?s)power mode is not set!.*MAXN", ""),
    "nvpmodel-custom": ("nvpmodel -q; sudo -n nvpmodel -m 7", 1, "LAB_12W\n7", "password"),
    "nvpmodel-warns": ("nvpmodel -q", 0, "(?s)NVPM ERROR: Error opening.*MAXN\n0", ""),
    "no-nvpmodel": ("nvpmodel -q", 127, "", "not found"),
    "clocks-pinned": (f"cat {R}/sys/class/devfreq/17000000.gp10b/cur_freq", 0, "^1300500000$", ""),
    "clocks-store-asks": ("sudo -n jetson_clocks --store /var/lib/hil/clocks.conf", 1,
                          "(?s)Can I overwrite it.*already exists!", ""),
    "clocks-store-fails": ("sudo -n jetson_clocks --store /var/lib/hil/clocks.conf", 1, "",
                           "No such file or directory"),
    "desktop": (LINE.replace("readline()", "readline() and p.stdout.readline()"), 0,
                r"RAM 2100/.*GR3D_FREQ [5-7]%", ""),
    "foreign-gpu": (LINE.replace("readline()", "readline() and p.stdout.readline()"), 0,
                    r"GR3D_FREQ 3[45]%", ""),
    "foreign-gpu-comes": (SPEND.format(10) +
                          LINE.replace("readline()", "readline() and p.stdout.readline()"), 0,
                          r"GR3D_FREQ (49|50)%", ""),
    "no-fan": (f"cat {R}/sys/class/thermal/thermal_zone4/temp; sudo -n jetson_clocks; "
               + SPEND.format(120) + f"cat {R}/sys/class/thermal/cooling_device0/cur_state", 0,
               r"^8\d{4}\n1$", ""),
    "hot-room": (f"cat {R}/sys/class/thermal/thermal_zone4/temp", 0, r"^5[01]\d{3}$", ""),
    "memory-full": (f"{PY}'import pycuda.autoinit, pycuda.driver as d; d.mem_alloc(1 << 24)'", 1, "",
                    "out of memory"),
}  # fmt: skip


@pytest.mark.parametrize("name", SHOWS)
def test_a_variant_alone_shows_on_the_board(name):
    command, status, out, err = SHOWS[name]
    with served(name) as board, login(board) as client:
        said = say(client, command)
    assert said.status == status, said
    assert re.search(out, said.out.rstrip("\n") if out.endswith("$") else said.out), said
    assert re.search(err, said.err), said


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
        with pytest.raises((paramiko.SSHException, EOFError, OSError)):
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
        with login(board) as client:
            try:
                assert say(client, "head -c 200000 /dev/zero").status == -1
            except (OSError, EOFError, paramiko.SSHException):
                pass
        deadline_s = time.monotonic() + 5.0
        while True:
            try:
                with login(board) as client:
                    assert len(say(client, "head -c 200000 /dev/zero").out) == 200000
                return
            except (OSError, EOFError, paramiko.SSHException):
                assert time.monotonic() < deadline_s


LINES = (
    "import subprocess, time, threading\n"
    "p = subprocess.Popen(['tegrastats', '--interval', '100'], stdout=subprocess.PIPE)\n"
    "got = []\n"
    "t = threading.Thread(target=lambda: [got.append(x) for x in iter(lambda: p.stdout.read1(65536), b'')])\n"
    "t.start(); time.sleep(9); p.terminate(); p.wait(); t.join()\n"
    "import sys; sys.stdout.write(repr([x.decode() for x in got])); sys.stderr.write(str(p.returncode))\n"
)


def lines_of(name: str) -> tuple[list[str], int]:
    import ast
    import shlex

    with served(name) as board, login(board) as client:
        said = say(client, "python3 -c " + shlex.quote(LINES))
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
    from .conftest import network

    with served("build-killed") as board, login(board) as client:
        with client.open_sftp().open("net.onnx", "wb") as file:
            file.write(network())
        trtexec = f"{R}/usr/src/tensorrt/bin/trtexec --onnx=net.onnx --buildOnly"
        assert [say(client, trtexec).status for _ in range(2)] == [137, 137]


def test_a_weak_supply_resets_the_board_once():
    with served("brown-out") as board:
        boot_id = board.root / "proc/sys/kernel/random/boot_id"
        first = boot_id.read_text()
        with login(board) as client:
            try:
                say(client, SPEND.format(14) + "echo survived")
            except (OSError, EOFError, paramiko.SSHException):
                pass
        deadline_s = time.monotonic() + 5.0
        while boot_id.read_text() == first and time.monotonic() < deadline_s:
            time.sleep(0.02)
        assert boot_id.read_text() != first
        assert "brown-out" in board.quirks.names
        assert "reboot" not in board.faults()


def test_no_engine_has_run_on_a_fresh_board():
    with served() as board, pytest.raises(BoardRefusedError):
        board.quiet_truth()
