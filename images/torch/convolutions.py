"""Each convolution of a module in the way that is fastest on this device for this shape.

On a GPU, PyTorch's eager convolution adds its bias in a pass of its own over the output, and the ReLU behind it is another:
in a network of thin layers, whose time is memory traffic, those passes weigh as much as the convolutions. Ways tried:

convolution         as the model has it: cuDNN or oneDNN, then the bias, then the ReLU
matrix product      of a 1x1 convolution, which in channels-last is one of (pixels, channels) by (channels, channels):
                    cuBLAS adds bias and ReLU before it writes
fused convolution   cuDNN's own convolution + bias + ReLU, where it has an engine for the layer

Every way computes the same sums in the same precision; one whose result is not that of the convolution does not win. On a
GPU a CUDA graph of a few repetitions is timed, since that is how the whole will run: without one, a small batch would be
measured by the time it takes to launch.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from torch.nn import functional

CONVOLUTION, PRODUCT, FUSED = "convolution", "matrix product", "fused convolution"
WAYS = (CONVOLUTION, PRODUCT, FUSED)
_REPETITIONS = 4
_REPLAYS = 3
_CPU_SECONDS = 0.02
#: relative L2 distance of two ways' results of one layer: bf16 rounds to 3 digits, a wrong kernel is far off
_LIMIT = 0.02
#: seconds of one way of a layer for an input; None where it does not work
Measure = Callable[["Convolution", torch.Tensor, str], Optional[float]]


class Convolution(torch.nn.Module):
    """A Conv2d and the ReLU behind it, if there is one. Input and output are (N, C, H, W), in any layout."""

    def __init__(self, convolution: torch.nn.Conv2d, relu: bool) -> None:
        super().__init__()
        self.convolution, self.relu = convolution, relu
        self.way = CONVOLUTION
        #: while a way is being chosen: the time of one way for an input, None where it does not work
        self.measure: Optional[Measure] = None

    def possible(self) -> List[str]:
        """Ways that the layer's form allows; whether the libraries have kernels for them is seen when they are tried."""
        layer = self.convolution
        ways = [CONVOLUTION]
        one_by_one = layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.padding in ((0, 0), "valid")
        if one_by_one and layer.groups == 1:
            ways.append(PRODUCT)
        if self.relu and layer.weight.is_cuda and not isinstance(layer.padding, str):
            ways.append(FUSED)
        return ways

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.measure is not None:
            self._choose(images, self.measure)
        return self.compute(images, self.way)

    def _choose(self, images: torch.Tensor, measure: Measure) -> None:
        ways = self.possible()
        seconds = {way: measure(self, images, way) for way in ways} if len(ways) > 1 else {}
        working = {way: taken for way, taken in seconds.items() if taken is not None}
        fastest_first = sorted(working, key=lambda way: working[way])
        self.way = next(
            (way for way in fastest_first if way == CONVOLUTION or self._is_right(images, way)), CONVOLUTION
        )

    def _is_right(self, images: torch.Tensor, way: str) -> bool:
        """Whether a way gives what the convolution gives, for some images at both ends of the batch."""
        wanted, got = (self._ends(images, one) for one in (CONVOLUTION, way))
        return float((got - wanted).norm()) <= _LIMIT * float(wanted.norm())

    def _ends(self, images: torch.Tensor, way: str) -> torch.Tensor:
        result = self.compute(images, way)
        return torch.cat([result[:4], result[-4:]]).double()

    def compute(self, images: torch.Tensor, way: str) -> torch.Tensor:
        layer = self.convolution
        if way == PRODUCT:
            return _product(images, layer.weight, layer.bias, self.relu)
        if way == FUSED:
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


def wrap(module: Any) -> int:
    """Puts a Convolution in the place of every Conv2d of a torch.fx.GraphModule, with the ReLU behind it; their number."""
    graph = module.graph
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    wrapped = 0
    for node in list(graph.nodes):
        # one that is called twice may have a ReLU behind it in one place only
        if node.op != "call_module" or calls[node.target] > 1:
            continue
        relu = _only_reader_is_relu(module, node)
        found = _convolution_in(module.get_submodule(node.target))
        if found is None:
            continue
        owner, name, convolution = found
        layer = Convolution(convolution, relu is not None)
        if owner is None:
            _set(module, node.target, layer)
        else:
            setattr(owner, name, layer)
        if relu is not None:
            relu.replace_all_uses_with(node)
            graph.erase_node(relu)
        wrapped += 1
    module.delete_all_unused_submodules()
    module.recompile()
    return wrapped


