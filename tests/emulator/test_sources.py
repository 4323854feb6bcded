"""Several power sources at once: what each shows, that stamps are exact, that runs repeat."""

from __future__ import annotations

import json
import re
import statistics
from itertools import pairwise

import pytest

from hil.emulator import clockfile

pytestmark = pytest.mark.board

NODE = "sys/bus/i2c/drivers/ina3221x/0-0041"
SAMPLER = """
import glob, json, os, sys, time
root = os.environ["HIL_BOARD_ROOT"]
(rail,) = [n for n in glob.glob(root + "/sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_*")
           if open(n).read().strip() == "VDD_IN"]
node = rail.replace("rail_name_", "in_power") + "_input"
interval = float(sys.argv[2])
print(json.dumps({"running_mode": open(os.path.dirname(node) + "/running_mode").read().strip()}))
print("first", open(node).read().strip(), flush=True)
while True:
    time.sleep(interval)
    with open(node) as file:
        print("VDD_IN", file.read().strip(), "%d" % time.monotonic_ns(), flush=True)
"""
RUN = """
import os, subprocess, sys, threading, time
sampler, span, *names = sys.argv[1:]
every = {"tegrastats": ["tegrastats", "--interval", "100"], "meter": ["meter", "--hz", "50"],
         "ina3221": [sys.executable, "-u", "-c", sampler, "sample", "0.05"]}
every["ina3221"][0] = os.environ["HIL_BOARD_ROOT"] + "/usr/bin/python3"
kept = {name: [] for name in names}
def read(name, handle):
    rest = b""
    while True:
        data = os.read(handle, 65536)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\\n")
        for line in lines:
            kept[name].append((round(time.monotonic() * 1e9), line.decode()))
sources = []
for name in names:
    source = subprocess.Popen(every[name], stdout=subprocess.PIPE)
    thread = threading.Thread(target=read, args=(name, source.stdout.fileno()))
    thread.start()
    sources.append((source, thread))
for _ in range(int(float(span) / 0.25)):
    time.sleep(0.25)
for source, thread in sources:
    source.terminate(); source.wait(); thread.join()
for name in names:
    for stamp, line in kept[name]:
        print(name, stamp, line)
"""
ALL = ("tegrastats", "ina3221", "meter")


@pytest.fixture
def sources(board):
    """Runs sources side by side for some seconds; gives the stamped lines of each."""

    def run(seed: int, *names: str, span_s: float = 8.0) -> dict[str, list[tuple[int, str]]]:
        board.reset(seed)
        found: dict[str, list[tuple[int, str]]] = {name: [] for name in names}
        for line in board.python(RUN, SAMPLER, str(span_s), *names).splitlines():
            name, stamp, text = line.split(" ", 2)
            found[name].append((int(stamp), text))
        return found

    return run


def test_three_sources_at_once_repeat_to_the_nanosecond(sources):
    first = sources(21, *ALL)
    assert all(len(lines) > 60 for lines in first.values())
    assert sources(21, *ALL) == first
    assert sources(22, *ALL) != first


def test_a_sampler_stamps_its_lines_when_it_reads_them(sources):
    lines = sources(1, "ina3221", "tegrastats")["ina3221"]
    told = [(stamp, text.split()) for stamp, text in lines if text.startswith("VDD_IN")]
    assert len(told) > 100
    assert all(stamp == int(words[2]) for stamp, words in told)


def test_a_samplers_period_is_its_sleep_and_its_work(sources):
    stamps = [stamp for stamp, text in sources(1, "ina3221")["ina3221"] if "VDD_IN" in text]
    gaps_ms = [(b - a) / 1e6 for a, b in pairwise(stamps)]
    # Two registers at 250 us, and a wake-up of 40 to 160 us.
    assert all(50.53 < gap < 50.67 for gap in gaps_ms)
    assert len(set(gaps_ms)) > len(gaps_ms) // 2


def test_a_header_printed_before_the_first_reading_arrives_in_order(sources):
    lines = sources(1, "ina3221")["ina3221"]
    assert json.loads(lines[0][1]) == {"running_mode": "1"}
    assert lines[1][1].startswith("first ")
    assert [stamp for stamp, _ in lines[:2]] == [clockfile.BOOT_NS] * 2


def test_sampler_and_tegrastats_read_the_same_monitor(sources):
    found = sources(4, "tegrastats", "ina3221", span_s=20)
    lines = [int(re.search(r"VDD_IN (\d+)/", text).group(1)) for _, text in found["tegrastats"]]
    nodes = [int(text.split()[1]) for _, text in found["ina3221"] if "VDD_IN" in text]
    assert set(lines) & set(nodes)
    assert statistics.mean(nodes) == pytest.approx(statistics.mean(lines), rel=0.02)


