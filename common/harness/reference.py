"""The model's reference inputs and outputs, in batches of whatever size a cell has.

`reference.npz` holds *units*: one sample each, or one whole batch each where the model fixes its size. A model with one
input and one output may have `inputs` (units, ...) and `outputs` (units, ...). All others have `input_<i>_<unit>` for input i, or
`input_<i>` where it has no batch axis and so is the same in all units, and `output_<i>_<unit>`: a graph may give as many
boxes as it finds, so shapes can differ from unit to unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from common.harness.adapter import Arrays, Unsupported
from common.model_files import ModelFiles, Tensor
from common.text import brief

NamedArrays = Dict[str, np.ndarray]


@dataclass(frozen=True)
class Reference:
    """inputs, outputs: what goes in and what a correct framework makes of it; an entry a unit, by name."""

    model: ModelFiles
    inputs: Sequence[Arrays]
    outputs: Sequence[Arrays]

    @classmethod
    def read(cls, model: ModelFiles) -> Reference:
        """Raises OSError or ValueError for a file that is missing or not what the description says, Unsupported without outputs."""
        if model.unmeasurable:
            raise Unsupported(model.unmeasurable)
        with np.load(model.path(model.reference)) as arrays:
            try:
                inputs, outputs = _together(model, arrays) if "inputs" in arrays else _apart(model, arrays)
            except KeyError as error:
                raise ValueError(f"{model.reference} lacks an array: {error}") from None
        reference = cls(model, inputs, outputs)
        for tensor in model.inputs:
            if any(unit[tensor.name].shape != tensor.shape for unit in inputs):
                shape = next(unit[tensor.name].shape for unit in inputs if unit[tensor.name].shape != tensor.shape)
                raise ValueError(f"{model.reference}: input '{brief(tensor.name)}' {shape} does not fit {tensor.shape}")
        if not inputs or len(inputs) != len(outputs):
            raise ValueError(f"{model.reference}: {len(inputs)} inputs and {len(outputs)} outputs")
        return reference

    def batch(self, size: int, begin: int = 0) -> NamedArrays:
        """`size` samples from unit number `begin` on, round and round, by name; C-contiguous."""
        count = max(1, size // self.model.unit_size)
        chosen = [(begin + number) % len(self.inputs) for number in range(count)]
        return {tensor.name: _joined(tensor, [self.inputs[unit] for unit in chosen]) for tensor in self.model.inputs}

    def batches(self, size: int) -> List[NamedArrays]:
        """As many batches as show every unit at least once; unit r of all of them together is unit r modulo units."""
        step = max(1, size // self.model.unit_size)
        return [self.batch(size, begin) for begin in range(0, len(self.inputs), step)]


def _joined(tensor: Tensor, units: Sequence[Arrays]) -> np.ndarray:
    if tensor.batch_axis is None:
        return np.asarray(units[0][tensor.name], order="C")  # ascontiguousarray() would give a scalar an axis
    return np.ascontiguousarray(np.concatenate([unit[tensor.name] for unit in units], axis=tensor.batch_axis))


Units = Tuple[List[NamedArrays], List[NamedArrays]]


def _together(model: ModelFiles, arrays: Mapping[str, Any]) -> Units:
    """Units of a file with `inputs` and `outputs`: slices of both along axis 0."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(f"{model.reference} has one input and one output, {model.name} more")
    given, made = model.inputs[0], model.outputs[0]
    inputs, outputs = np.asarray(arrays["inputs"], dtype=given.dtype), np.asarray(arrays["outputs"])
    if not inputs.ndim or not outputs.ndim or len(inputs) != len(outputs) or outputs.shape[1:] != made.shape[1:]:
        raise ValueError(
            f"{model.reference}: inputs {inputs.shape} and outputs {outputs.shape} do not fit {given.shape} and {made.shape}"
        )
    cuts = [slice(begin, begin + model.unit_size) for begin in range(0, len(inputs), model.unit_size)]
    return [{given.name: inputs[cut]} for cut in cuts], [{made.name: outputs[cut]} for cut in cuts]


def _apart(model: ModelFiles, arrays: Mapping[str, Any]) -> Units:
    names = list(arrays)
    units = max((int(name.rsplit("_", 1)[1]) + 1 for name in names if name.startswith("output_0_")), default=0)
    inputs = [
        {
            tensor.name: np.asarray(
                arrays[f"input_{number}" if tensor.batch_axis is None else f"input_{number}_{unit}"], dtype=tensor.dtype
            )
            for number, tensor in enumerate(model.inputs)
        }
        for unit in range(units)
    ]
    outputs = [
        {tensor.name: np.asarray(arrays[f"output_{number}_{unit}"]) for number, tensor in enumerate(model.outputs)}
        for unit in range(units)
    ]
    return inputs, outputs


def archive(model: ModelFiles, inputs: Sequence[Arrays], outputs: Sequence[Arrays]) -> NamedArrays:
    """What a `reference.npz` of these units holds, name -> array; read() is its inverse."""
    held = input_archive(model, inputs)
    for unit, made in enumerate(outputs):
        held.update({f"output_{number}_{unit}": made[tensor.name] for number, tensor in enumerate(model.outputs)})
    return held


def input_archive(model: ModelFiles, inputs: Sequence[Arrays]) -> NamedArrays:
    """The part of it that is fed."""
    return {
        f"input_{number}" if tensor.batch_axis is None else f"input_{number}_{unit}": given[tensor.name]
        for unit, given in enumerate(inputs)
        for number, tensor in enumerate(model.inputs)
    }


def as_fed(arrays: NamedArrays, kind: str, model: ModelFiles) -> NamedArrays:
    """The arrays of a batch as a cell feeds them: kind "uint8" rounds the images to bytes, "float32" leaves all as it is.

    The images are the model's first input; of a model that takes bytes itself both kinds leave all as it is. Raises Unsupported for
    a model whose first input is no image of numbers from 0 to 255.
    """
    if kind == "float32":
        return arrays
    reason = model.not_fed_as(kind)
    if reason is not None:
        raise Unsupported(reason)
    images = model.inputs[0]
    values = arrays[images.name]
    if values.dtype == kind:
        return arrays
    if values.min() < 0 or values.max() > 255:
        raise Unsupported(f"{model.name} takes normalised images, not the bytes of pictures (0 to 255)")
    return {**arrays, images.name: np.rint(values).astype(kind)}


def picture_batch(path: Path, size: int, model: ModelFiles) -> NamedArrays:
    """The user's picture, (1, *input_shape) float32 in a .npy file, `size` times. Raises ValueError for another shape."""
    picture = np.load(path)
    if picture.shape != (1, *model.input_shape):
        raise ValueError(f"the picture has shape {picture.shape}, the model takes {(1, *model.input_shape)}")
    return {model.inputs[0].name: np.repeat(picture.astype(model.inputs[0].dtype), size, axis=0)}
