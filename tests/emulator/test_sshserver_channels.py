"""The emulated server counts channels as sshd does: from the moment they are granted."""

from __future__ import annotations

from hil.emulator.sshserver import Channels


class Opened:
    """A channel as far as the count sees it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = False

    def get_id(self) -> int:
        return self.number


def test_a_channel_granted_and_not_yet_taken_up_counts():
    channels = Channels()
    assert channels.grant(0, most=1)
    assert not channels.grant(1, most=1)


def test_a_closed_channel_makes_room():
    channels = Channels()
    first = Opened(0)
    assert channels.grant(0, most=1)
    channels.hold(first)
    assert not channels.grant(1, most=1)
    first.closed = True
    assert channels.grant(2, most=1)


def test_none_is_refused_where_no_number_is_set():
    channels = Channels()
    assert all(channels.grant(number, most=0) for number in range(50))
