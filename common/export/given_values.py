"""`--inputs FILE.npz`: the user's own values for a model's inputs."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from common.errors import UserError
from common.export import axes
from common.export.axes import Axis, Bound, written
from common.export.given import Given
from common.export.store import unchanged
from common.text import brief

#: of all arrays together, unpacked
MOST_BYTES = 2**30


def read_summed(path: Path) -> Tuple[Dict[str, np.ndarray], str]:
    """The arrays, and the SHA-256 of the file as it was read. Raises UserError as read(), and for one that changes meanwhile."""
    with unchanged(path) as sha256:
        arrays = read(path)
    return arrays, sha256


def read(path: Path) -> Dict[str, np.ndarray]:
    """Raises UserError for a file that is no .npz of arrays."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                size = sum(one.file_size for one in archive.infolist())
            if size > MOST_BYTES:
                raise UserError(f"{path} holds {size >> 20} MiB of arrays; {MOST_BYTES >> 20} MiB are the most")
        loaded = np.load(path, allow_pickle=False)
        if not hasattr(loaded, "files"):
            raise UserError(f"{path} is one array, not an .npz: np.savez(FILE, NAME=ARRAY, ...) makes one")
        with loaded as arrays:
            return {name: arrays[name] for name in arrays.files}
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # zipfile's, numpy's and pickle's own kinds
        reason = (
            error if zipfile.is_zipfile(path) else "it is no zip archive"
        )  # numpy would advise to open it as a pickle
        raise UserError(f"{path} is not an .npz of arrays: {reason}") from error


def bind(
    path: Path, inputs: Mapping[str, Tuple[Axis, ...]], arrays: Mapping[str, np.ndarray], shape: str, source: str
) -> Bound:
    """As axes.bind(); open axes other than the batch, which --shape does not speak of, have the sizes of the user's arrays.

    Raises UserError, naming path, for arrays that are missing or no inputs, have another number of axes, or two sizes for one axis.
    """
    _check_names(path, inputs, arrays)
    shapes = {name: tuple(int(size) for size in values.shape) for name, values in arrays.items()}
    return axes.bind(inputs, shape, source, axes.Arrays(str(path), shapes))


def _check_names(path: Path, inputs: Mapping[str, Tuple[Axis, ...]], arrays: Mapping[str, np.ndarray]) -> None:
    names = ", ".join(f"'{brief(name)}' {written(one)}" for name, one in inputs.items())
    for name in inputs:
        if name not in arrays:
            raise UserError(f"{path} has no '{brief(name)}'; the model takes {names}")
    for name, values in arrays.items():
        if name not in inputs:
            raise UserError(f"{path} has '{brief(name)}', which is no input; the model takes {names}")
        if values.ndim != len(inputs[name]):
            raise UserError(
                f"{path}: '{brief(name)}' has the shape {values.shape}, the model takes {written(inputs[name])}"
            )


def units_of(
    path: Path, arrays: Mapping[str, np.ndarray], inputs: Mapping[str, Given], unit_size: int
) -> List[Dict[str, np.ndarray]]:
    """Units of the user's values, which bind() has seen, in this machine's byte order.

    Raises UserError for one of the wrong type or shape.
    """
    # ONNX Runtime takes the bytes of an array as they lie, whatever order its type says
    arrays = {name: one.astype(one.dtype.newbyteorder("="), copy=False) for name, one in arrays.items()}
    counts: Dict[str, int] = {}
    for name, given in inputs.items():
        values = arrays[name]
        if values.dtype.name != given.dtype and not (given.dtype == "str" and values.dtype.kind == "U"):
            raise UserError(f"{path}: '{brief(name)}' is {values.dtype.name}, the model takes {given.dtype}")
        axis = given.batch_axis
        wanted = (
            given.shape
            if axis is None
            else (*given.shape[:axis], values.shape[axis] if values.ndim > axis else 0, *given.shape[axis + 1 :])
        )
        if values.shape != wanted or (axis is not None and (values.shape[axis] < 1 or values.shape[axis] % unit_size)):
            raise UserError(
                f"{path}: '{brief(name)}' has the shape {values.shape}, the model takes {_taken(given, unit_size)}"
            )
        if axis is not None:
            counts[name] = values.shape[axis] // unit_size
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"'{brief(name)}' {count}" for name, count in counts.items())
        raise UserError(f"{path}: the inputs hold different numbers of samples: {shown}")
    units = next(iter(counts.values()), 1)
    return [
        {name: _part(arrays[name], given, unit, unit_size) for name, given in inputs.items()} for unit in range(units)
    ]


def _taken(given: Given, unit_size: int) -> str:
    """The shape with N at the batch."""
    sizes: List[Any] = list(given.shape)
    if given.batch_axis is None:
        return written(sizes)
    sizes[given.batch_axis] = axes.BATCH_WORD
    return written(sizes) + (f", {axes.BATCH_WORD} a multiple of {unit_size}" if unit_size > 1 else "")


def _part(values: np.ndarray, given: Given, unit: int, unit_size: int) -> np.ndarray:
    if given.batch_axis is None:
        return values
    index: List[Any] = [slice(None)] * values.ndim
    index[given.batch_axis] = slice(unit * unit_size, (unit + 1) * unit_size)
    return np.ascontiguousarray(values[tuple(index)])