def test_the_meter_tells_the_true_power_with_its_own_error_and_clock(board, sources):
    lines = sources(5, "meter", span_s=20)["meter"]
    truth = json.loads(board.run("hil-board", "truth").stdout)
    column = truth["rails"].index("VDD_IN")
    start, stop = lines[0][0], lines[-1][0]
    joules = sum(
        (min(b, stop) - max(a, start)) / 1e9 * power[column]
        for a, b, _, power in truth["pieces"]
        if min(b, stop) > max(a, start)
    )
    shown = [(float(time_s), float(watts)) for _, text in lines for time_s, watts in [text.split()]]
    measured = sum((b[0] - a[0]) * b[1] for a, b in pairwise(shown))
    meter = truth["meter"]
    span_s = (stop - start) / 1e9
    assert measured == pytest.approx(
        (joules * meter["gain"] + meter["offset_w"] * span_s) * (1 + meter["clock_drift"]),
        abs=4 * 0.005 * span_s / len(lines) ** 0.5,
    )
    lag = [time_s - stamp / 1e9 for (stamp, _), (time_s, _) in zip(lines, shown, strict=True)]
    assert lag[0] > 900
    drift = (lag[-1] - lag[0]) / (shown[-1][0] - shown[0][0])
    assert drift == pytest.approx(meter["clock_drift"], abs=1e-6)


def test_faster_sampling_costs_power_that_the_truth_shows(board, sources):
    def mean_w(name: str | None) -> float:
        if name is None:
            board.reset(9)
            board.python("import time; time.sleep(20)")
        else:
            sources(9, name, span_s=20)
        truth = json.loads(board.run("hil-board", "truth").stdout)
        column = truth["rails"].index("VDD_SYS_CPU")
        spans = [((b - a), power[column]) for a, b, _, power in truth["pieces"]]
        return sum(span * power for span, power in spans) / sum(span for span, _ in spans)

    nothing, tegrastats, sampler = mean_w(None), mean_w("tegrastats"), mean_w("ina3221")
    assert tegrastats > nothing
    # 4.5 ms of 105 against 0.5 ms of 50: the sampler's work is much the smaller.
    assert nothing < sampler < nothing + (tegrastats - nothing) / 2


def test_a_program_of_its_own_reads_the_monitors_as_its_time_passes(board):
    node = f"{board.root}/{NODE}/iio:device1/in_power0_input"
    program = (
        "import sys, time\n"
        "for _ in range(60):\n"
        "    print(open(sys.argv[1]).read().strip()); time.sleep(0.5)\n"
    )
    readings = [int(line) for line in board.python(program, node).split()]
    assert len(set(readings)) > 3
    assert all(1200 < reading < 3500 for reading in readings)


def test_a_file_kept_open_shows_the_present_after_a_seek(board):
    node = f"{board.root}/{NODE}/iio:device1/in_power0_input"
    program = (
        "import sys, time\n"
        "file = open(sys.argv[1])\n"
        "for _ in range(60):\n"
        "    file.seek(0); kept = file.read()\n"
        "    print(kept == open(sys.argv[1]).read(), kept.strip())\n"
        "    time.sleep(0.5)\n"
    )
    lines = [line.split() for line in board.python(program, node).splitlines()]
    assert {same for same, _ in lines} == {"True"}
    assert len({value for _, value in lines}) > 3


def test_a_sampler_that_its_parent_waits_for_comes_to_its_end(board, monkeypatch):
    monkeypatch.setattr(board.served._daemon, "stall_s", 0.5)
    node = f"{board.root}/{NODE}/iio:device1/in_power0_input"
    sampler = (
        "import sys, time\n"
        "for _ in range(20): print(open(sys.argv[1]).read().strip()); time.sleep(0.5)\n"
    )
    parent = (
        "import subprocess, sys, time\n"
        "argv = [sys.executable, '-c', sys.argv[1], sys.argv[2], 'sample']\n"
        "print(len(subprocess.run(argv, stdout=subprocess.PIPE).stdout.split()))\n"
        "print(time.monotonic())\n"
    )
    lines, now_s = board.python(parent, sampler, node).split()
    assert lines == "20"
    assert float(now_s) > clockfile.BOOT_NS / 1e9 + 9.5


def test_power_is_the_product_of_voltage_and_current(board):
    for chip in (board.root / "sys/bus/i2c/drivers/ina3221x").iterdir():
        (device,) = chip.glob("iio:device*")
        program = (
            "import sys\n"
            "read = lambda n, c: int(open(sys.argv[1] + '/in_%s%d_input' % (n, c)).read())\n"
            "for c in range(3): print(read('power', c), read('voltage', c), read('current', c))\n"
        )
        for line in board.python(program, str(device)).splitlines():
            power, voltage, current = map(int, line.split())
            assert power == voltage * current // 1000
            assert voltage % 8 == 0
