"""The board's server and the programs that leave it."""

from __future__ import annotations

import select
import threading

from hil.emulator.client import BoardClient


def test_a_program_that_ends_without_reading_its_answer_is_no_error(board, capsys):
    before = set(threading.enumerate())
    client = BoardClient(str(board.served._private / "socket"))
    client.send({"op": "condition"})
    select.select([client], [], [], 10.0)
    (serving,) = set(threading.enumerate()) - before

    client.close()  # with an answer unread the kernel tells the server of a reset

    serving.join(10.0)
    assert not serving.is_alive()
    assert capsys.readouterr().err == ""
