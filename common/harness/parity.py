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
because it need not be a classifier. Whole numbers, truth values and texts are compared one by one: their error is the
share that differs. Of several outputs the worst decides, measured against its tolerance. Where the reference is NaN or
infinite the output must be the same; the rest is judged as always. An error that is infinite or NaN itself is no figure: the
column stays empty and the message says what is wrong. An output of a graph that draws random numbers (kind
`random`) is another in every run, and is not compared. Of an output that is empty in the reference it is only compared that it
is empty; where there is no other output, nothing was judged, and the row says so.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from common.harness.adapter import Arrays, Unsupported
from common.harness.reference import Reference
from common.harness.rows import MOST_TEXT, fits, spelled
from common.model_files import Tensor

#: precision -> (metric for a model that puts out probabilities, tolerance, least top-1 agreement)
TOLERANCES: Dict[str, Tuple[str, float, float]] = {
    "fp32": ("logits", 1e-3, 0.0),
    "tf32": ("probabilities", 5e-2, 1.0),
    "fp16": ("probabilities", 5e-2, 1.0),
    "bf16": ("probabilities", 5e-2, 1.0),
    "int8": ("probabilities", 1.5e-1, 0.875),
    "int8-dynamic": ("probabilities", 1.5e-1, 0.875),
}

#: the metric of outputs that are no floating-point numbers
EQUALITY = "equality"
#: the metric where all outputs are empty, so that nothing is compared
EMPTY = "empty"
#: the key of `parity_by_output` under which it says how many outputs it leaves out
LEFT_OUT = "..."
#: smaller probabilities count as this much: far below what any decision rests on, and a logarithm needs a floor
FLOOR = 1e-10


@dataclass(frozen=True)
class Parity:
    """Figures of `cell.csv`. Each reference image counts with its worst occurrence in the batch.

    top1, top5: None for an output that is not (batch, classes). output: the one that these figures are of.
    by_output: error of every output that was compared. wrong: what no figure says of the output, as that it has another
    shape or holds NaN; "" where the figures say it.
    """

    metric: str
    tolerance: float
    rel_l2: float
    prob_rel_l2: float
    top1: Optional[float]
    top5: Optional[float]
    top1_least: float
    output: str = ""
    by_output: Dict[str, float] = field(default_factory=dict)
    wrong: str = ""
    compared: bool = True

    @property
    def passed(self) -> bool:
        if not self.compared:
            return True
        # Written so that NaN, which compares false, fails.
        return self.rel_l2 <= self.tolerance and (self.top1 is None or self.top1 >= self.top1_least)

    @property
    def badness(self) -> float:
        """The error in tolerances; what does not pass by another measure, or is NaN, is infinitely bad."""
        if self.rel_l2 != self.rel_l2 or (self.rel_l2 <= self.tolerance and not self.passed):
            return math.inf
        return self.rel_l2 / self.tolerance

    @property
    def reason(self) -> str:
        """Why it failed, in one line."""
        name = spelled(self.output)
        if self.wrong:
            return f"output '{name}' {self.wrong}" if name else f"the output {self.wrong}"
        where = f" of output '{name}'" if name else ""
        if self.metric == EQUALITY and not self.rel_l2 <= self.tolerance:
            return f"{self.rel_l2:.3g} of the values{where} differ, at most {self.tolerance:g} may"
        if not self.rel_l2 <= self.tolerance:
            of_what = "" if self.metric == "raw" and where else f" of {self.metric}"
            return f"relative L2 error{of_what}{where} is {self.rel_l2:.3g}, at most {self.tolerance:g} is allowed"
        return f"top class{where} agrees for {self.top1:.3f} of the reference images, {self.top1_least:g} is required"

    @property
    def columns(self) -> Dict[str, Any]:
        """Figures for `cell.csv`. An error that is infinite or NaN is no figure: its column is empty, and the message says why."""

        def figure(value: float) -> Optional[float]:
            return value if self.compared and math.isfinite(value) else None

        by_output = {name: figure(error) for name, error in self.by_output.items()}
        return {
            "parity_output": spelled(self.output),
            "parity_by_output": _listed(by_output, self.output) if len(by_output) > 1 else None,
            "parity_metric": self.metric,
            "parity_tolerance": self.tolerance,
            "parity_rel_l2": figure(self.rel_l2),
            "parity_prob_rel_l2": figure(self.prob_rel_l2),
            "parity_top1": self.top1,
            "parity_top5": self.top5,
        }


