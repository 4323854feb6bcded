"""Power sources on trees, libraries and programs that stand in for a board's: what is there is
read as it is, and what is not there is `no_power`, never 0 W."""

from __future__ import annotations

import glob
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.agent import power, procs, sampling, source_ina3221, source_nvml, source_rapl
from hil.agent.blobs import Store
from hil.agent.board import Board
from hil.agent.errors import AgentError
from hil.agent.monitors import sensor_settings
from hil.core.energy import Window
from hil.core.evidence import PowerRecord
from hil.measure.trace import read_power

MS = 1_000_000


@pytest.fixture
def machine(tmp_path):
    """(board, store, write): a root folder, an agent's state folder, and a way to put files."""
    children = procs.Children()
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    store = Store(str(tmp_path / "home/.hil"))
    store.prepare()

    def write(name: str, text: str) -> Path:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    yield Board(str(root), str(root / "usr/bin"), str(tmp_path / "home"), children), store, write
    children.kill_all()


def spec(source: str, **more: object) -> dict:
    return {"source": source, "interval_ms": 20, "rail": None, "command": None, **more}


def collected(machine, wanted: dict, lines: int) -> tuple[list[tuple[int, str]], object]:
    """Stamped lines of a source that was really started, and the source, stopped."""
    board, store, _ = machine
    got: list[list] = []
    source = power.open_source(board, store, wanted, got.extend)
    try:
        assert source.wait_first_line(20), source.silent()
        deadline = time.monotonic() + 20
        while len(got) < lines and time.monotonic() < deadline:
            source.flush()
            os.sched_yield()
    finally:
        source.stop()
    return [(stamp, line) for stamp, line in got], source


def iio(write, address: str, number: int, rails: dict[str, tuple[int, int]], mode: str = "1"):
    folder = f"sys/bus/i2c/drivers/ina3221x/{address}/iio:device{number}"
    write(f"{folder}/running_mode", f"{mode}\n")
    for channel, (rail, (mv, ma)) in enumerate(rails.items()):
        write(f"{folder}/rail_name_{channel}", f"{rail}\n")
        write(f"{folder}/in_voltage{channel}_input", f"{mv}\n")
        write(f"{folder}/in_current{channel}_input", f"{ma}\n")
        write(f"{folder}/in_power{channel}_input", f"{mv * ma // 1000}\n")


def tx2(write) -> None:
    iio(write, "0-0041", 1, {"VDD_IN": (19152, 252), "VDD_SYS_CPU": (19160, 16)})
    iio(write, "0-0040", 0, {"VDD_SYS_GPU": (19152, 8), "NC": (0, 0)}, mode="0")


def hwmon(write) -> None:
    folder = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    for channel, rail, mv, ma in ((1, "VDD_IN", 5072, 951), (2, "VDD CPU GPU", 5064, 104)):
        write(f"{folder}/in{channel}_label", f"{rail}\n")
        write(f"{folder}/in{channel}_input", f"{mv}\n")
        write(f"{folder}/curr{channel}_input", f"{ma}\n")
    write(f"{folder}/in7_label", "sum of shunt voltages\n")
    write(f"{folder}/in7_input", "12\n")
    write(f"{folder}/samples", "512\n")
    write(f"{folder}/update_interval", "80\n")


# -- ina3221 -------------------------------------------------------------------------------------


def test_monitors_of_a_tx2_are_found_by_name_with_their_mode(machine):
    board, _, write = machine
    tx2(write)

    argv, settings = power.require(board, spec("ina3221"))

    assert settings["running_mode"] == {"0-0040": 0, "0-0041": 1}
    assert settings["monitors"] == {
        "VDD_SYS_GPU": "0-0040",
        "VDD_IN": "0-0041",
        "VDD_SYS_CPU": "0-0041",
    }
    assert settings["bus_mv"] == {"VDD_SYS_GPU": 19152, "VDD_IN": 19152, "VDD_SYS_CPU": 19160}
    assert settings["interval_ms"] == 20
    assert argv[0] == sys.executable
    read = source_ina3221.sampler(board.root)
    assert read() == "VDD_SYS_GPU=153mW VDD_IN=4826mW VDD_SYS_CPU=306mW"


