"""Takes a user's own ONNX file into data/models: checks what framewatt needs of it, and computes its reference outputs.

Runs where onnx and onnxruntime are installed (the ONNX Runtime image). The reference is ONNX Runtime on the CPU with graph
optimization off, one unit at a time, so that a batch is compared with single runs; of a small graph onnx's evaluator in float64.
A file in float64 is handed on in float32, in which all frameworks compute then; its reference is computed of the file as it is.
"""

from __future__ import annotations

import json
import math
import platform
import re
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
import onnx
import onnxruntime

from common.errors import UserError
from common.export import axes, batching, double, floats, foreign, given_values, onnx_reading
from common.export.born import Born
from common.export.network import OnnxNetwork
from common.export.onnx_graph import BATCH, lift_constants, node_counts, opset, real_inputs
from common.export.progress import Progress
from common.export.reference_work import ExportOptions, Work
from common.export.store import Digest, existing, publish, temporary_folder
from common.harness.reference import archive
from common.model_files import ModelFiles
from common.text import brief
from common.torch_modules import FORM

STEPS = 4
#: where float64 is not quick, see double.py
BY_ONNX_RUNTIME = (
    f"onnxruntime {onnxruntime.__version__} on the CPU without graph optimization, in the file's own types"
)
#: of one sample of an input: a batch of them has to fit into memory many times
MAX_INPUT_VALUES = 32 * 10**6


def export(file: Path, out: Path, options: ExportOptions, progress: Progress) -> str:
    """Exports to `out/<name>-<hash>/` and returns that folder's name; nothing is written where it exists already.

    Constants become initializers, bound axes numbers, and the batch axis gets a name; the graph is otherwise left as it is.
    Raises UserError, naming file and tensor, for a file that is no ONNX model, axes that nobody bound, values that do not
    fit, or a graph that ONNX Runtime cannot run.
    """
    progress.step(f"{file.name}: read and check")
    arrays, inputs_sha256 = given_values.read_summed(options.inputs) if options.inputs is not None else (None, "")
    proto, read_from = onnx_reading.read(file)
    # the sums are those of what was read: the user may replace the files while the rest goes on
    read_from["asked"] = options.described(inputs_sha256)
    unknown = foreign.operators(proto)
    if not unknown:  # else the file stays as it came
        proto = floats.without_functions(proto)
        arrays = floats.narrowed(proto, arrays) if arrays is not None else None
    lift_constants(proto)
    before = {value.name: type(value).FromString(value.SerializeToString()) for value in proto.graph.input}
    bound = _bind(file, proto, options, arrays)
    if unknown:
        return _without_reference(
            file, out, options, foreign.Unmeasured(file, proto, bound, options, arrays), unknown, proto, read_from
        )
    with temporary_folder(out) as folder:
        onnx_reading.save(proto, folder / "model.onnx")
        network = OnnxNetwork(file, folder / "model.onnx", bound, floats.has_doubles(proto))
        progress.step("reference outputs")
        work = Work(network, proto, options, arrays)
        _look_at_optimized(proto, before, network, work, folder / "model.onnx")
        if network.dynamic:
            work.find_batch_axes()
        work.look_at_outputs()
        born = Born.read(options.born) if options.born is not None else None
        digest = _digest(proto, work.inputs, born, options, network.in_single)
        title = options.name or stem(file)
        if existing(out, title, digest):
            return f"{title}-{digest}"
        progress.step("ONNX file")
        _describe_shapes(proto, work)
        refusal = _save(proto, folder / "model.onnx") or network.refusal(folder / "model.onnx", work.inputs[0])
        model = work.model(folder, title, digest)
        if born is not None:
            model = born.given_to(model, folder)
        if network.in_single:
            model = _with_single(model, refusal, born)
        exact = double.outputs(proto, work.inputs, work.outputs)
        np.savez(str(folder / "reference.npz"), **archive(model, work.inputs, exact or work.outputs))  # type: ignore[arg-type]
        progress.step("description")
        extra = _facts(file, read_from, proto, options, exact is not None)
        if network.in_single and not refusal:
            extra["float64_as"] = "float32"
        if born is not None:
            extra.update(born.described())
        return publish(folder, model, extra).name


def _look_at_optimized(proto: Any, before: Mapping[str, Any], network: OnnxNetwork, work: Work, path: Path) -> None:
    """Notes of what ONNX Runtime's optimizations make of what frameworks get; the axes of a graph that they refuse stay open."""
    _save(proto, path)
    optimized = network.optimized(path, work.inputs[0])
    if optimized is not None:
        work.look_at_rounding(optimized)
        return
    _open_again(proto, before, network.bound)
    work.notes.append("its axes stay open in the file: with fixed ones ONNX Runtime cannot optimize it")


