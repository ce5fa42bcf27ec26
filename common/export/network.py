"""A user's graph in ONNX Runtime on the CPU: what it takes, what it gives, and whether it runs at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import numpy as np
import onnxruntime

from common.errors import UserError
from common.export import axes
from common.export.error_lines import words_of
from common.export.given import Given
from common.export.reference_work import Network
from common.export.values import TYPES_IN_WORDS
from common.text import brief

_DOUBLE = "tensor(double)"
_NUMPY = {
    "tensor(float)": "float32", _DOUBLE: "float64", "tensor(float16)": "float16", "tensor(bool)": "bool",
    "tensor(string)": "str", **{f"tensor({s}int{b})": f"{s}int{b}" for s in ("", "u") for b in (8, 16, 32, 64)},
}  # fmt: skip


def _of_tensor(kind: str) -> str:
    """The type of a tensor's elements in ONNX Runtime's name of a type; "" of what is no tensor."""
    return kind[len("tensor(") : -1] if kind.startswith("tensor(") else ""


def _not_read(kind: str) -> str:
    """Why an output of this type is left out, in words that follow its name."""
    of = _of_tensor(kind)
    return f"is {of}, which cannot be compared ({TYPES_IN_WORDS} can)" if of else f"is {kind}, no tensor"


def _session(path: Path, optimizations: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = optimizations
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class OnnxNetwork(Network):
    """The graph in ONNX Runtime on the CPU, optimizations off. in_single: it is in float64, and frameworks get it in float32."""

    by = "ONNX Runtime"

    def __init__(self, file: Path, path: Path, bound: axes.Bound, in_single: bool = False) -> None:
        self.file, self.in_single = file, in_single
        try:
            self._session = _session(path, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
        except Exception as error:  # onnxruntime has a class of its own for every status
            words = words_of(error).replace(str(path), file.name)  # not our copy's place
            raise UserError(f"{file}: ONNX Runtime does not accept it: {words}") from error
        self.dynamic = bound.fixed is None
        self.bound = bound
        self.fixed = self._batch_size(bound)
        self.inputs = [self._given(value, bound) for value in self._session.get_inputs()]
        self.outputs = [value.name for value in self._session.get_outputs() if value.type in _NUMPY]
        odd = [value for value in self._session.get_outputs() if value.type not in _NUMPY]
        self.left_out = [f"output '{brief(value.name)}' {_not_read(value.type)}: it is not read" for value in odd]
        if not self.outputs:
            tensors = any(_of_tensor(value.type) for value in odd)
            kinds = ", ".join(f"'{brief(value.name)}' is {_of_tensor(value.type) or value.type}" for value in odd)
            can = f"; {TYPES_IN_WORDS} can be compared" if tensors else ""
            raise UserError(
                f"{file} has no output that {'can be compared' if tensors else 'is a tensor'}: {kinds}{can}"
            )

    def _batch_size(self, bound: axes.Bound) -> Optional[int]:
        """The fixed batch size, by the axes of the outputs too unless --shape says it; None where the batch is dynamic."""
        if bound.fixed is None or bound.named:
            return bound.fixed
        return axes.fixed_size(bound.shapes, [value.shape for value in self._session.get_outputs()])

    def _given(self, value: Any, bound: axes.Bound) -> Given:
        if value.type not in _NUMPY:
            kind = _of_tensor(value.type) or value.type
            raise UserError(
                f"{self.file}: input '{brief(value.name)}' is {kind}, which cannot be fed; {TYPES_IN_WORDS} can"
            )
        sizes = bound.shapes[value.name]
        axis: Optional[int] = sizes.index(None) if None in sizes else bound.fixed_axes.get(value.name)
        if not bound.named and self.fixed is not None and len(sizes) > 1 and sizes[0] == self.fixed:
            axis = 0
        whole = tuple(size or 1 for size in sizes)
        return Given(value.name, self.measured_as(_NUMPY[value.type]), whole, axis, bound.open_axes[value.name])

    def optimized(self, path: Path, inputs: Mapping[str, np.ndarray]) -> Optional[Dict[str, np.ndarray]]:
        """Outputs with ONNX Runtime's optimizations, as it is used; None where it cannot make a session with them."""
        try:
            return self._run(_session(path, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL), inputs)
        except Exception:
            return None

    def refusal(self, path: Path, inputs: Mapping[str, np.ndarray]) -> str:
        """Why ONNX Runtime cannot run the graph in float32 at `path`, in a line; "" where it can, and for one not in float64."""
        if not self.in_single:
            return ""
        try:
            self._run(_session(path, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL), inputs)
        except Exception as error:
            return words_of(error).replace(str(path), self.file.name)
        return ""

    def run(self, inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        return self._run(self._session, inputs)

    def _run(self, session: Any, inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        fed = {name: one.astype(object) if one.dtype.kind == "U" else one for name, one in inputs.items()}
        if self.in_single:
            doubles = {value.name for value in session.get_inputs() if value.type == _DOUBLE}
            fed = {name: one.astype(np.float64) if name in doubles else one for name, one in fed.items()}
        made = session.run(self.outputs, fed)
        return {
            name: one.astype(str) if one.dtype.kind == "O" else one
            for name, one in zip(self.outputs, (np.asarray(one) for one in made))
        }
