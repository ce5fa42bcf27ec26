"""Does a graph take batches, and which axis of each output is the batch? Found by running it, not by believing its names."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from common.export.error_lines import words_of
from common.export.given import Given
from common.export.onnx_graph import BATCH
from common.harness.parity import differing

#: input -> values; output -> values
Run = Callable[[Mapping[str, np.ndarray]], Dict[str, np.ndarray]]
#: batch sizes that are tried: two, so that a size that happens to be twice another is not taken for the batch
TRIED = (2, 3)
#: distance of a batch's part from the single run: rounding of another order of summation is below, another result above
CLOSE = 1e-3


class NoBatch(Exception):
    """The graph does not take a batch; the text says what happened."""


def joined(inputs: Sequence[Given], units: Sequence[Mapping[str, np.ndarray]], count: int) -> Dict[str, np.ndarray]:
    """The first `count` units, round and round, as one batch."""
    made = {}
    for given in inputs:
        parts = [units[number % len(units)][given.name] for number in range(count)]
        made[given.name] = parts[0] if given.batch_axis is None else np.concatenate(parts, axis=given.batch_axis)
    return made


def output_axes(
    run: Run,
    inputs: Sequence[Given],
    units: Sequence[Mapping[str, np.ndarray]],
    singles: Sequence[Mapping[str, np.ndarray]],
) -> Tuple[Dict[str, Optional[int]], Dict[str, float]]:
    """Batch axis of each output, None where it has none, and how far the largest batch tried is from the single runs.

    Raises NoBatch where the graph refuses a batch.
    """
    batches: Dict[int, Dict[str, np.ndarray]] = {}
    for count in TRIED:
        batches[count] = _run(run, joined(inputs, units, count), count)
    axes: Dict[str, Optional[int]] = {}
    distances: Dict[str, float] = {}
    for name, single in singles[0].items():
        shapes = {count: batch[name].shape for count, batch in batches.items()}
        axes[name] = next(
            (
                axis
                for axis, size in enumerate(single.shape)
                if size  # of nothing as many times as one likes is nothing
                and all(len(shape) == single.ndim and shape[axis] == size * count for count, shape in shapes.items())
            ),
            None,
        )
        axis = axes[name]
        if axis is not None:
            count = TRIED[-1]
            parts = np.split(batches[count][name], count, axis=axis)
            wanted = [singles[number % len(singles)][name] for number in range(count)]
            distances[name] = float(np.max([differing(part, one) for part, one in zip(parts, wanted)]))
    return axes, distances


def _run(run: Run, inputs: Mapping[str, np.ndarray], count: int) -> Dict[str, np.ndarray]:
    try:
        return run(inputs)
    except Exception as error:
        raise NoBatch(f"a batch of {count} fails: {words_of(error)}") from error


def make_dynamic(proto: Any, fixed: int) -> List[str]:
    """Frees axis 0 of all inputs that have the fixed batch there, of the outputs, and of constant shapes; what was changed.

    Whether the graph still computes the same is for the caller to try.
    """
    from onnx import numpy_helper

    freed = []
    for value in (*proto.graph.input, *proto.graph.output):
        dims = value.type.tensor_type.shape.dim
        if len(dims) and dims[0].dim_value == fixed:
            dims[0].Clear()
            dims[0].dim_param = BATCH
            freed.append(value.name)
    del proto.graph.value_info[:]
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    readers: Dict[str, int] = {}
    for node in proto.graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    for node in proto.graph.node:
        if node.op_type != "Reshape" or node.input[1] not in constants or readers[node.input[1]] > 1:
            continue
        tensor = constants[node.input[1]]
        shape = numpy_helper.to_array(tensor).copy()
        if shape.size and shape[0] == fixed:
            # -1 lets the batch be inferred; where another axis is inferred already, 0 takes over what comes in
            shape[0] = 0 if (shape == -1).any() else -1
            tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))
            freed.append(tensor.name)
    return freed