def _save(proto: Any, path: Path) -> str:
    """Writes what frameworks get, the graph with its float64 in float32; where it cannot be, as it is, and returns why."""
    refusal, single = "", None
    try:
        single = floats.in_single(proto)
    except UserError as error:
        refusal = str(error)
    onnx_reading.save(proto if single is None else single, path)
    return refusal


def _with_single(model: ModelFiles, refusal: str, born: Optional[Born]) -> ModelFiles:
    """Of a file in float64. refusal: why it cannot be in float32, "" where it is. born: of the module that it was made of.

    A module that has float64 whatever its weights are is none of the model's forms: PyTorch, too, gets the ONNX file.
    """
    if refusal:
        why = f"it computes in float64, and cannot in float32, which fp32 is: {refusal}"
        return replace(model, unmeasurable=why, notes=(f"{why}: every framework's row will say so", *model.notes))
    told = "its float64 is float32 for every framework, inputs and outputs too; the reference is computed in float64"
    exporters = {**(model.exporters or {})}
    exporters["onnx"] = f"{exporters['onnx']}, its float64 as float32"
    notes, forms = [told], {**(model.forms or {})}
    if born is not None and born.stays_in_double:
        notes.append(
            f"PyTorch gets the ONNX file, too, not the module itself, which keeps float64: {born.stays_in_double}"
        )
        del exporters[FORM], forms[FORM]
    return replace(model, exporters=exporters, forms=forms, notes=(*notes, *model.notes))


def _without_reference(
    file: Path,
    out: Path,
    options: ExportOptions,
    unmeasured: foreign.Unmeasured,
    unknown: List[str],
    proto: Any,
    read_from: Mapping[str, Any],
) -> str:
    """The folder of a model whose operators ONNX Runtime does not know (unknown), named as any."""
    born = Born.read(options.born) if options.born is not None else None
    digest = _digest(proto, unmeasured.inputs, born, options)
    title = options.name or stem(file)
    if existing(out, title, digest):
        return f"{title}-{digest}"
    with temporary_folder(out) as folder:
        onnx_reading.save(proto, folder / "model.onnx")
        model = unmeasured.model(folder, title, digest, unknown)
        if born is not None:
            model = born.given_to(model, folder)
        np.savez(str(folder / "reference.npz"), **unmeasured.archive(model))  # type: ignore[arg-type]
        extra = {**_facts(file, read_from, proto, options, False), "reference_by": ""}
        if born is not None:
            extra.update(born.described())
        return publish(folder, model, extra).name


def _digest(
    proto: Any,
    inputs: Sequence[Mapping[str, np.ndarray]],
    born: Optional[Born],
    options: ExportOptions,
    in_single: bool = False,
) -> str:
    """Of the graph with its weights, the reference inputs and what else makes two exports different models."""
    digest = Digest()
    if born is not None:
        digest.text("module", born.digest())
    if in_single:
        digest.text("float64", "as float32")  # exports of before kept it
    onnx_reading.add_to_digest(digest, proto)
    for unit in inputs:
        for name, array in unit.items():
            digest.array(name, np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array)
    if options.pixels.given:  # the same values, but a picture's classes may be claimed
        digest.text("pixels", json.dumps(options.pixels.described()))
    return digest.short()


def _facts(file: Path, read_from: Mapping[str, Any], proto: Any, options: ExportOptions, exact: bool) -> Dict[str, Any]:
    """What model.json says beside the model itself.

    read_from: by which another call finds the model. exact: whether the reference was computed in float64.
    """
    return {
        "source": file.name,
        **read_from,
        **options.pixels.described(),
        "reference_by": f"onnx {onnx.__version__}'s evaluator, float64" if exact else BY_ONNX_RUNTIME,
        "onnx_opset": opset(proto),
        "onnx_opsets": {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import},
        "onnx_ir_version": proto.ir_version,
        "onnx_nodes": len(proto.graph.node),
        "onnx_node_counts": node_counts(proto),
        "versions": {
            "python": platform.python_version(),
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "numpy": np.__version__,
        },
    }


def stem(file: Path) -> str:
    """The model's name: the file's stem, safe in folder names and cell keys; letters of any script stay."""
    plain = unicodedata.normalize("NFC", file.stem).replace("_", "-")
    return re.sub(r"[^\w.-]+", "-", plain).strip("-.") or "model"


