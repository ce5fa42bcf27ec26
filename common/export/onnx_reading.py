"""A user's ONNX file as a proto, checked so far as can be said before anything runs; and what its weights are."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

import numpy as np
import onnx

from common.errors import UserError
from common.export import external_data
from common.export.store import Digest, unchanged
from common.text import visible

#: protobuf's limit of one message, less room for the graph
INLINE_BYTES = 2**31 - 2**27
#: of weights in files beside the model
MOST_EXTERNAL_BYTES = 2**36
_QUANTIZED = {
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger",
    "MatMulInteger", "MatMulNBits", "QGemm", "QAttention",
}  # fmt: skip


def read(file: Path) -> Tuple[Any, Dict[str, Any]]:
    """The ModelProto with its weights, external ones too, and as model.json has them the SHA-256 of all files that it is read from.

    Raises UserError for a file that is no ONNX model, or one that is written to meanwhile.
    """
    if not file.is_file():
        raise UserError(f"{file} does not exist" if not file.exists() else f"{file} is not a file")
    try:
        with ExitStack() as held:
            source = held.enter_context(unchanged(file))
            proto = onnx.load(str(file), load_external_data=False)
            _check_types(file, proto)
            places = external_data.check(file, proto, MOST_EXTERNAL_BYTES)
            beside = {name: held.enter_context(unchanged(place)) for name, place in sorted(places.items())}
            external_data.load(file, proto)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{error.filename or file} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # protobuf's DecodeError, whose home differs between its versions
        raise UserError(f"{file} is not an ONNX file: {error}") from error
    if not proto.graph.node or not proto.opset_import:
        raise UserError(f"{file} is not an ONNX file: it has no graph")
    if not proto.graph.output:
        raise UserError(f"{file} has no output: nothing is computed that could be measured")
    return proto, {"source_sha256": source, "source_files": beside}


def _check_types(file: Path, proto: Any) -> None:
    """Raises UserError for a tensor of a type that ONNX, as it is installed here, does not have."""
    values = [(value.name, value.type.tensor_type.elem_type) for value in (*proto.graph.input, *proto.graph.output)]
    for name, kind in (*values, *((tensor.name, tensor.data_type) for tensor in external_data.tensors(proto))):
        if kind not in onnx.TensorProto.DataType.values():
            raise UserError(
                f"{file}: tensor '{visible(name, '')}' is of type {kind}, which onnx {onnx.__version__} does not know"
            )


def weight_bytes(proto: Any) -> int:
    return sum(len(tensor.raw_data) or 8 * int(np.prod(tensor.dims)) for tensor in proto.graph.initializer)


def save(proto: Any, path: Path) -> None:
    """Writes the model; where it is too large for one message, its weights to `<name>.data` beside it, which else is not there."""
    beside = path.with_name(f"{path.name}.data")
    if beside.exists():  # onnx would append to it, a smaller model has none; somebody may have the old one open
        beside.unlink()
    if weight_bytes(proto) < INLINE_BYTES:
        onnx.save(proto, str(path))
        return
    whole = type(proto)()
    whole.CopyFrom(proto)  # saving moves the weights out of the proto
    onnx.save(whole, str(path), save_as_external_data=True, location=beside.name, size_threshold=1024)


def add_to_digest(digest: Digest, proto: Any) -> None:
    """Graph and weights, apart, because together they may be too large for one message."""
    bare = type(proto)()
    bare.CopyFrom(proto)
    for tensor in bare.graph.initializer:
        name, kind, dims = tensor.name, tensor.data_type, list(tensor.dims)
        tensor.Clear()
        tensor.name, tensor.data_type = name, kind
        tensor.dims.extend(dims)
    digest.data("onnx", bare.SerializeToString(deterministic=True))
    for tensor in proto.graph.initializer:
        digest.data(f"weight {tensor.name}", tensor.raw_data or tensor.SerializeToString(deterministic=True))


def weights_dtype(proto: Any) -> str:
    """The type that most bytes of the weights have, and whether the graph is a quantized one, in words."""
    kinds: Counter[str] = Counter()
    for tensor in _tensors(proto.graph):
        kinds[onnx.TensorProto.DataType.Name(tensor.data_type).lower()] += max(1, int(np.prod(tensor.dims)))
    operators = {node.op_type for node in _nodes(proto.graph)} & _QUANTIZED
    if operators:
        whole = next(
            (kind for kind, _ in kinds.most_common() if "int" in kind and kind not in ("int64", "int32")), "int8"
        )
        how = "QDQ" if "DequantizeLinear" in operators else "integer operators"
        return f"{whole} (quantized: {how})"
    floats = {kind: count for kind, count in kinds.items() if "float" in kind or kind == "double"}
    most = max(floats, key=lambda kind: floats[kind], default="")
    return {"float": "float32", "double": "float64"}.get(most, most)


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for nested in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _nodes(nested)


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        if node.op_type == "Constant":
            yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))
