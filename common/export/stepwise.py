"""ONNX's own evaluator node by node: each tensor is freed after its last reader, and a deadline ends what would take too long."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Mapping, Optional

import numpy as np

#: told of every result by name
OnResult = Callable[[str, Any], None]


class TooSlow(Exception):
    """The deadline has passed."""


def run(
    evaluator: Any, inputs: Mapping[str, np.ndarray], on_result: OnResult, deadline: Optional[float] = None
) -> None:
    """Evaluates an onnx.reference.ReferenceEvaluator's graph. deadline: of time.monotonic(), looked at between two nodes.

    Raises TooSlow, and whatever a node raises.
    """
    nodes = evaluator.rt_nodes_
    last = {name: number for number, node in enumerate(nodes) for name in node.input}
    whole = any(node.need_context() for node in nodes)  # branches read what no input names
    held: Dict[str, Any] = {"": None, **evaluator.rt_inits_, **inputs}
    for number, node in enumerate(nodes):
        if deadline is not None and time.monotonic() > deadline:
            raise TooSlow
        given = [held[name] for name in node.input]
        made = node.run(*given, context=held) if node.need_context() else node.run(*given)
        for name, values in zip(node.output, made):
            held[name] = values
            on_result(name, values)
        for name in {*node.input, *node.output}:
            if name and not whole and last.get(name, -1) <= number:
                held.pop(name, None)
