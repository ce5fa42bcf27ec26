"""Seeded values for a model's inputs, by type and by what the graph does with them; each choice is said in words.

A float is drawn from a unit normal, an image is a picture, a whole number that a Gather reads is within its table, a mask is all
ones, a length equals the axis that it measures, a state begins at zero. What cannot be told from name and use is drawn small.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from common.export.inputs import REFERENCE_SEED, pictures
from common.pixels import PixelValues

IMAGE_CHANNELS = (3, 1)
#: what a whole number may be whose use nobody can see
_SMALL = 10
_SAMPLE_RATE = 16000
#: operators that hand an index on as it is
_PASSING = {
    *(
        "Cast",
        "Identity",
        "Reshape",
        "Unsqueeze",
        "Squeeze",
        "Flatten",
        "Transpose",
        "Slice",
        "Expand",
        "Concat",
        "Clip",
    ),
    *("Where", "Max", "Min", "Tile", "Split"),
}


@dataclass(frozen=True)
class Given:
    """One input: sizes of its axes at a batch of one unit, the batch axis if it has one, numpy's name of its type."""

    name: str
    dtype: str
    shape: Tuple[int, ...]
    batch_axis: Optional[int]


def image_layout(given: Given) -> str:
    """NHWC or NCHW of an input that can be an image, else ""."""
    if len(given.shape) != 4 or given.batch_axis != 0 or given.dtype not in ("float32", "float16", "float64", "uint8"):
        return ""
    if given.shape[1] in IMAGE_CHANNELS and min(given.shape[2:]) >= 8:
        return "NCHW"
    return "NHWC" if given.shape[3] in IMAGE_CHANNELS and min(given.shape[1:3]) >= 8 else ""


def draw(
    proto: Any, inputs: Sequence[Given], units: int, pixels: PixelValues
) -> Tuple[List[Dict[str, np.ndarray]], List[str]]:
    """Values of `units` units, input -> array each, and what was chosen for each input.

    An input without a batch axis, and a state, has the same values in all units.
    """
    tables = _tables(proto)
    made: List[Dict[str, np.ndarray]] = [{} for _ in range(units)]
    notes: List[str] = []
    states = _states(proto, inputs)
    for given in inputs:
        drawn, words = _draw(given, inputs, units, pixels, tables, states)
        same = given.batch_axis is None or given.name in states
        for unit in range(units):
            made[unit][given.name] = np.asarray(drawn[0 if same else unit])
        notes.append(f"input '{given.name}': {words}{', the same each time' if same and units > 1 else ''}")
    return made, notes


def _draw(
    given: Given,
    inputs: Sequence[Given],
    units: int,
    pixels: PixelValues,
    tables: Mapping[str, int],
    states: Set[str],
) -> Tuple[np.ndarray, str]:
    """(units, *given.shape) of the input's type, and words for it."""
    generator = np.random.default_rng([REFERENCE_SEED, zlib.crc32(given.name.encode())])
    shape = (units, *given.shape)
    name = given.name.lower()
    kind = "text" if given.dtype == "str" else np.dtype(given.dtype).kind
    if kind == "text":
        return np.full(shape, "text"), "the word 'text'"
    if image_layout(given):
        return _pictures(given, units, pixels), f"pictures of {pixels}"
    if given.name in states:
        return np.zeros(shape, given.dtype), "zeros, as a state begins"
    if "mask" in name:
        return np.ones(shape, given.dtype), "ones, as a mask"
    if kind == "b":
        return generator.random(shape) < 0.5, "random truth values"
    if kind == "f":
        if int(np.prod(given.shape)) == 1 and given.batch_axis is None:
            return np.ones(shape, given.dtype), "1"
        return generator.standard_normal(shape).astype(given.dtype), "a unit normal"
    if re.search(r"(^|[_.])(sr|sample_?rate|sampling_?rate)$", name):
        return np.full(shape, _SAMPLE_RATE, given.dtype), f"{_SAMPLE_RATE}, as a sampling rate"
    if re.search(r"len(s|gths?)?$", name) and len(given.shape) <= 2:
        measured, size = _measured(given, inputs)
        if size is not None:
            return np.full(shape, size, given.dtype), f"{size}, the length of '{measured}'"
    table = tables.get(given.name)
    if table is not None:
        if "position" in name and given.shape:
            values = np.broadcast_to(np.arange(given.shape[-1]) % table, shape)
            return values.astype(given.dtype), f"0, 1, 2, ... within a table of {table}"
        drawn = generator.integers(0, table, shape).astype(given.dtype)
        return drawn, f"whole numbers within the table of {table} that is read by them"
    if given.dtype in ("uint8", "int8"):
        limits = np.iinfo(given.dtype)
        drawn = generator.integers(limits.min, int(limits.max) + 1, shape).astype(given.dtype)
        return drawn, f"whole numbers from {limits.min} to {limits.max}"
    return generator.integers(0, _SMALL, shape).astype(
        given.dtype
    ), f"whole numbers from 0 to {_SMALL - 1}: use unknown"


