"""The NAS-Bench-201 network around a cell, as torch2trt hands it to an engine builder.

Rule of this file: structure only. Edges are the operations of torch's modules in their order
(ReLU, convolution, batch normalisation), sums start from the number 0 as Python's `sum` does,
and an edge of nothing is a constant: torch2trt of that time did not convert `Tensor.mul`, so
what a `none` edge multiplies by zero enters the engine as a tensor of zeros, and what depends on
such tensors alone is computed in every inference (`FusionRules.fold_constants`). That zeros are
added after another term shows no cost in the measurements and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from hil.emulator.reference_networks import NetworkBuilder, Tensor

NONE, SKIP, CONV_1X1, CONV_3X3, AVG_POOL_3X3 = range(5)
CELL_EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
CELLS_PER_STAGE = 5
STAGES = 3
EDGE = "edge"


def nas_bench_201(
    ops: Sequence[int], size: int = 32, classes: int = 10, width: int = 16, channels: int = 3
) -> tuple[NetworkBuilder, Tensor]:
    """Builds the network around a cell.

    Args:
        ops: operation of each edge of the cell, in the order of `CELL_EDGES`.
        size: height and width of the input.
        classes: outputs.
        width: channels of the first stage.
        channels: channels of the input.

    Returns:
        The builder and its output, to be closed with `model` or `graph`. The convolution of an
        edge is named by `edge_of`.
    """
    net = NetworkBuilder(channels, size, size)
    x = net.batch_norm(net.conv(net.input, width, 3))
    for stage in range(STAGES):
        if stage:
            x = _reduction(net, x, width << stage)
        for _ in range(CELLS_PER_STAGE):
            x = _cell(net, x, ops)
    x = net.global_pool(net.relu(net.batch_norm(x)))
    return net, net.linear(x, classes)


def edge_of(node: str) -> int | None:
    """Returns the edge of the cell that a convolution belongs to, None for any other node."""
    return int(node[len(EDGE) : node.index("_")]) if node.startswith(EDGE) else None


def live_ops(ops: Sequence[int]) -> tuple[int, ...]:
    """Returns a cell with the edges cut from which no path leads to the cell's output.

    Cells that agree in this make the same engine.
    """
    wanted = {3}
    kept = [NONE] * len(CELL_EDGES)
    for index in reversed(range(len(CELL_EDGES))):
        source, target = CELL_EDGES[index]
        if target in wanted and ops[index] != NONE:
            kept[index] = int(ops[index])
            wanted.add(source)
    return tuple(kept)


def _reduction(net: NetworkBuilder, x: Tensor, channels: int) -> Tensor:
    y = net.batch_norm(net.conv(net.relu(x), channels, 3, 2))
    y = net.batch_norm(net.conv(net.relu(y), channels, 3))
    shortcut = net.conv(net.pool(x, 2, 2, op="Average"), channels, 1)
    return net.add(shortcut, y)


def _cell(net: NetworkBuilder, x: Tensor, ops: Sequence[int]) -> Tensor:
    nodes = [x]
    for target in (1, 2, 3):
        total: Tensor | None = None
        for edge, ((source, end), op) in enumerate(zip(CELL_EDGES, ops, strict=True)):
            if end != target:
                continue
            if total is None:
                total = net.add_constant(_edge(net, nodes[source], op, edge))
            elif op != NONE:
                total = net.add(total, _edge(net, nodes[source], op, edge))
        assert total is not None
        nodes.append(total)
    return nodes[3]


def _edge(net: NetworkBuilder, x: Tensor, op: int, edge: int) -> Tensor:
    if op == NONE:
        return net.constant_like(x)
    if op == SKIP:
        return x
    if op == AVG_POOL_3X3:
        return net.pool(x, 3, 1, 1, op="Average")
    kernel = 1 if op == CONV_1X1 else 3
    return net.batch_norm(net.conv(net.relu(x), x[1], kernel, prefix=f"{EDGE}{edge}_"))
