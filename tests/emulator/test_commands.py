"""The board's own commands and files."""

from __future__ import annotations

import os
import re
import subprocess
from itertools import pairwise

import pytest

from hil.emulator.programs.sudo import permitted
from hil.emulator.statformat import RunningMean

pytestmark = pytest.mark.board

# Two lines of a real TX2 with L4T r32 (tegrastats_beautification, quoted in public), joined.
REAL = (
    "RAM 2007/7852MB (lfb 180x4MB) SWAP 0/3926MB (cached 0MB) "
    "CPU [1%@345,off,off,0%@345,2%@346,0%@345] EMC_FREQ 16%@102 GR3D_FREQ 0%@114 APE 150 "
    "PLL@35.5C MCPU@35.5C PMIC@100C Tboard@33C GPU@34.5C BCPU@35.5C thermal@35.1C Tdiode@33.5C "
    "VDD_SYS_GPU 153/153 VDD_SYS_SOC 384/384 VDD_4V0_WIFI 0/0 VDD_IN 1423/1423 "
    "VDD_SYS_CPU 153/153 VDD_SYS_DDR 230/230"
)
RAILS = (
    "VDD_SYS_GPU",
    "VDD_SYS_SOC",
    "VDD_4V0_WIFI",
    "VDD_IN",
    "VDD_SYS_CPU",
    "VDD_SYS_DDR",
)
STEP_MW = 38.35
"""One step of VDD_IN on a real TX2: tx2_1.log reads 1457, 1495, 1534, ..., 1840."""
LINES = """
import subprocess, sys, time, threading
source = subprocess.Popen(["tegrastats", "--interval", "100"], stdout=subprocess.PIPE)
lines = []
def read():
    for line in source.stdout:
        lines.append((time.monotonic_ns(), line.decode()))
thread = threading.Thread(target=read)
thread.start()
time.sleep(12)
source.terminate(); source.wait(); thread.join()
for stamp, line in lines: sys.stdout.write("%d %s" % (stamp, line))
"""


def shape(line: str) -> list[str]:
    """A line's words with every number, every list and an optional MTS block levelled."""
    line = re.sub(r"MTS fg \d+% bg \d+% ", "", line)
    line = re.sub(r"CPU \[[^]]*\]", "CPU []", line)
    return re.sub(r"\d+(\.\d+)?", "#", line).split()


@pytest.fixture(scope="module")
def lines(served) -> list[tuple[int, str]]:
    served.reset(1)
    parts = [each.split(" ", 1) for each in served.python(LINES).splitlines()]
    return [(int(stamp), line) for stamp, line in parts]


def test_lines_have_the_shape_of_a_real_boards_line(lines):
    assert {tuple(shape(line)) for _, line in lines} == {tuple(shape(REAL))}


def test_readings_are_whole_steps_of_the_monitor(lines):
    found = {int(re.search(r"VDD_IN (\d+)/", line).group(1)) for _, line in lines}
    idle = {reading for reading in found if reading < 1850}
    assert len(idle) > 2
    assert all(abs(each - round(each / STEP_MW) * STEP_MW) <= 1.2 for each in idle)


def test_avg_is_the_floor_of_the_mean_since_the_start(lines):
    for rail in RAILS:
        total = 0
        for count, (_, line) in enumerate(lines, 1):
            now, mean = map(int, re.search(rf"{rail} (\d+)/(\d+)", line).groups())
            total += now
            assert mean == total // count


def test_the_period_is_the_interval_and_some_work(lines):
    stamps = [stamp for stamp, _ in lines]
    gaps_ms = [(b - a) / 1e6 for a, b in pairwise(stamps)]
    assert all(103.4 < gap < 105.6 for gap in gaps_ms)
    assert len(set(gaps_ms)) > len(gaps_ms) // 2


def test_the_total_rail_exceeds_the_sum_of_the_others(lines):
    for _, line in lines:
        now = {rail: int(re.search(rf"{rail} (\d+)/", line).group(1)) for rail in RAILS}
        assert 500 <= now.pop("VDD_IN") - sum(now.values()) <= 2300


def test_the_readings_mean_follows_the_true_power(served, lines):
    import json

    truth = json.loads(served.run("hil-board", "truth").stdout)
    column = truth["rails"].index("VDD_IN")
    stop = lines[-1][0]
    pieces = [(max(a, lines[0][0]), min(b, stop), p[column]) for a, b, _, p in truth["pieces"]]
    spans = [(b - a, power) for a, b, power in pieces if b > a]
    true_w = sum(span * power for span, power in spans) / sum(span for span, _ in spans)
    read_w = sum(int(re.search(r"VDD_IN (\d+)/", line).group(1)) for _, line in lines) / 1000
    # One step is 38 mW and rounding averages out; a burst at either end is worth some more.
    assert read_w / len(lines) == pytest.approx(true_w, abs=0.06)


def test_pieces_of_the_truth_leave_no_gap(served, lines):
    import json

    pieces = json.loads(served.run("hil-board", "truth").stdout)["pieces"]
    assert all(a[1] == b[0] for a, b in pairwise(pieces))


def test_running_mean_floors():
    mean = RunningMean()
    assert mean.add({"a": 3}) == {"a": 3}
    assert mean.add({"a": 4}) == {"a": 3}
    assert mean.add({"a": 4}) == {"a": 3}
    assert mean.add({"a": 5}) == {"a": 4}