def test_a_channel_that_cannot_be_read_is_left_out_and_none_is_an_error(machine):
    board, _, write = machine
    tx2(write)
    read = source_ina3221.sampler(board.root)
    folder = Path(board.root) / "sys/bus/i2c/drivers/ina3221x"

    (folder / "0-0041/iio:device1/in_power0_input").write_text("")
    assert read() == "VDD_SYS_GPU=153mW VDD_SYS_CPU=306mW"
    for path in folder.rglob("in_power*"):
        path.unlink()
    with pytest.raises(AgentError, match="can be read any more"):
        read()


def test_the_driver_without_a_power_gives_voltage_and_current(machine):
    board, _, write = machine
    hwmon(write)

    _, settings = power.require(board, spec("ina3221", rail="VDD_IN"))

    line = source_ina3221.sampler(board.root)()
    assert line == "VDD_IN=5072mV,951mA VDD_CPU_GPU=5064mV,104mA"
    assert settings["samples"] == {"1-0040": 512}
    assert settings["update_interval_ms"] == {"1-0040": 80}
    trace = read_power(PowerRecord("ina3221", ((0, line), (1, line))))
    assert trace.rails["VDD_IN"].samples[0].power_w == pytest.approx(5.072 * 0.951)


def test_a_device_with_two_names_is_one_monitor(machine):
    board, _, write = machine
    tx2(write)
    link = Path(board.root) / "sys/bus/i2c/devices/0-0041"
    link.parent.mkdir(parents=True)
    link.symlink_to(Path(board.root) / "sys/bus/i2c/drivers/ina3221x/0-0041")

    assert source_ina3221.sampler(board.root)().count("VDD_IN=") == 1


def test_no_monitor_and_no_such_rail_are_no_power(machine):
    board, _, write = machine
    assert sensor_settings(board.root) == {}
    with pytest.raises(AgentError, match="shows no INA3221") as error:
        power.require(board, spec("ina3221"))
    assert error.value.code == "no_power"

    tx2(write)
    with pytest.raises(AgentError, match="has a rail VDD_GPU_SOC") as error:
        power.require(board, spec("ina3221", rail="VDD_GPU_SOC"))
    assert "VDD_IN" in error.value.why


def test_the_mode_of_the_monitors_is_told_beside_any_source(machine):
    board, _, write = machine
    tx2(write)
    program = write("usr/bin/tegrastats", "#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)

    argv, settings = power.require(board, spec("tegrastats"))

    assert argv == [str(program), "--interval", "20"]
    assert settings == {"running_mode": {"0-0040": 0, "0-0041": 1}, "interval_ms": 20}


def test_the_sampler_runs_in_a_process_of_its_own(machine):
    _, _, write = machine
    tx2(write)

    lines, source = collected(machine, spec("ina3221"), 12)

    assert {line for _, line in lines} == {"VDD_SYS_GPU=153mW VDD_IN=4826mW VDD_SYS_CPU=306mW"}
    stamps = [stamp for stamp, _ in lines]
    assert stamps == sorted(stamps)
    record = PowerRecord("ina3221", tuple(lines), tuple(source.argv), source.settings)
    rail = read_power(record).rails["VDD_IN"]
    assert rail.mean_power_w(Window(stamps[0], stamps[-1])) == pytest.approx(4.826)


def test_the_sampler_runs_on_the_boards_own_python_from_the_zipapp(machine, zipapp, interpreter):
    board, _, write = machine
    tx2(write)
    argv = [interpreter, "-u", str(zipapp), "sample", "ina3221", "--root", board.root]

    done = subprocess.run(
        [*argv, "--interval-ms", "1", "--count", "3"], capture_output=True, text=True, check=False
    )

    assert done.stderr == ""
    assert done.stdout == 3 * "VDD_SYS_GPU=153mW VDD_IN=4826mW VDD_SYS_CPU=306mW\n"


# -- rapl ----------------------------------------------------------------------------------------


def rapl(write) -> None:
    for folder, name, uj in (("0", "package-0", 77), ("0:0", "core", 5), ("1", "psys", 9)):
        base = f"sys/class/powercap/intel-rapl:{folder}"
        write(f"{base}/name", f"{name}\n")
        write(f"{base}/energy_uj", f"{uj}\n")
        write(f"{base}/max_energy_range_uj", "262143328850\n")


def test_counters_are_named_with_the_package_they_are_in(machine):
    board, _, write = machine
    rapl(write)

    _, settings = power.require(board, spec("rapl", rail="package-0/core"))

    assert settings["domains"] == ["package-0", "package-0/core", "psys"]
    assert source_rapl.sampler(board.root)() == (
        "package-0=77uJ/262143328850uJ package-0/core=5uJ/262143328850uJ psys=9uJ/262143328850uJ"
    )


def test_counters_that_are_not_there_or_not_for_us_are_no_power(machine):
    board, _, write = machine
    with pytest.raises(AgentError, match="shows no RAPL"):
        power.require(board, spec("rapl"))

    rapl(write)
    for path in glob.glob(f"{board.root}/sys/class/powercap/*/energy_uj"):
        os.unlink(path)
        os.mkdir(path)  # there, and cannot be read even by root
    with pytest.raises(AgentError, match="may not be read") as error:
        power.require(board, spec("rapl"))
    assert "chmod" in error.value.fix


def test_this_machines_own_counters_read(tmp_path):
    paths = glob.glob("/sys/class/powercap/intel-rapl:*/energy_uj")
    if not any(os.access(path, os.R_OK) for path in paths):
        pytest.skip("this machine shows no RAPL counter, or not to this user")

    line = source_rapl.sampler("/")()

    assert "package-0=" in line


# -- nvml ----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def fake_nvml(tmp_path_factory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the library that stands in for NVML")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("fake_nvml.c")
    target = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(target), str(source)], check=True)
    return folder


