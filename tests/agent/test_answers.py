"""Answers reach the thread that waits for them, whole and in order, and never hold up the other."""

import select

import pytest

from hil.agent import answers
from hil.agent.errors import AgentError


@pytest.fixture
def queue():
    made = answers.Answers()
    yield made
    made.close()


def readable(queue):
    return bool(select.select([queue], [], [], 0)[0])


def test_what_is_put_is_taken_once_in_order(queue):
    assert not readable(queue)
    for block in range(3):
        queue.put({"block": block, "go": True})

    assert readable(queue)
    assert [answer["block"] for answer in queue.take()] == [0, 1, 2]
    assert not readable(queue)


def test_a_flood_neither_blocks_nor_grows_without_end(queue):
    for block in range(200_000):  # more than a pipe holds
        queue.put({"block": block, "go": True})

    assert len(queue.take()) == 1000


def test_after_the_end_answers_are_dropped(queue):
    queue.close()

    queue.put({"block": 1, "go": True})
    queue.close()


@pytest.mark.parametrize(
    "fields", [{}, {"block": 1}, {"block": 1, "go": 1}, {"block": -1, "go": True}, {"go": True}]
)
def test_what_is_no_answer_is_refused(fields):
    with pytest.raises(AgentError):
        answers.read(fields)


def test_an_answer_is_read_without_what_came_around_it():
    told = answers.read({"notify": "answer", "id": 3, "block": 7, "go": False})

    assert told == {"block": 7, "go": False}
