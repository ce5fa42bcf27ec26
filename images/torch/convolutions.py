"""Each convolution of a module by the algorithm that is fastest on this device for this shape.

On a GPU, PyTorch's eager convolution adds its bias in a pass of its own over the output, and the ReLU behind it is another:
in a network of thin layers, whose time is memory traffic, those passes weigh as much as the convolutions. Ways tried:

convolution         as the model has it: cuDNN or oneDNN, then the bias, then the ReLU
matrix product      of a 1x1 convolution, which in channels-last is one of (pixels, channels) by (channels, channels):
                    cuBLAS adds bias and ReLU before it writes
fused convolution   cuDNN's own convolution + bias + ReLU, where it has an engine for the layer
shifted convolution of images that the model pads, often at one end only, which makes PyTorch copy them: padding of the
                    convolution itself, enough for both ends, and the outputs that no longer begin the row cut away

Every algorithm computes the same sums in the same precision; one whose result is not that of the convolution does not win. On a
GPU a CUDA graph of a few repetitions is timed, since that is how the whole will run: without one, a small batch would be
measured by the time it takes to launch.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch.nn import functional

CONVOLUTION, PRODUCT, FUSED, SHIFTED = "convolution", "matrix product", "fused convolution", "shifted convolution"
ALGORITHMS = (CONVOLUTION, PRODUCT, FUSED, SHIFTED)
#: zeros around the images as torch.nn.functional.pad lists them: left, right, top, bottom
Padding = Tuple[int, int, int, int]
NO_PADDING: Padding = (0, 0, 0, 0)
_REPETITIONS = 4
_REPLAYS = 3
_CPU_SECONDS = 0.02
#: relative L2 distance of two algorithms' results of one layer: bf16 rounds to 3 digits, a wrong kernel is far off
_LIMIT = 0.02
#: seconds of one algorithm of a layer for an input; None where it does not work
Measure = Callable[["Convolution", torch.Tensor, str], Optional[float]]


class Convolution(torch.nn.Module):
    """A Conv2d, the ReLU behind it and the zeros that the model puts around its input, if there are such.

    Input and output are (N, C, H, W), in any layout.
    """

    def __init__(self, convolution: torch.nn.Conv2d, relu: bool, padding: Padding = NO_PADDING) -> None:
        super().__init__()
        self.convolution, self.relu, self.padding = convolution, relu, padding
        self.algorithm = CONVOLUTION
        #: while an algorithm is being chosen: the time of one for an input, None where it does not work
        self.measure: Optional[Measure] = None

    def possible(self) -> List[str]:
        """Ways that the layer's form allows; whether the libraries have kernels for them is seen when they are tried."""
        layer = self.convolution
        algorithms = [CONVOLUTION]
        one_by_one = layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.padding in ((0, 0), "valid")
        if one_by_one and layer.groups == 1 and self.padding == NO_PADDING:
            algorithms.append(PRODUCT)
        if isinstance(layer.padding, str):
            return algorithms
        if self.relu and layer.weight.is_cuda:
            algorithms.append(FUSED)
        if self.padding != NO_PADDING:
            algorithms.append(SHIFTED)
        return algorithms

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.measure is not None:
            self._choose(images, self.measure)
        return self.compute(images, self.algorithm)

    def _choose(self, images: torch.Tensor, measure: Measure) -> None:
        algorithms = self.possible()
        seconds = (
            {algorithm: measure(self, images, algorithm) for algorithm in algorithms} if len(algorithms) > 1 else {}
        )
        working = {algorithm: taken for algorithm, taken in seconds.items() if taken is not None}
        fastest_first = sorted(working, key=lambda algorithm: working[algorithm])
        self.algorithm = next(
            (algorithm for algorithm in fastest_first if algorithm == CONVOLUTION or self._is_right(images, algorithm)),
            CONVOLUTION,
        )

    def _is_right(self, images: torch.Tensor, algorithm: str) -> bool:
        """Whether an algorithm gives what the convolution gives, for some images at both ends of the batch."""
        wanted, got = (self._ends(images, one) for one in (CONVOLUTION, algorithm))
        return float((got - wanted).norm()) <= _LIMIT * float(wanted.norm())

    def _ends(self, images: torch.Tensor, algorithm: str) -> torch.Tensor:
        result = self.compute(images, algorithm)
        return torch.cat([result[:4], result[-4:]]).double()

    def compute(self, images: torch.Tensor, algorithm: str) -> torch.Tensor:
        layer = self.convolution
        if algorithm == PRODUCT:
            return _product(images, layer.weight, layer.bias, self.relu)
        if algorithm == SHIFTED:
            result = _shifted(images, layer, self.padding)
            return functional.relu(result) if self.relu else result
        if self.padding != NO_PADDING:
            images = functional.pad(images, self.padding)
        if algorithm == FUSED:
            numbers = (layer.stride, layer.padding, layer.dilation, layer.groups)
            return torch.cudnn_convolution_relu(images, layer.weight, layer.bias, *numbers)
        result = layer(images)
        return functional.relu(result) if self.relu else result


