"""Reads just enough of an ONNX file to name what a parser complains of: opset and nodes.

The board has no `onnx` package. Field numbers are those of onnx.proto3 (ModelProto.graph = 7,
ModelProto.opset_import = 8, GraphProto.node = 1, NodeProto.name = 3, NodeProto.op_type = 4,
GraphProto.initializer = 5, TensorProto.data_type = 2, OperatorSetIdProto.domain = 1,
.version = 2). Damaged input reads as an empty model.
"""

FLOAT, FLOAT16 = 1, 10
"""TensorProto.DataType."""
QUANTISING = ("QuantizeLinear", "DequantizeLinear")

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def scan(data):
    """Opset of the default domain (None: unknown) and [(node name, operator)], in file order."""
    view = memoryview(data)
    opset, nodes = None, []
    try:
        for number, value in _fields(view):
            if number == 8 and isinstance(value, memoryview):
                domain, version = _opset(value)
                opset = version if domain in ("", "ai.onnx") else opset
            elif number == 7 and isinstance(value, memoryview):
                nodes = [_node(node) for field, node in _fields(value) if field == 1]
    except (IndexError, ValueError, TypeError):
        return None, []
    return opset, nodes


def weight_types(data):
    """Element types (TensorProto.DataType) of the main graph's initializers, as a set."""
    found = set()
    try:
        for number, value in _fields(memoryview(data)):
            if number == 7 and isinstance(value, memoryview):
                weights = [tensor for field, tensor in _fields(value) if field == 5]
                found.update(dict(_fields(tensor)).get(2) for tensor in weights)
    except (IndexError, ValueError, TypeError):
        return set()
    return found - {None}


def is_quantised(data):
    """Whether the main graph holds QuantizeLinear or DequantizeLinear."""
    return any(kind in QUANTISING for _, kind in scan(data)[1])


def _opset(view):
    fields = dict(_fields(view))
    return _text(fields.get(1, b"")), fields.get(2)


def _node(view):
    name = kind = ""
    for number, value in _fields(view):
        if number == 3:
            name = _text(value)
        elif number == 4:
            kind = _text(value)
    return name, kind


def _text(value):
    return bytes(value).decode("utf-8", "replace")


def _fields(view):
    """Yields (field number, value): integers for varints, memoryviews for the rest."""
    at = 0
    while at < len(view):
        tag, at = _varint(view, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(view, at)
        else:
            size, at = _size(view, at, kind)
            value, at = view[at : at + size], at + size
            if at > len(view):
                raise ValueError("cut short")
        yield number, value


def _size(view, at, kind):
    if kind == _BYTES:
        return _varint(view, at)
    if kind == _FIXED64:
        return 8, at
    if kind == _FIXED32:
        return 4, at
    raise ValueError("unknown wire type")


def _varint(view, at):
    value = shift = 0
    while True:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("number too long")
