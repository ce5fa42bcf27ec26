"""Weights that an ONNX file keeps in other files: only beside it, only in files, only as many bytes as there are.

The path of such a file is a text in the model, which may come from anywhere: `/etc/passwd`, `../../secret`, a link to
either, a device that never ends.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Dict, Iterator

import onnx

from common.errors import UserError
from common.text import shortened


def check(file: Path, proto: Any, most: int) -> None:
    """Raises UserError, naming the tensor, for data that lie elsewhere or are not there; nothing is read.

    file: the model, whose folder the data must be in. most: bytes of all such data together.
    """
    total = 0
    for tensor in tensors(proto.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            total += _bytes(file, tensor)
            if total > most:
                raise UserError(f"{file} keeps more than {most >> 20} MiB of weights in other files")


def tensors(graph: Any) -> Iterator[Any]:
    """All that a graph holds, those of graphs within it included."""
    waiting = [graph]
    while waiting:
        one = waiting.pop()
        yield from one.initializer
        for sparse in one.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in one.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)
                waiting.extend(attribute.graphs)
                if attribute.HasField("g"):
                    waiting.append(attribute.g)


def _bytes(file: Path, tensor: Any) -> int:
    """How many bytes of another file the tensor is."""
    entries: Dict[str, str] = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    who = f"{file} keeps weights in another file: '{shortened(tensor.name, 60)}' in '{shortened(location, 80)}'"
    parts = location.replace("\\", "/").split("/")
    if not location or "\0" in location or Path(location).is_absolute() or ".." in parts or ":" in parts[0]:
        raise UserError(f"{who}, which is not beside the model; put both into one folder and name it by its name alone")
    place = file.parent
    for part in parts:
        place = place / part
        try:
            mode = os.lstat(place).st_mode
        except OSError as error:
            raise UserError(f"{who}, which cannot be read: {error.strerror}") from error
        if stat.S_ISLNK(mode):
            raise UserError(f"{who}, which is a link; put the file itself beside the model")
    if not stat.S_ISREG(mode):
        raise UserError(f"{who}, which is no file")
    size = os.lstat(place).st_size
    try:
        offset = int(entries.get("offset") or 0)
        length = int(entries.get("length") or size - offset)
    except ValueError:
        raise UserError(f"{who}, at a place that is no number") from None
    if offset < 0 or length < 0 or offset + length > size:
        raise UserError(f"{who}, which has {size} bytes: there are none from {offset} to {offset + length}")
    return length
