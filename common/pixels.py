"""What a model expects of black and white: the values that a picture's 0 to 255 become in its input.

Said by `--input-range LOW,HIGH`, or by `--mean` and `--std` as torchvision and timm publish them: (pixel / 255 - mean) / std, one
number or one a channel. Both are a straight line a channel, from `low` (black) to `high` (white).
Runs on Python 3.9 with the standard library alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

from common.errors import UserError

Channels = Tuple[float, ...]
_MOST = 1e38


@dataclass(frozen=True)
class PixelValues:
    """low, high: one number for all channels, or one a channel. given: whether the user gave them; else it is an assumption."""

    low: Channels = (0.0,)
    high: Channels = (255.0,)
    given: bool = False

    def __str__(self) -> str:
        if len(self.low) == 1:
            return f"{self.low[0]:g} to {self.high[0]:g}"
        return ", ".join(f"{low:.4g} to {high:.4g}" for low, high in zip(self.low, self.high))

    @property
    def are_bytes(self) -> bool:
        """Whether a picture stays as it is."""
        return self.low == (0.0,) and self.high == (255.0,)

    def of(self, pixels: Any) -> Any:
        """(..., channels) array of 0 to 255 as (..., channels) float array. Raises UserError for another number of channels."""
        import numpy as np

        if len(self.low) not in (1, pixels.shape[-1]):
            raise UserError(
                f"--mean and --std have {len(self.low)} numbers, and the model's input {pixels.shape[-1]} "
                f"{'channel' if pixels.shape[-1] == 1 else 'channels'}"
            )
        low, high = np.asarray(self.low, np.float64), np.asarray(self.high, np.float64)
        return pixels if self.are_bytes else low + pixels * ((high - low) / 255)

    def described(self) -> Dict[str, Any]:
        """For model.json; `of_description` reads it back."""
        ends = [self.low[0], self.high[0]] if len(self.low) == 1 else [list(self.low), list(self.high)]
        return {"input_range": ends, "input_range_said": self.given}

    @classmethod
    def of_description(cls, description: Mapping[str, Any]) -> PixelValues:
        """Of model.json; one of a registered model says nothing beside the range, and that is known."""
        low, high = description.get("input_range", (0.0, 255.0))
        given = bool(description.get("input_range_said", description.get("weights") != "user"))
        ends = ((low,), (high,)) if isinstance(low, (int, float)) else (tuple(low), tuple(high))
        return cls(tuple(map(float, ends[0])), tuple(map(float, ends[1])), given)


def parse(input_range: str = "", mean: str = "", std: str = "") -> PixelValues:
    """Of the three options as typed, "" where not given. Raises UserError for what is no range, mean or standard deviation."""
    if mean or std:
        if input_range:
            raise UserError("--input-range and --mean with --std say the same thing in two ways: give one of them")
        if not (mean and std):
            raise UserError(f"--{'mean' if mean else 'std'} needs --{'std' if mean else 'mean'} beside it")
        means, deviations = _numbers("--mean", mean), _numbers("--std", std)
        count = max(len(means), len(deviations))
        if len(means) not in (1, count) or len(deviations) not in (1, count):
            raise UserError(f"--mean has {len(means)} numbers and --std {len(deviations)}")
        if any(one <= 0 for one in deviations):
            raise UserError(f"--std takes numbers above 0, not '{std}'")
        pairs = list(zip(means * (count // len(means)), deviations * (count // len(deviations))))
        return PixelValues(tuple(-m / d for m, d in pairs), tuple((1 - m) / d for m, d in pairs), True)
    if not input_range:
        return PixelValues()
    try:
        low, high = (float(part) for part in input_range.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not -_MOST < low < high < _MOST:
        raise UserError(f"--input-range takes LOW,HIGH, two numbers like 0,255 or -1,1, not '{input_range}'")
    return PixelValues((low,), (high,), True)


def _numbers(option: str, text: str) -> Channels:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(math.isfinite(value) and abs(value) < _MOST for value in values):
        raise UserError(f"{option} takes one number, or one a channel, like 0.485,0.456,0.406, not '{text}'")
    return values