@pytest.fixture
def plays(fake_nvml, monkeypatch):
    def play(kind: str) -> None:
        monkeypatch.setenv("LD_LIBRARY_PATH", str(fake_nvml))
        monkeypatch.setenv("FAKE_NVML", kind)

    return play


def test_a_gpu_tells_its_energy_counter_and_its_power_now(machine, plays):
    plays("new")

    lines, source = collected(machine, spec("nvml"), 4)

    first = 5_000_000_000_000
    state = " sm_clock=1980MHz memory_clock=2619MHz gpu_temp=41C throttle=1bits gpu_busy=37%"
    counts = [int(line.split("mJ")[0].partition("=")[2]) for _, line in lines]
    assert [count - counts[0] for count in counts] == [7000 * i for i in range(len(counts))]
    assert first < counts[0] < first + 10**6
    told = [line.partition(" ")[2] for _, line in lines]
    assert told[0] == f"gpu_power=90250mW{state} processes=1held displays=0held"
    assert set(told[1:]) == {f"gpu_power=90250mW{state}"}
    assert source.settings["gpu"] == "NVIDIA Fake 100"
    assert source.settings["driver"] == "550.54"
    assert source.settings["gpus"] == 2
    assert (source.settings["energy_counter"], source.settings["power"]) == (True, "instant")
    record = PowerRecord("nvml", tuple(lines), tuple(source.argv), source.settings)
    gpu = read_power(record).rails["gpu"]
    assert gpu.kind == "counter"
    assert gpu.points[-1].energy_j == pytest.approx(7.0 * (len(lines) - 1))


@pytest.mark.parametrize(
    ("kind", "told", "mw"), [("old", "usage", 71500), ("very old", "usage", 71500)]
)
def test_a_gpu_without_a_counter_tells_its_power_alone(machine, plays, kind, told, mw):
    plays(kind)

    lines, source = collected(machine, spec("nvml"), 2)

    assert {line for _, line in lines} == {f"gpu_power={mw}mW"}
    assert (source.settings["energy_counter"], source.settings["power"]) == (False, told)


