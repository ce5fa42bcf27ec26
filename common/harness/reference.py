"""The model's reference images, in batches of whatever size a cell has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import List

import numpy as np

from common.model_files import ModelFiles


@dataclass(frozen=True)
class Reference:
    """inputs: (images, *input_shape) float32. outputs: (images, classes), what a correct framework makes of them."""

    inputs: np.ndarray
    outputs: np.ndarray

    @classmethod
    def read(cls, model: ModelFiles) -> Reference:
        """Raises OSError or ValueError for a file that is missing or not what the description says."""
        with np.load(model.path(model.reference)) as arrays:
            reference = cls(np.asarray(arrays["inputs"], dtype=np.float32), np.asarray(arrays["outputs"]))
        wanted = (len(reference.inputs), *model.input_shape)
        if reference.inputs.shape != wanted or reference.outputs.shape != (wanted[0], model.classes):
            raise ValueError(
                f"{model.reference}: inputs {reference.inputs.shape} and outputs {reference.outputs.shape}"
                f" do not fit {wanted} and {model.classes} classes"
            )
        return reference

    def batch(self, size: int, begin: int = 0) -> np.ndarray:
        """`size` images from number `begin` on, round and round: (size, *input_shape) float32, C-contiguous."""
        return np.ascontiguousarray(self.inputs[np.arange(begin, begin + size) % len(self.inputs)])

    def batches(self, size: int) -> List[np.ndarray]:
        """As many batches as show every image at least once; row r of all of them together is image r modulo images."""
        return [self.batch(size, begin) for begin in range(0, len(self.inputs), size)]


def picture_batch(path: Path, size: int, model: ModelFiles) -> np.ndarray:
    """The user's picture, (1, *input_shape) float32 in a .npy file, `size` times. Raises ValueError for another shape."""
    picture = np.load(path)
    if picture.shape != (1, *model.input_shape):
        raise ValueError(f"the picture has shape {picture.shape}, the model takes {(1, *model.input_shape)}")
    return np.repeat(picture.astype(np.float32), size, axis=0)
