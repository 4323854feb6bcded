"""Which power source is read where the one that was asked for is not there or fails."""

from __future__ import annotations

import pytest

from hil.device.config import Power
from hil.device.power_choice import FIRST_LINES, FirstLines, PowerChoice, PowerLostError

ASKED = Power(source="tegrastats", rail="VDD_IN")
BOARD = {"tegrastats": "/usr/bin/tegrastats", "rails": ["VDD_IN", "VDD_SYS_GPU"]}
LINE = "RAM 1/2MB (lfb 1x4MB) CPU [1%@345] EMC_FREQ 0% GR3D_FREQ 0% PLL@37C VDD_IN 2029/2029"


def sources(choice, name="tegrastats"):
    return [(one.source, one.rail) for one in choice.chosen(name).sources]


def test_a_board_as_expected_is_read_as_asked():
    choice = PowerChoice(ASKED, BOARD)

    assert sources(choice) == [("tegrastats", "VDD_IN")]
    assert choice.lost("tegrastats") is None


def test_a_board_without_tegrastats_is_read_by_its_own_monitors():
    choice = PowerChoice(ASKED, {**BOARD, "tegrastats": None})

    assert sources(choice) == [("ina3221", "VDD_IN")]
    assert choice.lost("tegrastats") == {
        "source": "tegrastats",
        "why": "the board has no tegrastats",
        "instead": "ina3221",
    }


@pytest.mark.parametrize(
    ("rails", "told"), [([], "shows no INA3221"), (["VDD_CPU"], "but VDD_CPU")]
)
def test_a_board_with_neither_has_no_joules(rails, told):
    choice = PowerChoice(ASKED, {"tegrastats": None, "rails": rails})

    assert sources(choice) == []
    assert choice.lost("tegrastats")["instead"] is None
    assert told in choice.lost("tegrastats")["why"]


def test_steps_down_end_at_no_power_and_keep_every_reason():
    choice = PowerChoice(ASKED, BOARD)
    choice.step_down("it died")
    assert sources(choice) == [("ina3221", "VDD_IN")]

    choice.step_down("EIO")

    assert sources(choice) == []
    assert choice.watched("tegrastats") is None
    why = choice.lost("tegrastats")["why"]
    assert why.startswith("it died; EIO")


def test_what_is_recorded_beside_it_is_not_read_twice():
    beside = [{"source": "ina3221", "rail": "VDD_IN"}, {"source": "nvml"}]
    power = Power.model_validate({"source": "tegrastats", "rail": "VDD_IN", "also": beside})
    choice = PowerChoice(power, BOARD)

    choice.step_down("it died")

    assert sources(choice) == [("ina3221", "VDD_IN"), ("nvml", "gpu")]


@pytest.mark.parametrize("name", ["ina3221", "none"])
def test_what_the_device_file_does_not_name_never_steps_down(name):
    choice = PowerChoice(ASKED, {**BOARD, "tegrastats": None})

    assert choice.lost(name) is None
    assert choice.watched(name) is None


def test_a_meter_never_steps_down():
    power = Power.model_validate({"source": "command", "command": ["meter"]})

    assert PowerChoice(power, {"tegrastats": None}).watched("command") is None


def watcher(taken, source="tegrastats"):
    return FirstLines(source, taken.append)


def lines(*texts, source=0):
    stamped = [[n, text] for n, text in enumerate(texts)]
    return {"kind": "power", "source": source, "lines": stamped}


@pytest.mark.parametrize("text", ["tegrastats v9 {json}", "RAM 1/2MB CPU [1%@345] PLL@37C"])
def test_a_source_that_tells_no_power_is_given_up_after_a_few_lines(text):
    taken = []
    watch = watcher(taken)
    watch.take(lines(*[text] * (FIRST_LINES - 1)))

    with pytest.raises(PowerLostError, match="first 5 lines"):
        watch.take(lines(text))


def test_one_line_that_is_understood_is_enough():
    taken = []
    watch = watcher(taken)

    watch.take(lines("warming up", LINE))
    watch.take(lines(*["noise"] * 20))

    assert len(taken) == 2


def test_the_end_of_the_first_source_is_a_loss_and_that_of_another_is_not():
    taken = []
    watch = watcher(taken, "ina3221")
    watch.take({"kind": "source_ended", "source": 1})
    watch.take(lines("VDD_IN=1mW"))

    with pytest.raises(PowerLostError, match="ina3221 ended"):
        watch.take({"kind": "source_ended", "source": 0})
    assert len(taken) == 2


def test_the_last_words_of_a_source_that_will_not_start_are_told():
    """As tegrastats does where another one runs: it is not ended, and its reason is passed on."""
    watch = watcher([])
    watch.take(lines("ERROR: exits as an instance (pid = 4711) exists"))

    with pytest.raises(PowerLostError, match="pid = 4711"):
        watch.take({"kind": "source_ended", "source": 0})
