"""Does the framework compute the model? Its output against the reference output: pure arithmetic.

The error is taken where the precision can be held to account. A softmax hides errors of unlikely classes, so full
fp32 is judged on the logits (recovered from the probabilities up to a constant per image, which centring removes).
Reduced precisions underflow in unlikely classes, so they are judged on the probabilities, and on what they decide.

    precision        error of        relative L2 at most   top-1 agreement at least
    fp32             logits          1e-3                  (any)
    tf32 fp16 bf16   probabilities   5e-2                  1.0
    int8             probabilities   1.5e-1                0.875: one of 8 images may change its class
    int8-dynamic     the same as int8

Models that do not end in a softmax (`raw`) have the same tolerances on their output as it is; no class is looked for,
because it need not be a classifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Tuple

import numpy as np

#: precision -> (metric for a model that puts out probabilities, tolerance, least top-1 agreement)
TOLERANCES: Dict[str, Tuple[str, float, float]] = {
    "fp32": ("logits", 1e-3, 0.0),
    "tf32": ("probabilities", 5e-2, 1.0),
    "fp16": ("probabilities", 5e-2, 1.0),
    "bf16": ("probabilities", 5e-2, 1.0),
    "int8": ("probabilities", 1.5e-1, 0.875),
    "int8-dynamic": ("probabilities", 1.5e-1, 0.875),
}

#: smaller probabilities count as this much: far below what any decision rests on, and a logarithm needs a floor
FLOOR = 1e-10


@dataclass(frozen=True)
class Parity:
    """Figures of `cell.csv`. Each reference image counts with its worst occurrence in the batch."""

    metric: str
    tolerance: float
    rel_l2: float
    prob_rel_l2: float
    top1: float
    top5: float
    top1_least: float

    @property
    def passed(self) -> bool:
        # Written so that NaN, which compares false, fails.
        return self.rel_l2 <= self.tolerance and self.top1 >= self.top1_least

    @property
    def reason(self) -> str:
        """Why it failed, in one line."""
        if not self.rel_l2 <= self.tolerance:
            return f"relative L2 error of {self.metric} is {self.rel_l2:.3g}, at most {self.tolerance:g} is allowed"
        return f"top class agrees for {self.top1:.3f} of the reference images, {self.top1_least:g} is required"


def compare(output: np.ndarray, reference: np.ndarray, output_kind: str, precision: str) -> Parity:
    """Judges an output.

    output: (rows, classes), rows >= images; row r belongs to reference image r modulo images, and every row counts.
    reference: (images, classes). output_kind: "probabilities" or "raw". precision: a key of TOLERANCES.
    Raises ValueError when the shapes do not fit.
    """
    images, classes = reference.shape
    if output.ndim != 2 or output.shape[1] != classes or len(output) < images:
        raise ValueError(f"output has shape {tuple(output.shape)}, expected (rows >= {images}, {classes})")
    metric, tolerance, top1_least = TOLERANCES[precision]
    if output_kind == "raw":
        metric, top1_least = "raw", 0.0
    got = np.asarray(output, dtype=np.float64)
    wanted = np.asarray(reference, dtype=np.float64)
    as_is = relative_l2(got, wanted)
    error = relative_l2(centred_logits(got), centred_logits(wanted)) if metric == "logits" else as_is
    top1, top5 = top_agreement(got, wanted, 1), top_agreement(got, wanted, 5)
    return Parity(metric, tolerance, error, as_is, top1, top5, top1_least)


def relative_l2(got: np.ndarray, wanted: np.ndarray) -> float:
    """|got - wanted| / |wanted| over all images, each with its worst row; NaN or infinity in `got` give that.

    got: (rows, n); wanted: (images, n).
    """
    images = len(wanted)
    with np.errstate(invalid="ignore", over="ignore"):
        worst = [float(np.max(np.sum((got[i::images] - wanted[i]) ** 2, axis=1))) for i in range(images)]
    size = float(np.sum(wanted**2))
    error = float(np.sum(worst))
    if size == 0:
        return 0.0 if error == 0 else float("inf") if error == error else error
    return float(np.sqrt(error / size))


def centred_logits(probabilities: np.ndarray) -> np.ndarray:
    """Logits up to rounding: log of the probabilities (at least FLOOR), each row moved to mean 0. (rows, classes)."""
    # np.maximum hands NaN on, so that it fails instead of becoming the floor.
    logs = np.log(np.maximum(probabilities, FLOOR))
    with np.errstate(invalid="ignore"):
        centred: np.ndarray = logs - logs.mean(axis=1, keepdims=True)
    return centred


def top_agreement(got: np.ndarray, wanted: np.ndarray, count: int) -> float:
    """Mean over the images of the share of the reference's `count` best classes found among the output's.

    Each image counts with its worst row; a row with NaN finds none.
    """
    images, classes = wanted.shape
    count = min(count, classes)
    best_wanted = np.argsort(-wanted, axis=1, kind="stable")[:, :count]
    best_got = np.argsort(-got, axis=1, kind="stable")[:, :count]
    found = np.array(
        [len(set(best_got[r]) & set(best_wanted[r % images])) / count for r in range(len(got))], dtype=np.float64
    )
    found[np.isnan(got).any(axis=1)] = 0.0
    return float(np.mean([found[i::images].min() for i in range(images)]))
