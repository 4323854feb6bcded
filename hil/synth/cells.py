"""NAS-Bench-201 cells as a search space: a finite table behind the interfaces of a traced network.

A cell joins four nodes by six edges, each with one of five operations (X. Dong and Y. Yang,
"NAS-Bench-201", ICLR 2020). What a choice does depends on the others: an operation on an edge that
leads nowhere computes nothing. So a cell is also read as the sum of its four paths from input to
output.

Rule of this file: only operations, parameters and MACs; no accuracy, no measurement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hil.synth.records import Arch, FloatArray
from hil.synth.searchspace import VariableSpec

NONE, SKIP, CONV_1X1, CONV_3X3, POOL = range(5)
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ("0-1", "0-2", "1-2", "0-3", "1-3", "2-3")
PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))
"""The edges of each path from a cell's input to its output."""

_BLIND = -3.0
_INTO = ((), ((0, 0),), ((0, 1), (1, 2)), ((0, 3), (1, 4), (2, 5)))
"""Of each node: the nodes it sums, and by which edge."""


class Cells:
    """The space of all cells in a table (`SearchSpace` and `BatchSpace`).

    Args:
        ops: (N, 6) operation of each edge, as `OPERATIONS`.
        params: (N,) parameters of the whole network.
        macs: (N,) multiply-accumulates of the whole network.
    """

    def __init__(
        self,
        ops: NDArray[np.integer],
        params: NDArray[np.number],
        macs: NDArray[np.number],
    ) -> None:
        self.ops = np.asarray(ops, dtype=np.int64)
        self.params = np.asarray(params, dtype=np.float64)
        self.macs = np.asarray(macs, dtype=np.float64)
        self.variables = tuple(
            VariableSpec(f"edge {edge}", "operation", len(OPERATIONS), CONV_3X3) for edge in EDGES
        )
        self._row: Mapping[Arch, int] = {tuple(o): i for i, o in enumerate(self.ops.tolist())}
        self._features = counts(self.ops)
        self._signals = shape(self.ops)

    def row(self, arch: Arch) -> int:
        """The table's row of a cell."""
        return self._row[arch]

    def key(self, arch: Arch) -> str:
        """The operations as text.

        Cells of one `expression` compute the same, yet they are not the same network: what is
        dead costs energy all the same where the builder cannot see it.
        """
        return "".join(map(str, arch))

    def neighbours(self, arch: Arch) -> Iterable[Arch]:
        """Cells with one other operation."""
        for j in range(len(arch)):
            for op in range(len(OPERATIONS)):
                if op != arch[j]:
                    yield (*arch[:j], op, *arch[j + 1 :])

    def features(self, arch: Arch) -> FloatArray:
        """What the board has to run: see `counts`."""
        row: FloatArray = self._features[self._row[arch]]
        return row

    def features_of(self, archs: Sequence[Arch]) -> FloatArray:
        """`features` of each, (N, features)."""
        rows: FloatArray = self._features[[self._row[arch] for arch in archs]]
        return rows

    def signals_of(self, archs: Sequence[Arch]) -> FloatArray:
        """What speaks for accuracy: see `shape`, (N, signals)."""
        rows: FloatArray = self._signals[[self._row[arch] for arch in archs]]
        return rows

    def cost(self, arch: Arch) -> tuple[float, float]:
        """MACs and parameters."""
        row = self._row[arch]
        return float(self.macs[row]), float(self.params[row])

    def costs_of(self, archs: Sequence[Arch]) -> FloatArray:
        """`cost` of each, (N, 2)."""
        rows = [self._row[arch] for arch in archs]
        return np.column_stack([self.macs[rows], self.params[rows]])


def expression(arch: Arch) -> str:
    """What a cell computes of its input `x`: dead operations dropped, skips put through.

    Every living operation keeps its place in the sum, so that equal texts mean equal functions.
    """
    nodes: list[tuple[str, ...]] = [("x",)]
    for sources in _INTO[1:]:
        terms: list[str] = []
        for source, edge in sources:
            if arch[edge] == NONE or not nodes[source]:
                continue
            if arch[edge] == SKIP:
                terms += nodes[source]
            else:
                terms.append(f"{arch[edge]}({'+'.join(nodes[source])})")
        nodes.append(tuple(sorted(terms)))
    return "+".join(nodes[-1])


def counts(ops: NDArray[np.int64]) -> FloatArray:
    """Operations by kind, all and then living ones, and the paths that live, (N, features)."""
    alive, used = _living(ops)
    kinds = (SKIP, CONV_1X1, CONV_3X3, POOL)
    every = [(ops == op).sum(axis=1) for op in kinds]
    living = [((ops == op) & used).sum(axis=1) for op in kinds]
    return np.column_stack([*every, *living, alive.sum(axis=1)]).astype(np.float64)


def _living(ops: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which paths, (N, 4), and which edges, (N, 6), carry anything from input to output."""
    alive = np.stack([(ops[:, path] != NONE).all(axis=1) for path in map(list, PATHS)], axis=1)
    used = np.zeros(ops.shape, dtype=bool)
    for k, path in enumerate(PATHS):
        used[:, path] |= alive[:, [k]]
    return alive, used


def shape(ops: NDArray[np.int64]) -> FloatArray:
    """What can be said of a cell without running it, (N, signals).

    First what speaks for it on the whole, every reason counted once: doublings of the convolutions
    along its deepest path, and of those among them that see their neighbours (K. Simonyan and A.
    Zisserman, "Very deep convolutional networks", 2015); one for an input that reaches the output
    unchanged (K. He et al., "Deep residual learning", 2016); less the poolings a path blurs by. Far
    below all others lies a cell where nothing of the input arrives, since it can only guess.

    Then living operations by kind, and the paths from input to output: how many, how deep in
    convolutions, how often pooled, and whether the input reaches the output unchanged.
    """
    alive, used = _living(ops)
    living = [((ops == op) & used).sum(axis=1) for op in (SKIP, CONV_1X1, CONV_3X3, POOL)]
    paths = alive.sum(axis=1)

    def along(kinds: tuple[int, ...]) -> NDArray[np.int64]:
        found = [np.isin(ops[:, path], kinds).sum(axis=1) for path in map(list, PATHS)]
        return np.stack(found, axis=1) * alive

    convs, spatial, pools = along((CONV_1X1, CONV_3X3)), along((CONV_3X3,)), along((POOL,))
    clean = convs * (pools == 0)
    shallow = np.where(alive, convs, 9).min(axis=1)
    least = np.where(alive, pools, 9).min(axis=1)
    blur = pools.sum(axis=1) / np.maximum(paths, 1)
    unchanged = (alive & (convs == 0) & (pools == 0)).any(axis=1)
    reach = np.log2(1.0 + convs.max(axis=1)) + np.log2(1.0 + spatial.max(axis=1))
    columns = [
        np.where(paths > 0, reach + unchanged - blur, _BLIND),
        *living,
        paths,
        convs.max(axis=1),
        np.where(paths > 0, shallow, 0),
        convs.sum(axis=1),
        spatial.max(axis=1),
        spatial.sum(axis=1),
        clean.max(axis=1),
        (alive & (pools == 0)).sum(axis=1),
        np.where(paths > 0, least, 0),
        blur,
        unchanged,
        paths == 0,
    ]
    return np.column_stack(columns).astype(np.float64)
