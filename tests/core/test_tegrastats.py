"""tegrastats lines of every release we have, held to values written from the line by hand."""

from __future__ import annotations

import os
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.core.tegrastats import Core, LineReader, Reading, RunningMean, parse

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "data" / "tegrastats"
FULL = Path(os.environ.get("HIL_DATA", ROOT.parent / "shared" / "data")) / "tegrastats"


def golden(name: str) -> list[str]:
    return (GOLDEN / f"{name}.log").read_text(encoding="ascii").splitlines()


NAMES = sorted(path.stem for path in GOLDEN.glob("*.log"))
TX2_R28 = golden("tx2_2")[0]
TX2_R32 = golden("tx2_1")[1]


def rails(reading: Reading | None) -> dict[str, tuple[int, int | None]]:
    assert reading is not None
    return {name: (rail.now_mw, rail.mean_mw) for name, rail in reading.rails.items()}


# -- golden lines --------------------------------------------------------------------------------


def test_a_tx2_of_r28_as_root_reads_whole():
    assert parse(TX2_R28) == Reading(
        ram_used_mb=1685,
        ram_total_mb=7854,
        cpus=tuple(Core(0, mhz) for mhz in (1303, 345, 345, 1419, 1420, 1421)),
        rails={
            "VDD_IN": (1931, 1931),
            "VDD_CPU": (231, 231),
            "VDD_GPU": (154, 154),
            "VDD_SOC": (385, 385),
            "VDD_WIFI": (38, 38),
            "VDD_DDR": (326, 326),
        },
        temps_c={
            "BCPU": 41.0,
            "MCPU": 41.0,
            "GPU": 39.0,
            "PLL": 41.0,
            "Tboard": 37.0,
            "Tdiode": 37.25,
            "thermal": 39.9,
        },
        gr3d_percent=0,
        gr3d_mhz=140,
        emc_percent=0,
        emc_mhz=1866,
        swap_used_mb=278,
        swap_total_mb=8192,
    )


def test_a_tx2_of_r32_without_root_reads_whole():
    # Without root no clock is printed and EMC_FREQ 0 % is a constant: unknown, not zero.
    assert parse(TX2_R32) == Reading(
        ram_used_mb=896,
        ram_total_mb=7859,
        cpus=(Core(4, 2035), Core(4, 345), Core(4, 345), *(Core(p, 2035) for p in (1, 0, 0))),
        rails={
            "VDD_SYS_GPU": (153, 153),
            "VDD_SYS_SOC": (383, 383),
            "VDD_4V0_WIFI": (0, 0),
            "VDD_IN": (1840, 1840),
            "VDD_SYS_CPU": (306, 306),
            "VDD_SYS_DDR": (269, 269),
        },
        temps_c={
            "PLL": 34.5,
            "MCPU": 34.5,
            "Tboard": 29.0,
            "GPU": 31.0,
            "BCPU": 34.5,
            "thermal": 32.8,
            "Tdiode": 30.5,
        },
        gr3d_percent=0,
        swap_used_mb=0,
        swap_total_mb=3929,
    )


