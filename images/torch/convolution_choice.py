"""Chooses the algorithm of each convolution (convolutions.py) by trial on the device, for one shape.

One whose result is not that of the convolution does not win. On a GPU a CUDA graph of a few repetitions is timed, since that
is how the whole will run: without one, a small batch would be measured by the time it takes to launch.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Callable, List, Optional, Sequence, Tuple

import torch

from images.torch.convolutions import ALGORITHMS, NO_PADDING, Convolution, layers_of

CONVOLUTION, PRODUCT, FUSED, SHIFTED = ALGORITHMS
_REPETITIONS = 4
_REPLAYS = 3
_CPU_SECONDS = 0.02
#: relative L2 distance of two algorithms' results of one layer: bf16 rounds to 3 digits, a wrong kernel is far off
_LIMIT = 0.02
#: seconds of one algorithm of a layer for an input; None where it does not work
Measure = Callable[[Convolution, torch.Tensor, str], Optional[float]]


def choose(module: Any, inputs: Sequence[torch.Tensor], measure: Optional[Measure] = None) -> None:
    """Sets the fastest algorithm for every layer for inputs like these, in one pass over the module.

    `measure` is for tests; by default the algorithms are timed on the device of the inputs, and what that took is freed again.
    """
    on_gpu = any(tensor.is_cuda for tensor in inputs)
    measure = measure or (_seconds_on_gpu if on_gpu else _seconds_on_cpu)
    hooks = [layer.register_forward_pre_hook(partial(_choose_for, measure)) for layer in layers_of(module)]
    own_stream = torch.cuda.Stream() if on_gpu else None  # the default stream cannot be captured
    if own_stream is not None:
        own_stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(own_stream), torch.inference_mode():
            module(*inputs)
        if on_gpu:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
    finally:
        for hook in hooks:
            hook.remove()


def possible(layer: Convolution) -> List[str]:
    """Algorithms that the layer's form allows; whether the libraries have kernels for them is seen when they are tried."""
    inner = layer.convolution
    algorithms = [CONVOLUTION]
    one_by_one = inner.kernel_size == (1, 1) and inner.stride == (1, 1) and inner.padding in ((0, 0), "valid")
    if one_by_one and inner.groups == 1 and layer.padding == NO_PADDING:
        algorithms.append(PRODUCT)
    if isinstance(inner.padding, str):
        return algorithms
    if layer.relu and inner.weight.is_cuda:
        algorithms.append(FUSED)
    if layer.padding != NO_PADDING:
        algorithms.append(SHIFTED)
    return algorithms


def _choose_for(measure: Measure, layer: Convolution, given: Tuple[torch.Tensor, ...]) -> None:
    (images,) = given
    algorithms = possible(layer)
    if len(algorithms) == 1:
        layer.algorithm = CONVOLUTION
        return
    seconds = {algorithm: measure(layer, images, algorithm) for algorithm in algorithms}
    working = {algorithm: taken for algorithm, taken in seconds.items() if taken is not None}
    fastest_first = sorted(working, key=lambda algorithm: working[algorithm])
    layer.algorithm = next(
        (algorithm for algorithm in fastest_first if algorithm == CONVOLUTION or _is_right(layer, images, algorithm)),
        CONVOLUTION,
    )


def _is_right(layer: Convolution, images: torch.Tensor, algorithm: str) -> bool:
    """Whether an algorithm gives what the convolution gives, for some images at both ends of the batch."""
    wanted, got = (_ends(layer, images, one) for one in (CONVOLUTION, algorithm))
    return float((got - wanted).norm()) <= _LIMIT * float(wanted.norm())


def _ends(layer: Convolution, images: torch.Tensor, algorithm: str) -> torch.Tensor:
    result = ALGORITHMS[algorithm](images, layer)
    return torch.cat([result[:4], result[-4:]]).double()


def _seconds_on_gpu(layer: Convolution, images: torch.Tensor, algorithm: str) -> Optional[float]:
    """Least device time of a few; None where the library has no kernel or no memory for this algorithm."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    stream = torch.cuda.current_stream()
    graph = torch.cuda.CUDAGraph()
    compute = ALGORITHMS[algorithm]
    try:
        compute(images, layer)  # chooses the library's kernel, which a capture must not
        stream.synchronize()
        # not torch.cuda.graph(), which empties the allocator's cache each time: hundreds of captures would take a minute
        graph.capture_begin()
        try:
            for _ in range(_REPETITIONS):
                compute(images, layer)
        finally:
            graph.capture_end()
        times: List[float] = []
        for _ in range(1 + _REPLAYS):
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / 1000 / _REPETITIONS)
        return min(times[1:])
    except RuntimeError:  # out of memory is one, too
        torch.cuda.synchronize()
        return None


def _seconds_on_cpu(layer: Convolution, images: torch.Tensor, algorithm: str) -> Optional[float]:
    """Least time of the calls that begin within 20 ms."""
    times: List[float] = []
    compute = ALGORITHMS[algorithm]
    try:
        while sum(times) < _CPU_SECONDS:
            begin = time.perf_counter()
            compute(images, layer)
            times.append(time.perf_counter() - begin)
    except RuntimeError:
        return None
    return min(times)
