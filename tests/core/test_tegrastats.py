"""tegrastats lines of every release we have, held to values written from the line by hand."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.core.tegrastats import (
    Core,
    LineReader,
    RailReading,
    Reading,
    RunningMean,
    parse,
    parse_slowly,
    swapped,
)
from hil.core.tegrastats_grammar import items
from hil.core.tegrastats_layout import Layouts

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "data" / "tegrastats"
FULL = Path(os.environ.get("HIL_DATA", ROOT.parent / "shared" / "data")) / "tegrastats"


def golden(name: str) -> list[str]:
    return (GOLDEN / f"{name}.log").read_text(encoding="ascii").splitlines()


def whole_lines(name: str) -> list[str]:
    """The lines with their newlines."""
    return [f"{line}\n" for line in golden(name)]


NAMES = sorted(path.stem for path in GOLDEN.glob("*.log"))
TX2_R28 = golden("tx2_2")[0]
TX2_R32 = golden("tx2_1")[1]


def rails(reading: Reading | None) -> dict[str, tuple[int, int | None]]:
    assert reading is not None
    return {name: (rail.now_mw, rail.mean_mw) for name, rail in reading.rails.items()}


# -- golden lines --------------------------------------------------------------------------------


def test_a_tx2_of_r28_as_root_reads_whole():
    assert parse(TX2_R28 + "\n") == Reading(
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
    assert parse(TX2_R32 + "\n") == Reading(
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
        ("agx_orin_3", 0, ("VIN_SYS_5V0", 5500, 5500), ("VDD_GPU_SOC", 5139, 5139)),
        ("agx_orin_4", 0, ("VIN_SYS_5V0", 4767, 4767), ("VDD_GPU_SOC", 3205, 3205)),
        ("nano_4", 3, ("POM_5V_IN", 2003, 2003), ("POM_5V_CPU", 320, 320)),
        ("orin_nano_3", 0, ("VDD_IN", 6030, 6030), ("VDD_SOC", 1557, 1557)),
        ("xavier_nx_1", 2, ("VDD_IN", 14664, 13951), ("VDD_SOC", 1444, 1412)),
        ("xavier_agx_2", 0, ("SYS5V", 1482, 1482), ("GPU", 0, 0)),
        ("thor_1", 0, ("VIN", 19780, 19780), ("VDD_GPU", 1962, 1962)),
        ("thor_2", 0, ("VIN", 87426, 43713), ("VDD_GPU", 37528, 37528)),
    ],
)
def test_rails_read_as_printed(name, line, total, gpu):
    found = rails(parse(golden(name)[line] + "\n"))

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
        ("agx_orin_3", (12, 1300, 3, 3199)),
        ("agx_orin_4", (0, 305, 1, 2133)),
        ("thor_1", (None, 314, 0, 2750)),
        ("thor_2", (None, None, None, None)),
        ("tx1_1", (3, 76, 1, 408)),
        ("tx1_3", (0, 76, 0, 1600)),
    ],
)
def test_loads_and_clocks_read_as_printed(name, load):
    reading = next(r for r in map(parse, whole_lines(name)) if r is not None)

    assert (
        reading.gr3d_percent,
        reading.gr3d_mhz,
        reading.emc_percent,
        reading.emc_mhz,
    ) == load


@pytest.mark.parametrize(
    ("line", "cpus", "gr3d"),
    [
        (
            whole_lines("tx1_1")[1],
            [Core(17, 1734), Core(11, 1734), Core(65, 1734), Core(0, 1734)],
            39,
        ),
        (whole_lines("tx1_3")[1], [Core(1, 102), Core(0, 102), Core(0, 102), Core(1, 102)], 0),
        # TX2 of r27 and r28.1, put together from what is told of its tokens.
        (
            "RAM 1179/7854MB (lfb 1293x4MB) cpu [0%@345,off,off,12%@346] EMC 0%@1600 APE 150 "
            "GR3D 0%@140\n",
            [Core(0, 345), None, None, Core(12, 346)],
            0,
        ),
        (
            "RAM 1179/7854MB (lfb 1293x4MB) cpu [off,0%@345] EMC 0% APE 150 GR3D 7%\n",
            [None, Core(0, 345)],
            7,
        ),
    ],
)
def test_lower_case_lines_of_the_first_releases_read(line, cpus, gr3d):
    reading = parse(line)

    assert reading is not None
    assert reading.cpus == tuple(cpus)
    assert reading.gr3d_percent == gr3d
    assert reading.rails == {}
    assert reading.temps_c == {}


def test_a_tx2_nx_without_wifi_reads():
    line = whole_lines("tx2_9")[0].replace(" VDD_4V0_WIFI 0/0", "")

    found = rails(parse(line))

    assert found.keys() == rails(parse(whole_lines("tx2_9")[0])).keys() - {"VDD_4V0_WIFI"}


def test_power_below_zero_stays_below_zero():
    # A Thor with an idle GPU has been seen to print -392 mW.
    line = whole_lines("thor_1")[0].replace("VDD_GPU 1962mW/1962mW", "VDD_GPU -392mW/-391mW")

    assert rails(parse(line))["VDD_GPU"] == (-392, -391)


def test_a_second_gpu_cluster_is_no_damage_and_no_other_figure():
    line = whole_lines("agx_orin_2")[0]
    assert "GR3D2_FREQ 0%@0" in line

    assert parse(line.replace("GR3D2_FREQ 0%@0", "GR3D2_FREQ 77%@999")) == parse(line)


def test_largest_free_blocks_in_any_unit_change_nothing():
    line = whole_lines("tx2_1")[1]
    assert "(lfb 1x4MB)" not in line

    for note in ("(lfb 1x512kB)", "(lfb 1044x4MB)", "(lfb 1x1MB)"):
        told = line.replace(line[line.index("(") : line.index(")") + 1], note, 1)
        assert parse(told) == parse(line) is not None


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
    found = rails(parse(f"RAM 1/2MB (lfb 1x4kB) CPU [1%@345] gpu@40.5C/41C {written}\n"))

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

    assert parse(line + "\n") == parse(" ".join(tokens) + "\n") is not None


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
    for line in golden(name)[-6:]:
        whole = figures(parse(line + "\n"))

        for cut in range(len(line) + 1):
            got = figures(parse(line[:cut]))
            assert {n for n, value in got.items() if value != whole[n]} == set(), line[:cut]


@pytest.mark.parametrize("line", [TX2_R28, TX2_R32, golden("nano_1")[0], golden("tx1_1")[0]])
def test_only_the_newline_vouches_for_a_figure_at_the_very_end(line):
    vouched, bare = figures(parse(line + "\n")), figures(parse(line))

    missing = vouched.keys() - bare.keys()

    assert len(missing) == 1
    assert str(vouched[missing.pop()]) == re.search(r"\d+$", line)[0]
    assert bare.items() < vouched.items()


@pytest.mark.parametrize("name", NAMES)
def test_a_cut_stream_gives_figures_of_whole_lines_only(name):
    stream = "".join(whole_lines(name)[:3])
    expected = [parse(line) for line in stream.splitlines(keepends=True)]

    for cut in range(0, len(stream) + 1, 7):
        lines = LineReader().feed(stream[:cut])
        assert [parse(line + "\n") for line in lines] == expected[: stream[:cut].count("\n")]


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
    return [reading for reading in map(parse, whole_lines(name)) if reading is not None]


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


def made(values: Iterable[dict[str, int]]) -> list[Reading]:
    """Readings as one process prints them: floor of the mean of all so far beside each figure."""
    sums: Counter[str] = Counter()
    printed = []
    for count, powers in enumerate(values, start=1):
        sums.update(powers)
        found = {name: RailReading(now, sums[name] // count) for name, now in powers.items()}
        printed.append(Reading(1, 2, (), rails=found))
    return printed


def test_checking_goes_on_after_a_restart_that_follows_a_loss():
    powers = [{"IN": 4000 + 37 * (i * i % 11), "GPU": 900 + 53 * (i % 7)} for i in range(40)]
    one, two = made(powers[:20]), made(powers[20:])
    del one[9], two[12]
    means = RunningMean()

    faults = [fault for fault in map(means.add, [*one, *two]) if fault]

    assert [fault.kind for fault in faults] == ["lost", "restarted", "lost"]
    assert [fault.line for fault in faults] == [10, 20, 32]
    assert means.checked == 9 + 11


@given(
    st.lists(st.integers(0, 20_000), min_size=3, max_size=60),
    st.lists(st.integers(0, 20_000), min_size=1, max_size=60),
)
def test_lines_of_any_power_fit_their_mean_before_and_after_a_restart(first, second):
    def both(values):
        return made({"IN": value, "SOC": value // 3} for value in values)

    means = RunningMean()

    second[0] += 30_000  # a first line that could have been the old process's next hides a restart
    faults = [fault for fault in map(means.add, [*both(first), *both(second)]) if fault]

    assert [fault.kind for fault in faults] == ["restarted"]
    assert faults[0].line == len(first) + 1
    assert means.checked == len(first) + len(second) - 1


def test_a_rail_that_counts_nothing_first_is_checked_with_one_line_more():
    # VIN of a Thor: the first line prints half of its figure as mean.
    powers = [87426, 86000, 91234, 90000]
    lines = []
    for n in range(1, 5):
        vin = RailReading(powers[n - 1], sum(powers[:n]) // (n + 1))
        other = RailReading(1000 + n, sum(1000 + i for i in range(1, n + 1)) // n)
        lines.append(Reading(1, 2, (), rails={"A": other, "B": other, "C": other, "VIN": vin}))

    assert [fault for fault in map(RunningMean().add, lines) if fault] == []
    faults = [fault for fault in map(RunningMean().add, [*lines[:2], lines[3]]) if fault]
    assert [fault.kind for fault in faults] == ["lost"]


@pytest.mark.parametrize("towards_zero", [True, False])
def test_a_mean_below_zero_may_be_cut_to_either_side(towards_zero):
    powers, lines = [-392, -5, -3, 10, -400], []
    for n in range(1, 6):
        total = sum(powers[:n])
        mean = int(total / n) if towards_zero else total // n
        lines.append(Reading(1, 2, (), rails={"VDD_GPU": RailReading(powers[n - 1], mean)}))

    assert [fault for fault in map(RunningMean().add, lines) if fault] == []


# -- labels that cannot be right -----------------------------------------------------------------


def test_swapped_labels_of_a_nano_are_noticed():
    assert swapped(readings("nano_2"), "POM_5V_IN") is True
    assert swapped(readings("nano_2")[:1], "POM_5V_IN", ["POM_5V_GPU"]) is True
    assert swapped(readings("nano_1"), "POM_5V_IN") is False


def test_labels_of_every_tx2_line_are_believable():
    for name in (name for name in NAMES if name.startswith("tx2")):
        for reading in readings(name):
            assert swapped([reading], "VDD_IN") is False


def test_labels_cannot_be_told_without_a_total_and_a_part():
    assert swapped(readings("agx_orin_2"), "VDD_IN") is None
    assert swapped(readings("tx2_1"), "VDD_IN", ["VDD_GPU"]) is None
    assert swapped([], "VDD_IN") is None


# -- lines of a known layout, and damage of every kind --------------------------------------------

EVERY = [line for name in NAMES for line in golden(name)[:4]]
for known in (*EVERY, *EVERY):
    parse(known + "\n")  # the second time each comes its layout is known


@st.composite
def mangled(draw: st.DrawFn) -> str:
    """A real line with figures changed, characters altered, pieces cut out or doubled."""
    line = draw(st.sampled_from(EVERY))
    for kind in draw(st.lists(st.sampled_from(["figure", "char", "cut", "double"]), max_size=4)):
        at = draw(st.integers(0, max(0, len(line) - 1)))
        if kind == "figure":
            figure = draw(st.integers(-5, 10**6))
            line = re.sub(r"\d+", str(figure), line[:at], count=0) + line[at:]
        elif kind == "char":
            line = line[:at] + draw(st.sampled_from(" @%/()[],.-mWCGo9\t")) + line[at + 1 :]
        elif kind == "cut":
            line = line[:at] + line[at + draw(st.integers(1, 40)) :]
        else:
            line = line[:at] + line[max(0, at - 20) :]
    return line + draw(st.sampled_from(["", "\n"]))


@settings(max_examples=600)
@given(mangled())
def test_a_known_layout_says_what_reading_token_by_token_says(line):
    assert parse(line) == parse_slowly(line)


@pytest.mark.parametrize("name", NAMES)
def test_every_line_reads_the_same_whether_its_layout_is_known_or_not(name):
    for line in whole_lines(name):
        first = parse_slowly(line)
        assert [parse(line), parse(line), parse(line)] == [first, first, first]


def test_the_layout_of_a_line_that_came_twice_is_known():
    layouts = Layouts()
    for line in golden("tx2_1")[1:3]:
        assert layouts.read(line, True) is None
        layouts.learn(items(line, vouched=True), line)

    assert layouts.read(golden("tx2_1")[9], True) == parse_slowly(whole_lines("tx2_1")[9])
    assert layouts.read(golden("tx2_2")[0], True) is None


WORDS = ["RAM", "1/2MB", "CPU", "[", "]", "1%@3", "off", "VDD_IN", "1/1", "5mW/5mW", "GR3D_FREQ"]


@given(
    st.one_of(
        st.text(),
        st.text("RAMCPU [](){}%@/0123456789.,-mWGoff\n\t\x00²٣", max_size=200),
        st.lists(st.sampled_from([*WORDS, "@[1,off]", "GPU@3C", "cpu", "(", ")"])).map(" ".join),
    )
)
def test_garbage_is_refused_or_read_and_never_a_crash(text):
    reading = parse(text)

    assert reading is None or isinstance(reading, Reading)


# -- the whole recorded corpus -------------------------------------------------------------------


def naive(line: str) -> tuple[dict[str, tuple[int, int]], dict[str, float]]:
    """Rails and zones by two plain patterns: a second opinion for lines that are whole."""
    pairs = re.findall(r"(?<!\S)([A-Z]\w*) (\d+)(?:mW)?/(\d+)(?:mW)?(?:/\d+mW)?(?!\S)", line)
    rails = {name: (int(now), int(mean)) for name, now, mean in pairs if name != "NC"}
    zones = re.findall(r"(?<!\S)(\w+)@(-?[\d.]+)C(?!\w)", line)
    return rails, {z: float(c) for z, c in zones if z != "PMIC" and float(c) > -40}


@pytest.mark.parametrize("name", NAMES)
def test_rails_and_zones_of_every_golden_line_are_what_two_plain_patterns_find(name):
    for line in whole_lines(name):
        reading = parse(line)
        if reading is None:
            assert line.startswith("Tue Jan 26")
            continue
        assert (rails(reading), reading.temps_c) == naive(line.strip())


@pytest.mark.skipif(not FULL.is_dir(), reason=f"no recorded logs at {FULL} (set HIL_DATA)")
@pytest.mark.parametrize(("name", "count"), [("tx2_1", 432), ("agx_orin_1", 4111)])
def test_every_line_of_a_whole_log_reads_and_its_mean_fits(name, count):
    means = RunningMean()
    reader = LineReader()

    for line in reader.feed((FULL / f"{name}.log").read_text(encoding="ascii")):
        reading = parse(line + "\n")
        assert reading is not None or line.startswith("Tue Jan 26")
        if reading is not None:
            assert means.add(reading) is None

    assert means.checked == count


@pytest.mark.skipif(not FULL.is_dir(), reason=f"no recorded logs at {FULL} (set HIL_DATA)")
def test_every_recorded_line_has_power_and_a_believable_total():
    seen = 0
    for path in sorted(FULL.glob("*.log")):
        for line in path.read_text(encoding="ascii").splitlines():
            reading = parse(line + "\n")
            if reading is None:
                assert line.startswith("Tue Jan 26"), line
                continue
            seen += 1
            assert reading.rails
            assert (rails(reading), reading.temps_c) == naive(line)
            total = reading.rails.get("VDD_IN")
            if total is not None and path.stem.startswith("tx2"):
                parts = sum(r.now_mw for name, r in reading.rails.items() if name != "VDD_IN")
                assert 400 < total.now_mw - parts < 2300
    assert seen > 4500