def _convolution_in(module: Any) -> Optional[Tuple[Any, str, torch.nn.Conv2d]]:
    """The Conv2d that a module is or, as onnx2torch's padded convolutions do, ends with: who holds it, its name, itself."""
    if type(module) is torch.nn.Conv2d and module.padding_mode == "zeros":
        return None, "", module
    if type(module) is torch.nn.Sequential and len(module):
        last = module[-1]
        if type(last) is torch.nn.Conv2d and last.padding_mode == "zeros":
            return module, str(len(module) - 1), last
    return None


def _only_reader_is_relu(module: Any, node: Any) -> Optional[Any]:
    readers = list(node.users)
    if len(readers) != 1 or readers[0].op != "call_module":
        return None
    return readers[0] if type(module.get_submodule(readers[0].target)) is torch.nn.ReLU else None


def _set(module: Any, target: str, layer: Any) -> None:
    owner, _, name = target.rpartition(".")
    setattr(module.get_submodule(owner), name, layer)


def layers_of(module: Any) -> List[Convolution]:
    return [layer for layer in module.modules() if isinstance(layer, Convolution)]


def choose(module: Any, images: torch.Tensor, measure: Optional[Measure] = None) -> None:
    """Sets the fastest way of every layer for inputs like `images`, in one pass over the module.

    `measure` is for tests; by default the ways are timed on the device of `images`, and what that took is freed again.
    """
    layers = layers_of(module)
    on_gpu = images.is_cuda
    for layer in layers:
        layer.measure = measure or (_seconds_on_gpu if on_gpu else _seconds_on_cpu)
    own_stream = torch.cuda.Stream() if on_gpu else None  # the default stream cannot be captured
    if own_stream is not None:
        own_stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(own_stream), torch.inference_mode():
            module(images)
        if on_gpu:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
    finally:
        for layer in layers:
            layer.measure = None


def settings(module: Any) -> Dict[str, str]:
    """How many layers go each way, and the way of each in order, a letter each, which is what set_ways() takes."""
    chosen = [layer.way for layer in layers_of(module)]
    return {
        "convolutions": ", ".join(f"{chosen.count(way)} {way}" for way in WAYS if way in chosen) or "none",
        "convolutions_in_order": "".join(way[0] for way in chosen),
    }


def set_ways(module: Any, chosen: str) -> None:
    """Ways by their first letters, in the order of the layers. Raises ValueError for others, or another number of them."""
    layers = layers_of(module)
    by_letter = {way[0]: way for way in WAYS}
    if len(chosen) != len(layers) or set(chosen) - set(by_letter):
        raise ValueError(f"'{chosen}' does not name a way for each of {len(layers)} convolutions")
    for layer, letter in zip(layers, chosen):
        layer.way = by_letter[letter]


def _seconds_on_gpu(layer: Convolution, images: torch.Tensor, way: str) -> Optional[float]:
    """Least device time of a few; None where the library has no kernel or no memory for this way."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    stream = torch.cuda.current_stream()
    graph = torch.cuda.CUDAGraph()
    try:
        layer.compute(images, way)  # chooses the library's algorithm, which a capture must not
        stream.synchronize()
        # not torch.cuda.graph(), which empties the allocator's cache each time: hundreds of captures would take a minute
        graph.capture_begin()
        try:
            for _ in range(_REPETITIONS):
                layer.compute(images, way)
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


def _seconds_on_cpu(layer: Convolution, images: torch.Tensor, way: str) -> Optional[float]:
    """Least time of the calls that begin within 20 ms."""
    times: List[float] = []
    try:
        while sum(times) < _CPU_SECONDS:
            begin = time.perf_counter()
            layer.compute(images, way)
            times.append(time.perf_counter() - begin)
    except RuntimeError:
        return None
    return min(times)
