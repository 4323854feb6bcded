"""Requests are read whole or refused by the name of what is wrong."""

import pytest

from hil.agent import plans
from hil.agent.errors import AgentError


def test_a_plan_left_out_has_every_default_and_ends_by_itself():
    plan = plans.load({"plan": {}})

    assert (plan["blocks"], plan["max_blocks"], plan["rate_hz"]) == (4, None, None)
    assert plans.load_s(plan) == pytest.approx(3.0 + 4 * 8.0 + 0.5)


def test_the_longest_load_counts_every_block_that_may_come_and_the_slots_between():
    plan = plans.load({"plan": {"blocks": 2, "max_blocks": 10, "rate_hz": 2}})

    assert plans.load_s(plan) == pytest.approx(3.0 + 10 * 8.0 + 0.5 + 12 * 2 * 0.5)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"max_blocks": 3}, "max_blocks"),
        ({"max_blocks": 4.5}, "max_blocks"),
        ({"max_blocks": 1001}, "max_blocks"),
        ({"max_blocks": 901}, "7200 s"),
        ({"blocks": 901}, "7200 s"),
        ({"rate_hz": 0}, "rate_hz"),
        ({"rate_hz": -30}, "rate_hz"),
        ({"rate_hz": "30"}, "rate_hz"),
        ({"rate_hz": float("inf")}, "rate_hz"),
        ({"rate_hz": True}, "rate_hz"),
    ],
)
def test_plans_that_make_no_sense_are_refused(change, word):
    with pytest.raises(AgentError, match=word) as caught:
        plans.load({"plan": change})

    assert caught.value.code == "bad_request"


def test_sources_have_a_period_of_their_own_or_the_run_s():
    asked = [{"source": "ina3221", "rail": "VDD_IN", "interval_ms": 20}, {"source": "nvml"}]

    first, second = plans.sources({"power": asked}, 100)

    assert (first["interval_ms"], first["rail"]) == (20, "VDD_IN")
    assert second == {"source": "nvml", "rail": None, "command": None, "interval_ms": 100}
    assert plans.sources({}, 100) == plans.sources({"power": []}, 100) == []


@pytest.mark.parametrize(
    ("power", "word"),
    [
        ("tegrastats", "list"),
        ([{"source": "usb"}], "source"),
        (["tegrastats"], "object"),
        ([{"source": "command"}], "command"),
        ([{"source": "command", "command": []}], "command"),
        ([{"source": "command", "command": ["meter", 5]}], "command"),
        ([{"source": "command", "command": "meter 5"}], "command"),
        ([{"source": "nvml", "command": ["meter"]}], "command"),
        ([{"source": "nvml", "rail": ""}], "rail"),
        ([{"source": "nvml", "interval_ms": 1}], "interval_ms"),
        ([{"source": "nvml"}] * 9, "at most 8"),
    ],
)
def test_sources_that_make_no_sense_are_refused(power, word):
    with pytest.raises(AgentError, match=word) as caught:
        plans.sources({"power": power}, 100)

    assert caught.value.code == "bad_request"


BUILD = {"onnx": "ab" * 32, "runtime": "tensorrt", "precision": "int8"}


def test_a_build_names_its_precision_and_its_profiles():
    small = {"x": [[1, 3], [2, 3], [4, 3]]}

    assert plans.build(BUILD)["profiles"] == []
    assert plans.build(dict(BUILD, profiles=[small, small]))["profiles"] == [small, small]
    with pytest.raises(AgentError):
        plans.build(dict(BUILD, precision="int4"))


@pytest.mark.parametrize(
    "profiles",
    [
        {"x": [[1], [1], [1]]},
        [[]],
        [{}],
        [{"x": [[1], [1]]}],
        [{"x": [[1], [1], [0]]}],
        [{"x": [[1], [1], "3"]}],
        [{"x": [[1], [1], [True]]}],
        [{"x": [[1], [1], [1]]}] * 33,
    ],
)
def test_profiles_that_are_none_are_refused(profiles):
    with pytest.raises(AgentError) as refusal:
        plans.build(dict(BUILD, profiles=profiles))
    assert refusal.value.code == "bad_request"
