"""Engines of NAS-Bench-201 cells: counted by hand, and read back from ONNX."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.emulator.fusion import TORCH2TRT_CELLS
from hil.emulator.kernels import lower, lower_graph
from hil.emulator.nas_bench import (
    AVG_POOL_3X3,
    CONV_1X1,
    CONV_3X3,
    NONE,
    SKIP,
    live_ops,
    nas_bench_201,
)
from hil.emulator.onnx_graph import read_graph

CELL = st.lists(st.integers(0, 4), min_size=6, max_size=6)
CELLS = 15


def kernels_of(ops, **more):
    network, output = nas_bench_201(ops, **more)
    return lower_graph(network.graph(output, fold_constants=False), "fp32", TORCH2TRT_CELLS)


def counts(ops) -> Counter[str]:
    """Kernels of the engine, convolutions of all sizes together."""
    return Counter(
        "conv" if kernel.kind.startswith("conv") else kernel.kind for kernel in kernels_of(ops)
    )


@given(ops=CELL)
@settings(max_examples=15, deadline=None)
def test_the_quick_graph_is_what_the_onnx_model_says(ops):
    network, output = nas_bench_201(ops)
    model = network.model(output)

    assert network.graph(output) == read_graph(model)
    assert kernels_of(ops) == lower(model, "fp32", rules=TORCH2TRT_CELLS)


@given(ops=CELL)
@settings(max_examples=30, deadline=None)
def test_edges_that_reach_no_output_change_nothing(ops):
    assert counts(live_ops(ops)) == counts(ops)


def test_a_cell_of_one_skip_costs_one_sum_with_zero():
    found = counts([NONE, NONE, NONE, SKIP, NONE, NONE])

    # The frame: a stem and 3 convolutions and a pooling in each of 2 reductions; the head's
    # scale, mean and product. The ReLU of a reduction's first convolution cannot join the sum
    # before it: the shortcut reads that sum too.
    assert found == {"conv": 7, "pool": 2, "reduce": 1, "gemm": 1, "pointwise": CELLS + 2 + 1}


def test_a_relu_joins_the_sum_before_it_only_where_nothing_else_reads_that_sum():
    alone = counts([NONE, NONE, NONE, CONV_3X3, NONE, NONE])
    shared = counts([SKIP, NONE, NONE, CONV_3X3, SKIP, NONE])

    # Alone: every ReLU of an edge has joined the sum of the cell before it, or the stem.
    assert alone["pointwise"] == CELLS + 2 + 1
    # Shared: two sums with zero and one ReLU of its own in every cell.
    assert shared["pointwise"] == 3 * CELLS + 2 + 1


def test_a_sum_joins_the_convolution_it_follows_and_is_a_kernel_otherwise():
    convolution = counts([SKIP, NONE, NONE, SKIP, CONV_1X1, NONE])
    pooling = counts([SKIP, NONE, NONE, SKIP, AVG_POOL_3X3, NONE])

    assert convolution["conv"] == CELLS + 7
    assert convolution["elementwise"] == 0
    assert pooling["pool"] == CELLS + 2
    assert pooling["elementwise"] == CELLS


def test_what_depends_on_zeros_alone_is_computed_and_cuts_the_network():
    # Node 1 is zeros in every cell, and a convolution works on it all the same.
    beside = counts([NONE, NONE, NONE, SKIP, CONV_3X3, NONE])
    assert beside["conv"] == 7 + CELLS

    # The output is zeros: only the last cell is left, with the head.
    cut = counts([NONE, NONE, NONE, NONE, CONV_3X3, NONE])
    assert cut["conv"] == 1
    assert sum(cut.values()) < 10


@pytest.mark.parametrize(("size", "classes"), [(16, 120), (32, 100)])
def test_another_data_set_has_the_same_kernels_with_other_sizes(size, classes):
    ops = [CONV_3X3, SKIP, CONV_1X1, AVG_POOL_3X3, NONE, CONV_3X3]

    usual, other = kernels_of(ops), kernels_of(ops, size=size, classes=classes)

    assert [kernel.kind for kernel in other] == [kernel.kind for kernel in usual]
    assert other[0].m == size * size
    assert next(kernel for kernel in other if kernel.kind == "gemm").n == classes
