"""LSTM, GRU and RNN of ONNX as torch's own layers, for onnx2torch, which has none of the three."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import torch

from images.torch.unsupported_node import UnsupportedNode

#: operator -> (torch's layer, ONNX's gates in the order that torch has them in, activations of one direction)
_RECURRENT: Dict[str, Tuple[Any, Tuple[int, ...], Tuple[str, ...]]] = {
    "LSTM": (torch.nn.LSTM, (0, 2, 3, 1), ("sigmoid", "tanh", "tanh")),  # ONNX: input, output, forget, cell
    "GRU": (torch.nn.GRU, (1, 0, 2), ("sigmoid", "tanh")),  # ONNX: update, reset, hidden
    "RNN": (torch.nn.RNN, (0,), ("tanh",)),
}


class _Recurrent(torch.nn.Module):
    """An LSTM, GRU or RNN of one layer, with ONNX's axes: sequence, direction, batch, size. backward: from the end alone."""

    def __init__(self, layer: torch.nn.Module, backward: bool, count: int) -> None:
        super().__init__()
        self._layer, self._backward, self._count = layer, backward, count

    def forward(self, sequence: torch.Tensor, *states: torch.Tensor) -> Any:
        given = None
        if isinstance(self._layer, torch.nn.LSTM) and states:
            given = states if len(states) > 1 else (states[0], torch.zeros_like(states[0]))
        elif states:
            given = states[0]
        sequence = sequence.flip(0) if self._backward else sequence
        made, last = self._layer(sequence, given)
        made = made.flip(0) if self._backward else made
        directions = 2 if self._layer.bidirectional else 1
        made = made.unflatten(2, (directions, made.shape[2] // directions)).transpose(1, 2)
        results = (made, *last) if isinstance(last, tuple) else (made, last)
        return results[0] if self._count == 1 else results[: self._count]


def recurrent_layer(node: Any, graph: Any) -> Any:
    """Of an LSTM, GRU or RNN node. Raises UnsupportedNode for what torch's layers do not do."""
    from onnx2torch.utils.common import OnnxMapping, OperationConverterResult  # type: ignore[import-not-found]

    kind, order, activations = _RECURRENT[node.operation_type]
    direction = node.attributes.get("direction", "forward")
    directions = 2 if direction == "bidirectional" else 1
    activations_of_node = [one.lower() for one in node.attributes.get("activations") or activations * directions]
    _plain_recurrence(node, activations_of_node, activations * directions)
    weights, recurrent = (_constant_tensor(node, graph, position) for position in (1, 2))
    if weights is None or recurrent is None:
        raise UnsupportedNode("its weights are missing")
    bias = _constant_tensor(node, graph, 3)
    hidden = recurrent.shape[2]
    options = {"nonlinearity": activations_of_node[0]} if node.operation_type == "RNN" else {}
    layer = kind(weights.shape[2], hidden, bias=bias is not None, bidirectional=directions == 2, **options)
    for number in range(directions):
        ending = "_reverse" if number else ""
        parts = [("weight_ih", weights[number]), ("weight_hh", recurrent[number])]
        if bias is not None:
            half = len(order) * hidden
            parts += [("bias_ih", bias[number, :half]), ("bias_hh", bias[number, half:])]
        for name, values in parts:
            gates = values.split(hidden)
            getattr(layer, f"{name}_l0{ending}").data.copy_(torch.cat([gates[gate] for gate in order]))
    taken = [name for name in (node.input_values[0], *node.input_values[5:7]) if name]
    module = _Recurrent(layer, direction == "reverse", len(node.output_values))
    return OperationConverterResult(module, OnnxMapping(inputs=tuple(taken), outputs=node.output_values))


def _plain_recurrence(node: Any, activations_of_node: List[str], usual: Tuple[str, ...]) -> None:
    """Raises UnsupportedNode for what torch's layers cannot do."""
    given = node.attributes
    kinds = {"RNN": (["tanh"] * len(usual), ["relu"] * len(usual))}.get(node.operation_type, (list(usual),))
    if activations_of_node not in kinds:
        raise UnsupportedNode(f"activations {', '.join(activations_of_node)}")
    for name in ("clip", "layout", "input_forget"):
        if given.get(name):
            raise UnsupportedNode(f"{name}={given[name]:g}")
    if node.operation_type == "GRU" and not given.get("linear_before_reset", 0):
        raise UnsupportedNode("linear_before_reset=0, PyTorch's GRU resets after the product")
    places = list(node.input_values) + [""] * 8
    if places[4]:
        raise UnsupportedNode("sequence_lens, sequences of several lengths in one batch")
    if places[7]:
        raise UnsupportedNode("peepholes")
    if places[6] and not places[5]:
        raise UnsupportedNode("an initial cell without an initial state")


def _constant_tensor(node: Any, graph: Any, position: int) -> Optional[torch.Tensor]:
    """A constant input, None where the node has no such input. Raises UnsupportedNode for a computed one."""
    name = (list(node.input_values) + [""] * (position + 1))[position]
    if not name:
        return None
    tensor = graph.initializers.get(name)
    if tensor is None:
        raise UnsupportedNode(f"its input {position} is computed by the graph")
    return tensor.to_torch()
