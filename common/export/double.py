"""Reference outputs of a small ONNX graph in float64, by onnx's own evaluator: nearer to the truth than any framework in float32."""

from __future__ import annotations

import time
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

import numpy as np
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from common.export import stepwise
from common.export.floats import DOUBLE, SINGLE, retyped
from common.harness.parity import differing
from common.onnx_rewrites import nested_graphs

#: for all samples together, in s; looked at between two nodes
LIMIT_S = 10.0
#: a sample may take so many times its share: the first one is slower than the others
_SLACK = 2.0
#: how far it may be from ONNX Runtime in float32 and still be the same model
CLOSE = 1e-3
#: their rounding to few bits is part of the model
_ROUNDING = (
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "MatMulInteger",
)

Units = Sequence[Mapping[str, np.ndarray]]


def outputs(
    proto: Any, inputs: Units, single: Units, limit_s: float = LIMIT_S
) -> Optional[List[Dict[str, np.ndarray]]]:
    """Outputs of every unit in float64, those that are no floats as they are; None where that is not quick or not the same.

    inputs, single: what goes in, and what ONNX Runtime makes of it in float32, an entry a unit.
    """
    if not _is_plain(proto):
        return None
    begin = time.monotonic()
    made: List[Dict[str, np.ndarray]] = []
    try:
        evaluator = ReferenceEvaluator(retyped(proto, SINGLE, DOUBLE))
        for number, (given, wanted) in enumerate(zip(inputs, single), 1):
            # each in its share of the time: a model that is too slow is given up with its first sample
            deadline = begin + limit_s * min(1.0, _SLACK * number / len(inputs))
            found: Dict[str, np.ndarray] = {}

            def keep(name: str, values: Any, wanted: Any = wanted, found: Any = found) -> None:
                if name in wanted:
                    found[name] = np.asarray(values)

            with np.errstate(all="ignore"):  # a sigmoid's exp() may overflow on its way to 0
                stepwise.run(evaluator, {name: _double(values) for name, values in given.items()}, keep, deadline)
            made.append({name: found[name] for name in wanted})
    except Exception:  # an operator that the evaluator has not, or has in single precision alone
        return None
    alike = all(is_alike(unit[name], one) for unit, wanted in zip(made, single) for name, one in wanted.items())
    return made if alike else None


def is_alike(values: np.ndarray, single: np.ndarray) -> bool:
    """Whether values in float64 are those of the same model in float32, whole numbers exactly."""
    if values.shape != single.shape or (values.dtype.kind == "f") != (single.dtype.kind == "f"):
        return False
    return bool(differing(values, single) <= CLOSE if single.dtype.kind == "f" else np.array_equal(values, single))


def _is_plain(proto: Any) -> bool:
    """Whether all floats of the file are float32, and none of its operators is another domain's or rounds on purpose."""
    kinds = {tensor.data_type for tensor in proto.graph.initializer}
    kinds |= {value.type.tensor_type.elem_type for value in (*proto.graph.input, *proto.graph.output)}
    odd = kinds & {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
    nodes = list(_nodes(proto.graph))
    return (
        not odd
        and all(node.domain in ("", "ai.onnx") and node.op_type not in _ROUNDING for node in nodes)
        and not any(node.op_type.startswith(("Random", "Multinomial", "Bernoulli")) for node in nodes)
    )


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for branch in nested_graphs(node):
            yield from _nodes(branch)


def _double(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float64) if values.dtype.kind == "f" else values