def _listed(errors: Mapping[str, Optional[float]], worst: str) -> str:
    """The errors by name as JSON that fits a column: all of them, else the worst, and how many outputs that leaves out."""
    named = {spelled(name): error for name, error in errors.items()}
    text = json.dumps(named)
    if len(named) == len(errors) and fits(text):
        return text

    def rank(name: str) -> Tuple[bool, float]:
        error = errors[name]
        return name != worst, -math.inf if error is None else -error

    kept: Dict[str, Any] = {}
    room = MOST_TEXT - len(json.dumps({LEFT_OUT: _more(len(errors))}))
    for name in sorted(errors, key=rank):
        # its braces are as long as the comma and the space that follow it among others
        room -= len(json.dumps({spelled(name): errors[name]}))
        if room < 0:
            break
        kept.setdefault(spelled(name), errors[name])  # long names may be spelled alike: the worst of them counts
    return json.dumps({**kept, LEFT_OUT: _more(len(errors) - len(kept))})


def _more(count: int) -> str:
    return f"{count:,} more outputs"


def compare_all(batches: Sequence[Arrays], reference: Reference, batch_size: int, precision: str) -> Parity:
    """The worst output, of all outputs of some batches.

    batches: what came out for reference.batches(batch_size), in that order. An output without a batch axis is compared
    where a batch is one unit, or where the reference has the same values in all units. Raises Unsupported where nothing
    can be compared.
    """
    precision = judged_as(precision, reference.model.weights_dtype)
    verdicts: List[Parity] = []
    compared = [tensor for tensor in reference.model.outputs if tensor.kind != "random"]
    if not compared:
        return _nothing("random", precision)
    for tensor in compared:
        rows = _units(batches, tensor, reference, batch_size)
        if rows is not None:
            wanted = [unit[tensor.name] for unit in reference.outputs]
            verdicts.append(replace(_compare_output(rows, wanted, tensor, precision), output=tensor.name))
    if not verdicts:
        names = ", ".join(tensor.name for tensor in reference.model.outputs)
        raise Unsupported(
            f"no output has a batch axis ({names}): a batch of {batch_size} cannot be compared, one of 1 can"
        )
    verdicts = [verdict for verdict in verdicts if verdict.compared]
    if not verdicts:
        return _nothing(EMPTY, precision)
    worst = max(verdicts, key=lambda verdict: verdict.badness)
    return replace(worst, by_output={verdict.output: verdict.rel_l2 for verdict in verdicts})


def _nothing(metric: str, precision: str) -> Parity:
    """That nothing was compared."""
    return Parity(metric, TOLERANCES[precision][1], math.nan, math.nan, None, None, 0.0, compared=False)


def judged_as(precision: str, weights_dtype: str) -> str:
    """The precision whose tolerances hold: that of the file's own weights where it is the coarser one.

    Frameworks round float16 and quantized values in different places, whatever precision they were asked for.
    """
    if "quantized" in weights_dtype:
        return "int8"
    own = {"float16": "fp16", "bfloat16": "bf16"}.get(weights_dtype, precision)
    return own if TOLERANCES[own][1] > TOLERANCES[precision][1] else precision


