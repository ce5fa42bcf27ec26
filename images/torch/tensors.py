"""What goes into a module and what comes out of it, as lists of tensors."""

from __future__ import annotations

from typing import Any, List, Mapping, Sequence

import numpy as np


def in_precision(tensors: Sequence[Any], dtype: Any) -> List[Any]:
    """Floating-point tensors in the type that the module computes in; whole numbers and truth values as they are."""
    return [tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in tensors]


class Casting:
    """Called as the module is, but that it takes bytes of images where the module takes numbers.

    cast: which of the inputs; dtype: what the module computes in.
    """

    def __new__(cls, torch: Any, module: Any, cast: Sequence[bool], dtype: Any) -> Any:
        class InFront(torch.nn.Module):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.module = module

            def forward(self, *inputs: Any) -> Any:
                return self.module(*[one.to(dtype) if wanted else one for one, wanted in zip(inputs, cast)])

        return InFront()


class Named:
    """Called with tensors in the order of `inputs` where the module takes a mapping; returns those of `outputs` in theirs."""

    def __new__(cls, torch: Any, module: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
        class Around(torch.nn.Module):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.module = module

            def forward(self, *given: Any) -> Any:
                made = self.module(dict(zip(inputs, given)) if len(inputs) > 1 else given[0])
                return [made[name] for name in outputs] if isinstance(made, Mapping) else made

        return Around()


def listed(output: Any) -> List[Any]:
    """The tensors of what a module returns: one, or those of a list, tuple, dict or dataclass of outputs, in its order."""
    if hasattr(output, "is_floating_point"):
        return [output]
    if output is None:
        return []
    values = output.values() if isinstance(output, Mapping) else output
    return [tensor for value in values for tensor in listed(value)]


def on_host(tensor: Any) -> np.ndarray:
    """A copy as numpy array; floats as float32."""
    tensor = tensor.detach()
    values = tensor.float() if tensor.is_floating_point() else tensor
    return np.array(values.cpu().numpy())