@pytest.mark.parametrize(
    ("name", "line", "total", "gpu"),
    [
        ("tx2_1", 2, ("VDD_IN", 1610, 1725), ("VDD_SYS_GPU", 153, 153)),
        ("tx2_3", 0, ("VDD_IN", 3140, 3208), ("VDD_SYS_GPU", 153, 158)),
        ("tx2_4", 1, ("VDD_IN", 3177, 3177), ("VDD_GPU", 383, 383)),
        ("tx2_5", 0, ("VDD_IN", 3104, 4029), ("VDD_GPU", 145, 207)),
        ("tx2_7", 1, ("VDD_IN", 1876, 1876), ("VDD_SYS_GPU", 153, 153)),
        ("tx2_9", 0, ("VDD_IN", 2144, 2144), ("VDD_SYS_GPU", 194, 194)),
        ("tx2_10", 1, ("VDD_IN", 7549, 7485), ("VDD_GPU", 228, 228)),
        ("tx2_12", 0, ("VDD_IN", 1423, 1423), ("VDD_SYS_GPU", 153, 153)),
        ("tx2_13", 0, ("VDD_IN", 1649, 1649), ("VDD_SYS_GPU", 153, 153)),
        ("tx2_14", 2, ("VDD_IN", 4363, 3368), ("VDD_SYS_GPU", 229, 229)),
        ("tx1_2", 0, ("VDD_IN", 2532, 2698), ("VDD_GPU", 19, 19)),
        ("nano_1", 2, ("POM_5V_IN", 2132, 2170), ("POM_5V_GPU", 78, 78)),
        ("xavier_agx_1", 0, ("SYS5V", 3306, 3306), ("GPU", 463, 463)),
        ("xavier_nx_2", 0, ("VDD_IN", 4067, 4067), ("VDD_CPU_GPU_CV", 738, 738)),
        ("orin_nx_1", 0, ("VDD_IN", 5299, 5299), ("VDD_CPU_GPU_CV", 773, 773)),
        ("orin_nano_1", 0, ("VDD_IN", 12479, 12479), ("VDD_CPU_GPU_CV", 4667, 4667)),
        ("agx_orin_2", 1, ("VIN_SYS_5V0", 4025, 4025), ("VDD_GPU_SOC", 2340, 2340)),
        ("agx_orin_4", 0, ("VIN_SYS_5V0", 4767, 4767), ("VDD_GPU_SOC", 3205, 3205)),
    ],
)
def test_rails_read_as_printed(name, line, total, gpu):
    found = rails(parse(golden(name)[line]))

    for rail, now_mw, mean_mw in (total, gpu):
        assert found[rail] == (now_mw, mean_mw)


@pytest.mark.parametrize(
    ("name", "load"),  # (gr3d_percent, gr3d_mhz, emc_percent, emc_mhz)
    [
        ("tx2_4", (53, 140, 10, 665)),
        ("tx2_10", (0, 1300, 2, 1866)),
        ("tx2_12", (0, 114, 16, 102)),
        ("tx2_13", (0, None, None, None)),
        ("xavier_nx_2", (62, 306, 10, 1600)),
        ("orin_nano_1", (63, 621, 43, 2133)),
        ("agx_orin_2", (0, 0, 0, 2133)),
        ("agx_orin_4", (0, 305, 1, 2133)),
    ],
)
def test_loads_and_clocks_read_as_printed(name, load):
    reading = next(r for r in map(parse, golden(name)) if r is not None)

    assert (
        reading.gr3d_percent,
        reading.gr3d_mhz,
        reading.emc_percent,
        reading.emc_mhz,
    ) == load


def test_cores_that_are_off_are_unknown_and_not_idle():
    reading = parse(golden("tx2_9")[0])

    assert reading is not None
    assert reading.cpus == (Core(20, 345), None, None, Core(15, 345), Core(15, 345), Core(19, 345))


def test_zones_of_r36_keep_their_lower_case():
    reading = parse(golden("agx_orin_4")[0])

    assert reading is not None
    assert reading.temps_c["tj"] == 53.062
    assert set(reading.temps_c) == {"cpu", "soc2", "soc0", "gpu", "tj", "soc1"}


@pytest.mark.parametrize("name", NAMES)
def test_no_line_reports_a_dummy_sensor(name):
    for reading in filter(None, map(parse, golden(name))):
        assert "PMIC" not in reading.temps_c
        assert all(-40 < temp_c < 95 for temp_c in reading.temps_c.values())


def test_unpowered_zones_of_an_orin_are_left_out():
    reading = parse(golden("agx_orin_2")[0])

    assert reading is not None
    assert "CV0" not in reading.temps_c
    assert "GPU" not in reading.temps_c
    assert "NC" not in reading.rails


def test_the_impossible_cold_of_r28_is_left_out():
    reading = parse(TX2_R28.replace("GPU@39C", "GPU@-51C"))

    assert reading is not None
    assert "GPU" not in reading.temps_c


# -- tolerance -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("VDD_IN 5139mW/5139mW/5140mW VDD_SOC 12mW/13mW/14mW", {"VDD_IN": (5139, 5139)}),
        ("VDD_IN 5139/5138/5137 VDD_SOC 12/13/14", {"VDD_IN": (5139, 5138)}),
        ("VDD_IN 5139mW", {"VDD_IN": (5139, None)}),
        ("VDD_IN 5139 VDD_SOC 120", {"VDD_IN": (5139, None), "VDD_SOC": (120, None)}),
    ],
)
def test_one_two_and_three_figures_with_and_without_unit(written, read):
    found = rails(parse(f"RAM 1/2MB (lfb 1x4kB) CPU [1%@345] gpu@40.5C/41C {written}"))

    assert found | read == found


