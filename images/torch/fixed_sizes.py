"""A model that computes sizes while it runs, read anew with the sizes of one cell, so that no tensor holds them.

What a Shape node gives is a tensor: torch.compile breaks its graph where a Reshape reads it, and a CUDA graph cannot be captured.
With the batch of the cell written in all that comes of shapes is a constant (common/onnx_known_values.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from common.harness.adapter import Unsupported
from common.harness.parity import differing
from images.torch import onnx_import
from images.torch.onnx_import import Imported

#: relative L2 distance of outputs that rounding in another order may make, in full fp32 and in a reduced precision
_CLOSE, _CLOSE_REDUCED = 1e-5, 1e-2


class Sizes:
    """The ONNX file of a loaded model, and how it is read for the shapes of a cell.

    is_refused: as it is, with open sizes, onnx2torch cannot convert it.
    """

    def __init__(self, path: Path, is_refused: bool) -> None:
        self._path, self._is_refused = path, is_refused

    @classmethod
    def read(cls, path: Path, units: Mapping[str, Sequence[int]]) -> Tuple[Imported, Optional[Sizes]]:
        """The model with its axes as open as they are in the file; and how to fix them, None where nothing is computed of sizes.

        One that is refused so is read with the sizes of its reference's samples (units). Raises Unsupported for one that is so, too.
        """
        try:
            imported = onnx_import.load(path)
        except Unsupported as error:
            if not onnx_import.computes_sizes(path):
                raise
            try:
                return onnx_import.load(path, units), cls(path, True)
            except Unsupported:
                raise error from None
        return imported, cls(path, False) if imported.computes_sizes else None

    def fit(
        self, inputs: Mapping[str, np.ndarray], place: Callable[[Any], Any], run: Callable[[Any], Any], precision: str
    ) -> Imported:
        """The model for inputs of these shapes, its module placed: with these sizes written in where that changes no output.

        place: puts a module onto the device. run: a module's outputs for the inputs, a list of arrays. Raises Unsupported for
        one that is not converted with these sizes either.
        """
        shapes = {name: tuple(values.shape) for name, values in inputs.items()}
        if self._is_refused:
            fixed = onnx_import.load(self._path, shapes)
            return fixed._replace(module=place(fixed.module))
        as_is = onnx_import.load(self._path)
        as_is = as_is._replace(module=place(as_is.module))
        try:
            fixed = onnx_import.load(self._path, shapes)
            fixed = fixed._replace(module=place(fixed.module))
            made = run(fixed.module)
        except Exception:  # whatever a graph with fixed sizes runs into: it stays as it is
            return as_is
        try:
            wanted = run(as_is.module)
        except Exception:  # nothing to compare with but the reference, which parity does
            return fixed
        return fixed if _alike(made, wanted, _CLOSE if precision == "fp32" else _CLOSE_REDUCED) else as_is


def _alike(made: List[np.ndarray], wanted: List[np.ndarray], close: float) -> bool:
    return len(made) == len(wanted) and all(
        one.shape == other.shape and one.dtype == other.dtype and differing(one, other) <= close
        for one, other in zip(made, wanted)
    )
