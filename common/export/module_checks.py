"""A module born in PyTorch is tried before it is exported: that it runs, that it runs again, and that what is kept makes it again."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import numpy as np

from common.errors import UserError
from common.harness.parity import TOLERANCES, differing
from common.torch_modules import SEED, Built, fault_of, flat, load, users_code

#: relative L2 distance of outputs that count as the same
TOLERANCE = TOLERANCES["fp32"][1]


def check_forward(built: Built) -> Tuple[Built, Tuple[Any, ...]]:
    """The module, with whether it changes its inputs, and what it gives for its example inputs.

    Module and inputs stay as they are, but that a lazy module has its weights afterwards. Raises UserError where it does not run,
    gives what is no output, or something else when it is called again. To be called before torch's exporter, which would say the
    same in words of its own.
    """
    import torch

    shapes = ", ".join(f"'{name}' {tuple(one.shape)}" for name, one in built.inputs.items())
    what = f"{built.origin} does not run with its example inputs {shapes}"
    with torch.no_grad(), users_code(what), _restored(built.module):
        outputs, changed = _forward(built, built.module)
        _check_outputs(built, outputs)
        again, _ = _forward(built, built.module)
    if not _same(again, outputs):
        raise UserError(
            f"{built.origin} gives other outputs when it is called again with the same inputs, as every worker calls it many times; "
            "forward must not depend on earlier calls, nor draw random numbers that are not torch's"
        )
    return replace(built, changes_inputs=changed), outputs


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
    except UserError as error:
        raise UserError(f"{error}{rule}") from error
    if not _same(again, outputs):
        raise UserError(
            f"built a second time the module gives other outputs{rule}: keep what decides them in its state_dict"
        )


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


def _check_outputs(built: Built, outputs: Tuple[Any, ...]) -> None:
    if not outputs:
        raise UserError(f"{built.origin} returns no tensor from forward")
    for number, one in enumerate(outputs):
        fault = fault_of(one, "compared", "forward must leave its outputs on the device of its inputs")
        if fault:
            raise UserError(f"{built.origin}: output {number} {fault}")


def _same(got: Tuple[Any, ...], wanted: Tuple[Any, ...]) -> bool:
    return len(got) == len(wanted) and all(
        one.shape == other.shape and one.dtype == other.dtype and differing(_array(one), _array(other)) <= TOLERANCE
        for one, other in zip(got, wanted)
    )


def _array(tensor: Any) -> np.ndarray:
    array: np.ndarray = tensor.detach().resolve_neg().numpy()
    return array


@contextmanager
def _restored(module: Any) -> Iterator[None]:
    """Afterwards attributes and tensors of the module and its parts are as before: counters, buffers, weights.

    What a lazy part made of itself stays. No deep copy: not every module can be copied, and a copy's closures lead to the original.
    """
    import torch
    from torch.nn.modules.lazy import LazyModuleMixin

    def made_of(part: Any) -> List[Any]:
        return [one for one in (vars(part), part._parameters, part._buffers, part._modules) if isinstance(one, dict)]

    parts = [
        one for one in module.modules() if not (isinstance(one, LazyModuleMixin) and one.has_uninitialized_params())
    ]
    kept = [(one, dict(one)) for part in parts for one in made_of(part)]
    plain = {
        id(value): value
        for _, values in kept
        for value in values.values()
        if type(value) in (torch.Tensor, torch.nn.Parameter)
        and value.layout is torch.strided
        and value.device.type != "meta"
    }
    tensors = [(one, one.detach().clone()) for one in plain.values()]
    try:
        yield
    finally:
        for one, values in kept:
            one.clear()
            one.update(values)
        for one, before in tensors:
            if not torch.equal(one.detach(), before):
                one.data.copy_(before)