@pytest.mark.parametrize(
    ("kind", "message", "why"),
    [
        ("tegra", "neither its energy nor its power", "Not Supported"),
        ("no gpu", "knows no GPU", "counts 0"),
        ("no driver", "does not start", "Driver Not Loaded"),
    ],
)
def test_what_nvml_cannot_tell_is_no_power_and_never_zero(machine, plays, kind, message, why):
    board, _, _ = machine
    plays(kind)

    with pytest.raises(AgentError, match=message) as error:
        power.require(board, spec("nvml"))

    assert error.value.code == "no_power"
    assert why in error.value.why
    assert "tegrastats" in error.value.fix


@pytest.mark.parametrize(
    ("kind", "visible", "message", "step"),
    [
        ("locked", "", "neither its energy nor its power", "nvidia-smi -q -d POWER"),
        ("mig", "", "MIG is on", "nvidia-smi -i 0 -mig 0"),
        ("new", "MIG-4a", "MIG is on", "power.source: none"),
        ("new", "GPU-nowhere", "no GPU GPU-nowhere", "another power source"),
    ],
)
def test_what_nvml_may_not_tell_is_explained_with_the_next_step(
    machine, plays, monkeypatch, kind, visible, message, step
):
    board, _, _ = machine
    plays(kind)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    with pytest.raises(AgentError, match=message) as error:
        power.require(board, spec("nvml"))

    assert error.value.code == "no_power"
    assert step in error.value.fix


@pytest.mark.parametrize(
    ("visible", "index", "name"),
    [
        ("", 0, "NVIDIA Fake 100"),
        ("1,0", 1, "NVIDIA Fake 200"),
        ("GPU-0001", "GPU-0001", "NVIDIA Fake 200"),
    ],
)
def test_the_gpu_is_the_one_that_cuda_uses(machine, plays, monkeypatch, visible, index, name):
    board, _, _ = machine
    plays("new")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    _, settings = power.require(board, spec("nvml"))

    assert (settings["index"], settings["gpu"]) == (index, name)


def test_the_probe_tells_a_gpu_whose_power_it_may_not_read(machine, plays):
    board, _, _ = machine
    plays("mig")
    told = source_nvml.about(board)
    assert (told["gpu"], told["mig"]) == ("NVIDIA Fake 100", True)
    assert "MIG" in told["refused"]["message"]
    plays("no driver")
    assert "does not start" in source_nvml.about(board)["missing"]["message"]


def test_a_machine_without_the_library_is_no_power(machine, tmp_path, monkeypatch):
    board, _, _ = machine
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))

    with pytest.raises(AgentError, match="has no NVML") as error:
        power.require(board, spec("nvml"))

    assert error.value.code == "no_power"


# -- command and what all have in common -----------------------------------------------------------


def test_a_meters_program_is_run_with_its_arguments_and_read(machine):
    _, _, write = machine
    program = write(
        "usr/bin/meter",
        f"#!{sys.executable}\nimport sys, time\n"
        "for i in range(40):\n"
        "    print(f'{i * 0.01:.2f} {sys.argv[1]}', flush=True)\n    time.sleep(0.01)\n",
    )
    program.chmod(0o755)

    lines, source = collected(machine, spec("command", command=["meter", "4.5"], rail="usb"), 40)

    assert source.argv == [str(program), "4.5"]
    assert [line for _, line in lines][:2] == ["0.00 4.5", "0.01 4.5"]
    record = PowerRecord("command", tuple(lines), tuple(source.argv), source.settings)
    trace = read_power(record)
    assert trace.rails["usb"].mean_power_w(Window(*trace.rails["usb"].span_ns)) == pytest.approx(
        4.5
    )


@pytest.mark.parametrize("command", [None, [], ["meter"], ["/no/such/meter"]])
def test_a_meter_that_is_not_there_is_no_power(machine, command):
    board, _, _ = machine

    with pytest.raises(AgentError) as error:
        power.require(board, spec("command", command=command))

    assert error.value.code == "no_power"


def test_a_source_nobody_knows_is_a_bad_request(machine):
    board, _, _ = machine

    with pytest.raises(AgentError, match="oracle") as error:
        power.require(board, spec("oracle"))

    assert error.value.code == "bad_request"


