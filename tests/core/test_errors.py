"""What people are told, and that an interrupt cannot be swallowed on its way to them."""

from __future__ import annotations

from contextlib import suppress

import pytest

from hil.core.errors import DeviceError, ExitCode, HilError, InterruptedRunError


def test_an_interrupt_passes_through_code_that_handles_every_exception():
    with pytest.raises(InterruptedRunError, match="SIGINT"), suppress(Exception):
        raise InterruptedRunError("interrupted by SIGINT")


def test_an_interrupt_is_told_like_an_error_with_a_code_of_its_own():
    told = InterruptedRunError("interrupted", fix="continue")

    assert (told.what, told.why, told.fix) == ("interrupted", None, "continue")
    assert told.exit_code == ExitCode.INTERRUPTED
    assert not isinstance(told, HilError)


def test_an_error_says_what_why_and_what_to_do_next():
    error = DeviceError("the link was lost", why="it is cut", fix="plug it in")

    assert str(error) == "the link was lost; because it is cut; next: plug it in"
