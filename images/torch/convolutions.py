"""Each convolution of a module by the algorithm that is fastest on this device for this shape (convolution_choice.py).

On a GPU, PyTorch's eager convolution adds its bias in a pass of its own over the output, and the ReLU behind it is another:
in a network of thin layers, whose time is memory traffic, those passes weigh as much as the convolutions. Algorithms:

convolution         as the model has it: cuDNN or oneDNN, then the bias, then the ReLU
matrix product      of a 1x1 convolution, which in channels-last is one of (pixels, channels) by (channels, channels):
                    cuBLAS adds bias and ReLU before it writes
fused convolution   cuDNN's own convolution + bias + ReLU, where it has an engine for the layer
shifted convolution of images that the model pads, often at one end only, which makes PyTorch copy them: padding of the
                    convolution itself, enough for both ends, and the outputs that no longer begin the row cut away

Every algorithm computes the same sums in the same precision. Recipes take from this file what they need.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple

import torch
from torch.nn import functional

#: zeros around the images as torch.nn.functional.pad lists them: left, right, top, bottom
Padding = Tuple[int, int, int, int]
NO_PADDING: Padding = (0, 0, 0, 0)


class Convolution(torch.nn.Module):
    """A Conv2d, the ReLU behind it and the zeros that the model puts around its input, if there are such.

    Input and output are (N, C, H, W), in any layout.
    """

    def __init__(self, convolution: torch.nn.Conv2d, relu: bool, padding: Padding = NO_PADDING) -> None:
        super().__init__()
        self.convolution, self.relu, self.padding = convolution, relu, padding
        self.algorithm = "convolution"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return ALGORITHMS[self.algorithm](images, self)


def _as_it_is(images: torch.Tensor, layer: Convolution) -> torch.Tensor:
    if layer.padding != NO_PADDING:
        images = functional.pad(images, layer.padding)
    result = layer.convolution(images)
    return functional.relu(result) if layer.relu else result


def _fused(images: torch.Tensor, layer: Convolution) -> torch.Tensor:
    if layer.padding != NO_PADDING:
        images = functional.pad(images, layer.padding)
    inner = layer.convolution
    numbers = (inner.stride, inner.padding, inner.dilation, inner.groups)
    return torch.cudnn_convolution_relu(images, inner.weight, inner.bias, *numbers)


def _product(images: torch.Tensor, layer: Convolution) -> torch.Tensor:
    weight, bias = layer.convolution.weight, layer.convolution.bias
    count, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(-1, channels)  # a view where the layout is channels-last
    factor = weight.view(weight.shape[0], channels).t()
    if bias is None:
        sums = rows @ factor
        sums = functional.relu(sums) if layer.relu else sums
    elif layer.relu and hasattr(torch, "_addmm_activation"):
        sums = torch._addmm_activation(bias, rows, factor)
    else:
        sums = torch.addmm(bias, rows, factor)
        sums = functional.relu(sums) if layer.relu else sums
    return sums.view(count, height, width, -1).permute(0, 3, 1, 2)


def _shifted(images: torch.Tensor, layer: Convolution) -> torch.Tensor:
    """Output j of a row padded with `wide` zeros at each end begins at j * stride - wide; wanted are those from -before on."""
    inner, (left, right, top, bottom) = layer.convolution, layer.padding
    wide, cuts = [], [slice(None), slice(None)]
    for axis, (before, after) in enumerate(((top, bottom), (left, right))):
        stride, kernel = inner.stride[axis], inner.dilation[axis] * (inner.kernel_size[axis] - 1) + 1
        before, after = before + int(inner.padding[axis]), after + int(inner.padding[axis])
        skipped = max(0, -(-(after - before) // stride))
        outputs = (images.shape[2 + axis] + before + after - kernel) // stride + 1
        wide.append(before + skipped * stride)
        cuts.append(slice(skipped, skipped + outputs))
    result = functional.conv2d(
        images, inner.weight, inner.bias, inner.stride, tuple(wide), inner.dilation, inner.groups
    )
    channels_last = result.is_contiguous(memory_format=torch.channels_last)
    # dense as any other result: what reads it next may be a matrix product, which would have to copy it anyway
    result = result[tuple(cuts)].contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )
    return functional.relu(result) if layer.relu else result


#: name -> function of images and the layer; the first letters tell them apart
ALGORITHMS: Dict[str, Callable[[torch.Tensor, Convolution], torch.Tensor]] = {
    "convolution": _as_it_is,
    "matrix product": _product,
    "fused convolution": _fused,
    "shifted convolution": _shifted,
}


def layers_of(module: Any) -> List[Convolution]:
    return [layer for layer in module.modules() if isinstance(layer, Convolution)]


def settings(module: Any) -> Dict[str, str]:
    """How many layers have each algorithm, and that of each in order, a letter each, which is what set_algorithms() takes."""
    chosen = [layer.algorithm for layer in layers_of(module)]
    return {
        "convolutions": ", ".join(f"{chosen.count(one)} {one}" for one in ALGORITHMS if one in chosen) or "none",
        "convolutions_in_order": "".join(algorithm[0] for algorithm in chosen),
    }


def set_algorithms(module: Any, chosen: str) -> None:
    """Algorithms by their first letters, in the order of the layers. Raises ValueError for others, or another number of them."""
    layers = layers_of(module)
    by_letter = {algorithm[0]: algorithm for algorithm in ALGORITHMS}
    if len(chosen) != len(layers) or set(chosen) - set(by_letter):
        raise ValueError(f"'{chosen}' does not name an algorithm for each of {len(layers)} convolutions")
    for layer, letter in zip(layers, chosen):
        layer.algorithm = by_letter[letter]
