"""The front against its definition."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from hil.core.pareto import dominates, non_dominated

point = st.tuples(*[st.integers(0, 4)] * 3)


@given(points=st.lists(point, max_size=25))
def test_non_dominated_is_the_definition(points):
    expected = tuple(
        not any(
            all(x <= y for x, y in zip(other, mine, strict=True)) and other != mine
            for other in points
        )
        for mine in points
    )

    assert non_dominated(points) == expected


def test_equal_points_are_marked_alike():
    assert non_dominated([(1, 2), (1, 2), (2, 1), (2, 2)]) == (True, True, True, False)


def test_unknown_points_are_never_marked_and_beat_nothing():
    assert non_dominated([(0.0, math.nan), (1.0, 1.0)]) == (False, True)


def test_no_points_have_no_front():
    assert non_dominated([]) == ()


def test_a_point_does_not_dominate_itself():
    assert not dominates((1, 2), (1, 2))
