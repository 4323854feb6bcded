"""The doctor's judgements: each thing that is not right is named with the next step."""

from __future__ import annotations

import pytest

from hil.core.evidence import Evidence, Mark, PowerRecord, RunPlan
from hil.device.checks import (
    judge_clocks,
    judge_lease,
    judge_period,
    judge_probe,
    judge_rail,
    judge_run,
    sudoers_line,
)
from hil.device.config import Power, SshDevice
from hil.device.support import version

DEVICE = SshDevice.model_validate(
    {
        "schema": "hil/device@1",
        "name": "bench",
        "driver": "ssh",
        "board": "jetson-tx2",
        "ssh": {"host": "tx2", "user": "hil", "use_agent": True, "host_key": "k"},
        "state": {"nvpmodel": 0, "clocks": True},
        "power": {"source": "tegrastats", "rail": "VDD_IN"},
    }
)
PROBE = {
    "model": "quill",
    "l4t": "32.7.1",
    "tensorrt": "8.2.1.8",
    "pycuda": None,
    "numpy": "1.19.5",
    "python": "3.6.9",
    "sudo": {"nvpmodel": True, "jetson_clocks": True},
    "tegrastats": "/usr/bin/tegrastats",
    "disk_free_bytes": 9 * 1024**3,
    "emulated": False,
}
LINE = (
    "RAM 1903/7860MB (lfb 1083x4MB) SWAP 0/3930MB (cached 0MB) CPU [1%@345,off,off,0%@345,0%@345,"
    "0%@345] EMC_FREQ 0% GR3D_FREQ 0% PLL@37C VDD_SYS_GPU 153/153 VDD_SYS_SOC 460/460 "
    "VDD_4V0_WIFI 0/0 VDD_IN 2029/2029 VDD_SYS_CPU 153/153 VDD_SYS_DDR 269/269"
)


def test_a_healthy_board_asks_for_nothing():
    checks = list(judge_probe(DEVICE, PROBE))

    assert {check.status for check in checks} == {"ok"}
    assert [check.next_step for check in checks] == [None] * len(checks)
    assert "absent" in {check.name: check.detail for check in checks}["pycuda"]


@pytest.mark.parametrize(
    ("change", "name", "status", "step"),
    [
        ({"python": "3.5.2"}, "python", "fail", "3.6"),
        ({"l4t": "32.6.1"}, "jetpack", "fail", "JetPack 4.6.1"),
        ({"l4t": "28.2"}, "jetpack", "fail", "JetPack 4.6.1"),
        ({"tensorrt": None}, "tensorrt", "fail", "libnvinfer"),
        ({"tensorrt": "7.1.3"}, "tensorrt", "fail", "JetPack 4.6.1"),
        ({"numpy": None}, "numpy", "fail", "python3-numpy"),
        ({"tegrastats": None}, "power source", "fail", "power.source: none"),
        ({"tegrastats": None, "rails": ["VDD_IN"]}, "power source", "warn", "L4T's tools"),
        ({"tegrastats": None, "rails": ["VDD_X"]}, "power source", "fail", "L4T's tools"),
        (
            {"tensorrt": None, "trtexec": "/usr/bin/trtexec"},
            "fallback trtexec_engine",
            "warn",
            "libnvinfer",
        ),
        ({"cores_online": 1}, "fallback one_core", "warn", "nvpmodel -m 0"),
        ({"display": ["Xorg"]}, "fallback shared_gpu", "warn", "systemctl isolate"),
        (
            {"numpy": None, "import_deaths": {"numpy": {"plain": -4, "coretype": -4}}},
            "fallback without_numpy",
            "warn",
            "built for this board",
        ),
        (
            {"import_deaths": {"numpy": {"plain": -4, "coretype": 0}}},
            "fallback numpy_coretype",
            "warn",
            "OPENBLAS_CORETYPE=ARMV8",
        ),
        ({"sudo": {"nvpmodel": True}}, "sudo rights", "warn", "hil ALL=(root) NOPASSWD:"),
        ({"sudo": None}, "sudo rights", "warn", "sudoers.d"),
        ({"disk_free_bytes": 10**9}, "disk", "warn", "device clean"),
        ({"disk_free_bytes": 10**7}, "disk", "fail", "device clean"),
        ({"disk_free_bytes": None}, "disk", "warn", "df"),
    ],
)
def test_each_thing_that_is_wrong_is_told_with_what_to_do(change, name, status, step):
    wrong = [check for check in judge_probe(DEVICE, {**PROBE, **change}) if check.status != "ok"]

    assert [(check.name, check.status) for check in wrong] == [(name, status)]
    assert step in wrong[0].next_step


def test_an_emulated_board_is_called_so():
    board = next(judge_probe(DEVICE, {**PROBE, "emulated": True}))

    assert board.detail == "quill, EMULATED"


