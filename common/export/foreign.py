"""An ONNX file with operators that ONNX Runtime does not know: nothing computes a reference, so that every framework's row says why.

Operators of other domains come with libraries of their own (plugins of TensorRT, custom operators), of which the file tells nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
import onnx

from common.errors import UserError
from common.export import axes, given_values, onnx_reading, values
from common.export.given import Given, image_layout
from common.export.reference_work import NOTE, ExportOptions, item_of
from common.harness.reference import input_archive
from common.model_files import ModelFiles, Tensor
from common.text import brief, shortened, visible

#: of drawn inputs: they are kept to tell what would be fed
_UNITS = 2
#: operators that a message lists, and characters of each
_MOST, _LONGEST = 5, 60


def operators(proto: Any) -> List[str]:
    """`domain::Operator` of each that ONNX Runtime has not and no function of the file defines; those of ONNX's own domain aside."""
    known = _of_onnx_runtime()
    functions = {(function.domain, function.name): function for function in proto.functions}
    found: Dict[str, None] = {}
    seen: Set[Tuple[str, str]] = set()
    waiting: List[Any] = list(_nodes(proto.graph.node))
    while waiting and known:
        node = waiting.pop(0)
        key = (node.domain, node.op_type)
        if key in functions:
            if key not in seen:
                seen.add(key)
                waiting += _nodes(functions[key].node)
        elif node.domain not in ("", "ai.onnx") and key not in known:
            found[f"{node.domain}::{node.op_type}"] = None
    return list(found)


def listed(names: Sequence[str]) -> str:
    """The first names, each in one line and not endless, whatever characters are in it; and how many more there are."""
    first = [shortened(visible(name, ""), _LONGEST) for name in names[:_MOST]]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")


def _of_onnx_runtime() -> Set[Tuple[str, str]]:
    """(domain, operator) of all that it has; empty where this build of it does not tell."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    schemas: List[Any] = getattr(state, "get_all_operator_schema", list)()
    return {(schema.domain, schema.name) for schema in schemas}


def _nodes(nodes: Sequence[Any]) -> Iterator[Any]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for nested in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _nodes(nested.node)


class Unmeasured:
    """What can be said of such a model: what it takes, and what its file tells of what it gives."""

    def __init__(
        self,
        file: Path,
        proto: Any,
        bound: axes.Bound,
        options: ExportOptions,
        arrays: Optional[Mapping[str, np.ndarray]],
    ) -> None:
        self._proto, self._bound = proto, bound
        self._given = [_given(file, value, bound) for value in proto.graph.input if value.name in bound.shapes]
        if arrays is not None and options.inputs is not None:
            by_name = {one.name: one for one in self._given}
            self.inputs = given_values.units_of(options.inputs, arrays, by_name, bound.fixed or 1)
        else:
            self.inputs, _ = values.draw(proto, self._given, _UNITS, options.pixels)

    def model(self, folder: Path, title: str, digest: str, foreign: Sequence[str]) -> ModelFiles:
        inputs = tuple(Tensor(one.name, one.dtype, one.shape, one.batch_axis) for one in self._given)
        first, layout = inputs[0], image_layout(self._given[0])
        why = f"ONNX Runtime does not know {listed(foreign)}, so that there is no reference to compare with"
        return ModelFiles(
            root=folder,
            name=title,
            hash=digest,
            onnx="model.onnx",
            keras=None,
            saved_model=None,
            reference="reference.npz",
            input_shape=tuple(size for axis, size in enumerate(first.shape) if axis != first.batch_axis),
            layout=layout,
            onnx_input=first.name,
            onnx_output=self._proto.graph.output[0].name,
            output_kind="raw",
            classes=0,
            weights="user",
            weights_note=NOTE,
            inputs=inputs,
            outputs=tuple(_made(value) for value in self._proto.graph.output),
            fixed_batch=self._bound.fixed,
            item=item_of(inputs, layout),
            weights_dtype=onnx_reading.weights_dtype(self._proto),
            born="the user's ONNX file",
            exporters={"onnx": "as it came"},
            unmeasurable=why,
            notes=(f"{why}: every framework's row will say so",),
        )

    def archive(self, model: ModelFiles) -> Dict[str, np.ndarray]:
        return input_archive(model, self.inputs)


def _dtype(value: Any) -> str:
    """numpy's name of a tensor's type; "" of what is no tensor, or of a type that numpy has not."""
    kind = value.type.tensor_type.elem_type
    if kind == onnx.TensorProto.STRING:
        return "str"
    try:
        name = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).name
    except (KeyError, TypeError, ValueError):
        return ""
    return name if name in values.TYPES else ""


def _given(file: Path, value: Any, bound: axes.Bound) -> Given:
    dtype = _dtype(value)
    if not dtype:
        kind = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
        raise UserError(
            f"{file}: input '{brief(value.name)}' is {kind}, which cannot be fed; {values.TYPES_IN_WORDS} can"
        )
    sizes = bound.shapes[value.name]
    axis = sizes.index(None) if None in sizes else bound.fixed_axes.get(value.name)
    if axis is None and bound.fixed is not None and len(sizes) > 1 and sizes[0] == bound.fixed:
        axis = 0
    return Given(value.name, dtype, tuple(size or 1 for size in sizes), axis, bound.open_axes[value.name])


def _made(value: Any) -> Tensor:
    shape = tuple(axis if isinstance(axis, int) else -1 for axis in axes.axes_of(value))
    return Tensor(value.name, _dtype(value) or "float32", shape, 0 if shape else None)
