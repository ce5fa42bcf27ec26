"""What one input of a model is given: name, type and sizes; and whether that can be a picture.

Apart from the values (values.py): whoever only plans asks here, and numpy takes longer to import than a plan to make.
Runs on Python 3.9 with the standard library alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

IMAGE_CHANNELS = (3, 1)


@dataclass(frozen=True)
class Given:
    """One input: sizes of its axes at a batch of one unit, the batch axis if it has one, numpy's name of its type.

    open_axes: those that the file leaves open and --shape or --inputs bound, the batch not among them.
    """

    name: str
    dtype: str
    shape: Tuple[int, ...]
    batch_axis: Optional[int]
    open_axes: Tuple[int, ...] = ()


def image_layout(given: Given) -> str:
    """NHWC or NCHW of an input that can be an image, else ""."""
    if len(given.shape) != 4 or given.batch_axis != 0 or given.dtype not in ("float32", "float16", "float64", "uint8"):
        return ""
    if given.shape[1] in IMAGE_CHANNELS and min(given.shape[2:]) >= 8:
        return "NCHW"
    return "NHWC" if given.shape[3] in IMAGE_CHANNELS and min(given.shape[1:3]) >= 8 else ""