def test_the_sudoers_line_has_no_wildcard_and_no_file_of_the_user():
    line = sudoers_line(DEVICE)

    assert "*" not in line
    assert "/home" not in line
    assert line.startswith("hil ALL=(root) NOPASSWD: /usr/sbin/nvpmodel -m 0, ")
    assert '/usr/bin/jetson_clocks "", ' in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [("32.7.1", (32, 7, 1)), ("8.2.1.8+cuda", (8, 2, 1)), ("unknown", None), (None, None)],
)
def test_versions_compare_by_their_leading_numbers(text, expected):
    assert version(text) == expected


def test_a_held_lease_names_its_holder():
    check = judge_lease({"held": True, "owner": "alice", "expires_in_s": 41.7})

    assert check.status == "warn"
    assert check.detail == "held by alice, expires in 42 s"
    assert judge_lease({"held": False}).status == "ok"


def test_the_rail_must_be_in_every_reading():
    assert judge_rail("VDD_IN", [LINE] * 3).status == "ok"
    missing = judge_rail("POM_5V_IN", [LINE] * 3)
    assert missing.status == "fail"
    assert "VDD_IN" in missing.next_step
    assert judge_rail("VDD_IN", []).status == "fail"


def test_the_period_is_the_median_gap_of_the_stamps():
    every_110_ms = [n * 110_000_000 for n in range(9)]
    with_one_gap = [*every_110_ms, every_110_ms[-1] + 10**10]

    assert judge_period(100, with_one_gap).detail == "110 ms observed, 100 ms asked"
    assert judge_period(100, with_one_gap).status == "ok"
    assert judge_period(50, with_one_gap).status == "warn"
    assert judge_period(100, [5]).status == "fail"


@pytest.mark.parametrize(
    ("states", "status", "detail"),
    [
        ([{"clocks_pinned": True, "throttle": []}] * 2, "ok", "pinned"),
        ([{"clocks_pinned": True}, {"clocks_pinned": False}], "warn", "not all pinned"),
        ([{"clocks_pinned": True, "throttle": ["gpu-balanced"]}], "warn", "gpu-balanced"),
        ([], "warn", "does not tell"),
    ],
)
def test_clocks_must_be_pinned_and_nothing_may_throttle(states, status, detail):
    check = judge_clocks(DEVICE, tuple(states))

    assert check.status == status
    assert detail in check.detail


def evidence(*power: PowerRecord) -> Evidence:
    return Evidence(
        board={},
        engine={},
        plan=RunPlan(),
        marks=(Mark("block", 0, 0, 1, 1),),
        latency_ns=((1,),),
        states=({"clocks_pinned": True},),
        provenance="measured",
        power=power,
    )


def record(source: str, line: str, count: int = 5) -> PowerRecord:
    return PowerRecord(source, tuple((n * 100_000_000, line) for n in range(count)))


def with_power(**fields: object) -> SshDevice:
    return DEVICE.model_copy(update={"power": Power.model_validate(fields)})


def test_without_a_power_source_only_clocks_are_judged():
    device = with_power(source="none")

    assert [check.name for check in judge_run(device, evidence())] == ["clocks"]


def test_every_power_source_of_the_device_file_is_judged():
    also = [
        {"source": "ina3221", "rail": "VDD_IN"},
        {"source": "command", "command": ["meter"], "where": "host"},
    ]
    device = with_power(source="tegrastats", rail="VDD_IN", also=also)
    ina = record("ina3221", "VDD_SYS_GPU=153mW VDD_IN=19152mV,252mA")
    power = (record("tegrastats", LINE), ina, record("command", "0.1 5.0"))

    checks = {check.name: check for check in judge_run(device, evidence(*power))}

    assert [*checks] == [
        *("power rail", "power period", "power rail 2", "power period 2", "power meter 3"),
        "clocks",
    ]
    assert {check.status for check in checks.values()} == {"ok"}
    silent = (power[0], record("ina3221", "VDD_SYS_GPU=153mW"), record("command", "", 0))
    wrong = {c.name: c for c in judge_run(device, evidence(*silent)) if c.status != "ok"}
    assert [*wrong] == ["power rail 2", "power meter 3"]
    assert "VDD_SYS_GPU" in wrong["power rail 2"].next_step


def test_tegrastats_must_be_there_wherever_it_is_asked_for():
    gone = {**PROBE, "tegrastats": None}
    beside = with_power(source="nvml", also=[{"source": "tegrastats", "rail": "VDD_IN"}])

    def source(device, probe):
        return next(c for c in judge_probe(device, probe) if c.name == "power source")

    assert source(with_power(source="nvml"), gone).status == "ok"
    assert source(beside, gone).status == "fail"
    assert source(beside, PROBE).detail == "nvml, /usr/bin/tegrastats"
