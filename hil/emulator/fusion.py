"""Which nodes of a network an engine runs as one kernel.

Rule of this file: grouping only; what a group costs is told by `hil.emulator.kernels`.
The rules are those that NVIDIA documents for TensorRT ("layer fusion"): convolution, transposed
convolution and matrix product take a following scale, one residual sum and a ReLU or clip; a
run of pointwise nodes becomes one kernel; views and constants cost nothing; a concatenation
costs nothing where its inputs can be written in place.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hil.emulator.onnx_graph import Graph, Node

ANCHORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
VIEWS = frozenset({"Identity", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze"})
EPILOGUE_ACTIVATIONS = frozenset({"Relu", "Clip"})
SUMS = frozenset({"Add", "Sum"})
SCALES = frozenset({"BatchNormalization", "Mul", "Add", "Sub", "Div"})
POINTWISE = frozenset(
    {
        *("Abs", "Add", "And", "BatchNormalization", "Cast", "Ceil", "Clip", "Cos", "Div", "Elu"),
        *("Equal", "Erf", "Exp", "Floor", "Greater", "HardSigmoid", "HardSwish", "LeakyRelu"),
        *("Less", "Log", "Max", "Min", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Relu", "Round"),
        *("Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tanh"),
        *("ThresholdedRelu", "Where", "Xor"),
    }
)
PADDED = frozenset({"Conv", "MaxPool", "AveragePool"})


@dataclass(frozen=True)
class FusionRules:
    """What a release of the engine builder merges.

    Attributes:
        epilogue_sums: a sum with another branch runs in the epilogue of the convolution before
            it.
        epilogue_constants: so does a sum with a constant.
        activation_after_sum: an activation runs in the kernel of the pointwise node before it.
        pointwise_chains: several pointwise nodes make one kernel.
        fold_constants: what depends on no input is computed when the engine is built.
        reformat: at FP16, inputs and outputs of the network are converted by a kernel each.
    """

    epilogue_sums: bool = True
    epilogue_constants: bool = True
    activation_after_sum: bool = True
    pointwise_chains: bool = True
    fold_constants: bool = True
    reformat: bool = True


TENSORRT_8_2 = FusionRules()
TENSORRT_3 = FusionRules(
    epilogue_sums=False,
    epilogue_constants=False,
    activation_after_sum=False,
    pointwise_chains=False,
)
"""Convolution, scale and activation only: the release of NVIDIA's published TX2 latencies."""
TORCH2TRT_CELLS = FusionRules(
    epilogue_constants=False, pointwise_chains=False, fold_constants=False
)
"""What the 15,625 NAS-Bench-201 engines show that were measured on a TX2 (through torch2trt;
their release of TensorRT is not published): a residual sum joins its convolution, a ReLU joins
the kernel before it where nothing else reads that kernel's result, equal ReLUs of one tensor are
not merged, sums are not chained, and constants are computed anew."""


@dataclass(eq=False)
class Group:
    """Nodes that run as one kernel. `stage` says what an anchor's epilogue still takes.

    Stages: 0 scales, a residual sum or an activation; 1 an activation; 2 nothing.
    """

    nodes: list[Node]
    output: str
    anchored: bool = False
    stage: int = 2
    inputs: list[str] = field(default_factory=list)

    @property
    def last(self) -> int:
        """Position of the group in the order of execution."""
        return max(node.index for node in self.nodes)


