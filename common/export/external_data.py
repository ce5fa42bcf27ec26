"""Weights that an ONNX file keeps in other files: only beside it, only in files, only as many bytes as there are.

The path of such a file is a text in the model, which may come from anywhere: `/etc/passwd`, `../../secret`, a link to
either, a device that never ends.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

import onnx

from common.errors import UserError
from common.text import shortened, visible
from common.weights_beside import NotBeside, place_of


def check(file: Path, proto: Any, most: int) -> Dict[str, Path]:
    """Where such data lie, by the name that the model has for it; nothing is read.

    file: the model, beside which the data must be (weights_beside.py). most: bytes of all such data together. Raises UserError,
    naming the tensor, for data that lie elsewhere or are not there.
    """
    total = 0
    found: Dict[str, Path] = {}
    for tensor in tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            place, _, length = _range(file, tensor)
            found[_entries(tensor)["location"]] = place
            total += length
            if total > most:
                raise UserError(f"{file} keeps more than {most >> 20} MiB of weights in other files")
    return found


def load(file: Path, proto: Any) -> None:
    """Takes all such data into the model. Raises as check() does, and OSError."""
    for tensor in tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            # not by onnx.load_external_data_for_model: it refuses every link, those of hubs' caches too
            place, offset, length = _range(file, tensor)
            with place.open("rb") as content:
                content.seek(offset)
                tensor.raw_data = content.read(length)
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]


def tensors(proto: Any) -> Iterator[Any]:
    """All that a model holds, those of graphs within graphs and of functions included."""
    waiting = [proto.graph, *proto.functions]
    while waiting:
        one = waiting.pop()
        yield from getattr(one, "initializer", ())
        for sparse in getattr(one, "sparse_initializer", ()):
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


def _entries(tensor: Any) -> Dict[str, str]:
    return {"location": "", **{entry.key: entry.value for entry in tensor.external_data}}


def _range(file: Path, tensor: Any) -> Tuple[Path, int, int]:
    """File, first byte and number of bytes of the tensor's data."""
    entries = _entries(tensor)
    named = shortened(visible(tensor.name, ""), 60), shortened(visible(entries["location"], ""), 80)
    who = f"{file} keeps weights in another file: '{named[0]}' in '{named[1]}'"
    try:
        place = place_of(file, entries["location"])
    except NotBeside as error:
        raise UserError(f"{who}, which {error}") from error
    size = place.stat().st_size
    try:
        offset = int(entries.get("offset") or 0)
        length = int(entries.get("length") or size - offset)
    except ValueError:
        raise UserError(f"{who}, at a place that is no number") from None
    if offset < 0 or length < 0 or offset + length > size:
        raise UserError(f"{who}, which has {size} bytes: there are none from {offset} to {offset + length}")
    return place, offset, length