def test_a_line_without_rails_is_a_reading_without_power():
    reading = parse(TX2_R32.partition(" VDD_SYS_GPU")[0])

    assert reading is not None
    assert reading.rails == {}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Tue Jan 26 18:22:31 UTC 2021",
        "sudo: a password is required",
        TX2_R32.replace("CPU [4%@2035,", "CPU [x%@2035,"),
        TX2_R32.replace("VDD_IN 1840/1840", "VDD_IN 1840/"),
        TX2_R32.replace("VDD_IN 1840/1840", "VDD_IN 1840"),
        TX2_R32.replace("VDD_IN 1840/1840", "VDD_IN -/-"),
        TX2_R32.replace("VDD_IN 1840/1840", "VDD_IN 1840mW/1840mW"),
        TX2_R32.replace("VDD_SYS_CPU", "VDD_IN"),
        TX2_R32[:200] + TX2_R32,
        TX2_R32 + TX2_R32,
        TX2_R32.replace("GR3D_FREQ 0%", "GR3D_FREQ"),
        "RAM 896/7859MB CPU [4%@345] APE 150",
    ],
)
def test_what_is_damaged_is_refused(line):
    assert parse(line) is None


def test_a_rail_and_a_zone_may_share_a_name():
    reading = parse(golden("xavier_agx_1")[0])

    assert reading is not None
    assert reading.temps_c["GPU"] == 30.5
    assert reading.rails["GPU"].now_mw == 463


R28_TOKENS = (
    "RAM 1685/7854MB (lfb 1044x4MB)",
    "SWAP 278/8192MB (cached 23MB)",
    "CPU [1%@1303,off,2%@345,3%@1419]",
    "EMC_FREQ 16%@102",
    "GR3D_FREQ 7%@140",
    "APE 150",
    "MTS fg 1% bg 8%",
    "BCPU@41C",
    "GPU@39.5C",
    "PMIC@100C",
    "VDD_IN 1931/1932",
    "VDD_GPU 154/155",
    "VDD_DDR 326/327",
)
XAVIER_TOKENS = (
    "RAM 14700/15692MB (lfb 3x2MB)",
    "CPU [0%@1190,1%@1190]",
    "EMC_FREQ 0%",
    "GR3D_FREQ 3%",
    "GPU@30.5C",
    "CPU@31.5C",
    "GPU 463/464",
    "CPU 618/619",
    "SOC 2936/2937",
)
ORIN_TOKENS = (
    "10-26-2025 05:10:54",
    "RAM 6879/62841MB (lfb 3x4MB)",
    "SWAP 1/31421MB (cached 0MB)",
    "CPU [5%@729,off]",
    "EMC_FREQ 1%@2133",
    "GR3D_FREQ 40%@[305,306]",
    "NVENC off",
    "APE 174",
    "cpu@47.687C",
    "tj@-256C",
    "VDD_GPU_SOC 2801mW/2802mW",
    "NC 0mW/0mW",
    "VIN_SYS_5V0 4536mW/4537mW",
)


@pytest.mark.parametrize("tokens", [R28_TOKENS, XAVIER_TOKENS, ORIN_TOKENS])
@given(data=st.data())
def test_tokens_in_any_order_and_spacing_read_the_same(tokens, data):
    order = data.draw(st.permutations(tokens))
    while order[-1].startswith(("APE", "EMC_FREQ", "GR3D_FREQ", "NVENC", "10-26")):
        order.insert(0, order.pop())  # no release ends a line so; such an end may be a cut
    spaces = [data.draw(st.text(" \t", min_size=1, max_size=4)) for _ in order]
    line = "".join(token + space for token, space in zip(order, spaces, strict=True))

    assert parse(line) == parse(" ".join(tokens)) is not None


# -- cut lines and streams -----------------------------------------------------------------------


def figures(reading: Reading | None) -> dict[str, object]:
    """Flatten a reading into named figures; what it does not tell is left out."""
    if reading is None:
        return {}
    named: dict[str, object] = {f"temp {z}": c for z, c in reading.temps_c.items()}
    for name, rail in reading.rails.items():
        named |= {f"now {name}": rail.now_mw, f"mean {name}": rail.mean_mw}
    plain = [field.name for field in fields(Reading) if field.name not in {"rails", "temps_c"}]
    named |= {name: getattr(reading, name) for name in plain}
    return {name: value for name, value in named.items() if value is not None}


