"""Networks and the ONNX parser with the limits of 8.2."""

from hil.emulator.trt import builder, limits, tensors
from hil.emulator.trt.device import device
from hil.emulator.trt.outline import parsed

from ._core import ITensor
from ._enums import BY_NUMPY, ErrorCode, Severity
from ._surface import Guarded

_INT64 = (
    "onnx2trt_utils.cpp:366: Your ONNX model has been generated with INT64 weights, while "
    "TensorRT does not natively support INT64. Attempting to cast down to INT32."
)
_IMPLICIT = (
    "Assertion failed: !_importer_ctx.network()->hasImplicitBatchDimension() && "
    '"This version of the ONNX parser only supports TensorRT INetworkDefinitions with an '
    "explicit batch dimension. Please ensure the network was created using the EXPLICIT_BATCH "
    'NetworkDefinitionCreationFlag."'
)


def init_libnvinfer_plugins(logger, namespace):
    """Registers NVIDIA's plugins; none of them is emulated, so the parser goes on refusing them."""
    return True


class INetworkDefinition(Guarded, real="INetworkDefinition"):
    """A network, filled by the parser."""

    __slots__ = ("_explicit", "_inputs", "_name", "_network", "_outputs")

    def __init__(self, explicit):
        self._explicit = explicit
        self._network = None
        self._inputs, self._outputs = [], []
        self._name = "Unnamed Network 0"

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None

    def _fill(self, network):
        self._inputs = [ITensor(t.name, BY_NUMPY[t.dtype], t.shape, True) for t in network.inputs]
        self._outputs = [
            ITensor(t.name, BY_NUMPY[t.dtype], t.shape, False) for t in network.outputs
        ]
        self._network = network

    @property
    def name(self):
        return self._name

    @name.setter
    def name(self, value):
        self._name = value

    @property
    def num_inputs(self):
        return len(self._inputs)

    @property
    def num_outputs(self):
        return len(self._outputs)

    @property
    def num_layers(self):
        return self._network.nodes if self._network is not None else 0

    @property
    def has_implicit_batch_dimension(self):
        return not self._explicit

    @property
    def has_explicit_precision(self):
        return False

    def get_input(self, index):
        return self._inputs[index]

    def get_output(self, index):
        return self._outputs[index]


class ParserError(Guarded, real="ParserError"):
    """One complaint."""

    __slots__ = ("_refusal",)

    def __init__(self, refusal):
        self._refusal = refusal

    def code(self):
        return ErrorCode[self._refusal.code]

    def desc(self):
        return self._refusal.text

    def file(self):
        return "builtin_op_importers.cpp"

    def line(self):
        return 4643 if self._refusal.code == "UNSUPPORTED_NODE" else 0

    def func(self):
        return self._refusal.function

    def node(self):
        return self._refusal.node

    def __str__(self):
        refusal = self._refusal
        return f"In node {refusal.node} ({refusal.function}): {refusal.code}: {refusal.text}"

    __repr__ = __str__


class OnnxParser(Guarded, real="OnnxParser"):
    """Reads ONNX into a network."""

    __slots__ = ("_errors", "_logger", "_network")

    def __init__(self, network, logger):
        self._network, self._logger, self._errors = network, logger, []

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, index):
        return self._errors[index]

    def clear_errors(self):
        self._errors = []

    def supports_operator(self, op_name):
        return op_name in limits.supported_operators()

    def supports_model(self, model, path=None):
        found = _read(bytes(model))
        bad = {each.node for each in _refusals(found)}
        nodes = [([index], index not in bad) for index in range(found["nodes"])]
        return bool(nodes) and not bad, nodes

    def parse_from_file(self, model):
        with open(model, "rb") as file:
            return self.parse(file.read())

    def parse(self, model, path=None):
        data = bytes(model)
        found = _read(data)
        if not found["nodes"]:
            return self._refuse("MODEL_DESERIALIZE_FAILED", "Failed to parse the ONNX model.")
        if self._network.has_implicit_batch_dimension:
            return self._refuse("INVALID_GRAPH", _IMPLICIT)
        if found["int64"]:
            self._logger.log(Severity.WARNING, _INT64)
        refusals = _refusals(found)
        if refusals:
            # The parser stops at the first node that it cannot import.
            self._report(refusals[0])
            return False
        inputs, outputs = (
            tuple(tensors.from_json(each) for each in found[kind]) for kind in ("inputs", "outputs")
        )
        network = builder.Network(data, found["sha256"], inputs, outputs, found["nodes"])
        try:
            self._network._fill(network)
        except KeyError as error:
            return self._refuse("UNSUPPORTED_GRAPH", f"Unsupported data type {error}")
        return True

    def _refuse(self, code, text):
        self._report(limits.Refusal(code, -1, "parse", text))
        return False

    def _report(self, refusal):
        self._errors.append(ParserError(refusal))
        self._logger.log(
            Severity.ERROR,
            f"ModelImporter.cpp:776: ERROR: {refusal.function}:{refusal.node} [{refusal.code}] "
            f"{refusal.text}",
        )


def _read(data):
    return parsed(device().time.client, data)


def _refusals(found):
    return [limits.Refusal(**each) for each in found["refusals"]]
