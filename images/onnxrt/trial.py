"""Which choice for one shape is the fastest on this GPU: tried, one change at a time, within a bound of time.

With four yes-or-no choices there are 16 combinations, and each takes 3 to 17 s to build (exhaustive algorithm search). So each
choice is turned over once, and kept turned where that was faster: five builds. What won is kept in the cache folder.

A choice must also compute the model. On an H100 (onnxruntime-gpu 1.31.1, cuDNN 9) one that won for TF32 at batch 64 of a small
network gave outputs that were off by 31 %; so outputs are compared with the CPU provider's, and a choice that is off does not win.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Protocol, Sequence

import numpy as np

from common.harness.adapter import Arrays, batch_size_of
from common.harness.choices import CacheFile, forget_frames
from common.harness.parity import differing
from common.model_files import ModelFiles
from common.text import first_line
from images.onnxrt.host_check import trial_seconds

_MEASURE_SECONDS = 0.3
#: relative L2 distance from the CPU provider's outputs beyond which a choice does not compute the model: ten times (fp32) and
#: twice what the harness allows (common/harness/parity.py), which judges what won
LIMITS = {"fp32": 1e-2, "tf32": 1e-1, "fp16": 1e-1}
#: an error of ONNX Runtime names each C++ type on the way: the settings of a row keep this much of it
_REASON_LENGTH = 160


class Choice(NamedTuple):
    """graph: capture a CUDA graph. nhwc: channels-last inside. fused_activation: hard-swish as one operator.
    fused_bias: let cuDNN fuse a convolution with its bias. exhaustive: `cudnn_conv_algo_search`; from ONNX Runtime 1.20 on
    EXHAUSTIVE is cuDNN's heuristic mode B and HEURISTIC its mode A (microsoft/onnxruntime issue 22705), neither always better.

    The defaults are tried first; the order of the fields is that of the trial: the graph, because a model that cannot be
    captured fails in every choice that has one; then the most promising first, as an H100 showed them.
    """

    graph: bool = True
    fused_bias: bool = False
    exhaustive: bool = True
    nhwc: bool = True
    fused_activation: bool = True

    def __str__(self) -> str:
        return ", ".join(
            [
                "CUDA graph" if self.graph else "no graph",
                "NHWC" if self.nhwc else "NCHW",
                "hard-swish fused" if self.fused_activation else "hard-swish as exported",
                "bias fused" if self.fused_bias else "bias separate",
                "exhaustive search" if self.exhaustive else "heuristic search",
            ]
        )


class Inference(Protocol):
    """What the trial needs of a shape that has been built."""

    def run(self) -> None: ...

    def output(self) -> Arrays: ...

    def close(self) -> None: ...


class Found(NamedTuple):
    """tried: choice in words -> milliseconds of an inference, or why it does not work here."""

    choice: Choice
    inference: Any
    tried: Dict[str, str]


def search(
    build: Callable[[Choice], Inference],
    bound_seconds: float,
    seconds_per_run: Callable[[Callable[[], None]], float],
    fields: Sequence[str] = Choice._fields,
    clock: Callable[[], float] = time.monotonic,
    error_of: Callable[[Any], float] = lambda inference: 0.0,
    limit: float = 0.0,
    start: Optional[Choice] = None,
) -> Found:
    """The fastest choice found; all others are closed. Raises the last failure where none works.

    bound_seconds: no further choice is begun after it, once one works; with 0 the first that works is taken unmeasured.
    fields: what may be turned over, beginning with `start` (the defaults).
    error_of: how far the outputs of a choice are off; more than `limit`, and it does not count as one that works. Where all are
    off, the least wrong is taken: the harness will say so.
    """
    begin = clock()
    current = start or Choice()
    best: Optional[Found] = None
    best_rank = (True, 0.0)
    failure: Optional[Exception] = None
    tried: Dict[str, str] = {}
    for field in (None, *fields):
        if best is not None and not best_rank[0] and clock() - begin >= bound_seconds:
            break
        candidate = current if field is None else current._replace(**{field: not getattr(current, field)})
        trial: Optional[Inference] = None
        try:
            trial = build(candidate)
            error = error_of(trial)
            seconds = seconds_per_run(trial.run) if bound_seconds > 0 else 0.0
        except Exception as raised:  # a model that cannot be captured, an engine that cuDNN does not have, no memory
            failure = raised
            tried[str(candidate)] = first_line(raised)[:_REASON_LENGTH]
            if trial is not None:
                trial.close()
            forget_frames(raised)
            continue
        wrong = not error <= limit  # NaN is wrong, too
        tried[str(candidate)] = (f"{1000 * seconds:.3f} ms" if bound_seconds > 0 else "not measured") + (
            f", but outputs are off by {error:.2g}" if wrong else ""
        )
        rank = (wrong, seconds if not wrong else error if error == error else float("inf"))
        if best is not None and not rank < best_rank:
            trial.close()
            continue
        if best is not None:
            best.inference.close()
        best, best_rank, current = Found(candidate, trial, tried), rank, candidate
    if best is None:
        assert failure is not None
        raise failure
    return best


def bound() -> float:
    """Seconds that the trial of a shape may take. Raises ValueError for an environment variable that is no number from 0."""
    return trial_seconds(os.environ)


def seconds_per_run(run: Callable[[], None]) -> float:
    """Median time of a run; a few runs, or a third of a second of them."""
    taken: List[float] = []
    begin = time.perf_counter()
    while len(taken) < 5 or time.perf_counter() - begin < _MEASURE_SECONDS:
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return sorted(taken)[len(taken) // 2]


class Expected:
    """What some inputs should give: part of their batch by ONNX Runtime's CPU provider, computed when first asked for.

    outputs_of(inputs): what the CPU provider makes of them.
    """

    #: samples that are compared, spread over the batch: wrong kernels are wrong for many, and the CPU is slow
    MOST = 64

    def __init__(self, model: ModelFiles, inputs: Arrays, outputs_of: Callable[[Arrays], Arrays]) -> None:
        size = batch_size_of(model, inputs)
        whole = model.fixed_batch is not None or any(one.batch_axis is None for one in model.outputs)
        count = size if whole else min(size, self.MOST)
        self._rows = np.unique(np.linspace(0, size - 1, count).round().astype(int))
        self._model, self._all, self._outputs_of = model, len(self._rows) == size, outputs_of
        self._inputs = {one.name: self._part(inputs[one.name], one.batch_axis) for one in model.inputs}
        self._outputs: Optional[Arrays] = None

    def _part(self, values: np.ndarray, axis: Optional[int]) -> np.ndarray:
        if self._all or axis is None:
            return values
        return np.ascontiguousarray(np.take(values, self._rows, axis=axis))

    def error_of(self, inference: Inference) -> float:
        """Runs it once; distance of its worst output from the expected one. NaN or infinity in them give that."""
        if self._outputs is None:
            self._outputs = self._outputs_of(self._inputs)
        inference.run()
        got = inference.output()
        errors = [
            differing(self._part(got[one.name], one.batch_axis), self._outputs[one.name]) for one in self._model.outputs
        ]
        return float(np.max(errors))  # NaN, too, unlike max()


class EarlierTrial(NamedTuple):
    """What the cache folder knows of an earlier trial."""

    choice: Choice
    tried: Dict[str, str]
    #: when, "" where that was not written down
    utc: str = ""


class ChoiceCache:
    """What won for a key. Entries from before outputs were compared lack the mark `checked` and do not count."""

    def __init__(self, path: Path) -> None:
        self._file = CacheFile(path)

    def get(self, key: str) -> Optional[EarlierTrial]:
        value = self._file.get(key)
        choice, tried = value.get("choice"), value.get("tried")
        if value.get("checked") is not True or not isinstance(choice, dict) or not isinstance(tried, dict):
            return None
        if set(choice) != set(Choice._fields):
            return None
        utc = value.get("utc")
        known = Choice(**{name: bool(flag) for name, flag in choice.items()})
        return EarlierTrial(known, tried, utc if isinstance(utc, str) else "")

    def put(self, key: str, kept: EarlierTrial) -> None:
        self._file.put(key, {"choice": kept.choice._asdict(), "tried": kept.tried, "utc": kept.utc, "checked": True})
