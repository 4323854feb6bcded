"""Words of the command line: what they mean, and what is refused."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.cli.options import fraction, read_limits, seconds
from hil.core.errors import ConfigError


@pytest.mark.parametrize(("text", "value"), [("1%", 0.01), ("0.5 %", 0.005), ("0.02", 0.02)])
def test_a_share_may_be_written_in_percent_or_plainly(text, value):
    assert fraction(text, "--target-ci") == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "0", "0%", "100%", "1", "-1%", "one", "1%%", "nan"])
def test_what_is_no_share_is_refused_and_names_its_option(text):
    with pytest.raises(ConfigError, match="--target-ci"):
        fraction(text, "--target-ci")


def test_a_bare_limit_is_the_most_but_for_what_is_better_when_more():
    energy, joule, p99 = read_limits(
        ["energy_mj=40", "inferences_per_joule=30", "latency_p99_ms <= 8.5"]
    )

    assert (energy.figure, energy.at_most, energy.at_least) == ("energy_mj", 40.0, None)
    assert (joule.at_most, joule.at_least) == (None, 30.0)
    assert (p99.at_most, p99.at_least) == (8.5, None)
    assert read_limits(["power_w>=2"])[0].at_least == 2.0


@pytest.mark.parametrize(
    "given",
    [
        ["energy=40"],
        ["energy_mj"],
        ["energy_mj=0"],
        ["energy_mj=-4"],
        ["energy_mj=forty"],
        ["energy_mj<40"],
        ["energy_mj=40", "energy_mj=30"],
    ],
)
def test_what_is_no_limit_is_refused_with_what_to_write(given):
    with pytest.raises(ConfigError) as caught:
        read_limits(given)

    assert caught.value.fix


@given(st.text(max_size=20))
def test_no_text_makes_a_parser_fail_otherwise(text):
    for read in (seconds, lambda t: fraction(t, "--target-ci"), lambda t: read_limits([t])):
        with suppress(ConfigError):
            read(text)