class _Fuser:
    """Walks the graph once; state is what has been grouped so far."""

    def __init__(self, graph: Graph, rules: FusionRules) -> None:
        self.graph = graph
        self.rules = rules
        self.roots: dict[str, str] = {}
        self.groups: list[Group] = []
        self.made_by: dict[str, Group] = {}
        self.uses = _uses(graph)

    def root(self, tensor: str) -> str:
        return self.roots.get(tensor, tensor)

    def run(self) -> list[Group]:
        for node in self.graph.nodes:
            if self._is_view(node):
                self.roots[node.outputs[0]] = self.root(self.graph.variables(node)[0])
            elif node.op in ANCHORS:
                self._start(node, anchored=True, stage=0)
            elif node.op not in POINTWISE:
                self._start(node)
            elif not self._join_epilogue(node):
                self._pointwise(node)
        return sorted(self.groups, key=lambda group: group.last)

    def _is_view(self, node: Node) -> bool:
        if node.op in VIEWS:
            return True
        used = self.graph.variables(node)
        if node.op == "Transpose":
            return _moves_nothing(self.graph.shape(used[0]), node.attributes.get("perm"))
        if node.op == "Pad":
            users = self.uses.get(node.outputs[0], [])
            return bool(users) and all(user.op in PADDED for user in users)
        # A sum or a product of one operand is that operand.
        return node.op in {"Sum", "Max", "Min"} and len(node.inputs) == 1

    def _start(self, node: Node, *, anchored: bool = False, stage: int = 2) -> None:
        group = Group([node], node.outputs[0], anchored, stage)
        group.inputs = [self.root(name) for name in self.graph.variables(node)]
        self.groups.append(group)
        for name in node.outputs:
            self.made_by[name] = group

    def _only_use(self, tensor: str, node: Node) -> bool:
        """Whether nothing but `node` sees the tensor, through views or directly."""
        return self.uses_of_root(tensor) == [node]

    def uses_of_root(self, root: str) -> list[Node | None]:
        """Lists who reads a tensor through any view; None stands for an output of the network."""
        names = [root, *(name for name, origin in self.roots.items() if origin == root)]
        readers: list[Node | None] = []
        for name in names:
            if name in self.graph.outputs:
                readers.append(None)
            readers += [
                user
                for user in self.uses.get(name, [])
                if user.outputs[0] not in self.roots and user not in readers
            ]
        return readers

    def _join_epilogue(self, node: Node) -> bool:
        variables = [self.root(name) for name in self.graph.variables(node)]
        distinct = list(dict.fromkeys(variables))
        if len(distinct) == 1 and len(variables) == 1:
            return self._join_single(node, distinct[0])
        is_sum = node.op in SUMS and len(distinct) == 2 and self.rules.epilogue_sums
        return is_sum and self._join_residual(node, distinct)

    def _join_single(self, node: Node, source: str) -> bool:
        group = self.made_by.get(source)
        if group is None or not group.anchored or not self._only_use(source, node):
            return False
        sums = SUMS if not self.rules.epilogue_constants else frozenset()
        if group.stage == 0 and node.op in SCALES - sums:
            self._append(group, node, 0)
            return True
        if group.stage <= 1 and node.op in EPILOGUE_ACTIVATIONS:
            self._append(group, node, 2)
            return True
        return False

    def _join_residual(self, node: Node, operands: list[str]) -> bool:
        shapes = {self.graph.shape(name) for name in node.inputs}
        takers = [
            (group.last, name, group)
            for name in operands
            if (group := self.made_by.get(name)) is not None
            and group.anchored
            and group.stage == 0
            and self._only_use(name, node)
        ]
        constant = any(name in self.graph.computed_constants for name in operands)
        if len(shapes) != 1 or not takers or (constant and not self.rules.epilogue_constants):
            return False
        _, taken, group = max(takers, key=lambda taker: taker[0])
        group.inputs += [name for name in operands if name != taken]
        self._append(group, node, 1)
        return True

    def _append(self, group: Group, node: Node, stage: int) -> None:
        group.nodes.append(node)
        group.output = node.outputs[0]
        group.stage = stage
        self.made_by[group.output] = group

    def _pointwise(self, node: Node) -> None:
        if self._join_pointwise(node):
            return
        self._start(node)
        if not self.rules.pointwise_chains:
            return
        group = self.groups[-1]
        while (other := self._absorbable(group)) is not None:
            group.nodes[:0] = other.nodes
            kept = [name for name in group.inputs if name != other.output]
            group.inputs = list(dict.fromkeys([*other.inputs, *kept]))
            self.groups.remove(other)

    def _join_pointwise(self, node: Node) -> bool:
        """Puts an activation into the kernel of the pointwise node before it."""
        if node.op not in EPILOGUE_ACTIVATIONS or not self.rules.activation_after_sum:
            return False
        source = self.root(self.graph.variables(node)[0]) if self.graph.variables(node) else ""
        group = self.made_by.get(source)
        if group is None or group.anchored or group.nodes[-1].op not in POINTWISE:
            return False
        if not self._only_use(source, node):
            return False
        self._append(group, node, 2)
        return True

    def _absorbable(self, group: Group) -> Group | None:
        """Finds a pointwise group that only `group` reads."""
        for name in group.inputs:
            other = self.made_by.get(name)
            if other is None or other is group or other.nodes[-1].op not in POINTWISE:
                continue
            if other.anchored or other not in self.groups:
                continue
            readers = self.uses_of_root(name)
            if all(reader is not None and reader in group.nodes for reader in readers):
                return other
        return None


def fuse(graph: Graph, rules: FusionRules) -> list[Group]:
    """Groups live nodes into kernels, in the order of execution."""
    return _Fuser(graph, rules).run()


def _uses(graph: Graph) -> dict[str, list[Node]]:
    uses: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in dict.fromkeys(node.inputs):
            uses.setdefault(name, []).append(node)
    return uses


def _moves_nothing(shape: tuple[int, ...], permutation: list[int] | None) -> bool:
    """Whether a transposition leaves the elements in memory order (only ones change place)."""
    order = permutation if permutation is not None else list(reversed(range(len(shape))))
    moved = [axis for axis in order if shape[axis] != 1]
    return moved == sorted(moved)