def test_a_source_that_says_nothing_gives_its_last_words(machine):
    board, store, write = machine
    write("usr/bin/meter", "#!/bin/sh\necho no meter on the bus >&2\nexit 4\n").chmod(0o755)

    source = power.open_source(board, store, spec("command", command=["meter"]), lambda _: None)
    try:
        assert not source.wait_first_line(20)
        error = source.silent()
    finally:
        assert source.stop() == 4

    assert (error.code, error.message) == ("no_power", "command gave no line")
    assert error.why == "it ended with status 4: no meter on the bus"


def test_a_samplers_own_error_comes_through_as_it_is(machine):
    board, store, write = machine
    tx2(write)
    argv, _ = power.require(board, spec("ina3221"))
    shutil.rmtree(f"{board.root}/sys")

    source = power.PowerSource(board, store, "ina3221", (argv, {}), lambda _: None)
    try:
        assert not source.wait_first_line(20)
        error = source.silent()
    finally:
        assert source.stop() == sampling.FAILED

    assert error.message == "this board shows no INA3221 power monitor"


def test_two_sources_of_one_name_do_not_share_their_errors(machine):
    board, store, write = machine
    for name in ("a", "b"):
        write(f"usr/bin/{name}", f"#!/bin/sh\necho {name} is broken >&2\nexit 1\n").chmod(0o755)

    sources = [
        power.open_source(board, store, spec("command", command=[name]), lambda _: None)
        for name in ("a", "b")
    ]
    said = []
    for source in sources:
        source.wait_first_line(20)
        said.append(source.silent().why)
        source.stop()

    assert [why.rpartition(": ")[2] for why in said] == ["a is broken", "b is broken"]


def test_the_agent_describes_a_gpu_as_json(fake_nvml, zipapp, interpreter):
    env = dict(os.environ, LD_LIBRARY_PATH=str(fake_nvml), FAKE_NVML="new")

    done = subprocess.run(
        [interpreter, str(zipapp), "sample", "nvml", "--describe"],
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )

    assert done.stderr == ""
    assert json.loads(done.stdout)["uuid"] == "GPU-0000"


# -- pace ----------------------------------------------------------------------------------------


class Time:
    """A clock that moves as it is told to."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000

    def __call__(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now_ns += round(seconds * 1e9)


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 500), st.lists(st.integers(0, 2000), min_size=1, max_size=30))
def test_lines_are_due_on_an_absolute_schedule_however_long_readings_take(interval_ms, works_ms):
    clock, begun = Time(), []
    works = iter(works_ms)
    start = clock.now_ns

    def read() -> str:
        begun.append((clock.now_ns - start) // MS)
        clock.now_ns += next(works) * MS
        return "x"

    with open(os.devnull, "wb") as sink:
        sampling.emit(
            read, interval_ms * MS, sink.fileno(), clock, clock.sleep, count=len(works_ms)
        )

    # By hand: each begins at the first multiple of the interval not before the last one's end.
    expected = [0]
    for work in works_ms[:-1]:
        end = expected[-1] + work
        expected.append(max(expected[-1] + interval_ms, -(-end // interval_ms) * interval_ms))
    assert begun == expected


def test_jittered_readings_keep_the_mean_pace_and_no_single_distance():
    clock, begun = Time(), []
    start = clock.now_ns

    def read() -> str:
        begun.append((clock.now_ns - start) / MS)
        return "x"

    with open(os.devnull, "wb") as sink:
        sampling.emit(
            read, 100 * MS, sink.fileno(), clock, clock.sleep, count=1001, jitter=sampling.JITTER
        )

    gaps = [b - a for a, b in itertools.pairwise(begun)]
    assert begun[-1] == pytest.approx(100_000, abs=25)
    assert min(gaps) > 50
    assert max(gaps) < 150
    # A rhythm of exactly the interval is met at every phase of a half of it alike.
    phases = sorted((at + 25) % 100 for at in begun[1:])
    assert all(b - a < 0.2 for a, b in itertools.pairwise(phases))


def test_a_reader_that_is_gone_ends_the_sampler():
    read_end, write_end = os.pipe()
    os.close(read_end)
    clock = Time()

    sampling.emit(lambda: "x", MS, write_end, clock, clock.sleep)

    os.close(write_end)
