"""What a trace says about a prototype: vertices, channel groups, kernels, branches, what stays."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, fx

from hil.net.labels import IntArray


@dataclass(frozen=True)
class Vertex:
    """One operation of the prototype that yields a tensor.

    Attributes:
        name: the module's path (`stage1.0.conv1`), or the traced name of a function; unique.
        op: class or function name as written in the network.
        kind: conv, grouped, depthwise, deconv, linear, norm, pointwise, pool, concat, slice,
            resize, view, constant or other.
        module: path of the called module, or None for functions.
        c_in: channels (features) read from the first operand; 0 where there are none.
        c_out: channels (features) written.
        kernel: window of convolutions, () elsewhere.
        stride: step of that window, () elsewhere.
        h_out: height of the result (length, for sequences), 1 where there is none.
        w_out: width of the result, 1 where there is none.
        macs: multiply-accumulates of convolutions and matrix products for one input.
        params: learned numbers, counted where a shared module is called first.
        inputs: names of the vertices read.
    """

    name: str
    op: str
    kind: str
    module: str | None
    c_in: int
    c_out: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    groups: int
    h_out: int
    w_out: int
    macs: int
    params: int
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Flow:
    """Channels through one vertex, as classes: what its cost depends on.

    Attributes:
        reads: for each operand the classes of its channels.
        areas: for each operand the elements of one channel.
        writes: classes of the result's channels.
        area: elements of one channel of the result.
        fixed: elements read and written that no choice changes (operands without channels).
    """

    reads: tuple[IntArray, ...]
    areas: tuple[int, ...]
    writes: IntArray
    area: int
    fixed: int


Way = Literal["dense", "tied", "blocks", "each"]
"""How a module's channels hang together.

dense: every output channel reads every input channel. tied: so within each group of a grouped
convolution, and all groups keep the same positions. blocks: a grouped convolution whose groups
stay or go as a whole (depthwise: groups of one channel). each: one weight a channel.
"""


@dataclass(frozen=True)
class Channels:
    """Classes of the channels that a sliceable module reads and writes, and how they hang."""

    reads: IntArray
    writes: IntArray
    way: Way


@dataclass(frozen=True)
class Group:
    """Channels that are chosen together: the width of one or more coupled vertices.

    Attributes:
        name: the first producer.
        classes: one entry a unit of choice, in the first producer's order.
        producers: vertices whose output channels these are.
        each: channels of the first producer that one unit holds; more than 1 where channels are
            tied (groups of a convolution, parts of a chunk that are added).
    """

    name: str
    classes: IntArray
    producers: tuple[str, ...]
    each: int = 1


@dataclass(frozen=True)
class Kernel:
    """A convolution whose window may shrink about its centre without changing any shape.

    Attributes:
        name: its first vertex.
        module: path of the convolution.
        sizes: the prototype's window.
        choices: longest sides it may have, ascending, the prototype's last; a side that is
            shorter than the choice stays.
        vertices: all calls of the module.
    """

    name: str
    module: str
    sizes: tuple[int, ...]
    choices: tuple[int, ...]
    vertices: tuple[str, ...]

    def sides(self, choice: int) -> tuple[int, ...]:
        """The window under a choice."""
        return tuple(min(size, choice) for size in self.sizes)


@dataclass(frozen=True)
class Rewrite:
    """A channel count written into the graph as a number, to be written anew.

    Attributes:
        position: which size of a view or expand it is; None for the parts of a split or chunk.
        counted: classes of the channels that are counted: one entry, or one for each part.
    """

    position: int | None
    counted: tuple[IntArray, ...]


@dataclass(frozen=True)
class Branch:
    """A residual branch that can be left out; the shortcut stays.

    Attributes:
        name: the block, from the paths of its modules.
        add: traced name of the addition, which disappears with the branch.
        shortcut: traced name of the operand that replaces it.
        vertices: vertices that disappear, the addition among them.
    """

    name: str
    add: str
    shortcut: str
    vertices: tuple[str, ...]


@dataclass(frozen=True)
class Frozen:
    """A vertex that is left as it is, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Topology:
    """Who reads whom, over all traced nodes (sizes and indices too), by traced name."""

    inputs: Mapping[str, tuple[str, ...]]
    output: str

    def live(self, dropped: Mapping[str, str]) -> frozenset[str]:
        """Nodes that the result depends on.

        Args:
            dropped: additions that are replaced, with their shortcut.
        """
        seen: set[str] = set()
        stack = [self.output]
        while stack:
            name = stack.pop()
            # A shortcut may be a dropped addition itself: follow the chain.
            while name in dropped:
                name = dropped[name]
            if name not in seen:
                seen.add(name)
                stack.extend(self.inputs[name])
        return frozenset(seen)


@dataclass(frozen=True, eq=False)
class Trace:
    """A prototype, traced.

    Attributes:
        prototype: the network as a graph, in evaluation mode, with its weights.
        example: the inputs it was traced with, at batch 1.
        vertices: tensor operations in execution order.
        groups: channels that may be chosen.
        branches: residual branches that may be left out.
        frozen: what is left alone, with reasons.
        identifier: hash of structure and shapes (not of weights).
        nodes: traced name of each vertex's node, by vertex name.
        flows: channels through each vertex, by vertex name.
        channels: channels of each sliceable module, by path.
        class_count: classes are numbered 0 .. class_count - 1.
        topology: all nodes and what they read.
        kernels: convolutions whose window may shrink.
        rewrites: channel counts that the graph holds as numbers, by traced name.
        outputs: shapes of all results at batch 1, nested ones flattened.
    """

    prototype: fx.GraphModule
    example: tuple[Tensor, ...]
    vertices: tuple[Vertex, ...]
    groups: tuple[Group, ...]
    branches: tuple[Branch, ...]
    frozen: tuple[Frozen, ...]
    identifier: str
    nodes: Mapping[str, str]
    flows: Mapping[str, Flow]
    channels: Mapping[str, Channels]
    class_count: int
    topology: Topology
    kernels: tuple[Kernel, ...]
    rewrites: Mapping[str, Rewrite]
    outputs: tuple[tuple[int, ...], ...]

    def with_weights(self, state: Mapping[str, Tensor]) -> Trace:
        """The same trace of the same network with other weights.

        Args:
            state: a state dict of the prototype; entries that the graph does not use are ignored.
        """
        prototype = copy.deepcopy(self.prototype)
        wanted = prototype.state_dict()
        own = {k: wanted[k] for k in prototype.meta.get("own", ())}
        given = {k: v for k, v in state.items() if k in wanted}
        prototype.load_state_dict({**own, **given})
        return dataclasses.replace(self, prototype=prototype)
