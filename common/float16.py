"""Which constants of a model go into float16: one rule for everything here that rounds them.

A constant beyond 65504, the largest number of float16, that only masks and bounds are made of becomes that number: -1e9 is
added before a softmax, and as minus infinity it would make 0 times infinity, which is no number. A model with any other constant
beyond it, a weight, is refused: as 65504 or as infinity it would be another model. Infinities of the file stay. What is computed of
such constants alone, or of whole numbers and of others makes such constants, is computed before, in the file's own type, and only the
result counts.

ONNX Runtime, TensorRT's strongly typed networks, PyTorch and TensorFlow's frozen graph ask it of their own graphs; under Keras' mixed
policy layers make their masks themselves, and every weight must fit. Where TensorRT's builder chooses the type of each layer (its
flag FP16 up to version 10, also in ONNX Runtime and TensorFlow), nothing is rounded here: parity judges what comes out.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, Optional, Set

import numpy as np

from common.onnx_rewrites import nested_graphs

LARGEST_FLOAT16 = 65504.0
#: the least one that is not 0
LEAST_FLOAT16 = 2.0**-24
#: what a Cast is called here that makes no floats: of 1e9 and of 65504 it makes the same truth value, but not the same whole number
TO_TRUTH_VALUES, TO_WHOLE_NUMBERS = "Cast to truth values", "Cast to whole numbers"
#: ONNX's operators that take masks and bounds
TAKE_LIMITED = {
    "Add", "Sub", "Mul", "Sum", "Where", "Clip", "Max", "Min", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "Pad",
    "Softmax", "LogSoftmax", TO_TRUTH_VALUES,
}  # fmt: skip
#: operators that hand values on, at most with another sign, type or place: what reads their output counts
HAND_ON = {
    "Cast", "CastLike", "Concat", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity",
    "Neg", "Reshape", "Scatter", "ScatterElements", "ScatterND", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose",
    "Trilu", "Unsqueeze",
}  # fmt: skip
#: of ONNX's TensorProto.DataType: BOOL; (U)INT8 to 64
_TRUTH_VALUES, _WHOLE_NUMBERS = {9}, {2, 3, 4, 5, 6, 7, 12, 13}


def refusal_of(name: str, values: np.ndarray, readers: Iterable[str]) -> Optional[str]:
    """Why a model with this weight is refused, in a line; None where it fits. readers: operators that read it, by name."""
    finite = values[np.isfinite(values)]
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    if largest <= LARGEST_FLOAT16:
        return None
    read = " and ".join(sorted(filter(None, set(readers))))
    return f"weight {name}{f', which {read} reads,' if read else ''} reaches {largest:.3g}, beyond float16's 65504"


def weights_of(graph: Any) -> Dict[str, Set[str]]:
    """Tensors of an ONNX graph that are no masks -> operators that say so, of those that read them, themselves or handed on.

    What is returned is no mask, either. Of constants alone anything makes a constant, for which counts what reads it.
    """
    found: Dict[str, Set[str]] = {value.name: set() for value in graph.output}
    _add_weights(graph, found, set())
    return found


def _add_weights(graph: Any, found: Dict[str, Set[str]], constant: Set[str]) -> None:
    """found: for the graph's outputs, and for all that is read after it. constant: names of constants around it."""
    constant = constant | {tensor.name for tensor in graph.initializer}
    for node in graph.node:  # ONNX has its nodes in order
        if node.op_type in ("Constant", "ConstantOfShape") or (node.input and constant.issuperset(node.input)):
            constant.update(node.output)
    for node in reversed(graph.node):
        for nested in nested_graphs(node):
            for place, value in enumerate(nested.output):
                name = node.output[place] if node.op_type == "If" else ""  # else it may come round again as an input
                if name in found or not name:
                    found.setdefault(value.name, set()).update(found.get(name, ()))
            _add_weights(nested, found, constant)
        operator = _operator_of(node)
        read = {operator}
        if operator in HAND_ON or (operator in TAKE_LIMITED and constant.issuperset(node.output)):
            names = [name for name in node.output if name in found]
            if not names:
                continue
            read = set().union(*(found[name] for name in names))
        elif operator in TAKE_LIMITED:
            continue
        for name in filter(None, node.input):  # "": an optional input that is left out
            found.setdefault(name, set()).update(read)


def _operator_of(node: Any) -> str:
    kinds = {attribute.i for attribute in node.attribute if attribute.name == "to"} if node.op_type == "Cast" else set()
    if kinds & _TRUTH_VALUES:
        return TO_TRUTH_VALUES
    return TO_WHOLE_NUMBERS if kinds & _WHOLE_NUMBERS else str(node.op_type)
