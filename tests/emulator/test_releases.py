"""The other sensor mode and the older release: names, order, places, what is installed."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from hil.core.tegrastats import parse
from hil.emulator.serve import EmulatedBoard, Options

from .conftest import Board

pytestmark = pytest.mark.board

# A line of a real TX2 with L4T r28.2 (tx2_5), its clocks pinned.
REAL_R28 = (
    "RAM 2135/7855MB (lfb 1057x4MB) CPU [2%@2035,0%@2035,0%@2035,2%@2035,2%@2036,2%@2035] "
    "EMC_FREQ 1%@1866 GR3D_FREQ 0%@1300 APE 150 MTS fg 0% bg 0% BCPU@30C MCPU@30C GPU@29C "
    "PLL@30C Tboard@28C Tdiode@28.25C PMIC@100C thermal@29.4C VDD_IN 3104/4029 VDD_CPU 291/730 "
    "VDD_GPU 145/207 VDD_SOC 727/746 VDD_WIFI 0/180 VDD_DDR 1248/1375"
)
READ = """
import glob, sys, time
root = sys.argv[1]
names = sorted(glob.glob(root + "/sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_*"))
for name in names:
    node = name.replace("rail_name_", "in_power") + "_input"
    print(open(name).read().strip(), open(node).read().strip())
"""


@pytest.fixture(scope="module")
def served_as() -> Iterator[Callable[..., Board]]:
    boards: dict[tuple[object, ...], EmulatedBoard] = {}

    def serve(**options: object) -> Board:
        key = tuple(sorted(options.items()))
        if key not in boards:
            boards[key] = EmulatedBoard(Options(seed=4, **options))  # type: ignore[arg-type]
        board = Board(boards[key])
        board.reset()
        return board

    yield serve
    for board in boards.values():
        board.close()


def tegrastats(board: Board, program: str) -> str:
    argv = [str(board.root / program), "--interval", "100"]
    source = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    with source:
        assert source.stdout is not None
        line = source.stdout.readline()
        source.terminate()
    return line


def words(line: str) -> list[str]:
    """Names of zones and rails, in order."""
    return re.findall(r"(\w+)@[\d.]+C", line) + re.findall(r"(VDD_\w+) ", line)


def test_an_r28_line_has_the_names_and_order_of_a_real_one(served_as):
    line = tegrastats(served_as(release="r28"), "home/nvidia/tegrastats")
    assert words(line) == words(REAL_R28)
    assert set(parse(line).rails) == set(parse(REAL_R28 + "\n").rails)


def test_r28_has_its_tegrastats_at_home_and_no_tensorrt(served_as):
    board = served_as(release="r28")
    assert not (board.root / "usr/bin/tegrastats").exists()
    assert not (board.root / "usr/src/tensorrt/bin/trtexec").exists()
    assert "R28 (release), REVISION: 2.1" in (board.root / "etc/nv_tegra_release").read_text()
    done = board.run("python3", "-c", "import tensorrt")
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize(
    ("release", "rails"),
    [
        ("r28", {"VDD_IN", "VDD_CPU", "VDD_GPU", "VDD_SOC", "VDD_WIFI", "VDD_DDR"}),
        (
            "r32",
            {"VDD_IN", "VDD_SYS_CPU", "VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_4V0_WIFI", "VDD_SYS_DDR"},
        ),
    ],
)
def test_the_monitors_nodes_are_named_as_the_release_names_them(served_as, release, rails):
    board = served_as(release=release)
    told = dict(line.split() for line in board.python(READ, str(board.root)).splitlines())
    assert set(told) == rails
    assert int(told["VDD_IN"]) > 1000
    assert (
        board.root / "sys/devices/3160000.i2c/i2c-0/0-0041/iio:device1/in_power0_input"
    ).exists()


SAMPLES = """
import sys, time
node = sys.argv[1]
for _ in range(400):
    print(open(node).read().strip()); time.sleep(0.02)
"""


def test_triggered_monitors_say_so_and_do_not_average(served_as):
    spread = {}
    for mode in ("continuous", "triggered"):
        board = served_as(sensor_mode=mode)
        (node,) = board.root.glob("sys/bus/i2c/drivers/ina3221x/0-0041/iio:device*/in_power0_input")
        flag = node.parent / "running_mode"
        assert flag.read_text() == ("1\n" if mode == "continuous" else "0\n")
        readings = [int(line) for line in board.python(SAMPLES, str(node)).split()]
        changes = [abs(b - a) for a, b in pairwise(readings)]
        spread[mode] = max(changes)
    # Behind the average a step of the system's background takes many readings to arrive.
    assert spread["triggered"] > 2 * spread["continuous"]


def test_a_triggered_reading_takes_longer(served_as):
    def cpu_w(mode: str) -> float:
        board = served_as(sensor_mode=mode)
        (node,) = board.root.glob("sys/bus/i2c/drivers/ina3221x/0-0041/iio:device*/in_power0_input")
        board.python(SAMPLES, str(node))
        truth = json.loads(board.run("hil-board", "truth").stdout)
        column = truth["rails"].index("VDD_SYS_CPU")
        spans = [(b - a, power[column]) for a, b, _, power in truth["pieces"]]
        return sum(span * power for span, power in spans) / sum(span for span, _ in spans)

    assert cpu_w("triggered") > cpu_w("continuous")


def test_two_boards_have_monitors_of_their_own(served_as):
    def errors(seed: int) -> dict[str, dict[str, float]]:
        board = EmulatedBoard(Options(seed=seed))
        try:
            return json.loads(Board(board).run("hil-board", "truth").stdout)["sensors"]
        finally:
            board.close()

    one, other = errors(1), errors(2)
    assert one == errors(1)
    assert all(one[rail] != other[rail] for rail in one)
    for rail, error in {**one, **other}.items():
        step_ma = 2 if rail == "VDD_IN" else 4
        assert abs(error["offset_ma"]) <= 2 * step_ma
        assert abs(error["gain"] - 1) <= 0.0125


def test_free_clocks_rise_over_some_hundred_milliseconds(served_as):
    board = served_as(release="r32")
    machine = board.served._daemon.machine
    model, condition = machine.model, machine.condition
    seen = []
    for _ in range(6):
        model.settle(condition)
        seen.append(condition.load_clocks.gpu_mhz)
        model.govern(condition, busy=True)
    assert seen[0] == pytest.approx(114.75)
    assert seen == sorted(seen)
    assert seen[3] < seen[4] == pytest.approx(1300.5)
    assert set(seen) <= set(model.board.gpu.clock_steps_mhz)
    for _ in range(4):
        model.govern(condition, busy=False)
    model.settle(condition)
    assert condition.load_clocks.gpu_mhz == pytest.approx(114.75)
