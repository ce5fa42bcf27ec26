"""Values of a model's inputs in words, as its description notes them, turned into a range that a program can draw from.

The export writes a sentence for each input that it made up (common/export/values.py): an index is within its table, a length is
that of its axis, a mask is all ones. A registered model has none, and of inputs that the user gave nothing is known but the type.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from common.model_files import ModelFiles, Tensor
from common.text import brief

_NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
#: words -> the range, of what they matched
_WORDS = (
    (rf"(?:pictures of|whole numbers from) ({_NUMBER}) to ({_NUMBER})", lambda low, high: (low, high)),
    (r"whole numbers within the table of (\d+) ", lambda size: (0, size - 1)),
    (r"0, 1, 2, \.\.\. within a table of (\d+)", lambda size: (0, size - 1)),
    (r"(\d+), (?:the length of|as a sampling rate)", lambda value: (value, value)),
    (r"zeros, ", lambda: (0, 0)),
    (r"(?:ones, as a mask|1, as a factor|1$|1,)", lambda: (1, 1)),
    (r"random truth values", lambda: (0, 1)),
)  # fmt: skip
_SIDES = re.compile(r"height and width of '")


def range_of(tensor: Tensor, model: ModelFiles) -> tuple[Any, Any]:
    """Lowest and highest value of an input, as `numpy.random.Generator.uniform` and `.integers` take them."""
    return noted(tensor, model) or _unknown(tensor, model)


def noted(tensor: Tensor, model: ModelFiles) -> tuple[Any, Any] | None:
    """What the description says of it; None where that is nothing."""
    begin = f"input '{brief(tensor.name)}': "
    words = next((one[len(begin) :] for one in model.notes if one.startswith(begin)), "")
    for pattern, made in _WORDS:
        found = re.match(pattern, words)
        if found:
            low, high = made(*map(_number, found.groups()))
            return low, high
    if _SIDES.match(words):
        first = model.inputs[0].shape
        sides = list(first[1:3] if model.layout == "NHWC" else first[2:4])
        return sides, sides
    return (-2.0, 2.0) if words.startswith("a unit normal") else None


def _unknown(tensor: Tensor, model: ModelFiles) -> tuple[float, float]:
    """Of an input of which nothing is noted: pixels, ones for a mask, and whole numbers that every table and axis has."""
    if model.layout and tensor is model.inputs[0]:
        return 0, 255
    if tensor.dtype != "str" and np.dtype(tensor.dtype).kind == "f":
        return 0.0, 1.0
    return (0, 1) if tensor.dtype == "bool" and "mask" not in tensor.name.lower() else (1, 1)


def _number(text: str) -> float:
    return float(text) if set(text) & set(".e") else int(text)
