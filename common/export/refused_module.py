"""A module that torch.onnx cannot export: its reference comes from the module itself, eager on the CPU, in float64 where it can.

In PyTorch's environment, as the last part of the first half of the export (torch_onnx.py). It leaves `reference.npz` and, in
born.json, the model's description but for name and hash, which the second half adds (born.py). There is no ONNX file.
"""

from __future__ import annotations

import platform
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np
import onnx

from common import torch_modules
from common.errors import UserError
from common.export import axes
from common.export.double import is_alike
from common.export.given import Given
from common.export.reference_work import ExportOptions, Network, Work
from common.harness.reference import archive
from common.pixels import PixelValues
from common.torch_modules import EXPORTER, Built, users_code

REFERENCE = "reference.npz"
#: for all samples together, in s
_MOST_DOUBLE_S = 60.0
#: of the weights in float32: in double precision they take twice that, beside the others
_MOST_DOUBLE_BYTES = 2**31
#: batch sizes that a module must take for its batch to be dynamic
_TRIED = (1, 3)


class _ModuleNetwork(Network):
    """The module as a worker builds it. In double: with its weights, and what is fed, in float64."""

    by = "PyTorch"

    def __init__(self, built: Built, form: Path, is_dynamic: bool, in_double: bool = False) -> None:
        self.file = Path(built.origin)
        self._in_double = in_double
        self._module = torch_modules.load(form)
        if in_double:
            with users_code("it does not take float64"):  # its own _apply()
                self._module = self._module.double()
        arrays = {name: one.numpy() for name, one in built.inputs.items()}
        first = next(iter(arrays.values()))
        self.fixed = None if is_dynamic else int(first.shape[0]) if first.ndim else 1
        self.bound = axes.Bound({}, self.fixed, {})
        self.inputs = [self._given(name, one, _is_batched(one, first)) for name, one in arrays.items()]
        self.outputs = list(built.outputs)
        #: then its outputs are known
        self._has_run = False

    def _given(self, name: str, one: np.ndarray, is_batched: bool) -> Given:
        shape = (1, *one.shape[1:]) if is_batched and self.fixed is None else one.shape
        return Given(name, one.dtype.name, tuple(shape), 0 if is_batched else None)

    def run(self, inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        import torch

        fed = [np.array(inputs[one.name]) for one in self.inputs]
        if self._in_double:
            fed = [one.astype(np.float64) if one.dtype.kind == "f" else one for one in fed]
        with torch.no_grad(), users_code("it fails"):
            made = self._module(*(torch.from_numpy(one) for one in fed))
            arrays = [one.detach().resolve_neg().numpy() for one in (made if isinstance(made, tuple) else (made,))]
        if len(self.outputs) != len(arrays):
            if self._has_run:
                raise UserError(f"it gives {len(arrays)} outputs for these inputs, and {len(self.outputs)} for others")
            self.outputs = ["output"] if len(arrays) == 1 else [f"output_{number}" for number in range(len(arrays))]
        self._has_run = True
        return dict(zip(self.outputs, (np.array(one) for one in arrays)))


class _ModuleWork(Work):
    """What a user can do about a module is another than about an ONNX file."""

    def _other_sizes(self) -> str:
        return ""

    def _advice(self) -> str:
        return "; the function that builds it chooses its example inputs" if self._options.inputs is not None else ""


def describe(built: Built, form: Path, folder: Path, reason: str, pixels: PixelValues) -> Dict[str, Any]:
    """Writes the reference into `folder`; what born.json holds of the model, beside what it holds of any.

    form: what `torch_modules.save` wrote. reason: the exporter's own words. Raises UserError where the module does not run.
    """
    import torch

    network = _ModuleNetwork(built, form, _takes_batches(built, form))
    arrays = None if built.weights != "user" else {name: one.numpy() for name, one in built.inputs.items()}
    options = ExportOptions(pixels, inputs=None if arrays is None else folder / "inputs.npz", born=folder)
    example = network.run({name: one.numpy() for name, one in built.inputs.items()})
    begin = time.monotonic()
    work = _ModuleWork(network, _stand_in(list(example)), options, arrays)
    took_s = time.monotonic() - begin
    if network.fixed is None:
        work.find_batch_axes()
    work.look_at_outputs()
    exact = _in_double(built, form, work, took_s)
    precision = (
        "float64" if exact is not None else "float32" if _weights(built)[0] in ("float32", "") else _weights(built)[0]
    )
    by = f"the module itself, eager PyTorch {torch.__version__} on the CPU in {precision}"
    work.notes.insert(0, f"{reason}; frameworks that read ONNX cannot have it, and its reference is {by}")
    model = replace(
        work.model(folder, "name", "hash"),
        onnx=None,
        onnx_input=None,
        onnx_output=None,
        forms={torch_modules.FORM: torch_modules.FORM},
        weights_dtype=_weights(built)[0],
    )
    np.savez(str(folder / REFERENCE), **archive(model, work.inputs, exact or work.outputs))  # type: ignore[arg-type]
    versions = {"python": platform.python_version(), "numpy": np.__version__, **exporter_versions()}
    return {
        "refused": reason,
        "model": model.describe(),
        "reference_by": by,
        "versions": versions,
        **pixels.described(),
    }


def exporter_versions() -> Dict[str, str]:
    """Of what refuses a module, which another may not: package -> version, as the environment has it."""
    found = {}
    for name in EXPORTER:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _is_batched(one: np.ndarray, first: np.ndarray) -> bool:
    return bool(one.ndim and first.ndim and one.shape[0] == first.shape[0])


def _takes_batches(built: Built, form: Path) -> bool:
    """Whether it runs with other batches than its example's."""
    network = _ModuleNetwork(built, form, True)
    examples = {name: one.numpy() for name, one in built.inputs.items()}
    first = next(iter(examples.values()))
    if not first.ndim:
        return False
    try:
        network.run(examples)
        for count in _TRIED:
            batch = {
                name: np.resize(one, (count, *one.shape[1:])) if _is_batched(one, first) else one
                for name, one in examples.items()
            }
            network.run(batch)
    except UserError:
        return False
    return True


def _stand_in(outputs: List[str]) -> Any:
    """A graph without nodes, for what looks for names and tables in one."""
    graph = onnx.helper.make_graph([], "module", [], [onnx.ValueInfoProto(name=name) for name in outputs])
    return onnx.helper.make_model(graph)


def _weights(built: Built) -> Tuple[str, int]:
    """The type that most values of the weights have, "" without weights, and the bytes of all."""
    kinds: Counter[str] = Counter()
    size = 0
    for one in (*built.module.parameters(), *built.module.buffers()):
        if one.is_floating_point():
            kinds[str(one.dtype).rpartition(".")[2]] += one.numel()
        size += one.numel() * one.element_size()
    return (kinds.most_common(1) or [("", 0)])[0][0], size


def _in_double(built: Built, form: Path, work: Work, took_s: float) -> Optional[List[Dict[str, np.ndarray]]]:
    """Outputs of every unit in float64; None where that is not quick, cannot be, or does not give the same."""
    kind, size = _weights(built)
    if kind not in ("float32", "") or size > _MOST_DOUBLE_BYTES or 4 * took_s > _MOST_DOUBLE_S:
        return None
    try:
        network = _ModuleNetwork(built, form, work.fixed is None, in_double=True)
        made = [network.run(unit) for unit in work.inputs]
    except (UserError, MemoryError):  # float32 somewhere in its code
        return None
    return made if all(map(_are_alike, made, work.outputs)) else None


def _are_alike(unit: Mapping[str, np.ndarray], single: Mapping[str, np.ndarray]) -> bool:
    """Whether they are the same outputs: a module may give as many as the type of its inputs asks for."""
    return list(unit) == list(single) and all(is_alike(unit[name], one) for name, one in single.items())
