"""A model that computes sizes while it runs, read anew with the sizes of one cell, so that no tensor holds them.

What a Shape node gives is a tensor: torch.compile breaks its graph where a Reshape reads it, and a CUDA graph cannot be captured.
With the batch of the cell written in all that comes of shapes is a constant (common/onnx_known_values.py).
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any, Callable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from common.harness.adapter import Unsupported
from common.harness.parity import differing
from common.text import first_line, shortened
from images.torch import onnx_import
from images.torch.failures import is_of_device
from images.torch.onnx_import import Imported

#: relative L2 distance of outputs that rounding in another order may make, in full fp32 and in a reduced precision
_CLOSE, _CLOSE_REDUCED = 1e-5, 1e-2
#: of an error's text, in the row's settings
_REASON_LENGTH = 160


class Sizes:
    """The ONNX file of a loaded model, and how it is read for the shapes of a cell.

    is_refused: as it is, with open sizes, onnx2torch cannot convert it. fold: of onnx_import.load().
    """

    def __init__(self, path: Path, is_refused: bool, fold: bool = True) -> None:
        self._path, self._is_refused, self._fold = path, is_refused, fold

    @classmethod
    def read(
        cls, path: Path, units: Mapping[str, Sequence[int]], fold: bool = True
    ) -> Tuple[Imported, Optional[Sizes]]:
        """The model with its axes as open as they are in the file; and how to fix them, None where nothing is computed of sizes.

        One that is refused so is read with the sizes of its reference's samples (units). Raises Unsupported for one that is so, too.
        """
        try:
            imported = onnx_import.load(path, None, fold)
        except Unsupported as error:
            if not onnx_import.computes_sizes(path):
                raise
            try:
                return onnx_import.load(path, units, fold), cls(path, True, fold)
            except Unsupported:
                raise error from None
        return imported, cls(path, False, fold) if imported.computes_sizes else None

    def fit(
        self, inputs: Mapping[str, np.ndarray], place: Callable[[Any], Any], run: Callable[[Any], Any], precision: str
    ) -> Imported:
        """The model for inputs of these shapes, its module on the device: with these sizes written in where that changes no output.

        One module at a time is on the device. Its setting `sizes` says why they are not written in, or not compared.

        place: puts a module onto the device. run: a module's outputs for the inputs, a list of arrays. Raises Unsupported for
        one that is not converted with these sizes either, and what says nothing of the module: memory that ran out, a lost device.
        """
        shapes = {name: tuple(values.shape) for name, values in inputs.items()}
        if self._is_refused:
            return _placed(onnx_import.load(self._path, shapes, self._fold), place)
        fixed = self._tried(shapes, place, run)
        if fixed.imported is None:
            as_is_alone = onnx_import.load(self._path, None, self._fold)
            return _placed(_said(as_is_alone, f"as in the file ({fixed.why})"), place)
        as_is = self._tried(None, place, run)
        if as_is.imported is None:  # nothing to compare with but the reference, which parity does
            chosen = _said(fixed.imported, f"of the cell, not compared: as in the file it fails ({as_is.why})")
        elif _alike(fixed.made, as_is.made, _CLOSE if precision == "fp32" else _CLOSE_REDUCED):
            chosen = fixed.imported
        else:
            chosen = _said(as_is.imported, "as in the file (with those of the cell its outputs are others)")
        del fixed, as_is
        gc.collect()  # a graph's module refers to itself
        return _placed(chosen, place)

    def _tried(
        self, sizes: Optional[Mapping[str, Sequence[int]]], place: Callable[[Any], Any], run: Callable[[Any], Any]
    ) -> _Tried:
        """The model as read with these sizes, off the device again. Raises what says nothing of the module."""
        imported: Optional[Imported] = None
        try:
            imported = onnx_import.load(self._path, sizes, self._fold)
            made = run(place(imported.module))
            imported.module.to("cpu")
            return _Tried(imported, made, "")
        except Exception as error:  # whatever a graph with fixed sizes runs into
            if is_of_device(error):
                raise
            why = shortened(first_line(error), _REASON_LENGTH)
        imported = None
        gc.collect()  # of the module that failed nothing stays on the device
        return _Tried(None, [], why)


class _Tried(NamedTuple):
    """imported: None where it failed, and why it did then. made: its outputs."""

    imported: Optional[Imported]
    made: List[np.ndarray]
    why: str


def _placed(imported: Imported, place: Callable[[Any], Any]) -> Imported:
    return imported._replace(module=place(imported.module))


def _said(imported: Imported, sizes: str) -> Imported:
    return imported._replace(settings={**imported.settings, "sizes": sizes})


def _alike(made: List[np.ndarray], wanted: List[np.ndarray], close: float) -> bool:
    return len(made) == len(wanted) and all(
        one.shape == other.shape and one.dtype == other.dtype and differing(one, other) <= close
        for one, other in zip(made, wanted)
    )
