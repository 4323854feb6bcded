"""The judge: truths against closed forms, stopping, and one small benchmark end to end."""

from __future__ import annotations

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from hil.bench.energy import run_bench
from hil.bench.energy_judge import PLAN, Truth, judge, rail, sensor
from hil.bench.energy_run import Run
from hil.bench.energy_scenario import (
    STRATA,
    Background,
    Load,
    Printer,
    Scenario,
    Sensor,
    draw,
)
from hil.cli.bench_energy import register

QUIET = Background(0.0, 0.27, 0.0, 20.0, ())


@pytest.fixture
def flat():
    """A flat 5 W load of 20 ms an inference on a sensor of known errors."""

    def make(one: Sensor, background: Background = QUIET) -> Truth:
        load = Load(idle_w=2.0, high_w=5.0, low_w=5.0, latency_s=0.020)
        return Truth(Run(Scenario(0, 0, "s", load, background, one, Printer()), PLAN))

    return make


def test_truths_of_a_flat_load_are_power_times_latency(flat):
    # 5 W, 20 ms: 100 mJ; the reading is 1 % and 2 mA of 19.1 V more; idle is taken off for net.
    found = flat(Sensor(gain=0.01, offset_ma=2.0, tau_s=0.0), Background(0.3, 0.27, 0.0, 20.0, ()))
    truths = found.after(4)

    mean_ms = 1000 * np.mean(np.diff(found.run.world.starts_s)[:100])
    assert truths["absolute"] == pytest.approx(5.0 * 20.0, rel=1e-3)
    assert truths["truth"] == pytest.approx((5.0 * 1.01 + 0.002 * 19.15 - 0.0005) * 20.0, rel=1e-3)
    net = truths["truth"] - (2.0 * 1.01 + 0.002 * 19.17 - 0.0005) * 20.0
    assert truths["truth_net"] == pytest.approx(net, rel=2e-3)
    assert mean_ms == pytest.approx(20.0, rel=2e-3)


def test_bursts_count_with_their_mean_whether_they_came_or_not(flat):
    calm, busy = flat(Sensor()).after(4), flat(Sensor(), Background(0.0, 0.27, 0.0, 20.0)).after(4)

    assert busy["absolute"] / calm["absolute"] - 1 == pytest.approx(
        Background().burst_w / 5.0, rel=1e-6
    )
    assert busy["realised"] != pytest.approx(busy["truth"], rel=1e-4)


def test_without_noise_what_was_realised_is_what_was_expected(flat):
    truths = flat(Sensor(gain=0.002)).after(6)

    assert truths["realised"] == pytest.approx(truths["truth"], rel=1e-9)


def test_truths_after_each_block_agree_with_those_of_a_run(flat):
    found = flat(Sensor(gain=-0.005))

    assert found.each()[5] == pytest.approx(found.after(6)["truth"], rel=1e-4)


def test_the_judge_tells_the_estimator_tolerances_and_never_the_errors():
    scenario = draw(0, list(STRATA).index("quantisation"))
    told = sensor(scenario)

    assert (told.offset_ma, told.gain, told.shunt) == (8.0, 0.0025, 0.01)
    assert told.lsb_ma == 4
    assert rail(scenario) == "VDD_IN"
    assert rail(draw(0, list(STRATA).index("host_meter"))) == "meter"


@pytest.mark.parametrize("stratum", ["clean", "host_meter"])
def test_a_clean_board_is_read_right(stratum):
    record = judge(0, list(STRATA).index(stratum))

    assert record.interval is not None
    assert record.interval[0] == pytest.approx(record.realised, rel=0.005)
    assert record.interval[0] == pytest.approx(record.truth, rel=0.05)
    assert record.u95 is not None
    assert record.u95[2] - record.u95[1] > record.interval[2] - record.interval[1]
    assert record.blocks <= PLAN.max_blocks


def test_a_scenario_is_judged_the_same_again():
    index = list(STRATA).index("lag_1s")

    assert judge(7, index) == judge(7, index)


@pytest.mark.slow
def test_a_small_benchmark_runs_to_the_end():
    found = run_bench(len(STRATA), 5, 1)

    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["scenarios"] == found["through_brief_lines"] == len(STRATA)
    assert set(found["strata"]) >= set(STRATA)
    assert (found["through_tegrastats"], found["brief_lines_differ"]) == (2, 0)
    for name in ("bias_fraction", "coverage", "valid_fraction", "u95_coverage"):
        assert isinstance(found[name], float)
    assert {"polled_without_settling", "rectangle_0_1s", "fixed_length"} <= set(found["peers"])


def test_the_command_prints_json_alone_or_tables():
    app = typer.Typer()
    register(app)
    asked = ["--scenarios", "2", "--seed", "3", "--jobs", "1"]
    as_json = CliRunner().invoke(app, [*asked, "--json"], catch_exceptions=False)
    as_tables = CliRunner().invoke(app, asked, catch_exceptions=False)

    assert (as_json.exit_code, as_tables.exit_code) == (0, 0)
    assert json.loads(as_json.stdout)["schema"] == "hil/bench-energy@1"