@pytest.mark.parametrize("name", NAMES)
def test_a_line_cut_at_any_byte_gives_no_wrong_figure(name):
    line = golden(name)[-1]
    whole = figures(parse(line))

    for cut in range(len(line)):
        got = figures(parse(line[:cut]))
        wrong = {name for name, value in got.items() if value != whole[name]}
        # The mean of the last rail ends the line: only its newline can vouch for it.
        last = [name for name in got if name.startswith("mean ")][-1:]
        assert wrong <= set(last), line[:cut]


@given(cut=st.integers(0, 2 * len(TX2_R32) + 1))
def test_a_stream_cut_at_any_byte_gives_whole_lines_only(cut):
    stream = f"{TX2_R32}\n{golden('tx2_1')[2]}\n"

    lines = LineReader().feed(stream[:cut])

    assert list(lines) == stream.splitlines()[: stream[:cut].count("\n")]


@given(cuts=st.lists(st.integers(0, 2000), max_size=12))
def test_a_stream_in_any_chunks_gives_the_same_lines(cuts):
    stream = "\r\n".join(golden("tx2_1")[:4]) + "\n" + golden("tx2_1")[4]
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = LineReader()

    got = [line for start, stop in pairwise(edges) for line in reader.feed(stream[start:stop])]

    assert got == golden("tx2_1")[:4]


# -- running mean --------------------------------------------------------------------------------


def readings(name: str) -> list[Reading]:
    return [reading for reading in map(parse, golden(name)) if reading is not None]


def test_the_running_mean_of_a_whole_log_fits():
    means = RunningMean()

    assert [fault for fault in map(means.add, readings("tx2_1")) if fault] == []
    assert means.checked == 100


@pytest.mark.parametrize("lost", [2, 10, 30])
def test_a_lost_line_breaks_the_running_mean(lost):
    kept = readings("tx2_1")
    del kept[lost]
    means = RunningMean()

    faults = [fault for fault in map(means.add, kept) if fault]

    assert [fault.kind for fault in faults] == ["lost"]
    assert lost < faults[0].line <= lost + 5
    assert means.checked == faults[0].line - 1


def test_a_lost_first_line_shows_at_once():
    fault = RunningMean().add(readings("tx2_1")[1])

    assert fault is not None
    assert (fault.kind, fault.line, fault.rail) == ("late", 1, "VDD_SYS_SOC")
    assert (fault.printed_mw, fault.expected_mw) == (344, 306)


def test_a_restart_is_told_and_the_new_run_is_checked():
    means = RunningMean()

    faults = [means.add(r) for r in (*readings("tx2_1")[:7], *readings("tx2_1")[:9])]

    assert [fault.kind for fault in faults if fault] == ["restarted"]
    assert faults[7] is not None
    assert means.checked == 15


# -- the whole recorded corpus -------------------------------------------------------------------


@pytest.mark.skipif(not FULL.is_dir(), reason=f"no recorded logs at {FULL} (set HIL_DATA)")
@pytest.mark.parametrize(("name", "count"), [("tx2_1", 432), ("agx_orin_1", 4111)])
def test_every_line_of_a_whole_log_reads_and_its_mean_fits(name, count):
    means = RunningMean()
    reader = LineReader()

    for line in reader.feed((FULL / f"{name}.log").read_text(encoding="ascii")):
        reading = parse(line)
        assert reading is not None or line.startswith("Tue Jan 26")
        if reading is not None:
            assert means.add(reading) is None

    assert means.checked == count


@pytest.mark.skipif(not FULL.is_dir(), reason=f"no recorded logs at {FULL} (set HIL_DATA)")
def test_every_recorded_line_has_power_and_a_believable_total():
    seen = 0
    for path in sorted(FULL.glob("*.log")):
        for line in path.read_text(encoding="ascii").splitlines():
            reading = parse(line)
            if reading is None:
                assert line.startswith("Tue Jan 26"), line
                continue
            seen += 1
            assert reading.rails
            total = reading.rails.get("VDD_IN")
            if total is not None and path.stem.startswith("tx2"):
                parts = sum(r.now_mw for name, r in reading.rails.items() if name != "VDD_IN")
                assert 400 < total.now_mw - parts < 2300
    assert seen > 4500
