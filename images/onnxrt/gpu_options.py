"""Options of ONNX Runtime's GPU providers, and the choice between them for one shape by a short trial.

A CUDA graph wins where launches cost more than the work (small batches); elsewhere it depends on the GPU and on what
cuDNN's fused engines make of the model, so both are tried and the choice is kept in the cache folder.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from images.onnxrt import sessions


class Choice(NamedTuple):
    """graph: capture a CUDA graph. fused_bias: let cuDNN fuse a convolution with its bias."""

    graph: bool
    fused_bias: bool

    def __str__(self) -> str:
        return f"{'CUDA graph' if self.graph else 'no graph'}, {'fused' if self.fused_bias else 'separate'} bias"


#: below this batch size the launches dominate on every GPU seen so far, and a trial would only cost time
TRIAL_FROM_BATCH = 64
_TRIAL_SECONDS = 0.3


def candidates(batch_size: int) -> List[Choice]:
    """In the order of trying; the first one that works is taken where there is no trial."""
    if batch_size < TRIAL_FROM_BATCH:
        return [Choice(True, False), Choice(False, False)]
    return [Choice(False, False), Choice(True, False), Choice(False, True), Choice(True, True)]


def cuda_options(device: int, stream: int, precision: str, choice: Choice) -> Dict[str, str]:
    return {
        "device_id": str(device),
        "user_compute_stream": str(stream),
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "cudnn_conv_use_max_workspace": "1",
        "prefer_nhwc": "1",
        "use_tf32": "1" if precision == "tf32" else "0",
        "enable_cuda_graph": "1" if choice.graph else "0",
        "fuse_conv_bias": "1" if choice.fused_bias else "0",
        "arena_extend_strategy": "kSameAsRequested",
    }


def tensorrt_options(device: int, stream: int, precision: str, cache: Path, prefix: str) -> Dict[str, str]:
    return {
        "device_id": str(device),
        "user_compute_stream": str(stream),
        "trt_fp16_enable": "1" if precision == "fp16" else "0",
        "trt_cuda_graph_enable": "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(cache),
        "trt_engine_cache_prefix": prefix,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(cache),
    }


def providers(
    variant: str, device: int, stream: int, precision: str, choice: Choice, cache: Path, prefix: str
) -> List[Tuple[str, Dict[str, str]]]:
    cuda = (sessions.CUDA, cuda_options(device, stream, precision, choice))
    if variant == "onnxrt":
        return [cuda]
    # a graph is captured around the whole model: by TensorRT, not by the CUDA provider that takes what it leaves
    cuda[1]["enable_cuda_graph"] = "0"
    return [(sessions.TENSORRT, tensorrt_options(device, stream, precision, cache, prefix)), cuda]


def seconds_per_run(run: Callable[[], None]) -> float:
    """Median time of a run; a few runs, or a third of a second of them."""
    taken: List[float] = []
    begin = time.perf_counter()
    while len(taken) < 5 or time.perf_counter() - begin < _TRIAL_SECONDS:
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return sorted(taken)[len(taken) // 2]


class ChoiceCache:
    """What won for a key, in one small JSON file; a file that cannot be read is no reason to stop."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _read(self) -> Dict[str, Any]:
        try:
            values = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}

    def get(self, key: str) -> Optional[Choice]:
        value = self._read().get(key)
        if isinstance(value, list) and len(value) == 2 and all(isinstance(part, bool) for part in value):
            return Choice(value[0], value[1])
        return None

    def put(self, key: str, choice: Choice) -> None:
        values = self._read()
        values[key] = list(choice)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")
        temporary.replace(self._path)