def _units(
    batches: Sequence[Arrays], tensor: Tensor, reference: Reference, batch_size: int
) -> Optional[List[np.ndarray]]:
    """One output unit by unit; None where it cannot be compared."""
    count = max(1, batch_size // reference.model.unit_size)
    whole = [batch[tensor.name] for batch in batches]
    if count == 1:
        return whole
    if tensor.batch_axis is not None:
        # what an adapter flattened has its batch axis in front, whatever axis that was
        axes = [tensor.batch_axis if one.ndim == len(tensor.shape) else 0 for one in whole]
        if any(not one.ndim or one.shape[axis] % count for one, axis in zip(whole, axes)):  # a scalar has no batch
            return [np.empty((0, *one.shape[1:]), one.dtype) for one in whole]
        return [part for one, axis in zip(whole, axes) for part in np.split(one, count, axis=axis)]
    first = reference.outputs[0][tensor.name]
    same = all(np.array_equal(first, unit[tensor.name]) for unit in reference.outputs)
    return [one for one in whole for _ in range(count)] if same else None


def _compare_output(rows: Sequence[np.ndarray], units: Sequence[np.ndarray], tensor: Tensor, precision: str) -> Parity:
    for number, row in enumerate(rows):
        wanted = units[number % len(units)]
        if row.size != wanted.size:
            words = f"has the shape {tuple(row.shape)}, the reference {tuple(wanted.shape)}"
            return Parity("shape", TOLERANCES[precision][1], math.inf, math.inf, None, None, 0.0, wrong=words)
    if not any(unit.size for unit in units):
        return _nothing(EMPTY, precision)
    if units[0].dtype.kind != "f":
        return _equality(rows, units, precision)
    # of probabilities each line is a sample; of anything else a unit is compared as a whole
    lines = units[0].shape[0] if tensor.kind == "probabilities" and units[0].ndim == 2 else 1
    together = [unit.reshape(lines, -1) for unit in units]
    got = [row.reshape(lines, -1) for row in rows]
    if len({one.shape for one in together}) > 1:  # as many boxes as there are: unit by unit, and the worst of them
        parts = [compare(got[r :: len(units)][0], one, "raw", precision) for r, one in enumerate(together)]
        return replace(max(parts, key=lambda part: part.badness), top1=None, top5=None)
    verdict = compare(np.concatenate(got), np.concatenate(together), tensor.kind, precision)
    return verdict if units[0].ndim == 2 else replace(verdict, top1=None, top5=None)


def _equality(rows: Sequence[np.ndarray], units: Sequence[np.ndarray], precision: str) -> Parity:
    """Whole numbers, truth values and texts: the share that differs, over all units, each with its worst occurrence."""
    differing, size = 0, 0
    for r, unit in enumerate(units):
        wanted = unit.reshape(-1)
        occurrences = [row.reshape(-1) for row in rows[r :: len(units)]]
        differing += max((int(np.sum(one != wanted)) for one in occurrences), default=0)
        size += wanted.size
    share = differing / size if size else 0.0
    return Parity(EQUALITY, TOLERANCES[precision][1], share, share, None, None, 0.0)


def differing(got: np.ndarray, wanted: np.ndarray) -> float:
    """How far one array is from another of the same size: relative L2 distance, of what is no number the differing share."""
    if got.size != wanted.size:
        return math.inf
    if wanted.dtype.kind != "f":
        return float(np.mean(got.reshape(-1) != wanted.reshape(-1))) if wanted.size else 0.0
    return relative_l2(got.reshape(1, -1).astype(np.float64), wanted.reshape(1, -1).astype(np.float64))


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
    wrong = "" if math.isfinite(error) else beyond_figures(got, wanted, metric == "logits")
    return Parity(metric, tolerance, error, as_is, top1, top5, top1_least, wrong=wrong)


def beyond_figures(got: np.ndarray, wanted: np.ndarray, of_logits: bool = False) -> str:
    """Why the distance of two arrays is infinite or NaN, in words that follow "the output".

    got: (rows, n); wanted: (images, n); row r belongs to image r modulo images. of_logits: whether the distance is that of
    their centred logits.
    """
    expected = np.resize(wanted, got.shape)
    of_all = f"of {got.size:,} values"
    nan = int(np.sum(np.isnan(got) & ~np.isnan(expected)))
    if nan:
        return f"holds NaN in {nan:,} {of_all}, where the reference holds none"
    infinite = int(np.sum(np.isinf(got) & (got != expected)))
    if infinite:
        return f"is infinite in {infinite:,} {of_all}, where the reference is not"
    finite = int(np.sum(np.isfinite(got) & ~np.isfinite(expected)))
    if finite:
        return f"holds numbers in {finite:,} {of_all}, where the reference is NaN or infinite"
    if not wanted.any():
        return f"is not 0 (at most {float(np.max(np.abs(got))):.3g}), where the reference is 0 everywhere"
    if of_logits and not centred_logits(wanted).any():
        return "tells the classes apart, where the logits of the reference are all equal"
    return "is so far from the reference that the distance is no number"


def relative_l2(got: np.ndarray, wanted: np.ndarray) -> float:
    """|got - wanted| / |wanted| over all images, each with its worst row; NaN or infinity in `got` give that.

    got: (rows, n); wanted: (images, n). Where `wanted` is not finite, `got` must be the same, else the result is infinite.
    """
    images = len(wanted)
    finite = np.isfinite(wanted)
    if not finite.all():
        odd = np.resize(~finite, got.shape)
        expected = np.resize(wanted, got.shape)
        if not np.array_equal(got[odd], expected[odd], equal_nan=True):
            return math.inf
        got, wanted = np.where(odd, 0.0, got), np.where(finite, wanted, 0.0)
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
    if classes == 0:
        return 1.0
    count = min(count, classes)
    best_wanted, best_got = best_places(wanted, count), best_places(got, count)
    found = np.array(
        [len(set(best_got[r]) & set(best_wanted[r % images])) / count for r in range(len(got))], dtype=np.float64
    )
    found[np.isnan(got).any(axis=1)] = 0.0
    return float(np.mean([found[i::images].min() for i in range(images)]))


def best_places(values: np.ndarray, count: int) -> np.ndarray:
    """Places of the `count` greatest values of each row, the first of equals first and NaN last; (rows, count).

    np.argsort(-values, axis=1, kind="stable")[:, :count], without sorting what comes after: a row of BERT has 98,304 values.
    """
    negated = -values
    limits = np.partition(negated, count - 1, axis=1)[:, count - 1]
    best = np.empty((len(values), count), dtype=np.intp)
    for place, (row, limit) in enumerate(zip(negated, limits)):
        candidates = np.arange(len(row)) if np.isnan(limit) else np.flatnonzero(row <= limit)
        best[place] = candidates[np.argsort(row[candidates], kind="stable")[:count]]
    return best
