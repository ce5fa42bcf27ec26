"""`--inputs FILE.npz`: the user's own values for a model's inputs."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Container, Dict, List, Mapping, Tuple

import numpy as np

from common.errors import UserError
from common.export.axes import Axis
from common.export.values import Given

#: of all arrays together, unpacked
MOST_BYTES = 2**30


def read(path: Path) -> Dict[str, np.ndarray]:
    """Raises UserError for a file that is no .npz of arrays."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                size = sum(one.file_size for one in archive.infolist())
            if size > MOST_BYTES:
                raise UserError(f"{path} holds {size >> 20} MiB of arrays; {MOST_BYTES >> 20} MiB are the most")
        with np.load(path, allow_pickle=False) as arrays:
            if not hasattr(arrays, "files"):
                raise UserError(f"{path} is one array, not an .npz: np.savez(FILE, NAME=ARRAY, ...) makes one")
            return {name: arrays[name] for name in arrays.files}
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # zipfile's, numpy's and pickle's own kinds
        raise UserError(f"{path} is not an .npz of arrays: {error}") from error


def named_axes(
    inputs: Mapping[str, Tuple[Axis, ...]], arrays: Mapping[str, np.ndarray], said: Container[str] = ()
) -> Dict[str, Tuple[Axis, ...]]:
    """The axes of the inputs; open ones other than axis 0 have the sizes that the user's arrays have.

    said: axes and inputs that --shape names: those stay open for it.
    """
    bound: Dict[str, Tuple[Axis, ...]] = {}
    batches = {axes[0] for axes in inputs.values() if axes and isinstance(axes[0], str)}
    for name, axes in inputs.items():
        shape = arrays[name].shape if name in arrays else ()
        if len(shape) != len(axes) or name in said:
            bound[name] = axes
            continue
        bound[name] = tuple(
            axis if isinstance(axis, int) or number == 0 or axis in batches or axis in said else int(shape[number])
            for number, axis in enumerate(axes)
        )
    return bound


def units_of(
    path: Path, arrays: Mapping[str, np.ndarray], inputs: Mapping[str, Given], unit_size: int
) -> List[Dict[str, np.ndarray]]:
    """Units of the user's values. Raises UserError for an input that is missing, of the wrong type or of the wrong shape."""
    names = ", ".join(f"'{name}' {given.dtype} {given.shape}" for name, given in inputs.items())
    lacking = [name for name in inputs if name not in arrays]
    if lacking:
        raise UserError(f"{path} has no '{lacking[0]}'; the model takes {names}")
    odd = [name for name in arrays if name not in inputs]
    if odd:
        raise UserError(f"{path} has '{odd[0]}', which is no input; the model takes {names}")
    counts: Dict[str, int] = {}
    for name, given in inputs.items():
        values = arrays[name]
        if values.dtype.name != given.dtype and not (given.dtype == "str" and values.dtype.kind == "U"):
            raise UserError(f"{path}: '{name}' is {values.dtype.name}, the model takes {given.dtype}")
        axis = given.batch_axis
        wanted = (
            given.shape
            if axis is None
            else (*given.shape[:axis], values.shape[axis] if values.ndim > axis else 0, *given.shape[axis + 1 :])
        )
        if values.shape != wanted or (axis is not None and (values.shape[axis] < 1 or values.shape[axis] % unit_size)):
            raise UserError(f"{path}: '{name}' has the shape {values.shape}, the model takes {given.shape}")
        if axis is not None:
            counts[name] = values.shape[axis] // unit_size
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"'{name}' {count}" for name, count in counts.items())
        raise UserError(f"{path}: the inputs hold different numbers of samples: {shown}")
    units = next(iter(counts.values()), 1)
    return [
        {name: _part(arrays[name], given, unit, unit_size) for name, given in inputs.items()} for unit in range(units)
    ]


def _part(values: np.ndarray, given: Given, unit: int, unit_size: int) -> np.ndarray:
    if given.batch_axis is None:
        return values
    index: List[Any] = [slice(None)] * values.ndim
    index[given.batch_axis] = slice(unit * unit_size, (unit + 1) * unit_size)
    return np.ascontiguousarray(values[tuple(index)])