def _pictures(given: Given, units: int, pixels: PixelValues) -> np.ndarray:
    layout = image_layout(given)
    count = units * given.shape[0]
    height, width, channels = given.shape[1:] if layout == "NHWC" else (*given.shape[2:], given.shape[1])
    images = pictures(count, height, width, channels, REFERENCE_SEED)
    if np.dtype(given.dtype).kind == "f":
        images = pixels.of(images).astype(np.float32)
    images = images if layout == "NHWC" else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return images.astype(given.dtype).reshape(units, *given.shape)


def _measured(given: Given, inputs: Sequence[Given]) -> Tuple[str, Optional[int]]:
    """The input whose length this one tells, and its longest axis beside the batch: of the same name's beginning, else the first."""
    others = [one for one in inputs if one.name != given.name and len(one.shape) > 1]
    begin = re.sub(r"_?len(s|gths?)?$", "", given.name.lower())
    others.sort(key=lambda one: not one.name.lower().startswith(begin) if begin else False)
    for one in others:
        sizes = [size for axis, size in enumerate(one.shape) if axis != one.batch_axis]
        if sizes:
            return one.name, max(sizes)
    return "", None


def _states(proto: Any, inputs: Sequence[Given]) -> Set[str]:
    """Inputs that take what an earlier inference gave: by their name, or because an output continues that name."""
    outputs = {value.name.lower() for value in proto.graph.output}
    found = set()
    for given in inputs:
        name = given.name.lower()
        named = re.search(
            r"(^|[_.])(state|states|hidden|cell|cache|past|h0?|c0?|hn|cn)([_.0-9]|$)|past_key|^state", name
        )
        continued = any(
            one != name and len(name) > 1 and (one.startswith(name) or one.replace("present", "past") == name)
            for one in outputs
        )
        if (named or continued) and len(given.shape) > 1 and np.dtype(_plain(given.dtype)).kind == "f":
            found.add(given.name)
    return found


def _plain(dtype: str) -> str:
    return "object" if dtype == "str" else dtype


def _tables(proto: Any) -> Dict[str, int]:
    """Input -> length of the smallest table that its values are looked up in, through operators that only pass them on."""
    graph = proto.graph
    lengths = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    lengths.update({name: list(tensor.dims) for name, tensor in _constants(graph)})
    readers: Dict[str, List[Tuple[Any, int]]] = {}
    for node in graph.node:
        for position, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, position))
    depths = _depths(graph)
    found: Dict[str, int] = {}
    for value in graph.input:
        limits: List[int] = []
        waiting, seen = [value.name], {value.name}
        while waiting:
            for node, position in readers.get(waiting.pop(), []):
                if node.op_type == "Gather" and position == 1 and len(lengths.get(node.input[0], [])) > 0:
                    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
                    limits.append(int(lengths[node.input[0]][axis]))
                elif node.op_type == "OneHot" and position == 0 and node.input[1] in depths:
                    limits.append(depths[node.input[1]])
                elif node.op_type in _PASSING:
                    fresh = [name for name in node.output if name not in seen]
                    seen.update(fresh)
                    waiting.extend(fresh)
        if limits:
            found[value.name] = min(limits)
    return found


def _depths(graph: Any) -> Dict[str, int]:
    """Constants of one value, which may be a OneHot's depth."""
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    tensors.update(_constants(graph))
    return {
        name: int(numpy_helper.to_array(tensor).reshape(-1)[0])
        for name, tensor in tensors.items()
        if int(np.prod(tensor.dims)) == 1 and tensor.data_type in (6, 7)
    }


def _constants(graph: Any) -> Iterator[Tuple[str, Any]]:
    """Name and tensor of every Constant node that holds a tensor."""
    for node in graph.node:
        if node.op_type == "Constant":
            yield from ((node.output[0], attribute.t) for attribute in node.attribute if attribute.HasField("t"))
