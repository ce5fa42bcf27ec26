"""Keras to ONNX by tf2onnx, which is checked afterwards, because its optimizers swallow their own errors."""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from typing import Any, Iterator, List, Mapping, Sequence, Tuple

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from onnx.reference import ReferenceEvaluator
from tf2onnx import utils
from tf2onnx.optimizer.transpose_optimizer import TransposeOptimizer

from common.export.known_shapes import settle
from common.export.onnx_graph import lift_constants, name_batch_axis, node_counts, rename_outputs

#: onnx2torch 1.5.15 has no Pad-18
OPSET = 17
INPUT = "input"
OUTPUT = "probabilities"
#: NHWC to NCHW once, in front of the first convolution. Shapes that are computed at run time would put nodes on the CPU.
EXPECTED = {"Transpose": 1, "Shape": 0}
#: tf2onnx's optimizers go through sets in an order that differs from call to call. Rarely it is one in which a known shape is lost,
#: and with it the folding of a Reshape (seen once with MobileNetV3S, on 2026-11-25; 16 calls in a row were right).
ATTEMPTS = 4
#: relative L2 error of the graph in float32 against the reference; real errors of conversion are far above
MAX_ERROR = 1e-3


class ExportFailed(Exception):
    """The conversion went wrong: framewatt's fault or that of a library, not the user's."""


def to_onnx(model: Any) -> Any:
    """ONNX ModelProto of a Keras CNN: input (batch, H, W, C), output (batch, classes), OPSET, no Constant nodes.

    Raises ExportFailed where one of tf2onnx's optimizers failed or left behind what it should have removed, ATTEMPTS times.
    """
    for _ in range(ATTEMPTS - 1):
        with suppress(ExportFailed):
            return _convert(model)
    return _convert(model)


def _convert(model: Any) -> Any:
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name=INPUT)]
    proto = _converted(lambda pixels: model(pixels, training=False), signature, [OUTPUT])
    counts = node_counts(proto)
    left = {"Transpose": counts.get("Transpose", 0), "Shape": counts.get("Shape", 0)}
    if left != EXPECTED:
        raise ExportFailed(
            f"tf2onnx left {left['Transpose']} Transpose and {left['Shape']} Shape nodes among {len(proto.graph.node)} nodes, "
            f"{EXPECTED['Transpose']} and {EXPECTED['Shape']} are right: its optimizers did not come to their end"
        )
    return proto


def transformer_to_onnx(model: Any, samples: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Any:
    """ONNX ModelProto of a Keras transformer, its inputs in the order of `samples`, batch axes dynamic, no Constant nodes.

    samples: input -> (samples, ...), three at least. Raises ExportFailed where shapes are computed at run time, or
    an optimizer of tf2onnx failed.
    """
    names = list(samples)
    signature = [tf.TensorSpec((None, *values.shape[1:]), values.dtype, name=name) for name, values in samples.items()]

    def call(*given: Any) -> Tuple[Any, ...]:
        made = model(given[0] if len(given) == 1 else dict(zip(names, given)), training=False)
        return tuple(made[name] for name in outputs) if isinstance(made, dict) else (made,)

    proto = _converted(call, signature, outputs)
    settle(proto, samples)
    onnx.checker.check_model(proto, full_check=True)
    shapes = node_counts(proto).get("Shape", 0)
    if shapes:
        raise ExportFailed(f"{shapes} shapes are computed while the graph runs, none is right")
    return proto


def _converted(call: Any, signature: Sequence[Any], outputs: Sequence[str]) -> Any:
    function = tf.function(call, input_signature=signature)
    with _scalar_additions_left_alone(), _optimizer_complaints() as complaints:
        proto, _ = tf2onnx.convert.from_function(
            function, input_signature=signature, opset=OPSET, custom_op_handlers={"Erfc": (_erfc, [])}
        )
    if complaints:
        raise ExportFailed(f"an optimizer of tf2onnx failed: {complaints[0]}")
    lift_constants(proto)
    rename_outputs(proto, outputs)
    for value in (*proto.graph.input, *proto.graph.output):
        name_batch_axis(value)
    used = {node.domain for node in proto.graph.node} | {""}
    for entry in [entry for entry in proto.opset_import if entry.domain not in used]:
        proto.opset_import.remove(entry)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _erfc(context: Any, node: Any, name: str, arguments: Any) -> Any:
    """Erfc, which ONNX has not and tf2onnx 1.17 does not convert, as 1 - Erf: TensorFlow's exact GELU is made of it."""
    result = node.output[0]
    kind = utils.map_onnx_to_numpy_type(context.get_dtype(result))
    node.type = "Erf"
    one = context.make_const(utils.make_name(f"{name}_one"), np.array(1, kind))
    return context.insert_new_node_on_output("Sub", result, name=utils.make_name(name), inputs=[one.output[0], result])


def check_outputs(proto: Any, inputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> float:
    """Relative L2 error of the graph under ONNX's own reference implementation, of its worst output.

    Raises ExportFailed above MAX_ERROR.
    """
    outputs = dict(zip(expected, ReferenceEvaluator(proto).run(list(expected), dict(inputs))))
    errors = {
        name: float(np.linalg.norm(outputs[name] - wanted) / np.linalg.norm(wanted))
        for name, wanted in expected.items()
    }
    error = max(errors.values())
    if not error <= MAX_ERROR:
        raise ExportFailed(
            f"the ONNX graph's outputs are off by {error:.2g} (relative L2), at most {MAX_ERROR:g} is right"
        )
    return error


@contextmanager
def _scalar_additions_left_alone() -> Iterator[None]:
    """Keeps tf2onnx from folding the addition of a scalar into a convolution's bias.

    For a scalar its handler takes max() of an empty shape, the whole optimizer is given up, and MobileNetV3 keeps a
    Transpose around every convolution (hard-sigmoid adds 3 to one). Moving the Transpose past the addition is right.
    """
    original = TransposeOptimizer._add_handler

    def add_handler(self: Any, transpose: Any, node: Any) -> Any:
        added = node.inputs[1]
        if added.is_const() and not added.get_tensor_value(as_list=False).shape:
            return self._handle_node_having_branches(transpose, node)
        return original(self, transpose, node)

    TransposeOptimizer._add_handler = add_handler
    try:
        yield
    finally:
        TransposeOptimizer._add_handler = original


@contextmanager
def _optimizer_complaints() -> Iterator[List[str]]:
    """Collects what tf2onnx's optimizers log when they give up, which is all that is heard of it."""
    complaints: List[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            if message.startswith("Failed"):
                complaints.append(f"{message}: {record.exc_info[1]!r}" if record.exc_info else message)

    logger = logging.getLogger("tf2onnx.optimizer")
    collector = Collector(logging.DEBUG)
    logger.addHandler(collector)
    try:
        yield complaints
    finally:
        logger.removeHandler(collector)
