"""Keras to ONNX by tf2onnx, which is checked afterwards, because its optimizers swallow their own errors."""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from typing import Any, Iterator, List

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from onnx.reference import ReferenceEvaluator
from tf2onnx.optimizer.transpose_optimizer import TransposeOptimizer

from common.export.onnx_graph import lift_constants, name_batch_axis, node_counts, rename_output

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
    """ONNX ModelProto of a Keras model: input (batch, H, W, C), output (batch, classes), OPSET, no Constant nodes.

    Raises ExportFailed where one of tf2onnx's optimizers failed or left behind what it should have removed, ATTEMPTS times.
    """
    for _ in range(ATTEMPTS - 1):
        with suppress(ExportFailed):
            return _convert(model)
    return _convert(model)


def _convert(model: Any) -> Any:
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name=INPUT)]
    function = tf.function(lambda pixels: model(pixels, training=False), input_signature=signature)
    with _scalar_additions_left_alone(), _optimizer_complaints() as complaints:
        proto, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
    if complaints:
        raise ExportFailed(f"an optimizer of tf2onnx failed: {complaints[0]}")
    lift_constants(proto)
    rename_output(proto, OUTPUT)
    name_batch_axis(proto.graph.input[0])
    name_batch_axis(proto.graph.output[0])
    used = {node.domain for node in proto.graph.node} | {""}
    for entry in [entry for entry in proto.opset_import if entry.domain not in used]:
        proto.opset_import.remove(entry)
    onnx.checker.check_model(proto, full_check=True)
    counts = node_counts(proto)
    left = {"Transpose": counts.get("Transpose", 0), "Shape": counts.get("Shape", 0)}
    if left != EXPECTED:
        raise ExportFailed(
            f"tf2onnx left {left['Transpose']} Transpose and {left['Shape']} Shape nodes among {len(proto.graph.node)} nodes, "
            f"{EXPECTED['Transpose']} and {EXPECTED['Shape']} are right: its optimizers did not come to their end"
        )
    return proto


def check_outputs(proto: Any, inputs: np.ndarray, expected: np.ndarray) -> float:
    """Relative L2 error of the graph under ONNX's own reference implementation. Raises ExportFailed above MAX_ERROR."""
    outputs = ReferenceEvaluator(proto).run([OUTPUT], {INPUT: inputs})[0]
    error = float(np.linalg.norm(outputs - expected) / np.linalg.norm(expected))
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
