"""A module born in PyTorch is tried before it is exported: that it runs, that it runs again, and that what is kept makes it again."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from common.errors import UserError
from common.harness.parity import TOLERANCES, differing
from common.text import brief
from common.torch_modules import SEED, Built, fault_of, flat, load, names_of, users_code

#: relative L2 distance of outputs that count as the same
TOLERANCE = TOLERANCES["fp32"][1]


def check_forward(built: Built) -> Tuple[Built, Tuple[Any, ...], Dict[str, Any]]:
    """The module, with what its calls tell of it, what it gives for its example inputs, and the weights to keep.

    The weights are copies of those before the first call, and of a lazy part those that it made of itself in the calls. The
    example inputs stay as they are. The module is used up: whatever its calls left in it, in its file's globals or in closures
    is still there, so what is exported is built again (`torch_modules.load`). Raises UserError where it does not run, gives what
    is no output, or something else when it is called again. To be called before torch's exporter, which would say the same in
    words of its own.
    """
    import torch

    weights, lazy = _weights(built)
    shapes = ", ".join(f"'{brief(name)}' {tuple(one.shape)}" for name, one in built.inputs.items())
    with torch.no_grad(), users_code(f"{built.origin} does not run with its example inputs {shapes}"):
        seen = _Seen(built.module)
        outputs, changed = _forward(built, seen)
        _check_outputs(built.origin, outputs)
        again, _ = _forward(built, built.module)
        _check_outputs(f"{built.origin}, called again", again)
        is_same = _same(again, outputs)
    if not is_same:
        raise UserError(
            f"{built.origin} gives other outputs when it is called again with the same inputs, as every worker calls it many times; "
            "forward must not depend on earlier calls, nor draw random numbers that are not torch's"
        )
    if lazy:
        with users_code(f"the weights of {built.origin} cannot be had"):
            made = built.module.state_dict()
            weights.update({name: made[name] for name in lazy})
    return replace(built, changes_inputs=changed, outputs=seen.names), outputs, weights


class _Seen:
    """A module, and how what it returned was called."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self.names: Tuple[str, ...] = ()

    def __call__(self, *given: Any, **named: Any) -> Any:
        made = self._module(*given, **named)
        self.names = names_of(made)
        return made


def check_kept(built: Built, outputs: Tuple[Any, ...], folder: Path) -> None:
    """Raises UserError where what `save` wrote does not make the same module again, as every worker does."""
    import torch

    rule = (
        f"; {built.origin} is built again from that file alone, without its neighbours, wherever it is measured, and must then "
        "be the same"
    )
    try:
        with torch.no_grad(), users_code("built a second time the module does not run"):
            again, _ = _forward(built, load(folder), is_flat=True)
            _check_outputs("the module, built a second time", again)
            is_same = _same(again, outputs)
    except UserError as error:
        raise UserError(f"{error}{rule}") from error
    if not is_same:
        raise UserError(
            f"built a second time the module gives other outputs{rule}: keep what decides them in its state_dict"
        )


def stays_in_double(folder: Path, inputs: Mapping[str, Any]) -> str:
    """Why the module of `folder` is not float32 throughout once its weights and inputs are, in words; "" where it is.

    A worker changes its weights; what its code calls float64, as `x.double()`, stays that, and may meet weights that are not.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    found: List[str] = []

    class Watching(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = function(*args, **(kwargs or {}))
            if any(isinstance(one, torch.Tensor) and one.dtype == torch.float64 for one in tree_leaves(made)):
                found.append(str(function))
            return made

    given = [one.detach().float() if one.is_floating_point() else one.detach().clone() for one in inputs.values()]
    try:
        with torch.no_grad(), users_code("it fails with its weights in float32"):
            module = load(folder).to(dtype=torch.float32)
            with Watching():
                module(*given)
    except UserError as error:
        return str(error)
    return f"its code makes float64 ({found[0]})" if found else ""


def _weights(built: Built) -> Tuple[Dict[str, Any], List[str]]:
    """A copy of its state_dict, which shares what the original shares, and the names of what lazy parts have yet to make."""
    from torch.nn.modules.lazy import LazyModuleMixin
    from torch.nn.parameter import is_lazy

    with users_code(f"the weights of {built.origin} cannot be had"):
        state = built.module.state_dict()
        parts = {
            name
            for name, part in built.module.named_modules(remove_duplicate=False)
            if isinstance(part, LazyModuleMixin) and part.has_uninitialized_params()
        }
        lazy = [name for name, one in state.items() if is_lazy(one) or name.rpartition(".")[0] in parts]
        return copy.deepcopy(state, {id(state[name]): state[name] for name in lazy}), lazy


def _forward(built: Built, module: Any, is_flat: bool = False) -> Tuple[Tuple[Any, ...], bool]:
    """Copies of the outputs for copies of the example inputs, and whether the latter were written to."""
    import torch

    given = [one.detach().clone() for one in built.inputs.values()]
    versions = [one._version for one in given]
    torch.manual_seed(SEED)
    made = (module if is_flat else flat(module, list(built.inputs), built.by_name))(*given)
    # torch counts writings, but for those around it, as through `.data`
    changed = any(
        one._version != version or not np.array_equal(_array(one), _array(before), equal_nan=True)
        for one, version, before in zip(given, versions, built.inputs.values())
    )
    return tuple(one.detach().clone() for one in (made if isinstance(made, tuple) else (made,))), changed


def _check_outputs(whose: str, outputs: Tuple[Any, ...]) -> None:
    if not outputs:
        raise UserError(f"{whose} returns no tensor from forward")
    for number, one in enumerate(outputs):
        fault = fault_of(one, "compared", "forward must leave its outputs on the device of its inputs")
        if fault:
            raise UserError(f"{whose}: output {number} {fault}")


def _same(got: Tuple[Any, ...], wanted: Tuple[Any, ...]) -> bool:
    return len(got) == len(wanted) and all(
        one.shape == other.shape and one.dtype == other.dtype and differing(_array(one), _array(other)) <= TOLERANCE
        for one, other in zip(got, wanted)
    )


def _array(tensor: Any) -> np.ndarray:
    array: np.ndarray = tensor.detach().resolve_neg().numpy()
    return array