def _product(images: torch.Tensor, weight: torch.Tensor, bias: Optional[torch.Tensor], relu: bool) -> torch.Tensor:
    count, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(-1, channels)  # a view where the layout is channels-last
    factor = weight.view(weight.shape[0], channels).t()
    if bias is None:
        sums = rows @ factor
        sums = functional.relu(sums) if relu else sums
    elif relu and hasattr(torch, "_addmm_activation"):
        sums = torch._addmm_activation(bias, rows, factor)
    else:
        sums = torch.addmm(bias, rows, factor)
        sums = functional.relu(sums) if relu else sums
    return sums.view(count, height, width, -1).permute(0, 3, 1, 2)


def _shifted(images: torch.Tensor, layer: torch.nn.Conv2d, padding: Padding) -> torch.Tensor:
    """Output j of a row padded with `wide` zeros at each end begins at j * stride - wide; wanted are those from -before on."""
    left, right, top, bottom = padding
    wide, cuts = [], [slice(None), slice(None)]
    for axis, (before, after) in enumerate(((top, bottom), (left, right))):
        stride, kernel = layer.stride[axis], layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1
        before, after = before + int(layer.padding[axis]), after + int(layer.padding[axis])
        skipped = max(0, -(-(after - before) // stride))
        outputs = (images.shape[2 + axis] + before + after - kernel) // stride + 1
        wide.append(before + skipped * stride)
        cuts.append(slice(skipped, skipped + outputs))
    result = functional.conv2d(
        images, layer.weight, layer.bias, layer.stride, tuple(wide), layer.dilation, layer.groups
    )
    channels_last = result.is_contiguous(memory_format=torch.channels_last)
    # dense as any other result: what reads it next may be a matrix product, which would have to copy it anyway
    return result[tuple(cuts)].contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )


def layers_of(module: Any) -> List[Convolution]:
    return [layer for layer in module.modules() if isinstance(layer, Convolution)]


def choose(module: Any, inputs: Sequence[torch.Tensor], measure: Optional[Measure] = None) -> None:
    """Sets the fastest algorithm for every layer for inputs like these, in one pass over the module.

    `measure` is for tests; by default the algorithms are timed on the device of the inputs, and what that took is freed again.
    """
    layers = layers_of(module)
    on_gpu = any(tensor.is_cuda for tensor in inputs)
    for layer in layers:
        layer.measure = measure or (_seconds_on_gpu if on_gpu else _seconds_on_cpu)
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
        for layer in layers:
            layer.measure = None


def settings(module: Any) -> Dict[str, str]:
    """How many layers have each algorithm, and that of each in order, a letter each, which is what set_algorithms() takes."""
    chosen = [layer.algorithm for layer in layers_of(module)]
    return {
        "convolutions": ", ".join(f"{chosen.count(one)} {one}" for one in ALGORITHMS if one in chosen) or "none",
        "convolutions_in_order": "".join(algorithm[0] for algorithm in chosen),
    }


def set_algorithms(module: Any, chosen: str) -> None:
    """Ways by their first letters, in the order of the layers. Raises ValueError for others, or another number of them."""
    layers = layers_of(module)
    by_letter = {algorithm[0]: algorithm for algorithm in ALGORITHMS}
    if len(chosen) != len(layers) or set(chosen) - set(by_letter):
        raise ValueError(f"'{chosen}' does not name an algorithm for each of {len(layers)} convolutions")
    for layer, letter in zip(layers, chosen):
        layer.algorithm = by_letter[letter]


def _seconds_on_gpu(layer: Convolution, images: torch.Tensor, algorithm: str) -> Optional[float]:
    """Least device time of a few; None where the library has no kernel or no memory for this algorithm."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    stream = torch.cuda.current_stream()
    graph = torch.cuda.CUDAGraph()
    try:
        layer.compute(images, algorithm)  # chooses the library's kernel, which a capture must not
        stream.synchronize()
        # not torch.cuda.graph(), which empties the allocator's cache each time: hundreds of captures would take a minute
        graph.capture_begin()
        try:
            for _ in range(_REPETITIONS):
                layer.compute(images, algorithm)
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
    try:
        while sum(times) < _CPU_SECONDS:
            begin = time.perf_counter()
            layer.compute(images, algorithm)
            times.append(time.perf_counter() - begin)
    except RuntimeError:
        return None
    return min(times)
