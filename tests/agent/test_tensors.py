"""Default inputs are the same everywhere; latencies survive the trip."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.agent import checks, packing
from hil.agent.errors import AgentError
from hil.agent.tensors import SIZES, Tensor, default_input, uniform

from .conftest import latencies


def test_default_numbers_are_the_documented_sequence():
    state, expected = 20200217, []
    for _ in range(50):
        state = (1664525 * state + 1013904223) % 2**32
        expected.append(np.float32((state // 256) / 2**24))

    assert list(uniform(50)) == expected


def test_default_numbers_are_uniform():
    values = np.array(uniform(20_000))

    assert values.min() >= 0
    assert values.max() < 1
    counts, _ = np.histogram(values, bins=10, range=(0, 1))
    # 9 degrees of freedom: above 27.9 by chance once in a thousand sequences.
    assert ((counts - 2000) ** 2 / 2000).sum() < 27.9


@pytest.mark.parametrize("dtype", sorted(SIZES))
def test_sizes_are_numpys(dtype):
    tensor = Tensor("x", dtype, (2, 3, 5))

    assert tensor.nbytes() == np.zeros((2, 3, 5), dtype).nbytes == len(default_input(tensor))


def test_half_precision_inputs_are_the_same_numbers_rounded():
    halves = np.frombuffer(default_input(Tensor("x", "float16", (7,))), np.float16)

    np.testing.assert_array_equal(halves, np.array(uniform(7), np.float32).astype(np.float16))


def test_stacking_goes_along_a_batch_of_one_else_along_a_new_axis():
    assert Tensor("x", "float32", (1, 3, 8)).stacked_shape(5) == [5, 3, 8]
    assert Tensor("x", "float32", (2, 3)).stacked_shape(5) == [5, 2, 3]


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=50), st.integers(0, 10**15))
def test_latencies_are_exact_nanoseconds_for_weeks_of_uptime(latencies_ns, boot_ns):
    starts, stops, now = packing.series(), packing.series(), boot_ns
    for latency_ns in latencies_ns:
        starts.append(now / 1e9)
        now += latency_ns
        stops.append(now / 1e9)

    (event,) = packing.events("block", 0, starts, stops)

    assert latencies(event) == latencies_ns


@pytest.mark.parametrize("value", [None, True, "8", float("nan"), float("inf"), -1, 601, [1]])
def test_numbers_that_are_none_or_out_of_bounds_are_refused_by_name(value):
    with pytest.raises(AgentError, match="window_s"):
        checks.number({"window_s": value}, "window_s", 0, 600)
