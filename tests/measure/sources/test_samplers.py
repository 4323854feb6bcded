"""Lines of the samplers read into watts and joules; cut or wrapped, they never read wrong."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.core.energy import Window
from hil.core.errors import MeasurementError
from hil.core.evidence import PowerRecord
from hil.measure.sources import command, ina3221, nvml, rapl
from hil.measure.sources.counters import MOST_W, unwrap
from hil.measure.trace import read_power

NS = 1_000_000_000
MS = 1_000_000


# -- ina3221 -------------------------------------------------------------------------------------


def test_a_power_is_taken_and_voltage_times_current_where_there_is_none():
    assert ina3221.channels_w("VDD_IN=4823mW VDD_DDR=4784mV,252mA") == {
        "VDD_IN": 4.823,
        "VDD_DDR": pytest.approx(1.205568),
    }
    # Where a line has all three, the driver's own power stands.
    assert ina3221.channels_w("VDD_IN=19152mV,252mA,4826mW") == {"VDD_IN": 4.826}
    assert ina3221.channels_w("VDD_GPU=-392mW") == {"VDD_GPU": -0.392}


@pytest.mark.parametrize(
    "line",
    ["", "VDD_IN=", "VDD_IN=4823", "VDD_IN=19152mV", "A=1mW A=1mW", "A=,1mW", "A=1mV,1mA1mW"],
)
def test_what_is_no_channel_is_refused(line):
    assert ina3221.channels_w(line) is None


def test_monitor_lines_become_rails():
    lines = ((0, "VDD_IN=4000mW GPU=100mW"), (NS, "VDD_IN=5000mW"), (2 * NS, "junk"))

    trace = read_power(PowerRecord("ina3221", lines, settings={"running_mode": {"0-0041": 0}}))

    assert trace.unread == 1
    assert trace.readings == ()
    assert trace.rails["VDD_IN"].energy_j(Window(0, NS)) == pytest.approx(4.5)
    assert len(trace.rails["GPU"].samples) == 1
    assert trace.settings == {"running_mode": {"0-0041": 0}}


# -- cut lines -----------------------------------------------------------------------------------

WHOLE = [
    (ina3221.channels_w, "VDD_IN=19152mV,252mA VDD_SYS_GPU=4823mW VDD_DDR=4784mV,52mA,249mW"),
    (nvml.figures, "gpu_energy=1234567mJ gpu_power=71500mW"),
    (nvml.figures, "gpu_power=71500mW sm_clock=1980MHz throttle=4bits gpu_busy=9% displays=0held"),
    (rapl.counters, "package-0=8123456uJ/262143328850uJ package-0/dram=77uJ/65712999613uJ"),
]


@pytest.mark.parametrize(("read", "line"), WHOLE)
def test_a_line_cut_at_any_byte_gives_no_wrong_figure(read, line):
    whole = read(line)
    assert whole is not None

    for cut in range(len(line)):
        got = read(line[:cut]) or {}
        told = {name: value for name, value in got.items() if whole.get(name) != value}
        # A channel with all three figures, cut behind the current, still has its product.
        assert told in ({}, {"VDD_DDR": pytest.approx(0.248768)}), line[:cut]


# -- nvml ----------------------------------------------------------------------------------------


def test_the_energy_counter_is_the_rail_and_power_stands_beside_it():
    lines = tuple(
        (i * 20 * MS, f"gpu_energy={5_000_000 + 7000 * (i // 5)}mJ gpu_power={69000 + i}mW")
        for i in range(26)
    )

    trace = read_power(PowerRecord("nvml", lines))

    gpu = trace.rails["gpu"]
    assert gpu.kind == "counter"
    # It moved every 100 ms, 7 J each: readings in between say nothing and are left out.
    assert [point.t_ns for point in gpu.points] == [i * 100 * MS for i in range(6)]
    assert gpu.energy_j(Window(0, 500 * MS)) == pytest.approx(35.0)
    assert gpu.mean_power_w(Window(130 * MS, 270 * MS)) == pytest.approx(70.0)
    assert gpu.edge_bound_j(Window(130 * MS, 280 * MS)) == pytest.approx(0.7 * 7 + 0.8 * 7)
    assert trace.rails["gpu_power"].kind == "power"
    assert trace.rails["gpu_power"].samples[0].power_w == 69.0


def test_a_gpu_without_a_counter_has_power_as_its_rail():
    trace = read_power(PowerRecord("nvml", ((0, "gpu_power=7000mW"), (NS, "gpu_power=9000mW"))))

    assert trace.rails["gpu"].kind == "power"
    assert trace.rails["gpu"].energy_j(Window(0, NS)) == pytest.approx(8.0)


def test_a_counter_that_never_moves_is_no_rail():
    lines = ((0, "gpu_energy=5mJ"), (NS, "gpu_energy=5mJ"))

    assert dict(read_power(PowerRecord("nvml", lines)).rails) == {}


@pytest.mark.parametrize("line", ["gpu_energy=5mW", "gpu_power=5mJ", "gpu_power=-1mW", "other=5mJ"])
def test_figures_with_a_foreign_unit_or_name_are_refused(line):
    assert nvml.figures(line) is None


def test_a_counter_that_goes_back_is_refused():
    lines = ((0, "gpu_energy=5000mJ"), (NS, "gpu_energy=4000mJ"))

    with pytest.raises(MeasurementError, match="energy counter of gpu"):
        read_power(PowerRecord("nvml", lines))


# -- rapl ----------------------------------------------------------------------------------------


@settings(deadline=None, derandomize=True)
@given(
    st.integers(2, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**7),
    st.integers(0, 10**6),
)
def test_any_number_of_wraps_is_undone_where_only_one_growth_fits(modulus, start, grown, slack):
    start %= modulus
    least = max(0, grown - slack)
    most = min(grown + slack, least + modulus - 1) if slack < modulus else least + modulus - 1
    if most < grown:
        most = grown
        least = max(0, most - modulus + 1)

    now = (start + grown) % modulus

    assert unwrap(start, now, modulus, least=least, most=most) == grown


@settings(deadline=None, derandomize=True)
@given(st.integers(2, 1000), st.integers(0, 999), st.integers(0, 999), st.integers(0, 5000))
def test_unwrapping_agrees_with_trying_every_growth(modulus, previous, now, most):
    previous, now = previous % modulus, now % modulus
    fitting = [g for g in range(most + 1) if (previous + g) % modulus == now]

    if len(fitting) == 1:
        assert unwrap(previous, now, modulus, most=most) == fitting[0]
    else:
        with pytest.raises(ValueError, match="fits"):
            unwrap(previous, now, modulus, most=most)


@settings(deadline=None, derandomize=True)
@given(
    st.integers(10**6, 70 * 10**9),
    st.integers(0, 10**12),
    st.lists(st.tuples(st.integers(1, 5000), st.floats(0.001, 400)), min_size=1, max_size=40),
)
def test_energy_is_exact_over_any_number_of_wraps(range_uj, start_uj, steps):
    # Every reading adds less than one range, as any bounded power does at a short enough interval.
    lines, t_ms, total_uj = [], 0, start_uj
    lines.append((0, f"package-0={total_uj % (range_uj + 1)}uJ/{range_uj}uJ"))
    for dt_ms, power_w in steps:
        grown = max(1, round(power_w * dt_ms * 1000))
        if grown + 10 >= range_uj or MOST_W * (dt_ms / 1000 + 1.0) * 1e6 >= range_uj:
            continue
        t_ms += dt_ms
        total_uj += grown
        lines.append((t_ms * MS, f"package-0={total_uj % (range_uj + 1)}uJ/{range_uj}uJ"))

    trace = read_power(PowerRecord("rapl", tuple(lines)))

    if len(lines) > 1:
        energy = trace.rails["package-0"].energy_j(Window(0, lines[-1][0]))
        assert energy == pytest.approx((total_uj - start_uj) / 1e6, rel=1e-12, abs=1e-9)


def test_readings_too_far_apart_to_count_wraps_are_refused():
    # 65 kJ at 2 kW: 33 s to the next wrap, so after 40 s nobody knows.
    lines = ((0, "package-0=5uJ/65712999613uJ"), (40 * NS, "package-0=9uJ/65712999613uJ"))

    with pytest.raises(MeasurementError, match="package-0"):
        read_power(PowerRecord("rapl", lines))


def test_subdomains_are_rails_of_their_own():
    lines = (
        (0, "package-0=0uJ/262143328850uJ package-0/core=0uJ/262143328850uJ"),
        (NS, "package-0=45000000uJ/262143328850uJ package-0/core=30000000uJ/262143328850uJ"),
    )

    trace = read_power(PowerRecord("rapl", lines))

    assert trace.rails["package-0"].mean_power_w(Window(0, NS)) == pytest.approx(45.0)
    assert trace.rails["package-0/core"].mean_power_w(Window(0, NS)) == pytest.approx(30.0)
    assert rapl.counters("package-0=11uJ/10uJ") is None


# -- command -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("12.5 4.75", (12_500_000_000, 4.75)),
        ("1700000000.123456789,4.75", (1_700_000_000_123_456_789, 4.75)),
        ("12 -0.5", (12 * NS, -0.5)),
        ("12 4.75 W", None),
        ("time watts", None),
        ("nan 1", None),
        ("1 inf", None),
        ("1e30 1", None),
        ("1", None),
        ("", None),
    ],
)
def test_a_meters_line_is_time_and_watts(line, read):
    assert command.figures(line) == read


@settings(deadline=None, derandomize=True)
@given(st.text(max_size=40))
def test_no_line_of_a_meter_is_a_crash(line):
    command.figures(line)


def test_a_meters_samples_bear_its_own_time():
    # It prints seconds from 1000; lines arrive 3 ms later, every fourth 60 ms later.
    lines = [(0, "# a remark")]
    for i in range(200):
        late_ms = 60 if i % 4 == 1 else 3
        lines.append((5 * NS + i * 50 * MS + late_ms * MS, f"{1000 + i * 0.05:.3f} {i % 7}.5"))
    lines.append((16 * NS, "bye"))

    trace = read_power(PowerRecord("command", tuple(lines), settings={"rail": "usb"}))

    assert trace.unread == 1
    assert trace.stamps_ns == tuple(5 * NS + i * 50 * MS + 3 * MS for i in range(200))
    assert [s.power_w for s in trace.rails["usb"].samples] == [i % 7 + 0.5 for i in range(200)]
    assert trace.clock_error_ns == 0
    assert trace.settings["alignment"]["skew_ppm"] == 0


def test_a_meter_on_the_host_is_laid_on_the_boards_clock():
    lines = tuple((10 * NS + i * NS, f"{i} 4.0") for i in range(20))
    sync = [[9 * NS, 109 * NS, 9 * NS + 400], [31 * NS, 131 * NS, 31 * NS + 200]]

    trace = read_power(PowerRecord("command", lines, settings={"sync": sync}, clock="host"))

    assert trace.stamps_ns[0] == pytest.approx(110 * NS, abs=300)
    assert trace.stamps_ns[-1] == pytest.approx(129 * NS, abs=300)
    assert trace.clock_error_ns == 200
    assert trace.rails["meter"].energy_j(Window(111 * NS, 121 * NS)) == pytest.approx(40.0)