def _bind(file: Path, proto: Any, options: ExportOptions, arrays: Optional[Mapping[str, np.ndarray]]) -> axes.Bound:
    """Binds the axes and writes them into the graph."""
    inputs = real_inputs(proto)
    if not inputs:
        raise UserError(f"{file} takes no input: its outputs are constants, and nothing can be measured")
    for value in inputs:
        if not value.type.HasField("tensor_type"):
            raise UserError(
                f"{file}: input '{brief(value.name)}' is {value.type.WhichOneof('value')}, no tensor; it cannot be fed"
            )
    _give_shapes(file, inputs, options, arrays)
    _refuse_empty(file, inputs, options.shape)
    known = {value.name: axes.axes_of(value) for value in inputs}
    if options.rebatch:
        sizes = [one[0] for one in known.values() if len(one) > 1]
        if not sizes or not isinstance(sizes[0], int):
            raise UserError(f"--rebatch is for a fixed batch; the batch of {file} is dynamic already")
        batching.make_dynamic(proto, sizes[0])
        known = {value.name: axes.axes_of(value) for value in inputs}
    if arrays is not None and options.inputs is not None:
        bound = given_values.bind(options.inputs, known, arrays, options.shape, str(file))
    else:
        bound = axes.bind(known, options.shape, str(file))
    for name, axis_sizes in bound.shapes.items():
        if math.prod(size or 1 for size in axis_sizes) > MAX_INPUT_VALUES:
            shape = ", ".join(str(size or "batch") for size in axis_sizes)
            raise UserError(
                f"{file}: input '{brief(name)}' ({shape}) has more than {MAX_INPUT_VALUES // 10**6} million values a sample"
            )
    for value in inputs:
        for dim, size in zip(value.type.tensor_type.shape.dim, bound.shapes[value.name]):
            dim.Clear()
            if size is None:
                dim.dim_param = BATCH
            else:
                dim.dim_value = size
    del proto.graph.value_info[:]  # it tells of the axes as they were
    return bound


def _refuse_empty(file: Path, inputs: List[Any], shape: str) -> None:
    """Raises UserError for an axis of size 0, which some exporters write for an open one, unless --shape tells the input's sizes."""
    told = axes.parse(shape) if shape else {}
    for value in inputs:
        empty = axes.empty_axes(value)
        if empty and value.name not in told:
            dims = value.type.tensor_type.shape.dim
            written = axes.written([axis.dim_param or axis.dim_value for axis in dims])
            line = dict(told)
            line[value.name] = [
                str(axis.dim_value) if axis.dim_value > 0 else axes.BATCH_WORD if number == 0 else str(axes.LENGTH)
                for number, axis in enumerate(dims)
            ]
            raise UserError(
                f"{file}: axis {empty[0]} of input '{brief(value.name)}' {written} has the size 0, so that it holds no "
                f"values and nothing can be measured; if its exporter wrote 0 for an open axis say its size, such as --shape "
                f"'{axes.line_of(line)}'"
            )


def _give_shapes(
    file: Path, inputs: List[Any], options: ExportOptions, arrays: Optional[Mapping[str, np.ndarray]]
) -> None:
    """Gives an input of which the file tells no shape, not even how many axes, as many open ones as --shape or --inputs has."""
    shapes = axes.parse(options.shape) if options.shape else {}
    for value in inputs:
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            continue
        kind.shape.SetInParent()
        if value.name in shapes:
            count = len(shapes[value.name])
        elif arrays is not None and value.name in arrays:
            count = arrays[value.name].ndim
        else:
            raise UserError(
                f"{file} does not tell the shape of input '{brief(value.name)}'; say it: --shape "
                f"'{axes.line_of({**shapes, value.name: ['N', '3', '224', '224']})}' (N is the batch), or give values by --inputs"
            )
        for _ in range(count):
            kind.shape.dim.add()


def _open_again(proto: Any, before: Mapping[str, Any], bound: axes.Bound) -> None:
    """Gives the inputs the axes that the file had, but for the batch's name.

    A graph with branches for several lengths has no valid shape in those that are not taken, once the length is fixed.
    """
    for value in proto.graph.input:
        if value.name in bound.shapes:
            value.CopyFrom(before[value.name])
            shape, sizes = value.type.tensor_type.shape, bound.shapes[value.name]
            if not value.type.tensor_type.HasField("shape"):  # the file told not even how many axes there are
                shape.SetInParent()
                for _ in sizes:
                    shape.dim.add()
            for dim, size in zip(shape.dim, sizes):
                if size is None:
                    dim.Clear()
                    dim.dim_param = BATCH


def _describe_shapes(proto: Any, work: Work) -> None:
    """Writes the shapes of the outputs as they came out: those in the file spoke of axes as they were."""
    shapes = {tensor.name: tensor for tensor in (work.output(name) for name in work.batch_axes)}
    for value in proto.graph.output:
        tensor = shapes.get(value.name)
        if tensor is None:
            continue
        shape = value.type.tensor_type.shape
        del shape.dim[:]
        for axis, size in enumerate(tensor.shape):
            dim = shape.dim.add()
            if axis == tensor.batch_axis and work.fixed is None and size == 1:
                dim.dim_param = BATCH
            elif size >= 0 and not (axis == tensor.batch_axis and work.fixed is None):
                dim.dim_value = size
