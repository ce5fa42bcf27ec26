"""QuantizeLinear and DequantizeLinear for onnx2torch: the rounding that a quantized file (QDQ) asks for, computed in float32.

PyTorch computes the operators between the two in float32, so such a model is right here, and not faster than the one it was made of.
"""

from __future__ import annotations

from typing import Any, Optional

import torch

from images.torch.unsupported_node import UnsupportedNode

#: type of the zero point -> least and largest value
_RANGES = {torch.uint8: (0, 255), torch.int8: (-128, 127), torch.int16: (-(2**15), 2**15 - 1)}


class _Linear(torch.nn.Module):
    """axis: along which scale and zero point lie, where they are more than one number. kind: of what comes out, None: floats."""

    def __init__(self, axis: int, kind: Optional[torch.dtype]) -> None:
        super().__init__()
        self._axis, self._kind = axis, kind

    def forward(self, tensor: torch.Tensor, scale: torch.Tensor, zero: Optional[torch.Tensor] = None) -> torch.Tensor:
        scale = self._along(scale, tensor)
        shift = 0.0 if zero is None else self._along(zero, tensor).to(scale.dtype)
        if self._kind is None:
            return (tensor.to(scale.dtype) - shift) * scale
        least, most = _RANGES[self._kind]
        return torch.clamp(torch.round(tensor / scale) + shift, least, most).to(self._kind)

    def _along(self, values: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
        if values.numel() == 1:
            return values.reshape(())
        shape = [1] * tensor.dim()
        shape[self._axis] = -1
        return values.reshape(shape)


def quantize(node: Any, graph: Any) -> Any:
    """Raises UnsupportedNode for a type that torch does not have, or blocks."""
    kind = torch.uint8
    if len(node.input_values) > 2 and node.input_values[2]:
        zero = graph.initializers.get(node.input_values[2])
        if zero is None:
            raise UnsupportedNode("its zero point is computed by the graph")
        kind = zero.to_torch().dtype
    elif node.attributes.get("output_dtype"):
        kind = {2: torch.uint8, 3: torch.int8, 5: torch.int16}.get(node.attributes["output_dtype"], torch.float32)
    if kind not in _RANGES:
        raise UnsupportedNode("it quantizes to another type than int8, uint8 or int16")
    return _quantizing(node, kind)


def dequantize(node: Any, graph: Any) -> Any:
    return _quantizing(node, None)


def _quantizing(node: Any, kind: Optional[torch.dtype]) -> Any:
    from onnx2torch.utils.common import OnnxMapping, OperationConverterResult  # type: ignore[import-not-found]

    if node.attributes.get("block_size"):
        raise UnsupportedNode("scales of blocks")
    taken = tuple(name for name in node.input_values if name)
    module = _Linear(node.attributes.get("axis", 1), kind)
    return OperationConverterResult(module, OnnxMapping(inputs=taken, outputs=node.output_values))