def test_tegrastats_without_a_reader_in_board_time_runs_at_real_pace(board):
    done = board.run("timeout", "0.7", "tegrastats", "--interval", "200")
    assert 2 <= len(done.stdout.splitlines()) <= 5


def test_nvpmodel_prints_as_r32_does(board):
    assert board.run("nvpmodel", "-q").stdout == "NV Power Mode: MAXN\n0\n"


def test_setting_the_mode_is_roots(board):
    assert board.run("nvpmodel", "-m", "1").returncode == 1
    assert board.run("sudo", "-n", "nvpmodel", "-m", "3").returncode == 0
    assert board.run("nvpmodel", "-q").stdout.endswith("\n3\n")


def test_pinning_shows_in_sysfs_and_goes_with_the_mode(board):
    gpu = board.root / "sys/class/devfreq/17000000.gp10b"
    assert (gpu / "cur_freq").read_text() == "114750000\n"
    board.run("sudo", "-n", "jetson_clocks")
    assert (gpu / "cur_freq").read_text() == "1300500000\n"
    assert (gpu / "min_freq").read_text() == (gpu / "max_freq").read_text()
    board.run("sudo", "-n", "nvpmodel", "-m", "1")
    assert (gpu / "cur_freq").read_text() == "114750000\n"
    assert int((gpu / "max_freq").read_text()) < 900_000_000


def test_denver_cores_go_off_with_their_mode(board):
    cores = board.root / "sys/devices/system/cpu"
    board.run("sudo", "-n", "nvpmodel", "-m", "3")
    assert [(cores / f"cpu{n}/online").read_text().strip() for n in range(6)] == list("100111")
    assert not (cores / "cpu1/cpufreq").exists()
    board.run("sudo", "-n", "nvpmodel", "-m", "0")
    assert (cores / "cpu1/cpufreq/scaling_cur_freq").exists()


def test_clocks_are_stored_and_restored(board):
    conf = f"{board.root}/var/lib/hil/clocks.conf"
    assert board.run("sudo", "-n", "jetson_clocks", "--store", conf).returncode == 0
    board.run("sudo", "-n", "jetson_clocks")
    assert board.run("sudo", "-n", "jetson_clocks", "--restore", conf).returncode == 0
    gpu = board.root / "sys/class/devfreq/17000000.gp10b/cur_freq"
    assert gpu.read_text() == "114750000\n"


@pytest.mark.parametrize(
    "command",
    [
        ["ls"],
        ["nvpmodel", "-m", "5"],
        ["nvpmodel", "-m", "01"],
        ["nvpmodel", "-q"],
        ["nvpmodel"],
        ["jetson_clocks", "--show"],
        ["jetson_clocks", "--store", "/etc/passwd"],
        ["jetson_clocks", "--store", "/var/lib/hil/clocks.conf", "x"],
        ["/tmp/nvpmodel", "-m", "0"],
        ["sh", "-c", "nvpmodel -m 0"],
        [],
    ],
)
def test_sudo_permits_nothing_else(command):
    assert permitted(command, "/board") is None


@pytest.mark.parametrize(
    "command",
    [
        ["nvpmodel", "-m", "0"],
        ["/board/usr/sbin/nvpmodel", "-m", "4"],
        ["jetson_clocks"],
        ["/usr/bin/jetson_clocks", "--store", "/var/lib/hil/clocks.conf"],
        ["/board/usr/bin/jetson_clocks", "--restore", "/board/var/lib/hil/clocks.conf"],
    ],
)
def test_sudo_permits_the_four_command_lines(command):
    assert permitted(command, "/board")[0].startswith("/board/usr/")


def test_sudo_asks_for_a_password_instead_of_hanging(board):
    done = board.run("sudo", "-n", "reboot")
    assert (done.returncode, done.stderr) == (1, "sudo: a password is required\n")


def test_the_board_says_that_it_is_emulated(served):
    assert "EMULATED" in (served.root / "etc/hil-emulated").read_text()
    assert "REVISION: 7.1" in (served.root / "etc/nv_tegra_release").read_text()
    assert (served.root / "proc/device-tree/model").read_bytes() == b"quill\0"


def test_temperatures_rise_under_load_and_show_in_the_zones(board):
    zones = board.root / "sys/class/thermal"
    gpu = next(z for z in zones.glob("thermal_zone*") if (z / "type").read_text() == "GPU-therm\n")
    cool = int((gpu / "temp").read_text())
    board.run("sudo", "-n", "jetson_clocks")
    board.python("import time; time.sleep(900)")
    assert int((gpu / "temp").read_text()) > cool


def test_serve_ends_with_its_stdin_and_takes_its_files_along(tmp_path):
    import json
    import sys

    argv = [sys.executable, "-m", "hil.emulator.serve", "--json", "--root", str(tmp_path / "r")]
    server = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with server:
        told = json.loads(server.stdout.readline())
        assert os.path.exists(told["root"])
        assert told["fingerprint"].startswith("SHA256:")
        server.stdin.close()
        assert server.wait(30) == 0
    assert not os.path.exists(told["root"])
    assert not os.path.exists(os.path.dirname(told["identity"]))


def test_serve_leaves_a_folder_alone_that_is_not_empty(tmp_path):
    import sys

    (tmp_path / "mine").write_text("keep")
    argv = [sys.executable, "-m", "hil.emulator.serve", "--root", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "is not empty" in done.stderr
    assert (tmp_path / "mine").read_text() == "keep"
