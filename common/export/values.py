"""Seeded values for a model's inputs, by type and by what the graph does with them; each choice is said in words.

A float is drawn from a unit normal, an image is a picture, a whole number that a Gather reads is within its table, a mask is all
ones, a length equals the axis that it measures, a state begins at zero. What cannot be told from name and use is drawn small.
"""

from __future__ import annotations

import re
import zlib
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from common.export.given import Given, image_layout
from common.export.inputs import REFERENCE_SEED, pictures
from common.export.lookups import tables
from common.pixels import PixelValues
from common.text import brief

#: numpy's names of what can be fed
TYPES = (
    *("float32", "float64", "float16", "bool", "str"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)
#: the same in words, for people
TYPES_IN_WORDS = f"{', '.join('text' if one == 'str' else one for one in TYPES[:-1])} and {TYPES[-1]}"
#: what a whole number may be whose use nobody can see
_SMALL = 10
_SAMPLE_RATE = 16000
#: what the output is multiplied with, or how fast it is spoken: of such a number one below zero would mean nothing
_FACTOR = re.compile(r"(^|[_.])(scales?|scale_factors?|speed|rate|temperature|alpha|ratio|factor)([_.0-9]|$)")
#: of one sample; what is larger is data, whatever it is called
_MOST_FACTORS = 4
#: the size of a picture, told beside it: detectors scale their boxes with it
_SIDES = re.compile(r"(^|[_.])(im|img|image|orig|original|target|input)[a-z_]*(size|sizes|shape|shapes|hw)$")


def draw(
    proto: Any, inputs: Sequence[Given], units: int, pixels: PixelValues
) -> Tuple[List[Dict[str, np.ndarray]], List[str]]:
    """Values of `units` units, input -> array each, and what was chosen for each input.

    An input without a batch axis, and a state, has the same values in all units.
    """
    within = tables(proto)
    made: List[Dict[str, np.ndarray]] = [{} for _ in range(units)]
    notes: List[str] = []
    states = _states(proto, inputs)
    for given in inputs:
        drawn, words = _draw(given, inputs, units, pixels, within, states)
        same = given.batch_axis is None or given.name in states
        for unit in range(units):
            made[unit][given.name] = np.asarray(drawn[0 if same else unit])
        notes.append(f"input '{brief(given.name)}': {words}{', the same each time' if same and units > 1 else ''}")
    return made, notes


def _draw(
    given: Given,
    inputs: Sequence[Given],
    units: int,
    pixels: PixelValues,
    within: Mapping[str, int],
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
    if "key_padding_mask" in name:  # PyTorch's, which says what is left out
        return np.zeros(shape, given.dtype), "zeros, as a mask of what is padding"
    if "mask" in name:
        return np.ones(shape, given.dtype), "ones, as a mask"
    sides = _sides(given, inputs)
    if sides is not None:
        return np.broadcast_to(np.array(sides[1]), shape).astype(given.dtype), f"height and width of '{sides[0]}'"
    if kind == "b":
        return generator.random(shape) < 0.5, "random truth values"
    if re.search(r"(^|[_.])(sr|sample_?rate|sampling_?rate)$", name):
        return np.full(shape, _SAMPLE_RATE, given.dtype), f"{_SAMPLE_RATE}, as a sampling rate"
    if kind == "f":
        if _FACTOR.search(name) and int(np.prod(given.shape)) <= _MOST_FACTORS:
            return np.ones(shape, given.dtype), "1, as a factor"
        if given.batch_axis is None and int(np.prod(given.shape)) == 1:
            return np.ones(shape, given.dtype), "1"
        return generator.standard_normal(shape).astype(given.dtype), "a unit normal"
    if re.search(r"len(s|gths?)?$", name) and len(given.shape) <= 2:
        measured, size = _measured(given, inputs)
        if size is not None:
            return np.full(shape, size, given.dtype), f"{size}, the length of '{measured}'"
    table = within.get(given.name)
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


def _sides(given: Given, inputs: Sequence[Given]) -> Optional[Tuple[str, Tuple[int, int]]]:
    """The picture whose height and width these two numbers tell, and both; None where they tell neither."""
    if not _SIDES.search(given.name.lower()) or not given.shape or given.shape[-1] != 2:
        return None
    for one in inputs:
        layout = image_layout(one)
        if layout:
            return one.name, one.shape[1:3] if layout == "NHWC" else one.shape[2:4]  # type: ignore[return-value]
    return None


def _measured(given: Given, inputs: Sequence[Given]) -> Tuple[str, Optional[int]]:
    """The input whose length this one tells, and that length: of the same name's beginning, else the first.

    It is the longest of the axes that the file leaves open, for that is what somebody has to tell; else of all but the batch.
    """
    others = [one for one in inputs if one.name != given.name and len(one.shape) > 1]
    begin = re.sub(r"_?len(s|gths?)?$", "", given.name.lower())
    others.sort(key=lambda one: not one.name.lower().startswith(begin) if begin else False)
    for one in others:
        sizes = [one.shape[axis] for axis in one.open_axes]
        sizes = sizes or [size for axis, size in enumerate(one.shape) if axis != one.batch_axis]
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
